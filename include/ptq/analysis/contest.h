/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file contest.h
 * All laws under all splits: formulas by their estimators, nonlinear laws,
 * trees, and the formula chosen without the held-out points.
 */
#ifndef PTQ_ANALYSIS_CONTEST_H
#define PTQ_ANALYSIS_CONTEST_H

#include "ptq/analysis/validate.h"

enum { PTQ_SPLIT_MAX = 8, PTQ_ENTRY_MAX = 40 };

/** One recipe with its validations; their points are not kept. */
typedef struct ptq_entry {
  ptq_recipe recipe;
  bool learned; /* from all points; false: failure says why */
  char failure[480];
  ptq_curve_fit curve; /* of a nonlinear law */
  ptq_validation splits[PTQ_SPLIT_MAX];
  int n_splits;
} ptq_entry;

typedef struct ptq_contest {
  ptq_entry *entry; /* owned; [n] */
  int n;
  int order[PTQ_SPLIT_MAX][PTQ_ENTRY_MAX]; /* entries best first a split, by the
                                              median; what failed last */
  int n_splits;
} ptq_contest;

typedef struct ptq_contest_options {
  const ptq_estimator *estimator; /* of the named formulas; borrowed */
  ptq_fit_options fit;
  const char *formula; /* one more, called "given"; NULL: none; borrowed */
  bool no_trees;       /* leave out what takes seconds */
} ptq_contest_options;

/** Hold it. Failures of single recipes are kept in their entries. */
ptq_status ptq_contest_hold(const ptq_frame *frame,
                            const ptq_contest_options *options,
                            ptq_contest *out, ptq_err *err);
void ptq_contest_release(ptq_contest *c);
/** An entry by name, NULL if there is none. */
const ptq_entry *ptq_contest_find(const ptq_contest *c, const char *name);

#endif /* PTQ_ANALYSIS_CONTEST_H */
