/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ptq/eval/unigram.h"

/* Counts 3, 1, 0, 0 with one added each: p = 4/8, 2/8, 1/8, 1/8. Scored are
 * the last two tokens of each window. */
static void nll_is_that_of_smoothed_frequencies(void **state) {
  (void)state;
  const uint32_t calib[4] = {0, 1, 0, 0};
  const uint32_t windows[6] = {3, 0, 1, 0, 2, 0};
  double nll = 0.0;
  assert_int_equal(
      ptq_unigram_nll(calib, 4, windows, NULL, NULL, 2, 3, 4, &nll, NULL),
      PTQ_OK);
  const double want = (log(2.0) + log(4.0) + log(8.0) + log(2.0)) / 4.0;
  assert_true(fabs(nll - want) < 1e-15 * 10);
}

static void no_calibration_text_is_the_uniform_model(void **state) {
  (void)state;
  const uint32_t windows[2] = {0, 2};
  double nll = 0.0;
  assert_int_equal(
      ptq_unigram_nll(NULL, 0, windows, NULL, NULL, 1, 2, 5, &nll, NULL),
      PTQ_OK);
  assert_true(fabs(nll - log(5.0)) < 1e-15 * 10);
}

static void tokens_beyond_the_vocabulary_are_refused(void **state) {
  (void)state;
  const uint32_t good[2] = {0, 1}, bad[2] = {0, 4};
  double nll = 0.0;
  ptq_err err = {0};
  assert_int_equal(
      ptq_unigram_nll(bad, 2, good, NULL, NULL, 1, 2, 4, &nll, &err),
      PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "calibration text: token 1 is 4"));
  assert_true(isnan(nll));
  err = (ptq_err){0};
  assert_int_equal(
      ptq_unigram_nll(good, 2, bad, NULL, NULL, 1, 2, 4, &nll, &err),
      PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "evaluation windows: token 1 is 4"));
}

static void windows_without_scored_positions_are_refused(void **state) {
  (void)state;
  const uint32_t ids[2] = {0, 1};
  double nll = 0.0;
  assert_int_equal(
      ptq_unigram_nll(ids, 2, ids, NULL, NULL, 2, 1, 4, &nll, NULL), PTQ_E_ARG);
  assert_int_equal(
      ptq_unigram_nll(ids, 2, ids, NULL, NULL, 0, 2, 4, &nll, NULL), PTQ_E_ARG);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nll_is_that_of_smoothed_frequencies),
      cmocka_unit_test(no_calibration_text_is_the_uniform_model),
      cmocka_unit_test(tokens_beyond_the_vocabulary_are_refused),
      cmocka_unit_test(windows_without_scored_positions_are_refused),
  };
  return cmocka_run_group_tests_name("eval/unigram", tests, NULL, NULL);
}
