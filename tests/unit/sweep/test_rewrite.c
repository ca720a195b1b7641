/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "ptq/sweep/rewrite.h"

static const char sweep[] =
    "# a comment\n"
    "name: s\n"
    "models: [zoo/llama-*, {path: /abs/m, train_tokens: 3e9}]\n"
    "data:\n"
    "  calibration:\n"
    "    - {text: c.txt, windows: 4, length: 8, seed: 1}\n"
    "    - {text: ../d.txt, windows: 4, length: 8}\n"
    "  selection: {text: s.txt, windows: 2, length: 8}\n"
    "  evaluation: {text: /e.txt, windows: 4, length: 8}\n"
    "grid: {dtype: int4, method: [rtn, gptq], group: 32}\n";

static void rewritten(const char *text, const ptq_rewrite *change,
                      const char *expect) {
  ptq_text out = {0};
  ptq_err err = {0};
  if (ptq_spec_rewrite("s.yaml", text, change, &out, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  assert_string_equal(ptq_text_str(&out), expect);
  ptq_text_release(&out);
}

static void dtypes_and_exclusions_follow_what_is_there(void **state) {
  (void)state;
  const ptq_rewrite change = {
      .dtypes = "- int3\n- {mixed: m, default: int3, layers: {'*': int4}}\n",
      .excludes = "[{dtype: 'mixed:m', method: rtn}]"};
  rewritten(
      sweep, &change,
      "name: s\n"
      "models:\n"
      "  - zoo/llama-*\n"
      "  - {path: /abs/m, train_tokens: 3e9}\n"
      "data:\n"
      "  calibration:\n"
      "    - {text: c.txt, windows: 4, length: 8, seed: 1}\n"
      "    - {text: ../d.txt, windows: 4, length: 8}\n"
      "  selection: {text: s.txt, windows: 2, length: 8}\n"
      "  evaluation: {text: /e.txt, windows: 4, length: 8}\n"
      "grid:\n"
      "  dtype: [int4, int3, {mixed: m, default: int3, layers: {'*': int4}}]\n"
      "  method: [rtn, gptq]\n"
      "  group: 32\n"
      "exclude:\n"
      "  - {dtype: 'mixed:m', method: rtn}\n");
}

static void paths_become_absolute_and_sets_are_applied(void **state) {
  (void)state;
  static const char *const sets[] = {"grid.method=rtn", "models=zoo/a",
                                     "grid.dtype=[]", "exclude=[]"};
  const ptq_rewrite change = {.sets = sets,
                              .n_sets = 4,
                              .dir = "/here",
                              .dtypes = "[int3]",
                              .selection_evaluates = true};
  rewritten(
      sweep, &change,
      "name: s\n"
      "models: /here/zoo/a\n"
      "data:\n"
      "  calibration: {text: /here/c.txt, windows: 4, length: 8, seed: 1}\n"
      "  selection: {text: /here/s.txt, windows: 2, length: 8}\n"
      "  evaluation: {text: /here/s.txt, windows: 2, length: 8}\n"
      "grid:\n"
      "  dtype: [int3]\n"
      "  method: rtn\n"
      "  group: 32\n"
      "exclude: []\n");
}

static void a_sweep_without_selection_cannot_evaluate_on_it(void **state) {
  (void)state;
  const ptq_rewrite change = {.dtypes = "[]", .selection_evaluates = true};
  ptq_text out = {0};
  ptq_err err = {0};
  assert_int_equal(ptq_spec_rewrite("s.yaml", "data: {evaluation: {}}\n",
                                    &change, &out, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "'s.yaml' has no 'selection' text"));
  ptq_text_release(&out);
}

static void what_is_no_sweep_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *text, *dtypes, *part;
  } cases[] = {{"grid: {method: rtn}\n", "[]", "has no grid.dtype"},
               {"- a\n", "[]", "has no grid.dtype"},
               {"a: [\n", "[]", "s.yaml:2"},
               {"grid: {dtype: int4}\n", "[", "what is to be added:2"}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const ptq_rewrite change = {.dtypes = cases[i].dtypes};
    ptq_text out = {0};
    ptq_err err = {0};
    assert_int_not_equal(
        ptq_spec_rewrite("s.yaml", cases[i].text, &change, &out, &err), PTQ_OK);
    if (strstr(err.msg, cases[i].part) == NULL)
      fail_msg("'%s' lacks '%s'", err.msg, cases[i].part);
    ptq_text_release(&out);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(dtypes_and_exclusions_follow_what_is_there),
      cmocka_unit_test(paths_become_absolute_and_sets_are_applied),
      cmocka_unit_test(a_sweep_without_selection_cannot_evaluate_on_it),
      cmocka_unit_test(what_is_no_sweep_is_refused),
  };
  return cmocka_run_group_tests_name("sweep/rewrite", tests, NULL, NULL);
}
