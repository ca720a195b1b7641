/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file trees_table.h  Points as a table of numbers for trees. Private to the
 * module. */
#ifndef PTQ_ANALYSIS_TREES_TABLE_H
#define PTQ_ANALYSIS_TREES_TABLE_H

#include "ptq/analysis/trees.h"

enum { PTQ_TREE_COLUMNS = 128, PTQ_TREE_GROUPS = 64 };

/** A feature, or one level of a factor. */
typedef struct ptq_tree_column {
  const ptq_feature *feature; /* NULL: a level */
  const ptq_factor *factor;
  char level[PTQ_LEVEL_MAX];
  int group; /* columns that are shuffled together */
} ptq_tree_column;

typedef struct ptq_tree_table {
  ptq_tree_column *column; /* owned; [k] */
  int64_t k;
  const char *group[PTQ_TREE_GROUPS]; /* names of features and factors */
  int n_groups;
  float *x;     /* owned; [n, k], NaN where a number is missing */
  double *y;    /* owned; [n] ln(dnll) or its bound */
  int *cluster; /* owned; [n] model number */
  int n_clusters;
  int64_t n;
} ptq_tree_table;

/** Columns of a kind of trees: every feature that some point has, every level
 * that occurs. */
ptq_status ptq_tree_table_columns(const ptq_trees *kind,
                                  const ptq_obs *const *obs, int64_t n,
                                  ptq_tree_table *t, ptq_err *err);
/** Rows of the used and collapsed points that have a response. */
ptq_status ptq_tree_table_fill(ptq_tree_table *t, const ptq_obs *const *obs,
                               int64_t n, bool wants_response, ptq_err *err);
/** Rows of any n points into x[n, k] (ptq_free); out[i].why is "level" where
 * a factor has a level without a column, else NULL. */
ptq_status ptq_tree_table_rows(const ptq_tree_table *t,
                               const ptq_obs *const *obs, int64_t n, float **x,
                               ptq_prediction *out, ptq_err *err);
/** Folds over models: at most five; fewer than two where there is one. */
int ptq_tree_table_folds(const ptq_tree_table *t);
void ptq_tree_table_release(ptq_tree_table *t);

#endif /* PTQ_ANALYSIS_TREES_TABLE_H */
