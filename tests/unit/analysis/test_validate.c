/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/validate.h"
#include "tables.h"

static tables table;
static const synthetic_law law = {.intercept = 6.0,
                                  .params = -0.25,
                                  .bits = -1.3,
                                  .group = 0.15,
                                  .gptq = -0.4,
                                  .noise = 0.05,
                                  .floor = 0.0001};
static const char text[] =
    "log(params_nonembedding) + bits_per_weight + log(group) + method";

static ptq_validation validate(const char *formula, size_t split,
                               ptq_frame *frame) {
  ptq_formula f;
  ptq_err err = {0};
  ptq_validation v;
  const ptq_fit_options options = {0};
  const ptq_estimator *e = NULL;
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, frame, &err), PTQ_OK);
  assert_int_equal(ptq_formula_parse(formula, &f, &err), PTQ_OK);
  assert_int_equal(ptq_estimator_find("quasi", &e, &err), PTQ_OK);
  const ptq_recipe recipe =
      ptq_recipe_formula("given", formula, &f, e, &options);
  assert_int_equal(recipe.tier, PTQ_TIER_CONFIG);
  if (ptq_validate(&recipe, ptq_split_at(split), frame, &v, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return v;
}

static void known_law_predicts_held_out_models_and_families(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 2);
  for (size_t s = 0; s < 2; s++) {
    ptq_frame frame;
    ptq_validation v = validate(text, s, &frame);
    assert_int_equal(v.n_groups, s == 0 ? 10 : 2);
    assert_int_equal(v.n_failed, 0);
    assert_int_equal(v.n_unpredicted, 0);
    assert_int_equal(v.n_points, frame.count[PTQ_USE_OK]);
    assert_true(v.all.n > 100);
    /* noise of 5 % a point, 2 % of measurement: the median of |N(0, .054)|
     * is 0.036; the baseline ignores size, group and method */
    assert_true(v.all.median < 0.06);
    assert_true(v.all.median_base > 3.0 * v.all.median);
    assert_true(v.all.r2 > 0.98 && v.all.r2 > v.all.r2_base);
    assert_true(v.all.rank > 0.98 && v.all.rank <= 1.0);
    assert_int_equal(v.n_folds, v.n_groups);
    int64_t n = 0;
    for (int b = 0; b < PTQ_BITS_MAX; b++) n += v.by_bits[b].n;
    assert_int_equal(n, v.all.n);
    ptq_validation_release(&v);
    ptq_frame_release(&frame);
  }
}

/* Changing a model's own measurements must not move its own prediction. */
static void held_out_model_never_sees_its_own_points(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  ptq_validation v = validate(text, 0, &frame);
  const ptq_obs *last = v.points[v.n_points - 1].obs;
  const char *model = last->point->model;
  const double before = v.points[v.n_points - 1].law.dnll;
  const double base = v.points[v.n_points - 1].base;
  ptq_validation_release(&v);
  for (int64_t i = 0; i < table.n_points; i++)
    if (strcmp(table.points[i].model, model) == 0) table.points[i].dnll *= 3.0;
  ptq_frame_release(&frame);
  v = validate(text, 0, &frame);
  assert_true(v.points[v.n_points - 1].law.dnll == before);
  assert_true(v.points[v.n_points - 1].base == base);
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

static void baseline_is_the_median_of_the_dtype_elsewhere(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  ptq_validation v = validate(text, 1, &frame);
  const ptq_holdout *h = &v.points[v.n_points - 1]; /* opt, int5 */
  double below = 0.0, above = 0.0;
  for (int64_t i = 0; i < frame.n; i++) {
    const ptq_obs *o = &frame.obs[i];
    if (o->use != PTQ_USE_OK || strcmp(o->point->family, "llama") != 0 ||
        strcmp(o->point->dtype, h->obs->point->dtype) != 0)
      continue;
    below += o->point->dnll < h->base;
    above += o->point->dnll > h->base;
  }
  assert_true(below > 0.0 && below == above);
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

/* Largest of each family: the others' sizes end below them. */
static void largest_models_are_extrapolated_to(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  ptq_validation v = validate(text, 2, &frame);
  assert_string_equal(v.split->name, "largest-size-out");
  assert_int_equal(v.n_groups, 1);
  assert_int_equal(v.n_outside, v.n_points);
  for (int64_t i = 0; i < v.n_points; i++) {
    const ptq_obs *o = v.points[i].obs;
    for (int64_t m = 0; m < table.n_models; m++)
      if (strcmp(table.models[m].family, o->point->family) == 0)
        assert_true(table.models[m].params_nonembedding <=
                    o->model->params_nonembedding);
  }
  assert_true(v.all.median < 0.08);
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

/* Dialects go with their element; the baseline falls back to equal bits. */
static void dtype_is_held_out_with_its_dialects(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  for (int64_t i = 0; i < table.n_points; i++)
    if (strcmp(table.points[i].dtype, "int3") == 0 && i % 2 == 0)
      (void)ptq_text_copy(table.points[i].dtype, 48, "int3:asym");
  ptq_validation v = validate(text, 3, &frame);
  assert_string_equal(v.split->name, "leave-one-dtype-out");
  assert_int_equal(v.n_groups, 8);
  double same_bits[TABLE_MAX];
  int64_t n = 0;
  for (int64_t i = 0; i < frame.n; i++)
    if (frame.obs[i].use == PTQ_USE_OK &&
        strcmp(frame.obs[i].point->dtype, "mxint3") == 0)
      same_bits[n++] = frame.obs[i].point->dnll;
  for (int64_t i = 0; i < v.n_points; i++) {
    if (strncmp(v.points[i].obs->point->dtype, "int3", 4) != 0) continue;
    int64_t below = 0, above = 0;
    for (int64_t k = 0; k < n; k++) {
      below += same_bits[k] < v.points[i].base;
      above += same_bits[k] > v.points[i].base;
    }
    assert_int_equal(below, above);
  }
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

static void unseen_method_is_not_predicted_as_another(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  ptq_validation v = validate(text, 4, &frame);
  assert_int_equal(v.n_groups, 2);
  assert_int_equal(v.n_points, 0);
  assert_int_equal(v.n_unpredicted, frame.count[PTQ_USE_OK]);
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

static void many_groups_share_folds(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  for (int64_t i = 0; i < table.n_points; i++)
    (void)snprintf(table.points[i].dtype, 48, "int%c%02d", 'a' + (int)(i % 5),
                   (int)(i % 32));
  ptq_validation v = validate("log(params_nonembedding)", 3, &frame);
  assert_true(v.n_groups > 20);
  assert_int_equal(v.n_folds, 20);
  assert_int_equal(v.n_points + v.n_unpredicted, frame.count[PTQ_USE_OK]);
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

static void level_unseen_in_training_is_counted(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  ptq_validation v = validate("bits_per_weight + family", 1, &frame);
  assert_int_equal(v.n_points, 0);
  assert_int_equal(v.n_unpredicted, frame.count[PTQ_USE_OK]);
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

static void mark(int64_t model, const char *covariates) {
  (void)ptq_text_copy(table.models[model].covariates,
                      sizeof table.models[model].covariates, covariates);
}

/* The last model's measurements move its own error, and nothing else. */
static void model_held_out_for_good_is_never_learned_from(void **state) {
  (void)state;
  ptq_frame frame;
  double median[2][2];
  for (int k = 0; k < 2; k++) {
    tables_synthetic(&table, &law, 2);
    mark(9, "holdout=true,train_seed=1");
    mark(8, "holdout=false");
    for (int64_t i = 288; i < 320 && k == 1; i++) table.points[i].dnll *= 2.0;
    for (int s = 0; s < 2; s++) {
      ptq_validation v = validate(text, s == 0 ? 0 : 5, &frame);
      assert_int_equal(frame.n_held, 32);
      assert_int_equal(v.n_groups, s == 0 ? 9 : 1);
      assert_int_equal(v.n_points, s == 0 ? frame.count[PTQ_USE_OK] - 32 : 32);
      for (int64_t i = 0; i < v.n_points; i++)
        assert_true(v.points[i].obs->held == (s == 1));
      median[k][s] = v.all.median;
      ptq_validation_release(&v);
      ptq_frame_release(&frame);
    }
  }
  assert_true(median[1][0] == median[0][0]);
  assert_true(median[0][1] < 0.1 && median[1][1] > 0.5);
}

/* The same of a nonlinear law and of trees: predictions of held-out models. */
static void no_kind_of_law_learns_from_what_is_held_out(void **state) {
  (void)state;
  const ptq_curve *curve = NULL;
  assert_int_equal(ptq_curve_find("kumar-fixed-D", &curve, NULL), PTQ_OK);
  size_t t = 0;
  while (strcmp(ptq_trees_at(t)->name, "forest-config") != 0) t++;
  const ptq_recipe recipes[2] = {ptq_recipe_curve(curve),
                                 ptq_recipe_trees(ptq_trees_at(t))};
  for (int r = 0; r < 2; r++) {
    double sum[2] = {0.0, 0.0};
    for (int k = 0; k < 2; k++) {
      ptq_frame frame;
      ptq_validation v;
      tables_synthetic(&table, &law, 2);
      mark(9, "holdout=true");
      for (int64_t i = 288; i < 320 && k == 1; i++) table.points[i].dnll *= 2.0;
      const ptq_frame_source source = tables_source(&table);
      assert_int_equal(ptq_frame_build(&source, &frame, NULL), PTQ_OK);
      assert_int_equal(
          ptq_validate(&recipes[r], ptq_split_at(5), &frame, &v, NULL), PTQ_OK);
      assert_int_equal(v.n_points, 32);
      for (int64_t i = 0; i < v.n_points; i++) sum[k] += v.points[i].law.dnll;
      ptq_validation_release(&v);
      ptq_frame_release(&frame);
    }
    assert_true(sum[0] > 0.0 && sum[1] == sum[0]);
  }
}

static void models_of_one_run_are_left_out_together(void **state) {
  (void)state;
  ptq_frame frame;
  double sum[2] = {0.0, 0.0};
  for (int k = 0; k < 2; k++) {
    tables_synthetic(&table, &law, 2);
    mark(0, "lr_state=constant,run=twin");
    mark(1, "lr_state=decayed,run=twin");
    for (int64_t i = 0; i < 32 && k == 1; i++) table.points[i].dnll *= 3.0;
    ptq_validation v = validate(text, 0, &frame);
    assert_int_equal(v.n_groups, 9);
    for (int64_t i = 0; i < v.n_points; i++)
      if (v.points[i].obs->subject == 1) sum[k] += v.points[i].law.dnll;
    ptq_validation_release(&v);
    ptq_fit fit = {0};
    ptq_formula f;
    const ptq_fit_options options = {0};
    const ptq_estimator *e = NULL;
    assert_int_equal(ptq_formula_parse(text, &f, NULL), PTQ_OK);
    assert_int_equal(ptq_estimator_find("quasi", &e, NULL), PTQ_OK);
    assert_int_equal(ptq_fit_frame(e, &f, &options, &frame, &fit, NULL),
                     PTQ_OK);
    assert_int_equal(fit.matrix.n_clusters, 9);
    assert_int_equal(fit.matrix.n_models, 10);
    ptq_fit_release(&fit);
    ptq_frame_release(&frame);
  }
  assert_true(sum[0] > 0.0 && sum[1] == sum[0]);
}

/* Name of the formula that `chosen` takes for points like those of `aim`, of
 * the first n_points. */
static void chosen_for(const ptq_split *aim, int64_t n_points, char *name,
                       size_t size) {
  ptq_frame frame;
  ptq_err err = {0};
  ptq_learned learned;
  const ptq_obs *obs[TABLE_MAX];
  const ptq_fit_options options = {0};
  const ptq_estimator *e = NULL;
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &frame, &err), PTQ_OK);
  assert_int_equal(ptq_estimator_find("quasi", &e, &err), PTQ_OK);
  for (int64_t i = 0; i < n_points; i++) obs[i] = &frame.obs[i];
  const ptq_recipe recipe = ptq_recipe_choose(e, &options);
  if (ptq_recipe_learn(&recipe, aim, obs, n_points, &learned, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  assert_true(size > strlen(learned.chosen));
  strcpy(name, learned.chosen);
  ptq_learned_release(&learned);
  ptq_frame_release(&frame);
}

/* One family loses more, and its NLL tells it from the other: of new models
 * in these families that predicts, of a new family it does not. */
static void law_is_chosen_for_what_is_to_be_predicted(void **state) {
  (void)state;
  char models[40], families[40], size[40];
  tables_synthetic(&table, &law, 2);
  for (int64_t i = 0; i < table.n_points; i++)
    if (strcmp(table.points[i].family, "opt") == 0) table.points[i].dnll *= 2.0;
  for (int64_t i = 0; i < table.n_models; i++) /* headroom tells nothing */
    table.models[i].nll_unigram = table.models[i].nll + 2.0;
  chosen_for(NULL, table.n_points, models, sizeof models);
  assert_string_equal(models, "nll");
  chosen_for(ptq_split_at(1), table.n_points, families, sizeof families);
  assert_string_not_equal(families, "nll");
  /* one family is none to hold out: models are */
  chosen_for(ptq_split_at(1), table.n_points / 2, families, sizeof families);
  chosen_for(NULL, table.n_points / 2, size, sizeof size);
  assert_string_equal(families, size);
}

static void split_inside_is_of_the_same_kind_in_few_folds(void **state) {
  (void)state;
  for (size_t s = 0; ptq_split_at(s) != NULL; s++) {
    const ptq_split *outer = ptq_split_at(s);
    const ptq_split inside = ptq_split_inside(outer);
    assert_ptr_equal(inside.group, outer->group);
    assert_int_equal(inside.most, 3);
    assert_int_equal(inside.least, outer->held ? 2 : outer->least);
    assert_false(inside.held);
  }
  assert_ptr_equal(ptq_split_inside(NULL).group, ptq_split_at(0)->group);
}

static void one_group_is_no_validation(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  table.n_points = 160; /* the first family */
  ptq_validation v = validate(text, 1, &frame);
  assert_int_equal(v.n_groups, 1);
  assert_int_equal(v.n_points, 0);
  assert_true(isnan(v.all.median));
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

static void fit_that_fails_without_a_group_is_reported(void **state) {
  (void)state;
  ptq_frame frame;
  tables_synthetic(&table, &law, 2);
  /* all but three points of the second family are missing */
  for (int64_t i = 160; i < table.n_points - 3; i++)
    table.states[i] = PTQ_STATE_FAILED;
  ptq_validation v = validate(text, 1, &frame);
  assert_int_equal(v.n_groups, 2);
  assert_int_equal(v.n_failed, 1);
  assert_non_null(strstr(v.failure, "cannot determine"));
  ptq_validation_release(&v);
  ptq_frame_release(&frame);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_law_predicts_held_out_models_and_families),
      cmocka_unit_test(held_out_model_never_sees_its_own_points),
      cmocka_unit_test(baseline_is_the_median_of_the_dtype_elsewhere),
      cmocka_unit_test(largest_models_are_extrapolated_to),
      cmocka_unit_test(dtype_is_held_out_with_its_dialects),
      cmocka_unit_test(unseen_method_is_not_predicted_as_another),
      cmocka_unit_test(many_groups_share_folds),
      cmocka_unit_test(level_unseen_in_training_is_counted),
      cmocka_unit_test(model_held_out_for_good_is_never_learned_from),
      cmocka_unit_test(no_kind_of_law_learns_from_what_is_held_out),
      cmocka_unit_test(models_of_one_run_are_left_out_together),
      cmocka_unit_test(law_is_chosen_for_what_is_to_be_predicted),
      cmocka_unit_test(split_inside_is_of_the_same_kind_in_few_folds),
      cmocka_unit_test(one_group_is_no_validation),
      cmocka_unit_test(fit_that_fails_without_a_group_is_reported),
  };
  return cmocka_run_group_tests_name("analysis/validate", tests, NULL, NULL);
}
