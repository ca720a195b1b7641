/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spec_fixture.h
 * Sweep files of a test, read beside a few directories that stand for models.
 */
#ifndef PTQ_TESTS_SPEC_FIXTURE_H
#define PTQ_TESTS_SPEC_FIXTURE_H

#include "ptq/sweep/spec.h"
#include "sweep_files.h"

#define HEAD "models: [zoo/a]\n"
#define DATA                                                \
  "data:\n"                                                 \
  "  calibration: {text: t/c.txt, windows: 4, length: 8}\n" \
  "  evaluation: {text: t/e.txt, windows: 4, length: 8}\n"
#define GRID "grid: {dtype: [int4, mxint3], method: [rtn, gptq], group: [32]}\n"

static scratch files;

static inline int make_files(void **state) {
  (void)state;
  scratch_make(&files);
  scratch_mkdir(&files, "zoo");
  scratch_mkdir(&files, "zoo/a");
  scratch_mkdir(&files, "zoo/c");
  scratch_mkdir(&files, "zoo/b");
  scratch_mkdir(&files, "other");
  scratch_mkdir(&files, "other/a");
  scratch_mkdir(&files, "other/odd name");
  scratch_text(&files, "zoo/a.py", "not a model");
  return 0;
}

static inline int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

static inline ptq_status read_text(const char *text, const char *const *sets,
                                   int64_t n_sets, ptq_spec *spec,
                                   ptq_err *err) {
  scratch_text(&files, "s.yaml", text);
  return ptq_spec_read(files.path, sets, n_sets, spec, err);
}

static inline void read_good(const char *text, const char *const *sets,
                             int64_t n_sets, ptq_spec *spec) {
  ptq_err err = {0};
  if (read_text(text, sets, n_sets, spec, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

/* Reading fails with a message that has `part`, and leaves nothing. */
static inline void refused(const char *text, const char *set,
                           const char *part) {
  ptq_spec spec;
  ptq_err err = {0};
  const ptq_status rc = read_text(text, &set, set != NULL, &spec, &err);
  if (rc == PTQ_OK) fail_msg("accepted; expected '%s'", part);
  assert_true(rc == PTQ_E_ARG || rc == PTQ_E_FORMAT);
  if (strstr(err.msg, part) == NULL) fail_msg("'%s' lacks '%s'", err.msg, part);
  assert_null(spec.models);
  assert_null(spec.path);
}

#endif /* PTQ_TESTS_SPEC_FIXTURE_H */
