/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file recipe.h
 * One way to learn dnll from points: a formula by an estimator, a nonlinear
 * law, trees, or the best of the formulas chosen inside of the training
 * points. Validation and comparison treat all alike.
 */
#ifndef PTQ_ANALYSIS_RECIPE_H
#define PTQ_ANALYSIS_RECIPE_H

#include "ptq/analysis/curve.h"
#include "ptq/analysis/trees.h"

/** Exactly one of estimator (with formula), curve, trees, choose. */
typedef struct ptq_recipe {
  char name[40];
  const char *text; /* formula, equation or description; borrowed */
  ptq_tier tier;    /* of its most expensive feature */
  const ptq_estimator *estimator;
  ptq_formula formula;
  ptq_fit_options options;
  const ptq_curve *curve;
  const ptq_trees *trees;
  bool choose; /* the named formula with the least error over points held out
                  of the training points, by `estimator` */
} ptq_recipe;

typedef struct ptq_split ptq_split; /* validate.h */

ptq_recipe ptq_recipe_formula(const char *name, const char *text,
                              const ptq_formula *formula,
                              const ptq_estimator *estimator,
                              const ptq_fit_options *options);
ptq_recipe ptq_recipe_curve(const ptq_curve *curve);
ptq_recipe ptq_recipe_trees(const ptq_trees *trees);
ptq_recipe ptq_recipe_choose(const ptq_estimator *estimator,
                             const ptq_fit_options *options);

/** Learned. */
typedef struct ptq_learned {
  const ptq_recipe *recipe; /* borrowed */
  ptq_fit fit;              /* owned; formulas */
  ptq_curve_fit curve;
  ptq_grove *grove; /* owned */
  char chosen[40];  /* name of the formula that was chosen, else "" */
} ptq_learned;

/**
 * Learn from the used and collapsed points among `obs`. `aim` is the kind of
 * points that predictions are wanted of, for choices (NULL: of new models).
 * PTQ_E_ARG also where the data cannot identify a law, with the reason.
 */
ptq_status ptq_recipe_learn(const ptq_recipe *recipe, const ptq_split *aim,
                            const ptq_obs *const *obs, int64_t n,
                            ptq_learned *out, ptq_err *err);
/** Predictions of n points into out[n]. */
ptq_status ptq_learned_predict(const ptq_learned *l, const ptq_obs *const *obs,
                               int64_t n, ptq_prediction *out, ptq_err *err);
void ptq_learned_release(ptq_learned *l);

#endif /* PTQ_ANALYSIS_RECIPE_H */
