/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "curves_table.h"
#include "ptq/analysis/curve.h"

static tables table;
static csv expected;

static void read_points(ptq_frame *frame, const ptq_obs **obs) {
  curves_table(&table, frame, obs);
}

static ptq_curve_fit fit(const ptq_curve *c, const ptq_frame *frame,
                         const ptq_obs *const *obs) {
  ptq_curve_fit f;
  ptq_err err = {0};
  if (ptq_curve_fit_points(c, obs, frame->n, &f, &err) != PTQ_OK)
    fail_msg("%s: %s", c->name, err.msg);
  return f;
}

static double actual(const ptq_curve_fit *f, const char *name,
                     const char *what) {
  if (strcmp(what, "rss") == 0) return f->rss;
  if (strcmp(what, "n_left") == 0) return (double)f->n_left;
  if (strcmp(what, "n_right") == 0) return (double)f->n_right;
  for (int j = 0; j < ptq_curve_n_params(f->curve); j++)
    if (strcmp(f->curve->params[j].name, name) == 0) return f->q[j];
  fail_msg("nothing is called '%s' of '%s'", what, name);
  return NAN;
}

/* At a minimum the parameters are as exact as the root of the residuals'. */
static void every_law_finds_the_optimum_that_scipy_finds(void **state) {
  (void)state;
  ptq_frame frame;
  static const ptq_obs *obs[TABLE_MAX];
  read_points(&frame, obs);
  csv_read(&expected, PTQ_SOURCE_DIR "/tests/golden/fit/curves_expected.csv");
  for (size_t i = 0; ptq_curve_at(i) != NULL; i++) {
    const ptq_curve_fit f = fit(ptq_curve_at(i), &frame, obs);
    int seen = 0;
    if (!f.identified) fail_msg("%s: %s", f.curve->name, f.why_not);
    assert_true(f.n_agree >= 3);
    for (int r = 0; r < expected.rows; r++) {
      if (strcmp(csv_text(&expected, r, "fit"), f.curve->name) != 0) continue;
      const char *name = csv_text(&expected, r, "name");
      const char *what = csv_text(&expected, r, "what");
      const double want = csv_number(&expected, r, "value");
      const double got = actual(&f, name, what);
      if (!(fabs(got - want) <= 1e-6 * fabs(want)))
        fail_msg("%s: %s of '%s' is %.15g, expected %.15g", f.curve->name, what,
                 name, got, want);
      seen++;
    }
    assert_int_equal(seen, ptq_curve_n_params(f.curve) + 3);
  }
  ptq_frame_release(&frame);
}

static const struct {
  const char *name;
  double q[PTQ_CURVE_PARAMS];
} truths[] = {{"kumar", {5.0, 0.5, 0.7, 0.6}},
              {"kumar-fixed-D", {800.0, 0.3, 0.6}},
              {"ouyang", {3.0, 0.5, 0.5, 5.0}},
              {"ouyang-fixed-D", {500.0, 0.3, 5.0}},
              {"zhou", {30.0, -0.3, -2.0, 0.5, 0.1}},
              {"zhou-fixed-C", {60.0, -0.3, -2.0, 0.1}},
              {"cao", {500.0, 0.4, 2.0, 0.1, 0.7}},
              {"power-irreducible", {1.5, 40.0, 0.25, 0.9}},
              {"exponential", {10.0, 1.3}}};

/* Twelve models: four clustered errors at few degrees of freedom. */
static void every_law_gives_its_own_parameters_back(void **state) {
  (void)state;
  ptq_frame frame;
  static const ptq_obs *obs[TABLE_MAX];
  size_t n_laws = 0;
  while (ptq_curve_at(n_laws) != NULL) n_laws++;
  assert_int_equal(n_laws, sizeof truths / sizeof truths[0]);
  for (size_t i = 0; i < n_laws; i++) {
    const ptq_curve *c = NULL;
    ptq_rng rng;
    ptq_rng_init(&rng, i + 1);
    assert_int_equal(ptq_curve_find(truths[i].name, &c, NULL), PTQ_OK);
    read_points(&frame, obs);
    for (int64_t k = 0; k < frame.n; k++) {
      double x[PTQ_CURVE_COVARIATES] = {0.0};
      ptq_point_row *p = &table.points[k];
      for (int j = 0; c->covariates[j] != NULL; j++)
        x[j] = ptq_feature_find(c->covariates[j])->get(obs[k]);
      const double v = c->value(truths[i].q, x);
      const double noise = 0.05 * tables_normal(&rng);
      p->dnll = c->base != NULL ? v - c->base(truths[i].q, x) : exp(v + noise);
      p->dnll_se = 1e-9;
      p->nll = c->base != NULL ? v + 0.1 * noise : 3.0 + p->dnll;
      frame.obs[k].use = PTQ_USE_OK;
    }
    const ptq_curve_fit f = fit(c, &frame, obs);
    if (!f.identified) fail_msg("%s: %s", c->name, f.why_not);
    for (int j = 0; j < ptq_curve_n_params(c); j++)
      if (!(fabs(f.q[j] - truths[i].q[j]) < 4.0 * f.std_error_cluster[j]))
        fail_msg("%s: %s is %g +- %g, the law says %g", c->name,
                 c->params[j].name, f.q[j], f.std_error_cluster[j],
                 truths[i].q[j]);
    assert_true(f.r2 > 0.95);
    const ptq_prediction p = ptq_curve_predict(&f, obs[5]);
    const double y = table.points[5].dnll;
    assert_true(p.low < p.dnll && p.dnll < p.high);
    assert_true(fabs(p.dnll - y) < 0.3 * y);
    ptq_frame_release(&frame);
  }
}

static void absent_and_constant_covariates_are_not_identified(void **state) {
  (void)state;
  ptq_frame frame;
  static const ptq_obs *obs[TABLE_MAX];
  const ptq_curve *kumar = NULL, *zhou = NULL;
  assert_int_equal(ptq_curve_find("kumar", &kumar, NULL), PTQ_OK);
  assert_int_equal(ptq_curve_find("zhou", &zhou, NULL), PTQ_OK);
  read_points(&frame, obs);
  for (int64_t m = 0; m < table.n_models; m++) {
    table.models[m].covariates[0] = '\0';
    table.models[m].calib_tokens = 4096;
  }
  ptq_curve_fit f = fit(kumar, &frame, obs);
  assert_false(f.identified);
  assert_non_null(strstr(f.why_not, "'train_tokens' is absent"));
  f = fit(zhou, &frame, obs);
  assert_false(f.identified);
  assert_non_null(strstr(f.why_not, "'calib_tokens' is constant (4096)"));
  ptq_frame_release(&frame);
}

/* Tokens in proportion to size: their exponents cannot be told apart. */
static void collinear_covariates_are_not_identified(void **state) {
  (void)state;
  ptq_frame frame;
  static const ptq_obs *obs[TABLE_MAX];
  const ptq_curve *c = NULL;
  assert_int_equal(ptq_curve_find("kumar", &c, NULL), PTQ_OK);
  read_points(&frame, obs);
  for (int64_t m = 0; m < table.n_models; m++)
    (void)snprintf(table.models[m].covariates, 64, "train_tokens=%lld",
                   (long long)table.models[m].params_nonembedding * 20);
  const ptq_curve_fit f = fit(c, &frame, obs);
  assert_false(f.identified);
  assert_non_null(strstr(f.why_not, "do not tell"));
  ptq_frame_release(&frame);
}

static void too_few_points_and_unknown_laws_are_refused(void **state) {
  (void)state;
  ptq_frame frame;
  static const ptq_obs *obs[TABLE_MAX];
  const ptq_curve *c = NULL;
  ptq_err err = {0};
  ptq_curve_fit f;
  assert_int_equal(ptq_curve_find("kumer", &c, &err), PTQ_E_ARG);
  assert_null(c);
  assert_non_null(strstr(err.msg, "did you mean 'kumar'"));
  assert_int_equal(ptq_curve_find("zhou", &c, NULL), PTQ_OK);
  read_points(&frame, obs);
  for (int64_t i = 0; i < frame.n; i++)
    if (i % 24 != 3) frame.obs[i].use = PTQ_USE_PENDING;
  err = (ptq_err){0};
  assert_int_equal(ptq_curve_fit_points(c, obs, frame.n, &f, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "4 uncensored points"));
  ptq_frame_release(&frame);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_law_finds_the_optimum_that_scipy_finds),
      cmocka_unit_test(every_law_gives_its_own_parameters_back),
      cmocka_unit_test(absent_and_constant_covariates_are_not_identified),
      cmocka_unit_test(collinear_covariates_are_not_identified),
      cmocka_unit_test(too_few_points_and_unknown_laws_are_refused),
  };
  return cmocka_run_group_tests_name("analysis/curve", tests, NULL, NULL);
}
