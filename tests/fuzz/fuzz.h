/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file fuzz.h
 * What the fuzz targets share: a scratch directory, and files in it. A target
 * is run by libFuzzer (run.sh) or over the kept inputs by replay.c.
 */
#ifndef PTQ_TESTS_FUZZ_H
#define PTQ_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FUZZ_PATH = 256 };

/** The process's scratch directory, in memory where there is /dev/shm: made by
 * the first caller, for all, who find it in the environment. */
static inline const char *fuzz_dir(void) {
  static const char variable[] = "PTQ_FUZZ_SCRATCH";
  char dir[FUZZ_PATH];
  if (getenv(variable) == NULL) {
    snprintf(dir, sizeof dir, "%s/ptq-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (mkdtemp(dir) == NULL || setenv(variable, dir, 1) != 0) abort();
  }
  return getenv(variable);
}

static inline void fuzz_path(const char *name, char path[2 * FUZZ_PATH]) {
  snprintf(path, 2 * FUZZ_PATH, "%s/%.200s", fuzz_dir(), name);
}

static inline void fuzz_write(const char *name, const void *data, size_t size) {
  char path[2 * FUZZ_PATH];
  fuzz_path(name, path);
  FILE *f = fopen(path, "wb");
  if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0) abort();
}

#endif /* PTQ_TESTS_FUZZ_H */
