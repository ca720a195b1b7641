/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file sweep_files.h
 * A scratch directory in the current one, for tests that read sweep files.
 */
#ifndef PTQ_TESTS_SWEEP_FILES_H
#define PTQ_TESTS_SWEEP_FILES_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct scratch {
  char dir[64];
  char path[256]; /* of the last file asked for */
} scratch;

static inline const char *scratch_path(scratch *s, const char *name) {
  snprintf(s->path, sizeof s->path, "%s/%s", s->dir, name);
  return s->path;
}

static inline void scratch_make(scratch *s) {
  strcpy(s->dir, "scratch-XXXXXX");
  if (mkdtemp(s->dir) == NULL) fail_msg("cannot make a scratch directory");
}

static inline void scratch_write(scratch *s, const char *name, const void *data,
                                 size_t size) {
  FILE *f = fopen(scratch_path(s, name), "wb");
  if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0)
    fail_msg("cannot write '%s'", s->path);
}

static inline void scratch_text(scratch *s, const char *name,
                                const char *text) {
  scratch_write(s, name, text, strlen(text));
}

static inline void scratch_mkdir(scratch *s, const char *name) {
  if (mkdir(scratch_path(s, name), 0777) != 0)
    fail_msg("cannot make '%s'", s->path);
}

/* An array as .npy: `descr` such as "<u4" with `n` elements of `size`. */
static inline void scratch_npy(scratch *s, const char *name, const char *descr,
                               const void *data, size_t n, size_t size) {
  char header[128], dict[112];
  snprintf(dict, sizeof dict,
           "{'descr': '%s', 'fortran_order': False, 'shape': (%zu,), }", descr,
           n);
  memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
  snprintf(header + 10, sizeof header - 10, "%-117s", dict);
  header[127] = '\n';
  FILE *f = fopen(scratch_path(s, name), "wb");
  if (f == NULL || fwrite(header, 1, 128, f) != 128 ||
      fwrite(data, size, n, f) != n || fclose(f) != 0)
    fail_msg("cannot write '%s'", s->path);
}

static inline int scratch_unlink(const char *path, const struct stat *st,
                                 int type, struct FTW *where) {
  (void)st;
  (void)type;
  (void)where;
  return remove(path);
}

static inline void scratch_remove(scratch *s) {
  (void)nftw(s->dir, scratch_unlink, 8, FTW_DEPTH | FTW_PHYS);
}

#endif /* PTQ_TESTS_SWEEP_FILES_H */
