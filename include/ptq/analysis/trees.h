/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file trees.h
 * The paper's model, a random forest of ln(dnll), and gradient boosting
 * beside it, by XGBoost. Censored points stand at their bound.
 *
 * What is random is drawn from a fixed seed on one thread, so the same points
 * give the same trees. Intervals are the 90 % quantile of |ln(p/m)| over
 * models held out inside of the training points.
 */
#ifndef PTQ_ANALYSIS_TREES_H
#define PTQ_ANALYSIS_TREES_H

#include "ptq/analysis/fit.h"

/** A kind of trees; a row each in trees.c. */
typedef struct ptq_trees {
  const char *name, *text;
  bool boosted; /* else a forest: all trees side by side */
  int n_trees;  /* boosted: at most; the number is tuned inside */
  int depth;    /* of a tree */
  double eta;   /* shrinkage */
  const char *const *features; /* NULL ends; what a tree may ask */
  const char *const *factors;  /* NULL ends; a column a level */
} ptq_trees;

const ptq_trees *ptq_trees_at(size_t i); /* NULL past the end */
/** The most expensive tier among its features. */
ptq_tier ptq_trees_tier(const ptq_trees *t);

/** Learned trees. */
typedef struct ptq_grove ptq_grove;

/**
 * Learn from the used and collapsed points among `obs`.
 * @param out  freed with ptq_grove_free; NULL on failure
 * @return PTQ_OK, PTQ_E_ARG (fewer than ten points with a response),
 *         PTQ_E_NUMERIC (XGBoost's complaint), PTQ_E_NOMEM
 */
ptq_status ptq_trees_learn(const ptq_trees *kind, const ptq_obs *const *obs,
                           int64_t n, ptq_grove **out, ptq_err *err);
void ptq_grove_free(ptq_grove *g);

/** dnll of n points into out[n]. */
ptq_status ptq_grove_predict(const ptq_grove *g, const ptq_obs *const *obs,
                             int64_t n, ptq_prediction *out, ptq_err *err);

/** How many trees, columns and points it was learned with. */
int ptq_grove_n_trees(const ptq_grove *g);
int64_t ptq_grove_n_points(const ptq_grove *g);

/** One feature's permutation importance: how much the mean of |ln(p/m)| over
 * held-out models grows when the feature is shuffled among their points. */
typedef struct ptq_importance {
  char name[PTQ_LEVEL_MAX];
  double growth; /* of the mean error of ln(dnll) */
} ptq_importance;

/**
 * Importance of every feature and factor (all its columns together), largest
 * first, by folds over models (families where there is only one model a
 * fold).
 * @param out  owned by the caller (ptq_free)
 * @param error  mean |ln(p/m)| over held-out models before shuffling
 */
ptq_status ptq_trees_importance(const ptq_trees *kind,
                                const ptq_obs *const *obs, int64_t n,
                                ptq_importance **out, int64_t *n_out,
                                double *error, ptq_err *err);

#endif /* PTQ_ANALYSIS_TREES_H */
