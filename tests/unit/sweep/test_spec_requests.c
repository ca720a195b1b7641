/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ptq/sweep/spec.h"
#include "sweep_files.h"

#define HEAD "models: [" PTQ_SOURCE_DIR "/sweeps/zoo/llama-25k]\n"
#define GRID "grid: {dtype: int4, method: rtn, group: 8}\n"
#define DATA                                              \
  "data:\n"                                               \
  "  calibration: {text: c.txt, windows: 1, length: 8}\n" \
  "  evaluation: {text: e.txt, windows: 1, length: 8}\n"

static scratch files;

static int make_files(void **state) {
  (void)state;
  scratch_make(&files);
  return 0;
}

static int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

/* A sweep file with a line of requests, which is its line 5. */
static ptq_status read_requests(const char *line, ptq_spec *s, ptq_err *err) {
  char text[1024];
  snprintf(text, sizeof text, HEAD DATA "%s" GRID, line);
  scratch_text(&files, "s.yaml", text);
  return ptq_spec_read(files.path, NULL, 0, s, err);
}

static void a_sweep_may_have_none(void **state) {
  (void)state;
  ptq_spec s;
  assert_int_equal(read_requests("", &s, NULL), PTQ_OK);
  assert_null(s.requests.path);
  assert_string_equal(s.requests.label, "");
  ptq_spec_release(&s);
}

static void options_stand_in_the_label(void **state) {
  (void)state;
  static const struct {
    const char *line, *label;
    int64_t limit, length, prefix;
    int bos;
  } rows[] = {
      {"  requests: {file: sub/arc.jsonl}\n", "arc.jsonl", 0, 0, -1, -1},
      {"  requests: {file: a.jsonl, limit: 50, length: 512}\n",
       "a.jsonl:50x512", 50, 512, -1, -1},
      {"  requests: {file: a.jsonl, bos: true, prefix: 0}\n",
       "a.jsonl/bos/prefix=0", 0, 0, 0, 1},
      {"  requests: {file: a.jsonl, bos: false, delimiter: ''}\n",
       "a.jsonl/no-bos/delimiter=", 0, 0, -1, 0},
      {"  requests: {file: a.jsonl, delimiter: \"\\n\"}\n",
       "a.jsonl/delimiter=0a", 0, 0, -1, -1},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    ptq_spec s;
    ptq_err err = {0};
    if (read_requests(rows[i].line, &s, &err) != PTQ_OK)
      fail_msg("%s", err.msg);
    assert_string_equal(s.requests.label, rows[i].label);
    assert_int_equal(s.requests.limit, rows[i].limit);
    assert_int_equal(s.requests.length, rows[i].length);
    assert_int_equal(s.requests.prefix, rows[i].prefix);
    assert_int_equal(s.requests.bos, rows[i].bos);
    assert_int_equal(s.requests.line, 5);
    assert_int_equal(strncmp(s.requests.path, files.dir, strlen(files.dir)), 0);
    ptq_spec_release(&s);
  }
}

static void bad_values_are_named(void **state) {
  (void)state;
  static const struct {
    const char *line, *message;
  } rows[] = {
      {"  requests: arc.jsonl\n", "s.yaml:5: requests must be a mapping"},
      {"  requests: {limit: 3}\n", "s.yaml:5: requests lacks 'file'"},
      {"  requests: {file: []}\n", "file must be a single value"},
      {"  requests: {fil: a}\n",
       "unknown key 'fil' in requests, did you mean 'file'?"},
      {"  requests: {file: a, limit: 0}\n", "'limit' must be 1 to 16777216"},
      {"  requests: {file: a, length: 1}\n", "'length' must be 2 to 1048576"},
      {"  requests: {file: a, prefix: -3}\n", "'prefix' must be 0 to"},
      {"  requests: {file: a, bos: 1}\n", "s.yaml:5: 'bos' must be true or"},
      {"  requests: {file: a, delimiter: [1]}\n",
       "delimiter must be a single value"},
      {"  requests: {file: a, delimiter: 'sixteen bytes...'}\n",
       "delimiter has at most 15 bytes"},
      {"  requests: {file: "
       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
       "a"
       "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa}\n",
       "s.yaml:5: the file's name"},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    ptq_spec s;
    ptq_err err = {0};
    if (read_requests(rows[i].line, &s, &err) == PTQ_OK)
      fail_msg("accepted; expected '%s'", rows[i].message);
    if (strstr(err.msg, rows[i].message) == NULL)
      fail_msg("'%s' lacks '%s'", err.msg, rows[i].message);
    assert_null(s.models);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_sweep_may_have_none),
      cmocka_unit_test(options_stand_in_the_label),
      cmocka_unit_test(bad_values_are_named),
  };
  return cmocka_run_group_tests_name("sweep/spec_requests", tests, make_files,
                                     remove_files);
}
