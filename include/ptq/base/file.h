/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file file.h
 * Files: whole small ones, exact reads of large ones, paths, globs, .npy.
 */
#ifndef PTQ_BASE_FILE_H
#define PTQ_BASE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/base/status.h"

/** A whole file as NUL-terminated bytes, freed with ptq_free. A file larger
 * than `max` bytes is refused. */
ptq_status ptq_file_read(const char *path, size_t max, char **out, size_t *size,
                         ptq_err *err);

/** A file open for positioned reads. */
typedef struct ptq_file ptq_file;
ptq_status ptq_file_open(const char *path, ptq_file **out, ptq_err *err);
int64_t ptq_file_size(const ptq_file *f);
const char *ptq_file_path(const ptq_file *f); /* borrowed */
/** Exactly `size` bytes at `offset`; a short file is PTQ_E_FORMAT
 * ("truncated"). Safe to call from several threads. */
ptq_status ptq_file_pread(ptq_file *f, int64_t offset, void *buf, size_t size,
                          ptq_err *err);
void ptq_file_close(ptq_file *f);

bool ptq_path_exists(const char *path);
bool ptq_path_is_dir(const char *path);
/** Are both the same file or directory, which is there? */
bool ptq_path_same(const char *a, const char *b);
/** `name` as it is if absolute, else joined to `dir`; freed with ptq_free. */
ptq_status ptq_path_join(const char *dir, const char *name, char **out,
                         ptq_err *err);
/** Directory part of `path` ("." if none); freed with ptq_free. */
ptq_status ptq_path_dir(const char *path, char **out, ptq_err *err);
/** Last component of `path`, trailing slashes ignored; freed with ptq_free. */
ptq_status ptq_path_base(const char *path, char **out, ptq_err *err);
/** Where `path` leads if it is a symbolic link to something that is there, else
 * `path` as it is; freed with ptq_free. */
ptq_status ptq_path_follow(const char *path, char **out, ptq_err *err);

/** Write `size` bytes to `path` through a temporary file and rename; straight
 * into what is there and no regular file (a device, a pipe). */
ptq_status ptq_file_write_atomic(const char *path, const void *data,
                                 size_t size, ptq_err *err);

#endif /* PTQ_BASE_FILE_H */
