/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/fit.h"
#include "ptq/analysis/validate.h"
#include "tables.h"

static tables table;
static csv expected;

static const ptq_estimator *estimator(const char *name) {
  const ptq_estimator *e = NULL;
  assert_int_equal(ptq_estimator_find(name, &e, NULL), PTQ_OK);
  return e;
}

static ptq_formula formula(const char *text) {
  ptq_formula f;
  ptq_err err = {0};
  if (ptq_formula_parse(text, &f, &err) != PTQ_OK) fail_msg("%s", err.msg);
  return f;
}

static ptq_formula default_formula(void) {
  return formula(ptq_law_at(0)->formula);
}

static ptq_fit fit_with(const char *name, const ptq_fit_options *options,
                        const char *text, ptq_frame *frame) {
  ptq_fit fit;
  ptq_err err = {0};
  const ptq_formula f = formula(text);
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, frame, &err), PTQ_OK);
  if (ptq_fit_frame(estimator(name), &f, options, frame, &fit, &err) != PTQ_OK)
    fail_msg("%s: %s", name, err.msg);
  return fit;
}

static ptq_fit fit_table(const char *name, double power, const char *text,
                         ptq_frame *frame) {
  const ptq_fit_options options = {.power = power};
  return fit_with(name, &options, text, frame);
}

static double actual(const ptq_fit *f, const char *column, const char *what) {
  const ptq_diagnostics *d = &f->diagnostics;
  const struct {
    const char *name;
    double value;
  } scalars[] = {{"n", (double)f->matrix.n},
                 {"n_left", (double)f->n_left},
                 {"n_right", (double)f->n_right},
                 {"scale", f->scale},
                 {"r2", f->r2},
                 {"r2_adjusted", f->r2_adjusted},
                 {"aic", f->aic},
                 {"bic", f->bic},
                 {"tau2", f->tau2},
                 {"edf", f->edf},
                 {"n_rejected", (double)f->n_rejected},
                 {"log_likelihood", f->log_likelihood},
                 {"jarque_bera", d->jarque_bera},
                 {"jarque_bera_p", d->jarque_bera_p},
                 {"breusch_pagan", d->breusch_pagan},
                 {"breusch_pagan_p", d->breusch_pagan_p},
                 {"condition", d->condition},
                 {"cook", d->cook[0].distance}};
  if (column[0] == '\0')
    for (size_t i = 0; i < sizeof scalars / sizeof scalars[0]; i++)
      if (strcmp(scalars[i].name, what) == 0) return scalars[i].value;
  for (int64_t j = 0; j < f->matrix.k; j++) {
    if (strcmp(f->matrix.columns[j].name, column) != 0) continue;
    const ptq_coefficient *c = &f->coef[j];
    if (strcmp(what, "estimate") == 0) return c->estimate;
    if (strcmp(what, "std_error") == 0) return c->std_error;
    if (strcmp(what, "std_error_cluster") == 0) return c->std_error_cluster;
    if (strcmp(what, "df") == 0) return c->df;
    if (strcmp(what, "p") == 0) return c->p;
    if (strcmp(what, "vif") == 0) return c->vif;
  }
  fail_msg("nothing is called '%s' of '%s'", what, column);
  return NAN;
}

static const ptq_fit_options plain_1 = {.power = 1.0, .ignore_noise = true};
static const ptq_fit_options plain_15 = {.power = 1.5, .ignore_noise = true};
static const ptq_fit_options noisy_1 = {.power = 1.0};
static const ptq_fit_options noisy_2 = {.power = 2.0};

/* Every expected number of one fit within a relative tolerance. */
static void check_golden(const char *file, const char *name,
                         const char *estimator_name,
                         const ptq_fit_options *options, double tolerance,
                         int at_least) {
  char path[512];
  ptq_frame frame;
  (void)snprintf(path, sizeof path, "%s/tests/golden/fit/%s", PTQ_SOURCE_DIR,
                 file);
  csv_read(&expected, path);
  tables_golden(&table);
  ptq_fit fit =
      fit_with(estimator_name, options, ptq_law_at(0)->formula, &frame);
  int seen = 0;
  for (int i = 0; i < expected.rows; i++) {
    if (strcmp(csv_text(&expected, i, "fit"), name) != 0) continue;
    const char *column = csv_text(&expected, i, "name");
    const char *what = csv_text(&expected, i, "what");
    const double want = csv_number(&expected, i, "value");
    const double got = actual(&fit, column, what);
    if (!(fabs(got - want) <= tolerance * fabs(want)))
      fail_msg("%s: %s of %s is %.15g, expected %.15g", name, what, column, got,
               want);
    seen++;
  }
  assert_true(seen >= at_least);
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
}

/* The columns' condition is 230, double has 16 digits: 1e-8 leaves room for
 * both sides' rounding and none for another formula. */
static void ols_equals_statsmodels_and_the_definition_of_cr2(void **state) {
  (void)state;
  check_golden("expected.csv", "ols", "ols", &plain_1, 1e-8, 37);
}

static void clustered_errors_equal_an_independent_package(void **state) {
  (void)state;
  check_golden("clubsandwich.csv", "ols", "ols", &plain_1, 1e-8, 18);
}

static void weighted_fit_equals_statsmodels_at_the_root_of_tau2(void **state) {
  (void)state;
  check_golden("estimators.csv", "ols", "ols", &plain_1, 1e-8, 4);
  check_golden("estimators.csv", "weighted", "weighted", &plain_1, 1e-8, 30);
}

/* GSL stops when no coefficient moves by more than 1.5e-8 of itself; here
 * the last move is a tenth of the one before. */
static void robust_fit_equals_gsls_formula_iterated_to_its_end(void **state) {
  (void)state;
  check_golden("estimators.csv", "robust", "robust", &plain_1, 1e-8, 20);
}

static void ridge_equals_the_closed_form_at_the_least_gcv(void **state) {
  (void)state;
  check_golden("estimators.csv", "ridge", "ridge", &plain_1, 1e-8, 21);
}

/* y ~ log(params) + bits + sqnr:method of statsmodels 0.15.0 on
 * uncensored.csv: an interaction without its margin is a slope for every
 * method, the reference included, and with it the same fit. */
static void interaction_without_its_margin_equals_statsmodels(void **state) {
  (void)state;
  static const struct {
    const char *name;
    double estimate, std_error;
  } alone[] =
      {{"(intercept)", 3.7992795138663027, 0.49941283934749},
       {"log(params_nonembedding)", -0.15522796064759364, 0.021075693981212965},
       {"bits_per_weight", 0.17623612984004933, 0.4309015710074026},
       {"sqnr_output:method[gptq]", -0.2412417355063517, 0.06865336762573127},
       {"sqnr_output:method[rtn]", -0.2460867986542582, 0.07569170217033382}},
    whole[] = {{"sqnr_output", -0.2460867986542582, 0.07569170217033386},
               {"sqnr_output:method[gptq]", 0.004845063147906231,
                0.008090286192219187}};
  ptq_frame frame;
  tables_golden(&table);
  ptq_fit fit = fit_table("ols", 1.0,
                          "log(params_nonembedding) + bits_per_weight + "
                          "sqnr_output:method",
                          &frame);
  assert_int_equal(fit.matrix.n, 62);
  assert_int_equal(fit.matrix.k, 5);
  for (size_t i = 0; i < sizeof alone / sizeof alone[0]; i++) {
    const double b = actual(&fit, alone[i].name, "estimate");
    const double e = actual(&fit, alone[i].name, "std_error");
    assert_true(fabs(b / alone[i].estimate - 1.0) < 1e-8);
    assert_true(fabs(e / alone[i].std_error - 1.0) < 1e-8);
  }
  assert_true(fabs(fit.r2 - 0.9510742425338518) < 1e-10);
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
  fit = fit_table("ols", 1.0,
                  "log(params_nonembedding) + bits_per_weight + "
                  "sqnr_output:method + sqnr_output",
                  &frame);
  assert_int_equal(fit.matrix.k, 5);
  for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
    const double b = actual(&fit, whole[i].name, "estimate");
    const double e = actual(&fit, whole[i].name, "std_error");
    assert_true(fabs(b / whole[i].estimate - 1.0) < 1e-8);
    assert_true(fabs(e / whole[i].std_error - 1.0) < 1e-8);
  }
  assert_true(fabs(fit.r2 - 0.9510742425338518) < 1e-10);
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
}

static void quasi_poisson_equals_statsmodels(void **state) {
  (void)state;
  check_golden("expected.csv", "quasi1", "quasi", &plain_1, 1e-8, 26);
}

static void variance_power_between_equals_statsmodels(void **state) {
  (void)state;
  check_golden("expected.csv", "quasi1.5", "quasi", &plain_15, 1e-8, 26);
}

static void noise_in_the_variance_equals_the_root_of_the_score(void **state) {
  (void)state;
  check_golden("expected.csv", "noisy1", "quasi", &noisy_1, 1e-8, 26);
  check_golden("expected.csv", "noisy2", "quasi", &noisy_2, 1e-8, 26);
}

/* The golden's Hessian is a finite difference of its gradient. */
static void censored_fit_equals_the_maximum_that_scipy_finds(void **state) {
  (void)state;
  check_golden("expected.csv", "censored", "censored", &plain_1, 1e-6, 29);
}

static const synthetic_law known = {.intercept = 6.0,
                                    .params = -0.25,
                                    .bits = -1.3,
                                    .group = 0.15,
                                    .gptq = -0.4,
                                    .noise = 0.1,
                                    .noise_model = 0.1,
                                    .floor = 0.002};
static const char known_formula[] =
    "log(params_nonembedding) + bits_per_weight + log(group) + method";

static void known_law_comes_back_within_its_errors(void **state) {
  (void)state;
  static const char *const names[] = {"quasi", "censored", "weighted",
                                      "robust"};
  const double want[] = {known.intercept, known.params, known.bits, known.group,
                         known.gptq};
  for (size_t e = 0; e < sizeof names / sizeof names[0]; e++) {
    ptq_frame frame;
    tables_synthetic(&table, &known, 11);
    ptq_fit fit = fit_table(names[e], 0.0, known_formula, &frame);
    assert_int_equal(fit.matrix.k, 5);
    assert_int_equal(fit.matrix.n_clusters, 10);
    assert_int_equal(fit.matrix.n_families, 2);
    for (int64_t j = 0; j < fit.matrix.k; j++) {
      const ptq_coefficient *c = &fit.coef[j];
      /* four clustered errors: p = 0.003 at nine degrees of freedom */
      if (!(fabs(c->estimate - want[j]) < 4.0 * c->std_error_cluster))
        fail_msg("%s: %s is %g +- %g, the law says %g", names[e],
                 fit.matrix.columns[j].name, c->estimate, c->std_error_cluster,
                 want[j]);
      assert_true(c->std_error_cluster < 0.25 * fabs(want[j]));
    }
    assert_true(fit.r2 > 0.95);
    ptq_fit_release(&fit);
    ptq_frame_release(&frame);
  }
}

static void negative_and_collapsed_points_are_counted_not_dropped(
    void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &known, 3);
  ptq_point_row *p = &table.points[table.n_points - 2];
  p[0].dnll = -0.5; /* below zero with an error bar */
  p[0].dnll_se = 0.3;
  p[1].dnll = -0.001; /* below zero without one */
  p[1].dnll_se = NAN;
  table.points[2].nll = table.models[0].nll_unigram; /* collapsed, just */
  ptq_fit quasi = fit_table("quasi", 0.0, known_formula, &frame);
  const int64_t done = frame.count[PTQ_USE_OK];
  const int64_t collapsed = frame.count[PTQ_USE_COLLAPSED];
  assert_int_equal(done + collapsed, table.n_points);
  assert_true(collapsed >= 1);
  assert_int_equal(quasi.matrix.n, done);
  assert_int_equal(quasi.n_excluded, collapsed);
  ptq_frame_release(&frame);

  ptq_fit censored = fit_table("censored", 0.0, known_formula, &frame);
  assert_int_equal(censored.n_unbounded, 1);
  assert_int_equal(censored.matrix.n, table.n_points - 1);
  assert_int_equal(censored.n_right, collapsed);
  assert_true(censored.n_left >= 1);
  ptq_frame_release(&frame);

  ptq_fit ols = fit_table("ols", 0.0, known_formula, &frame);
  assert_int_equal(ols.matrix.n + ols.n_excluded, table.n_points);
  assert_int_equal(ols.n_left_out, ols.n_excluded);
  int named = 0;
  for (int64_t i = 0; i < ols.n_left_out; i++)
    named += ols.left_out[i].obs->point == &p[0] &&
             strstr(ols.left_out[i].why, "not positive") != NULL;
  assert_int_equal(named, 1);
  assert_int_equal(ols.n_left, 0);
  ptq_frame_release(&frame);
  ptq_fit_release(&quasi);
  ptq_fit_release(&censored);
  ptq_fit_release(&ols);
}

static void one_model_gives_classical_errors_only(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &known, 5);
  table.n_points = 32; /* the first model */
  ptq_fit fit = fit_table("quasi", 0.0, known_formula, &frame);
  assert_int_equal(fit.matrix.n_clusters, 1);
  assert_int_equal(fit.matrix.n_dropped, 1); /* the model's size */
  assert_string_equal(fit.matrix.dropped[0].name, "log(params_nonembedding)");
  for (int64_t j = 0; j < fit.matrix.k; j++) {
    assert_true(isnan(fit.coef[j].std_error_cluster));
    assert_true(fit.coef[j].std_error > 0.0);
    assert_true(fit.coef[j].p >= 0.0 && fit.coef[j].p <= 1.0);
  }
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
}

static void too_few_points_say_how_many_are_needed(void **state) {
  (void)state;
  tables_synthetic(&table, &known, 5);
  for (int64_t i = 0; i < table.n_points - 5; i++)
    table.states[i] = PTQ_STATE_PENDING;
  ptq_frame frame;
  ptq_fit fit;
  ptq_err err = {0};
  const ptq_formula f = formula("bits_per_weight + log(group) + method + "
                                "sqnr_output + sqnr_weight");
  const ptq_fit_options options = {0};
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &frame, &err), PTQ_OK);
  assert_int_equal(
      ptq_fit_frame(estimator("quasi"), &f, &options, &frame, &fit, &err),
      PTQ_E_ARG);
  if (strstr(err.msg, "5 points cannot determine 6 coefficients") == NULL)
    fail_msg("%s", err.msg);
  for (int64_t i = 0; i < frame.n; i++) frame.obs[i].use = PTQ_USE_PENDING;
  err = (ptq_err){0};
  assert_int_equal(
      ptq_fit_frame(estimator("quasi"), &f, &options, &frame, &fit, &err),
      PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "no finished point"));
  for (int64_t i = 0; i < 7; i++) frame.obs[i].use = PTQ_USE_INCOMPLETE;
  err = (ptq_err){0};
  assert_int_equal(
      ptq_fit_frame(estimator("quasi"), &f, &options, &frame, &fit, &err),
      PTQ_E_ARG);
  if (strstr(err.msg, "7 have no loss or wait for their model's own item") ==
      NULL)
    fail_msg("%s", err.msg);
  for (int64_t i = 0; i < 9; i++) frame.obs[i].use = PTQ_USE_COLLAPSED;
  err = (ptq_err){0};
  assert_int_equal(
      ptq_fit_frame(estimator("quasi"), &f, &options, &frame, &fit, &err),
      PTQ_E_ARG);
  if (strstr(err.msg, "all 9 finished points of 320 have collapsed") == NULL ||
      strstr(err.msg, "add formats of more bits") == NULL)
    fail_msg("%s", err.msg);
  ptq_frame_release(&frame);
}

/* What one model alone determines has no spread over models. */
static void levels_of_one_model_have_no_clustered_error(void **state) {
  (void)state;
  tables_synthetic(&table, &known, 5);
  static const char *const estimators[] = {"quasi", "ols", "censored", "ridge"};
  for (size_t e = 0; e < sizeof estimators / sizeof *estimators; e++) {
    const ptq_fit_options options = {.power = 2.0};
    ptq_frame frame;
    ptq_fit fit =
        fit_with(estimators[e], &options, "bits_per_weight + model", &frame);
    int n_levels = 0;
    for (int64_t j = 0; j < fit.matrix.k; j++) {
      const ptq_coefficient *c = &fit.coef[j];
      assert_true(c->std_error > 0.0);
      if (strncmp(fit.matrix.columns[j].name, "model[", 6) == 0) n_levels++;
      /* an error, or none; never a zero that makes everything certain */
      if (!isnan(c->std_error_cluster)) {
        assert_true(c->std_error_cluster > 1e-6 * c->std_error);
        assert_true(isfinite(c->t));
      } else {
        assert_true(isnan(c->t) && isnan(c->p) && isnan(c->ci_low));
      }
      if (strcmp(fit.matrix.columns[j].name, "bits_per_weight") == 0)
        assert_true(c->std_error_cluster > 0.0);
    }
    assert_true(n_levels > 2);
    const ptq_prediction p = ptq_fit_predict(&fit, fit.matrix.obs[0]);
    assert_true(p.low < p.dnll && p.dnll < p.high);
    ptq_fit_release(&fit);
    ptq_frame_release(&frame);
  }
}

static void nothing_lost_is_said_instead_of_fitted(void **state) {
  (void)state;
  tables_synthetic(&table, &known, 5);
  for (int64_t i = 0; i < table.n_points; i++) table.points[i].dnll = -0.001;
  ptq_frame frame;
  ptq_fit fit;
  ptq_err err = {0};
  const ptq_formula f = default_formula();
  const ptq_fit_options options = {0};
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &frame, &err), PTQ_OK);
  assert_int_equal(
      ptq_fit_frame(estimator("quasi"), &f, &options, &frame, &fit, &err),
      PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "nothing was lost"));
  err = (ptq_err){0};
  assert_int_not_equal(
      ptq_fit_frame(estimator("censored"), &f, &options, &frame, &fit, &err),
      PTQ_OK);
  ptq_frame_release(&frame);
}

static void every_estimator_is_found_by_its_name(void **state) {
  (void)state;
  for (size_t i = 0; ptq_estimator_at(i) != NULL; i++)
    assert_ptr_equal(estimator(ptq_estimator_at(i)->name), ptq_estimator_at(i));
  const ptq_estimator *e = NULL;
  ptq_err err = {0};
  assert_int_equal(ptq_estimator_find("lasso", &e, &err), PTQ_E_ARG);
  assert_null(e);
  assert_non_null(strstr(err.msg, "quasi, censored, ols"));
}

static void interval_covers_nine_of_ten_new_measurements(void **state) {
  (void)state;
  ptq_frame frame;
  synthetic_law law = known;
  law.floor = 1e-5;
  tables_synthetic(&table, &law, 21);
  ptq_fit fit = fit_table("censored", 0.0, known_formula, &frame);
  int64_t inside = 0, n = 0;
  for (int64_t i = 0; i < frame.n; i++) {
    if (frame.obs[i].use != PTQ_USE_OK) continue;
    const ptq_prediction p = ptq_fit_predict(&fit, &frame.obs[i]);
    const double y = frame.obs[i].point->dnll;
    assert_true(p.low < p.dnll && p.dnll < p.high);
    inside += y >= p.low && y <= p.high;
    n++;
  }
  const double share = (double)inside / (double)n;
  /* 300 points: binomial sd 0.017; points of a model move together */
  assert_true(share > 0.82 && share < 0.97);
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
}

/* Without tests and diagnostics the law predicts the same bits. */
static void bare_fits_predict_the_same(void **state) {
  (void)state;
  tables_synthetic(&table, &known, 3);
  for (size_t e = 0; ptq_estimator_at(e) != NULL; e++) {
    const char *name = ptq_estimator_at(e)->name;
    ptq_frame frame, same;
    const ptq_fit_options options = {.bare = true};
    ptq_fit full = fit_table(name, 0.0, known_formula, &frame);
    ptq_fit bare = fit_with(name, &options, known_formula, &same);
    assert_true(full.coef[1].std_error_cluster > 0.0);
    assert_true(bare.coef[1].std_error_cluster == 0.0);
    for (int64_t i = 0; i < frame.n; i++) {
      const ptq_prediction p = ptq_fit_predict(&full, &frame.obs[i]);
      const ptq_prediction q = ptq_fit_predict(&bare, &same.obs[i]);
      assert_true(p.dnll == q.dnll && p.low == q.low && p.high == q.high);
    }
    ptq_fit_release(&full);
    ptq_fit_release(&bare);
    ptq_frame_release(&frame);
    ptq_frame_release(&same);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ols_equals_statsmodels_and_the_definition_of_cr2),
      cmocka_unit_test(clustered_errors_equal_an_independent_package),
      cmocka_unit_test(interaction_without_its_margin_equals_statsmodels),
      cmocka_unit_test(weighted_fit_equals_statsmodels_at_the_root_of_tau2),
      cmocka_unit_test(robust_fit_equals_gsls_formula_iterated_to_its_end),
      cmocka_unit_test(ridge_equals_the_closed_form_at_the_least_gcv),
      cmocka_unit_test(quasi_poisson_equals_statsmodels),
      cmocka_unit_test(variance_power_between_equals_statsmodels),
      cmocka_unit_test(noise_in_the_variance_equals_the_root_of_the_score),
      cmocka_unit_test(censored_fit_equals_the_maximum_that_scipy_finds),
      cmocka_unit_test(known_law_comes_back_within_its_errors),
      cmocka_unit_test(negative_and_collapsed_points_are_counted_not_dropped),
      cmocka_unit_test(one_model_gives_classical_errors_only),
      cmocka_unit_test(too_few_points_say_how_many_are_needed),
      cmocka_unit_test(levels_of_one_model_have_no_clustered_error),
      cmocka_unit_test(nothing_lost_is_said_instead_of_fitted),
      cmocka_unit_test(every_estimator_is_found_by_its_name),
      cmocka_unit_test(bare_fits_predict_the_same),
      cmocka_unit_test(interval_covers_nine_of_ten_new_measurements),
  };
  return cmocka_run_group_tests_name("analysis/fit", tests, NULL, NULL);
}
