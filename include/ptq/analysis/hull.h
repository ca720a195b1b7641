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

/** Ranges of the recipe's features over used and collapsed points; for a
 * recipe that chooses, of size, bits and group. */
ptq_hull ptq_hull_of(const ptq_recipe *recipe, const ptq_obs *const *obs,
                     int64_t n);
/** The first feature of the point outside of its range (by more than a
 * millionth of it), NULL if none is. */
const ptq_feature *ptq_hull_misses(const ptq_hull *h, const ptq_obs *o);

#endif /* PTQ_ANALYSIS_HULL_H */
