/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

/* Byte 0 is the run's (its owner locks it for writing), byte 1 its ranks'
 * (each locks it for reading; an owner needs it free of foreign readers). */
enum { BYTE_RUN = 0, BYTE_RANKS = 1 };

static struct flock one_byte(short type, off_t byte) {
  struct flock lock = {0};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

static bool try_lock(int fd, short type, off_t byte) {
  struct flock lock = one_byte(type, byte);
  return fcntl(fd, F_SETLK, &lock) == 0;
}

static bool is_held(int error) {
  return error == EACCES || error == EAGAIN;
}

/* Is the file behind `fd` still the one called `path`? Another run may have
 * removed it between open and lock. */
static bool same_file(int fd, const char *path) {
  struct stat mine, named;
  return fstat(fd, &mine) == 0 && stat(path, &named) == 0 &&
         mine.st_dev == named.st_dev && mine.st_ino == named.st_ino;
}

/* True when taken; else *held tells whether someone else has it. */
static bool take_once(const char *path, int owner, int *fd, bool *held) {
  *held = false;
  *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  if (*fd < 0) return false;
  bool good = true;
  if (owner) {
    good =
        try_lock(*fd, F_WRLCK, BYTE_RUN) && try_lock(*fd, F_WRLCK, BYTE_RANKS);
    if (good) good = try_lock(*fd, F_UNLCK, BYTE_RANKS);
  } else {
    good = try_lock(*fd, F_RDLCK, BYTE_RANKS);
  }
  const int error = errno;
  if (good && same_file(*fd, path)) return true;
  *held = good || is_held(error);
  (void)close(*fd);
  *fd = -1;
  errno = error;
  return false;
}

static ptq_status lock_path(const char *store, ptq_text *path, ptq_err *err) {
  ptq_text_addf(path, "%s.lock", store);
  if (path->rc == PTQ_OK) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_NOMEM, "store '%s': name of the lock", store);
}

bool ptq_lockfile_held(const char *store, long *pid) {
  ptq_text path = {0};
  bool held = false;
  *pid = 0;
  const int fd = lock_path(store, &path, NULL) == PTQ_OK
                     ? open(path.buf, O_RDONLY | O_CLOEXEC)
                     : -1;
  for (off_t byte = BYTE_RUN; fd >= 0 && !held && byte <= BYTE_RANKS; byte++) {
    struct flock lock = one_byte(F_WRLCK, byte);
    held = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
    if (held) *pid = (long)lock.l_pid;
  }
  if (fd >= 0) (void)close(fd);
  ptq_text_release(&path);
  return held;
}

ptq_status ptq_lockfile_take(const char *store, int owner, int *fd,
                             ptq_err *err) {
  ptq_text path = {0};
  *fd = -1;
  ptq_status rc = lock_path(store, &path, err);
  bool held = true, taken = false;
  /* A killed run's processes take a moment to die. */
  for (int tries = 0; rc == PTQ_OK && held && !taken && tries < 40; tries++) {
    const struct timespec pause = {0, tries > 0 ? 50000000 : 0};
    (void)nanosleep(&pause, NULL);
    taken = take_once(path.buf, owner, fd, &held);
  }
  const int error = errno;
  long pid = 0;
  if (rc == PTQ_OK && !taken && held) {
    (void)ptq_lockfile_held(store, &pid);
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "store '%s': another run is writing it (process %ld has "
                  "'%s'); wait for it, stop it, or choose another file with "
                  "-o",
                  store, pid, path.buf);
  } else if (rc == PTQ_OK && !taken)
    rc = PTQ_FAIL(
        err, PTQ_E_IO,
        "store '%s': cannot lock '%s': %s; choose another file with -o", store,
        path.buf, strerror(error));
  ptq_text_release(&path);
  return rc;
}

void ptq_lockfile_release(const char *store, int fd) {
  ptq_text path = {0};
  if (fd < 0) return;
  /* Both locks for writing: nobody else is left. A run that opened the file
   * just now finds its name gone when it has locked it, and tries again. */
  if (try_lock(fd, F_WRLCK, BYTE_RUN) && try_lock(fd, F_WRLCK, BYTE_RANKS) &&
      lock_path(store, &path, NULL) == PTQ_OK && same_file(fd, path.buf))
    (void)unlink(path.buf);
  (void)close(fd);
  ptq_text_release(&path);
}
