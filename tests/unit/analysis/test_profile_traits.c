/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/basins.h"
#include "ptq/analysis/feature.h"
#include "ptq/analysis/landscape.h"
#include "ptq/base/text.h"

enum { STEPS = 25 };

/* A step with a parabola at its foot, sampled as a sweep does. */
static double parabolic(double r) {
  return 0.3 * r + 7.0 * r * r / 2.0;
}

static double sigmoid(double r) {
  return r > 0.0 ? 6.0 / (1.0 + exp(-(log(r) + 0.7) / 0.25)) : 0.0;
}

static void profile(double (*f)(double), ptq_profile_row *steps) {
  for (int i = 0; i < STEPS; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), &steps[i]);
    steps[i].step = i;
    steps[i].radius =
        i > 0 ? 0.003 * pow(1000.0, (i - 1) / (double)(STEPS - 2)) : 0.0;
    steps[i].factor = steps[i].radius;
    steps[i].dnll = f(steps[i].radius);
    steps[i].dnll_se = 0.1 * steps[i].radius;
  }
}

static ptq_step_fit step_of(const ptq_profile_row *steps, int64_t n) {
  ptq_direction_traits t;
  ptq_profile_traits(steps, n, &t);
  return t.step;
}

static void a_sigmoid_is_fitted(void **state) {
  (void)state;
  ptq_profile_row steps[STEPS];
  profile(sigmoid, steps);
  const ptq_step_fit exact = step_of(steps, STEPS);
  assert_true(fabs(exact.height - 6.0) < 1e-6);
  assert_true(fabs(exact.center + 0.7) < 1e-6);
  assert_true(fabs(exact.width - 0.25) < 1e-6);
  assert_true(exact.height_se < 1e-6 && exact.width_se < 1e-6);
  /* Residuals of +-0.05 give errors of about their size. */
  for (int i = 0; i < STEPS; i++) steps[i].dnll += i % 2 ? 0.05 : -0.05;
  const ptq_step_fit rough = step_of(steps, STEPS);
  assert_true(fabs(rough.height - 6.0) < 3.0 * rough.height_se);
  assert_true(rough.height_se > 0.005 && rough.height_se < 0.1);
  assert_true(fabs(rough.width - 0.25) < 3.0 * rough.width_se);
}

/* Any height fits what is a power as far as it is seen. */
static double power(double r) {
  return 40.0 * r * r * r;
}

static void a_step_without_a_plateau_is_none(void **state) {
  (void)state;
  ptq_profile_row steps[STEPS];
  profile(power, steps);
  assert_true(isnan(step_of(steps, STEPS).height));
  assert_true(isnan(step_of(steps, STEPS).center_se));
  /* The foot of a step of middle exp(-0.7) and width 0.25, which levels off
   * most ln(2 + sqrt(3)) widths beyond. */
  const double shoulder = exp(-0.7 + 0.25 * log(2.0 + sqrt(3.0)));
  int seen = 0;
  profile(sigmoid, steps);
  while (steps[seen].radius < shoulder) seen++;
  assert_true(isnan(step_of(steps, seen).height));
  assert_true(fabs(step_of(steps, seen + 1).height - 6.0) < 1e-3);
}

static double saddle(double r) {
  return 0.3 * r - 3.5 * r * r;
}

static void a_parabola_has_its_curvature(void **state) {
  (void)state;
  ptq_profile_row steps[STEPS];
  ptq_direction_traits t;
  profile(parabolic, steps);
  ptq_profile_traits(steps, STEPS, &t);
  assert_true(fabs(t.slope - 0.3) < 1e-9);
  assert_true(fabs(t.curvature - 7.0) < 1e-9);
  /* 0.3 r + 3.5 r^2 = 0.1: between steps, so to a share of a step. */
  const double r = (-0.3 + sqrt(0.09 + 4 * 3.5 * 0.1)) / 7.0;
  assert_true(fabs(log(t.basin[0] / r)) < 0.03);
  assert_true(t.basin[0] < t.basin[1] && t.basin[1] < t.basin[2]);
  profile(saddle, steps);
  ptq_profile_traits(steps, STEPS, &t);
  assert_true(fabs(t.curvature + 7.0) < 1e-9);
  for (int i = 0; i < PTQ_BASINS; i++) assert_true(isinf(t.basin[i]));
}

static void a_basin_below_the_smallest_radius_is_not_known(void **state) {
  (void)state;
  ptq_profile_row steps[STEPS];
  ptq_direction_traits t;
  profile(sigmoid, steps);
  for (int i = 1; i < STEPS; i++) steps[i].dnll += 0.2;
  ptq_profile_traits(steps, STEPS, &t);
  assert_true(isnan(t.basin[0]));
  assert_true(isfinite(t.basin[1]) && t.basin[1] > steps[1].radius);
  steps[1].dnll = (double)NAN; /* lost at once */
  ptq_profile_traits(steps, STEPS, &t);
  for (int i = 0; i < PTQ_BASINS; i++) assert_true(isnan(t.basin[i]));
}

static void a_direction_is_a_row_of_basins(void **state) {
  (void)state;
  ptq_profile_row steps[STEPS];
  ptq_direction_row row;
  ptq_basin_row out;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &row);
  (void)ptq_text_copy(row.evaluation, sizeof row.evaluation, "t:4x64");
  (void)ptq_text_copy(row.kind, sizeof row.kind, "rtn");
  row.size = 0.1;
  profile(sigmoid, steps);
  ptq_direction_traits t = {.row = &row};
  assert_false(ptq_basin_has(&t));
  ptq_profile_traits(steps, STEPS, &t);
  assert_true(ptq_basin_has(&t));
  t.inside = true;
  ptq_basin_of(&t, &out);
  assert_string_equal(out.evaluation, "t:4x64");
  assert_int_equal(out.n_radii, STEPS - 1);
  assert_true(out.radius_min == steps[1].radius);
  assert_true(out.radius_max == steps[STEPS - 1].radius);
  assert_true(out.basin_01 == t.basin[0] && out.basin_1 == t.basin[2]);
  assert_true(out.step_center_se == t.step.center_se);
  assert_true(out.size_over_basin == 0.1 / t.basin[1] && out.inside == 1.0);
  (void)ptq_text_copy(row.kind, sizeof row.kind, "gaussian");
  ptq_basin_of(&t, &out);
  assert_true(isnan(out.size_over_basin) && isnan(out.inside));
}

static double falling(double r) {
  return -r;
}

static void what_never_rises_or_is_not_finite_is_said(void **state) {
  (void)state;
  ptq_profile_row steps[STEPS];
  ptq_direction_traits t;
  profile(falling, steps);
  ptq_profile_traits(steps, STEPS, &t);
  for (int i = 0; i < PTQ_BASINS; i++) assert_true(isinf(t.basin[i]));
  assert_true(isnan(t.step.height));
  profile(sigmoid, steps);
  for (int i = 15; i < STEPS; i++) steps[i].dnll = steps[i].nll = (double)NAN;
  ptq_profile_traits(steps, STEPS, &t);
  assert_true(t.basin[2] <= steps[14].radius);
  /* the loss was not up by so much when it was lost */
  steps[14].dnll = 0.05;
  steps[13].dnll = 0.04;
  for (int i = 0; i < 13; i++) steps[i].dnll = 0.0;
  ptq_profile_traits(steps, STEPS, &t);
  assert_true(t.basin[0] == steps[14].radius);
  assert_true(isnan(step_of(steps, 4).height));
}

static void the_quadratic_prediction_scales_with_size(void **state) {
  (void)state;
  ptq_direction_row d;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &d);
  assert_true(isnan(ptq_landscape_quadratic(&d, 0.1)));
  d.size = 0.1;
  d.slope = 0.02;
  d.curvature = 0.5;
  assert_true(fabs(ptq_landscape_quadratic(&d, 0.1) - 0.27) < 1e-15);
  assert_true(fabs(ptq_landscape_quadratic(&d, 0.2) - 1.04) < 1e-15);
  d.curvature = -0.5;
  assert_true(fabs(ptq_landscape_quadratic(&d, 0.2) + 0.96) < 1e-15);
}

/* Columns of the landscape are offered to every formula. */
static void features_read_the_landscape(void **state) {
  (void)state;
  const double none = (double)NAN;
  ptq_model_row model;
  ptq_point_row point;
  ptq_direction_row row;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), &model);
  ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), &point);
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &row);
  point.sqnr_weight = 20.0; /* a tenth of the weights */
  row.size = 0.05;
  row.slope = 0.01;
  row.curvature = 0.02;
  row.gauss_newton = 0.03;
  row.fisher_diagonal = 0.04;
  row.kronecker = 0.05;
  const ptq_landscape_traits l = {.log_basin = {log(0.1), log(0.2), log(0.4)},
                                  .height = 7.0,
                                  .center = -0.5,
                                  .eigen_min = -3.0,
                                  .output_trace = 0.25,
                                  .gauss_newton_trace = 5.0,
                                  .gauss_newton_max = 2.0,
                                  .trace = none};
  const ptq_direction_traits along = {
      .row = &row, .basin = {0.1, 0.25, 0.5}, .quadratic_radius = 0.125};
  ptq_obs o = {.point = &point, .model = &model, .sqnr_rtn = 20.0};
  const struct {
    const char *name;
    double value;
  } expected[] = {{"basin_01", 0.1},         {"basin_05", 0.2},
                  {"basin_1", 0.4},          {"step_height", 7.0},
                  {"step_center", -0.5},     {"hessian_min", -3.0},
                  {"output_trace", 0.25},    {"quadratic_radius", 0.125},
                  {"noise_over_basin", 0.5}, {"rtn_over_basin", 0.4},
                  {"dnll_quadratic", 0.06},  {"gauss_newton_trace", 5.0},
                  {"gauss_newton_max", 2.0}, {"dnll_gauss_newton", 0.06},
                  {"dnll_fisher", 0.08},     {"dnll_kronecker", 0.1}};
  for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
    const ptq_feature *f = ptq_feature_find(expected[i].name);
    assert_non_null(f);
    o.landscape = NULL;
    o.displacement = NULL;
    assert_true(isnan(f->get(&o)));
    o.landscape = &l;
    o.displacement = &along;
    if (fabs(f->get(&o) - expected[i].value) > 1e-12)
      fail_msg("%s: %g", f->name, f->get(&o));
  }
  assert_true(isnan(ptq_feature_find("hessian_trace")->get(&o)));
  /* what knows the loss along the displacement says so */
  assert_int_equal(ptq_feature_find("basin_05")->tier, PTQ_TIER_LANDSCAPE);
  assert_int_equal(ptq_feature_find("rtn_over_basin")->tier,
                   PTQ_TIER_DISPLACED);
  assert_int_equal(ptq_feature_find("quadratic_radius")->tier,
                   PTQ_TIER_DISPLACED);
  assert_int_equal(ptq_feature_find("anisotropy")->tier, PTQ_TIER_DISPLACED);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_sigmoid_is_fitted),
      cmocka_unit_test(a_step_without_a_plateau_is_none),
      cmocka_unit_test(a_parabola_has_its_curvature),
      cmocka_unit_test(a_basin_below_the_smallest_radius_is_not_known),
      cmocka_unit_test(a_direction_is_a_row_of_basins),
      cmocka_unit_test(what_never_rises_or_is_not_finite_is_said),
      cmocka_unit_test(the_quadratic_prediction_scales_with_size),
      cmocka_unit_test(features_read_the_landscape),
  };
  return cmocka_run_group_tests_name("analysis/profile_traits", tests, NULL,
                                     NULL);
}
