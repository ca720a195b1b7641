/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/bootstrap.h"
#include "tables.h"

enum { RESAMPLES = 300, COLUMNS = 8 };

static tables table;
static const synthetic_law law = {.intercept = 6.0,
                                  .params = -0.25,
                                  .bits = -1.3,
                                  .group = 0.15,
                                  .gptq = -0.4,
                                  .noise = 0.1,
                                  .noise_model = 0.1,
                                  .floor = 0.0001};
static const char text[] =
    "log(params_nonembedding) + bits_per_weight + log(group) + method";
static const ptq_fit_options options = {0};

static ptq_formula parse(void) {
  ptq_formula f;
  assert_int_equal(ptq_formula_parse(text, &f, NULL), PTQ_OK);
  return f;
}

static void fit_table(ptq_frame *frame, ptq_fit *fit) {
  const ptq_formula formula = parse();
  const ptq_estimator *ols = NULL;
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_estimator_find("ols", &ols, NULL), PTQ_OK);
  assert_int_equal(ptq_frame_build(&source, frame, NULL), PTQ_OK);
  assert_int_equal(ptq_fit_frame(ols, &formula, &options, frame, fit, NULL),
                   PTQ_OK);
}

/* Ten models: both errors are rough, a factor of two is what to expect. */
static void errors_are_near_the_clustered_ones(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_fit fit;
  ptq_resampled a[COLUMNS], b[COLUMNS];
  int64_t failed = 0;
  const ptq_formula formula = parse();
  tables_synthetic(&table, &law, 9);
  fit_table(&frame, &fit);
  assert_true(fit.matrix.k <= COLUMNS);
  for (int k = 0; k < 2; k++)
    assert_int_equal(
        ptq_bootstrap_models(&fit, &formula, &options, &frame, RESAMPLES, 7,
                             k == 0 ? a : b, &failed, NULL),
        PTQ_OK);
  for (int64_t j = 0; j < fit.matrix.k; j++) {
    const double ratio = a[j].std_error / fit.coef[j].std_error_cluster;
    if (!(ratio > 0.5 && ratio < 2.0))
      fail_msg("%s: %g", fit.matrix.columns[j].name, ratio);
    assert_true(a[j].low < fit.coef[j].estimate);
    assert_true(fit.coef[j].estimate < a[j].high);
    assert_true(a[j].std_error == b[j].std_error); /* the seed decides */
  }
  assert_true(failed < RESAMPLES / 10);
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
}

static void one_model_is_refused(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_fit fit;
  ptq_resampled a[COLUMNS];
  ptq_err err = {0};
  int64_t failed = 0;
  const ptq_formula formula = parse();
  tables_synthetic(&table, &law, 9);
  table.n_points = 32;
  fit_table(&frame, &fit);
  assert_int_equal(ptq_bootstrap_models(&fit, &formula, &options, &frame, 10, 7,
                                        a, &failed, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "one model"));
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(errors_are_near_the_clustered_ones),
      cmocka_unit_test(one_model_is_refused),
  };
  return cmocka_run_group_tests_name("analysis/bootstrap", tests, NULL, NULL);
}
