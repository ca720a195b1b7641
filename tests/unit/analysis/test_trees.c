/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "curves_table.h"
#include "ptq/analysis/validate.h"
#include "ptq/base/mem.h"

static tables table;
static const ptq_obs *obs[TABLE_MAX];

static const ptq_trees *kind(const char *name) {
  for (size_t i = 0; ptq_trees_at(i) != NULL; i++)
    if (strcmp(ptq_trees_at(i)->name, name) == 0) return ptq_trees_at(i);
  fail_msg("no trees are called '%s'", name);
  return NULL;
}

/* Mean |ln(p/m)| over uncensored points, each model left out. */
static double held_out_error(const ptq_trees *t, const ptq_frame *frame) {
  const ptq_recipe recipe = ptq_recipe_trees(t);
  ptq_validation v;
  ptq_err err = {0};
  if (ptq_validate(&recipe, ptq_split_at(0), frame, &v, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  assert_int_equal(v.n_failed, 0);
  double sum = 0.0, n = 0.0, y = 0.0;
  for (int64_t i = 0; i < v.n_points; i++) {
    if (ptq_obs_censoring(v.points[i].obs, &y) != PTQ_CENSORED_NOT) continue;
    sum += fabs(log(v.points[i].law.dnll) - y);
    n += 1.0;
  }
  ptq_validation_release(&v);
  return sum / n;
}

/* Both libraries draw rows and columns at random; a tenth is five of
 * scikit-learn's standard deviations over seeds and less than half of what
 * depth or shrinkage change. */
static void held_out_error_is_scikit_learns(void **state) {
  (void)state;
  static csv c;
  ptq_frame frame;
  csv_read(&c, PTQ_SOURCE_DIR "/tests/golden/fit/trees_expected.csv");
  curves_table(&table, &frame, obs);
  assert_int_equal(c.rows, 2);
  const double forest = held_out_error(kind("forest-config"), &frame);
  const double want = csv_number(&c, 0, "error");
  assert_string_equal(csv_text(&c, 0, "fit"), "forest-config");
  if (!(fabs(forest / want - 1.0) < 0.1))
    fail_msg("forest: %g, scikit-learn %g", forest, want);
  ptq_frame_release(&frame);
}

static void boosting_tunes_its_trees_and_is_no_worse(void **state) {
  (void)state;
  static csv c;
  ptq_frame frame;
  ptq_err err = {0};
  csv_read(&c, PTQ_SOURCE_DIR "/tests/golden/fit/trees_expected.csv");
  curves_table(&table, &frame, obs);
  static const char *const features[] = {"params_nonembedding",
                                         "params",
                                         "share_quantized",
                                         "bits",
                                         "bits_per_weight",
                                         "group",
                                         NULL};
  ptq_trees t = *kind("boosting");
  t.features = features;
  const double error = held_out_error(&t, &frame);
  const double want = csv_number(&c, 1, "error");
  if (!(error < 1.15 * want)) fail_msg("boosting: %g, not %g", error, want);
  ptq_grove *g = NULL;
  assert_int_equal(ptq_trees_learn(&t, obs, frame.n, &g, &err), PTQ_OK);
  assert_true(ptq_grove_n_trees(g) >= 20);
  assert_true(ptq_grove_n_trees(g) <= t.n_trees);
  assert_int_equal(ptq_grove_n_points(g), frame.n);
  ptq_grove_free(g);
  ptq_frame_release(&frame);
}

static void same_points_give_the_same_trees(void **state) {
  (void)state;
  ptq_frame frame;
  curves_table(&table, &frame, obs);
  double first = NAN;
  for (int k = 0; k < 2; k++) {
    ptq_grove *g = NULL;
    ptq_prediction p[3];
    assert_int_equal(ptq_trees_learn(kind("forest"), obs, frame.n, &g, NULL),
                     PTQ_OK);
    assert_int_equal(ptq_grove_predict(g, obs, 3, p, NULL), PTQ_OK);
    assert_true(p[1].low < p[1].dnll && p[1].dnll < p[1].high);
    assert_true(k == 0 || p[1].dnll == first);
    first = p[1].dnll;
    ptq_grove_free(g);
  }
  ptq_frame_release(&frame);
}

static void importance_finds_what_moves_the_loss(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_importance *rows = NULL;
  int64_t n = 0;
  double error = NAN;
  curves_table(&table, &frame, obs);
  assert_int_equal(ptq_trees_importance(kind("forest-config"), obs, frame.n,
                                        &rows, &n, &error, NULL),
                   PTQ_OK);
  assert_true(n >= 6 && error > 0.0 && error < 1.0);
  assert_true(strncmp(rows[0].name, "bits", 4) == 0);
  assert_true(rows[0].growth > 0.2);
  for (int64_t i = 1; i < n; i++)
    assert_true(rows[i].growth <= rows[i - 1].growth);
  ptq_free(rows);
  ptq_frame_release(&frame);
}

static void few_points_and_unseen_levels_are_told(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_grove *g = NULL;
  ptq_err err = {0};
  curves_table(&table, &frame, obs);
  assert_int_equal(ptq_trees_learn(kind("forest"), obs, 5, &g, &err),
                   PTQ_E_ARG);
  assert_null(g);
  assert_non_null(strstr(err.msg, "5 points are too few"));
  assert_int_equal(ptq_trees_learn(kind("forest"), obs, frame.n, &g, NULL),
                   PTQ_OK);
  ptq_point_row row = *obs[0]->point;
  ptq_obs o = *obs[0];
  const ptq_obs *one = &o;
  o.point = &row;
  (void)ptq_text_copy(row.method, sizeof row.method, "awq");
  ptq_prediction p;
  assert_int_equal(ptq_grove_predict(g, &one, 1, &p, NULL), PTQ_OK);
  assert_true(isnan(p.dnll));
  assert_string_equal(p.why, "level");
  ptq_grove_free(g);
  ptq_frame_release(&frame);
}

static void forest_of_landscapes_needs_one(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_grove *grove = NULL;
  ptq_err err = {0};
  ptq_landscape_traits flat = {.log_basin = {-2.0, -1.0, 0.0}};
  curves_table(&table, &frame, obs);
  assert_int_equal(
      ptq_trees_learn(kind("forest-landscape"), obs, frame.n, &grove, &err),
      PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "tier 'landscape'"));
  for (int64_t i = 0; i < frame.n; i++) frame.obs[i].landscape = &flat;
  assert_int_equal(
      ptq_trees_learn(kind("forest-landscape"), obs, frame.n, &grove, &err),
      PTQ_OK);
  ptq_grove_free(grove);
  ptq_frame_release(&frame);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(forest_of_landscapes_needs_one),
      cmocka_unit_test(held_out_error_is_scikit_learns),
      cmocka_unit_test(boosting_tunes_its_trees_and_is_no_worse),
      cmocka_unit_test(same_points_give_the_same_trees),
      cmocka_unit_test(importance_finds_what_moves_the_loss),
      cmocka_unit_test(few_points_and_unseen_levels_are_told),
  };
  return cmocka_run_group_tests_name("analysis/trees", tests, NULL, NULL);
}
