/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/recipe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/analysis/validate.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

static ptq_tier formula_tier(const ptq_formula *f) {
  ptq_tier tier = PTQ_TIER_CONFIG;
  for (int t = 0; t < f->n_terms; t++)
    for (int p = 0; p < f->terms[t].n_parts; p++) {
      const ptq_feature *x = f->terms[t].parts[p].feature;
      if (x != NULL && x->tier > tier) tier = x->tier;
    }
  return tier;
}

ptq_recipe ptq_recipe_formula(const char *name, const char *text,
                              const ptq_formula *formula,
                              const ptq_estimator *estimator,
                              const ptq_fit_options *options) {
  ptq_recipe r = {.text = text,
                  .tier = formula_tier(formula),
                  .estimator = estimator,
                  .formula = *formula,
                  .options = *options};
  (void)ptq_text_copy(r.name, sizeof r.name, name);
  return r;
}

ptq_recipe ptq_recipe_curve(const ptq_curve *curve) {
  ptq_recipe r = {.text = curve->equation, .curve = curve};
  (void)ptq_text_copy(r.name, sizeof r.name, curve->name);
  for (const char *const *c = curve->covariates; *c != NULL; c++)
    if (ptq_feature_find(*c)->tier > r.tier)
      r.tier = ptq_feature_find(*c)->tier;
  return r;
}

ptq_recipe ptq_recipe_trees(const ptq_trees *trees) {
  ptq_recipe r = {
      .text = trees->text, .trees = trees, .tier = ptq_trees_tier(trees)};
  (void)ptq_text_copy(r.name, sizeof r.name, trees->name);
  return r;
}

ptq_recipe ptq_recipe_choose(const ptq_estimator *estimator,
                             const ptq_fit_options *options) {
  ptq_recipe r = {.text = "the best formula, chosen without the held-out "
                          "points (nested)",
                  .estimator = estimator,
                  .options = *options,
                  .choose = true,
                  .tier = PTQ_TIER_CALIBRATION};
  (void)ptq_text_copy(r.name, sizeof r.name, "chosen");
  return r;
}

/* Training points as a frame, so that they can be split again. */
static ptq_status subframe(const ptq_obs *const *obs, int64_t n, ptq_frame *out,
                           ptq_err *err) {
  *out = (ptq_frame){.n = n};
  const ptq_status rc =
      ptq_alloc(&out->obs, n, sizeof *out->obs, "training points", err);
  for (int64_t i = 0; i < n && rc == PTQ_OK; i++) out->obs[i] = *obs[i];
  return rc;
}

/* How well a law predicts points held out of a frame. */
typedef struct trial {
  bool held; /* the frame has groups enough for the split */
  int64_t n_unpredicted;
  double error; /* infinite where none of the band was predicted */
} trial;

static ptq_status try_law(const ptq_recipe *law, const ptq_split *split,
                          const ptq_frame *frame, trial *out, ptq_err *err) {
  ptq_validation v;
  const ptq_status rc = ptq_validate(law, split, frame, &v, err);
  if (rc != PTQ_OK) return rc;
  *out = (trial){
      v.n_groups >= split->least, v.n_unpredicted,
      v.n_failed > 0 || isnan(v.all.median) ? (double)INFINITY : v.all.median};
  ptq_validation_release(&v);
  return PTQ_OK;
}

/* A law that predicts more points comes before one that errs less on the
 * points it picks. */
static bool better(const trial *a, const trial *b) {
  if (isinf(a->error) || isinf(b->error)) return a->error < b->error;
  if (a->n_unpredicted != b->n_unpredicted)
    return a->n_unpredicted < b->n_unpredicted;
  return a->error < b->error;
}

/* The named formula that predicts points like those of `aim` best, held out of
 * these. Where these are too few groups of that kind, as one family is, models
 * are all that can be held out. */
static ptq_status choose(const ptq_recipe *recipe, const ptq_split *aim,
                         const ptq_obs *const *obs, int64_t n, ptq_recipe *out,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_frame frame = {0};
  trial best = {.error = INFINITY};
  const ptq_split alike = ptq_split_inside(aim);
  const ptq_split models = ptq_split_inside(NULL);
  PTQ_TRY(subframe(obs, n, &frame, err));
  for (size_t i = 0; ptq_law_at(i) != NULL; i++) {
    const ptq_law *law = ptq_law_at(i);
    ptq_formula formula;
    trial this = {.held = false};
    PTQ_TRY(ptq_formula_parse(law->formula, &formula, err));
    const ptq_recipe r = ptq_recipe_formula(
        law->name, law->formula, &formula, recipe->estimator, &recipe->options);
    PTQ_TRY(try_law(&r, &alike, &frame, &this, err));
    if (!this.held) PTQ_TRY(try_law(&r, &models, &frame, &this, err));
    if (i == 0 || better(&this, &best)) {
      best = this;
      *out = r;
    }
  }
done:
  ptq_frame_release(&frame);
  return rc;
}

ptq_status ptq_recipe_learn(const ptq_recipe *recipe, const ptq_split *aim,
                            const ptq_obs *const *obs, int64_t n,
                            ptq_learned *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_learned){.recipe = recipe};
  ptq_fit_options options = recipe->options;
  options.bare = true;
  if (recipe->choose) {
    ptq_recipe best;
    PTQ_TRY(choose(recipe, aim, obs, n, &best, err));
    (void)ptq_text_copy(out->chosen, sizeof out->chosen, best.name);
    PTQ_TRY(ptq_fit_points(best.estimator, &best.formula, &options, obs, n,
                           &out->fit, err));
  } else if (recipe->estimator != NULL) {
    PTQ_TRY(ptq_fit_points(recipe->estimator, &recipe->formula, &options, obs,
                           n, &out->fit, err));
  } else if (recipe->curve != NULL) {
    PTQ_TRY(ptq_curve_fit_points(recipe->curve, obs, n, &out->curve, err));
    if (!out->curve.identified)
      PTQ_TRY(
          PTQ_FAIL(err, PTQ_E_ARG, "not identified: %s", out->curve.why_not));
  } else {
    PTQ_TRY(ptq_trees_learn(recipe->trees, obs, n, &out->grove, err));
  }
done:
  if (rc != PTQ_OK) ptq_learned_release(out);
  return rc;
}

ptq_status ptq_learned_predict(const ptq_learned *l, const ptq_obs *const *obs,
                               int64_t n, ptq_prediction *out, ptq_err *err) {
  if (l->grove != NULL) return ptq_grove_predict(l->grove, obs, n, out, err);
  for (int64_t i = 0; i < n; i++)
    out[i] = l->recipe->curve != NULL ? ptq_curve_predict(&l->curve, obs[i])
                                      : ptq_fit_predict(&l->fit, obs[i]);
  return PTQ_OK;
}

void ptq_learned_release(ptq_learned *l) {
  ptq_fit_release(&l->fit);
  ptq_grove_free(l->grove);
  *l = (ptq_learned){0};
}
