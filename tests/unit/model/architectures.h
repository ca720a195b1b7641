/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file architectures.h
 * The tiny models of tests/golden/architectures, one after the other.
 */
#ifndef PTQ_TESTS_ARCHITECTURES_H
#define PTQ_TESTS_ARCHITECTURES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/model/model.h"

#define ARCHITECTURES PTQ_SOURCE_DIR "/tests/golden/architectures/"

enum { ARCH_PATH = 512 };

/* `check` on every model; returns how many there were. */
static inline int each_architecture(void (*check)(const char *name,
                                                  ptq_model *m)) {
  DIR *dir = opendir(ARCHITECTURES);
  assert_non_null(dir);
  int n = 0;
  const struct dirent *entry = NULL;
  while ((entry = readdir(dir)) != NULL) {
    char path[ARCH_PATH];
    ptq_model *m = NULL;
    ptq_err err = {0};
    snprintf(path, sizeof path, "%s%s/config.json", ARCHITECTURES,
             entry->d_name);
    if (entry->d_name[0] == '.' || !ptq_path_exists(path)) continue;
    snprintf(path, sizeof path, "%s%s", ARCHITECTURES, entry->d_name);
    if (ptq_model_open(path, &m, &err) != PTQ_OK) fail_msg("%s", err.msg);
    check(entry->d_name, m);
    ptq_model_close(m);
    n++;
  }
  closedir(dir);
  return n;
}

#endif /* PTQ_TESTS_ARCHITECTURES_H */
