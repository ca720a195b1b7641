/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file hull.h
 * The range of the numbers that a recipe was learned from, so that a
 * prediction outside of it says so.
 */
#ifndef PTQ_ANALYSIS_HULL_H
#define PTQ_ANALYSIS_HULL_H

#include "ptq/analysis/recipe.h"

enum { PTQ_HULL_MAX = 64 };

typedef struct ptq_hull {
  const ptq_feature *feature[PTQ_HULL_MAX];
  double low[PTQ_HULL_MAX], high[PTQ_HULL_MAX];
  int n;
} ptq_hull;

/** Ranges over used and collapsed points of the recipe's features, and of bits
 * and group, which make a configuration what it is whether a law looks at them
 * or not; for a recipe that chooses, of size too. */
ptq_hull ptq_hull_of(const ptq_recipe *recipe, const ptq_obs *const *obs,
                     int64_t n);
/** Features of the point outside of their range (by more than a millionth of
 * it): how many, and which, out[n] (PTQ_HULL_MAX; nullable). */
int ptq_hull_misses(const ptq_hull *h, const ptq_obs *o,
                    const ptq_feature **out);

#endif /* PTQ_ANALYSIS_HULL_H */
