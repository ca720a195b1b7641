/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lockfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

/* Some file systems keep locks within a host, or have none. So the owner also
 * beats: it writes its host and a growing number every other second, and who
 * finds another host's word there first looks whether it changes. */
enum { WORD_BYTES = 128, BEAT_S = 2, BEATS_TO_WAIT = 4 };

/* The one owner of this process. */
static struct {
  pthread_t thread;
  pthread_mutex_t mutex;
  pthread_cond_t stopped;
  bool runs, stop;
  int fd;
} pulse = {.mutex = PTHREAD_MUTEX_INITIALIZER,
           .stopped = PTHREAD_COND_INITIALIZER};

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

/* The file system knows no locks. */
static bool has_none(int error) {
  return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP ||
         error == EINVAL;
}

static void own_host(char host[64]) {
  memset(host, 0, 64);
  if (gethostname(host, 63) != 0) (void)ptq_text_copy(host, 64, "unknown");
}

static void write_word(int fd, long beat) {
  char word[WORD_BYTES] = "", host[64];
  own_host(host);
  (void)snprintf(word, sizeof word, "%s process %ld beat %ld\n", host,
                 (long)getpid(), beat);
  const ssize_t n = pwrite(fd, word, strlen(word) + 1, 0);
  (void)n; /* a beat that is missed is none */
}

static void *beat(void *unused) {
  (void)unused;
  pthread_mutex_lock(&pulse.mutex);
  for (long i = 1; !pulse.stop; i++) {
    struct timespec until;
    write_word(pulse.fd, i);
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += BEAT_S;
    (void)pthread_cond_timedwait(&pulse.stopped, &pulse.mutex, &until);
  }
  pthread_mutex_unlock(&pulse.mutex);
  return NULL;
}

static void start_pulse(int fd) {
  write_word(fd, 0);
  if (pulse.runs) return;
  pulse.fd = fd;
  pulse.stop = false;
  pulse.runs = pthread_create(&pulse.thread, NULL, beat, NULL) == 0;
}

static void end_pulse(int fd) {
  if (!pulse.runs || pulse.fd != fd) return;
  pthread_mutex_lock(&pulse.mutex);
  pulse.stop = true;
  pthread_cond_signal(&pulse.stopped);
  pthread_mutex_unlock(&pulse.mutex);
  (void)pthread_join(pulse.thread, NULL);
  pulse.runs = false;
  (void)!ftruncate(fd, 0); /* an orderly end: nobody need wait */
}

static void read_word(int fd, char word[WORD_BYTES]) {
  const ssize_t n = pread(fd, word, WORD_BYTES - 1, 0);
  word[n > 0 ? n : 0] = '\0';
}

/* Does the owner that left its word in the file still live, out of the reach
 * of locks? */
static bool beats_elsewhere(int fd, bool locks, char word[WORD_BYTES]) {
  char host[64], now[WORD_BYTES];
  own_host(host);
  read_word(fd, word);
  const size_t n = strlen(host);
  if (word[0] == '\0' ||
      (locks && strncmp(word, host, n) == 0 && word[n] == ' '))
    return false;
  for (int i = 0; i < 2 * BEAT_S * BEATS_TO_WAIT; i++) {
    const struct timespec pause = {0, 500000000};
    (void)nanosleep(&pause, NULL);
    read_word(fd, now);
    if (strcmp(now, word) != 0) return now[0] != '\0';
  }
  return false;
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
  if (!good && has_none(error)) return true; /* the beats must do */
  if (good && same_file(*fd, path)) return true;
  *held = good || is_held(error);
  (void)close(*fd);
  *fd = -1;
  errno = error;
  return false;
}

/* Through another hard link a second run would find another lock, and a new
 * file of this name would leave the other name the old one. */
static ptq_status check_links(const char *store, ptq_err *err) {
  struct stat st;
  if (stat(store, &st) != 0 || !S_ISREG(st.st_mode) || st.st_nlink < 2)
    return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "store '%s': the file has %lld names (hard links), and a run "
                  "on another one would not see this run's lock; remove the "
                  "others (`find -samefile` lists them), or make it a file of "
                  "its own: cp STORE COPY && mv COPY STORE",
                  store, (long long)st.st_nlink);
}

static ptq_status lock_path(const char *store, ptq_text *path, ptq_err *err) {
  char *real = NULL;
  const ptq_status rc = ptq_path_follow(store, &real, err);
  if (rc != PTQ_OK) return rc;
  ptq_text_addf(path, "%s.lock", real);
  ptq_free(real);
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
  ptq_status rc = owner ? check_links(store, err) : PTQ_OK;
  if (rc == PTQ_OK) rc = lock_path(store, &path, err);
  bool held = true, taken = false;
  /* A killed run's processes take a moment to die. */
  for (int tries = 0; rc == PTQ_OK && held && !taken && tries < 40; tries++) {
    const struct timespec pause = {0, tries > 0 ? 50000000 : 0};
    (void)nanosleep(&pause, NULL);
    taken = take_once(path.buf, owner, fd, &held);
  }
  const int error = errno;
  long pid = 0;
  char word[WORD_BYTES];
  if (rc == PTQ_OK && taken && owner) {
    const bool locks = try_lock(*fd, F_WRLCK, BYTE_RUN);
    if (beats_elsewhere(*fd, locks, word)) {
      word[strcspn(word, "\n")] = '\0';
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "store '%s': another run is writing it (%s, by '%s'); wait "
                    "for it, stop it, or choose another file with -o",
                    store, word, path.buf);
      (void)close(*fd);
      *fd = -1;
    } else {
      start_pulse(*fd);
    }
  }
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
  end_pulse(fd);
  /* Both locks for writing: nobody else is left. A run that opened the file
   * just now finds its name gone when it has locked it, and tries again. */
  if (try_lock(fd, F_WRLCK, BYTE_RUN) && try_lock(fd, F_WRLCK, BYTE_RANKS) &&
      lock_path(store, &path, NULL) == PTQ_OK && same_file(fd, path.buf))
    (void)unlink(path.buf);
  (void)close(fd);
  ptq_text_release(&path);
}
