/* SPDX-License-Identifier: GPL-3.0-or-later */
/* realpath is an X/Open extension of POSIX.1-2008. */
#define _XOPEN_SOURCE 700
#include "ptq/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

struct ptq_file {
  int fd;
  int64_t size;
  char *path; /* owned */
};

ptq_status ptq_file_open(const char *path, ptq_file **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  struct stat st;
  ptq_file *f = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&f, 1, sizeof *f, "a file handle", err));
  f->fd = -1;
  PTQ_TRY(ptq_strdup(&f->path, path, err));
  /* A pipe would wait for its writer, and no signal end that. */
  f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (f->fd < 0 || ptq_fault() || fstat(f->fd, &st) != 0)
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_IO, "cannot open '%s': %s", path, strerror(errno)));
  if (!S_ISREG(st.st_mode))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "'%s' is not a regular file", path));
  f->size = (int64_t)st.st_size;
  *out = f;
  f = NULL;
done:
  ptq_file_close(f);
  return rc;
}

int64_t ptq_file_size(const ptq_file *f) {
  return f->size;
}

const char *ptq_file_path(const ptq_file *f) {
  return f->path;
}

ptq_status ptq_file_pread(ptq_file *f, int64_t offset, void *buf, size_t size,
                          ptq_err *err) {
  char *at = buf;
  if (ptq_fault())
    return PTQ_FAIL(err, PTQ_E_IO, "reading '%s': injected fault", f->path);
  while (size > 0) {
    const ssize_t n = pread(f->fd, at, size, (off_t)offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return PTQ_FAIL(err, PTQ_E_IO, "reading '%s' at byte %lld: %s", f->path,
                      (long long)offset, strerror(errno));
    if (n == 0)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "'%s' is truncated: %zu bytes missing at byte %lld",
                      f->path, size, (long long)offset);
    at += n;
    offset += n;
    size -= (size_t)n;
  }
  return PTQ_OK;
}

void ptq_file_close(ptq_file *f) {
  if (f == NULL) return;
  if (f->fd >= 0) close(f->fd);
  ptq_free(f->path);
  ptq_free(f);
}

ptq_status ptq_file_read(const char *path, size_t max, char **out, size_t *size,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_file *f = NULL;
  *out = NULL;
  *size = 0;
  PTQ_TRY(ptq_file_open(path, &f, err));
  if ((uint64_t)f->size > max)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                     "'%s' has %lld bytes, more than the %zu allowed", path,
                     (long long)f->size, max));
  PTQ_TRY(ptq_alloc(out, f->size + 1, 1, path, err));
  PTQ_TRY(ptq_file_pread(f, 0, *out, (size_t)f->size, err));
  *size = (size_t)f->size;
done:
  ptq_file_close(f);
  if (rc != PTQ_OK) {
    ptq_free(*out);
    *out = NULL;
  }
  return rc;
}

bool ptq_path_exists(const char *path) {
  struct stat st;
  return stat(path, &st) == 0;
}

bool ptq_path_is_dir(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

bool ptq_path_same(const char *a, const char *b) {
  struct stat x, y;
  return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}

/* Hands a built text over to the caller. */
static ptq_status take(ptq_text *t, char **out, ptq_err *err) {
  if (t->rc != PTQ_OK) {
    ptq_text_release(t);
    return PTQ_FAIL(err, PTQ_E_NOMEM, "a path");
  }
  *out = t->buf;
  return PTQ_OK;
}

ptq_status ptq_path_join(const char *dir, const char *name, char **out,
                         ptq_err *err) {
  ptq_text t = {0};
  *out = NULL;
  if (name[0] == '/' || dir[0] == '\0')
    ptq_text_add(&t, name);
  else
    ptq_text_addf(&t, "%s%s%s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/",
                  name);
  return take(&t, out, err);
}

/* Length of `path` without trailing slashes (at least one character kept). */
static size_t trimmed(const char *path) {
  size_t n = strlen(path);
  while (n > 1 && path[n - 1] == '/') n--;
  return n;
}

/* First character of the last component of path[0..n). */
static size_t last_component(const char *path, size_t n) {
  while (n > 0 && path[n - 1] != '/') n--;
  return n;
}

ptq_status ptq_path_dir(const char *path, char **out, ptq_err *err) {
  ptq_text t = {0};
  size_t n = last_component(path, trimmed(path));
  *out = NULL;
  while (n > 1 && path[n - 1] == '/') n--;
  if (n == 0)
    ptq_text_add(&t, ".");
  else
    ptq_text_addf(&t, "%.*s", (int)n, path);
  return take(&t, out, err);
}

ptq_status ptq_path_base(const char *path, char **out, ptq_err *err) {
  ptq_text t = {0};
  const size_t n = trimmed(path), at = last_component(path, n);
  *out = NULL;
  ptq_text_addf(&t, "%.*s", (int)(n - at), path + at);
  return take(&t, out, err);
}

ptq_status ptq_path_follow(const char *path, char **out, ptq_err *err) {
  struct stat st;
  char *real = NULL;
  *out = NULL;
  if (lstat(path, &st) == 0 && S_ISLNK(st.st_mode)) real = realpath(path, NULL);
  const ptq_status rc = ptq_strdup(out, real != NULL ? real : path, err);
  free(real);
  return rc;
}

static ptq_status write_all(int fd, const char *data, size_t size,
                            const char *path, ptq_err *err) {
  while (size > 0) {
    const ssize_t n = write(fd, data, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return PTQ_FAIL(err, PTQ_E_IO, "writing '%s': %s", path, strerror(errno));
    data += n;
    size -= (size_t)n;
  }
  return PTQ_OK;
}

/* What is written in place: a device, a pipe, a terminal. A file renamed onto
 * one would take its name from everybody. */
static bool is_special(const char *path) {
  struct stat st;
  return stat(path, &st) == 0 && !S_ISREG(st.st_mode);
}

ptq_status ptq_file_write_atomic(const char *path, const void *data,
                                 size_t size, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text temp = {0};
  const bool in_place = is_special(path);
  bool made = false;
  int fd = -1;
  if (in_place)
    ptq_text_add(&temp, path);
  else
    ptq_text_addf(&temp, "%s.tmp.%ld", path, (long)getpid());
  if (temp.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "a path"));
  fd = open(temp.buf, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s", path,
                     strerror(errno)));
  made = !in_place;
  PTQ_TRY(write_all(fd, data, size, path, err));
  const int closed = close(fd);
  fd = -1;
  if (closed != 0 || (!in_place && rename(temp.buf, path) != 0))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s", path,
                     strerror(errno)));
done:
  if (fd >= 0) close(fd);
  if (rc != PTQ_OK && made) (void)unlink(temp.buf);
  ptq_text_release(&temp);
  return rc;
}
