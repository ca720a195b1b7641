/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "reserve.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

ptq_status ptq_reserve_directory(const char *path, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *dir = NULL;
  PTQ_TRY(ptq_path_dir(path, &dir, err));
  if (!ptq_path_is_dir(dir))
    rc = PTQ_FAIL(err, PTQ_E_IO,
                  "store '%s': no directory '%s'; make it, or choose another "
                  "file with -o",
                  path, dir);
  else if (access(dir, W_OK | X_OK) != 0)
    rc = PTQ_FAIL(err, PTQ_E_IO,
                  "store '%s': cannot write in directory '%s' (%s); choose "
                  "another file with -o",
                  path, dir, strerror(errno));
done:
  ptq_free(dir);
  return rc;
}

/* posix_fallocate gives an error number; 0 bytes cannot be asked for. */
static int reserve(int fd, int64_t bytes) {
  if (ptq_fault()) return EIO;
  int error = 0;
  do {
    error = posix_fallocate(fd, 0, (off_t)(bytes > 0 ? bytes : 1));
  } while (error == EINTR);
  return error;
}

static ptq_status no_room(const char *path, int64_t bytes, int error,
                          ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_IO,
                  "store '%s': cannot reserve %.1f MB: %s; make room, or "
                  "choose another file with -o",
                  path, (double)bytes / 1e6, strerror(error));
}

ptq_status ptq_reserve_check(const char *path, const char *temporary,
                             int64_t bytes, ptq_err *err) {
  struct statvfs disk;
  const int fd = open(temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0)
    return PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot create '%s': %s", path,
                    temporary, strerror(errno));
  int error = 0;
  /* Refused at once where reserving would first write until it fails. */
  if (fstatvfs(fd, &disk) == 0 &&
      (double)disk.f_bavail * (double)disk.f_frsize < (double)bytes)
    error = ENOSPC;
  if (error == 0) error = reserve(fd, bytes);
  (void)close(fd);
  (void)unlink(temporary);
  return error != 0 ? no_room(path, bytes, error, err) : PTQ_OK;
}

void ptq_reserve_sweep(const char *path) {
  char *dir = NULL, *base = NULL;
  ptq_text prefix = {0};
  DIR *entries = NULL;
  if (ptq_path_dir(path, &dir, NULL) == PTQ_OK &&
      ptq_path_base(path, &base, NULL) == PTQ_OK) {
    ptq_text_addf(&prefix, "%s.new-", base);
    entries = opendir(dir);
  }
  for (struct dirent *e; entries != NULL && (e = readdir(entries)) != NULL;) {
    ptq_text stale = {0};
    if (prefix.rc != PTQ_OK || strncmp(e->d_name, prefix.buf, prefix.len) != 0)
      continue;
    ptq_text_addf(&stale, "%s/%s", dir, e->d_name);
    if (stale.rc == PTQ_OK) (void)unlink(stale.buf);
    ptq_text_release(&stale);
  }
  if (entries != NULL) (void)closedir(entries);
  ptq_text_release(&prefix);
  ptq_free(base);
  ptq_free(dir);
}

/* Not every file system can; the rename stands either way. */
static void sync_directory(const char *path) {
  char *dir = NULL;
  if (ptq_path_dir(path, &dir, NULL) != PTQ_OK) return;
  const int fd = open(dir, O_RDONLY | O_CLOEXEC);
  if (fd >= 0) {
    (void)fsync(fd);
    (void)close(fd);
  }
  ptq_free(dir);
}

ptq_status ptq_reserve_publish(const char *temporary, const char *path,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  struct stat st;
  int fd = ptq_fault() ? -1 : open(temporary, O_RDWR | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &st) != 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot open '%s': %s", path,
                     temporary, strerror(errno)));
  const int full = reserve(fd, st.st_size);
  if (full != 0) PTQ_TRY(no_room(path, st.st_size, full, err));
  if (fsync(fd) != 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot write '%s': %s", path,
                     temporary, strerror(errno)));
  if (rename(temporary, path) != 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "store '%s': cannot rename '%s': %s", path,
                     temporary, strerror(errno)));
  sync_directory(path);
done:
  if (fd >= 0) (void)close(fd);
  return rc;
}

void ptq_reserve_discard(const char *temporary) {
  (void)unlink(temporary);
}
