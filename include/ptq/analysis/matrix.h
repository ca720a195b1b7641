/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file matrix.h
 * The model matrix of a formula over chosen points: columns with names,
 * clusters, and an account of every row and column that is left out.
 */
#ifndef PTQ_ANALYSIS_MATRIX_H
#define PTQ_ANALYSIS_MATRIX_H

#include "ptq/analysis/formula.h"

enum { PTQ_COLUMN_NAME = 192, PTQ_COLUMN_MAX = 96 };

/** A column: a product of features and of level indicators. */
typedef struct ptq_column {
  char name[PTQ_COLUMN_NAME];
  ptq_term term;                             /* n_parts == 0: the intercept */
  char level[PTQ_TERM_PARTS][PTQ_LEVEL_MAX]; /* of parts that are factors */
} ptq_column;

/** A column that cannot be estimated, and why. */
typedef struct ptq_dropped {
  char name[PTQ_COLUMN_NAME];
  char why[160];
} ptq_dropped;

/** A level of a factor that the matrix was built from. */
typedef struct ptq_level {
  const ptq_factor *factor;
  char name[PTQ_LEVEL_MAX];
  bool reference; /* the base level: a column only where a margin is absent */
} ptq_level;

/** Points a column has no value for. */
typedef struct ptq_unusable {
  char name[PTQ_COLUMN_NAME]; /* of the part */
  int64_t n;
} ptq_unusable;

typedef struct ptq_matrix {
  double *x;           /* owned; [n, k] row-major, column 0 the intercept */
  double *r;           /* owned; [k, k] row-major, upper: x = Q r */
  const ptq_obs **obs; /* owned; [n] borrowed points */
  int *cluster;        /* owned; [n] number of the run, 0..n_clusters-1 */
  int64_t n, k;
  int n_clusters, n_models, n_families; /* clusters are training runs */
  ptq_column *columns;                  /* owned; [k] */
  ptq_level *levels; /* owned; [n_levels], every factor's, sorted */
  int64_t n_levels;
  ptq_dropped *dropped; /* owned; [n_dropped] */
  int64_t n_dropped;
  ptq_unusable *unusable; /* owned; [n_unusable] */
  int64_t n_unusable;     /* kinds; their n may overlap */
  const ptq_obs **lost;   /* owned; [n_lost] points left out for want of a
                             value */
  int *lost_for;          /* owned; [n_lost] of which unusable, the first */
  int64_t n_lost;
} ptq_matrix;

/**
 * Lay out `formula` over the points of `obs` (n of them). Points without a
 * finite value for a feature are left out and counted by name; constant
 * columns and columns that are linear combinations of earlier ones are
 * dropped by name. PTQ_E_ARG: no point left, or not more points than
 * coefficients.
 */
ptq_status ptq_matrix_build(const ptq_formula *formula,
                            const ptq_obs *const *obs, int64_t n,
                            ptq_matrix *out, ptq_err *err);
void ptq_matrix_release(ptq_matrix *m);

/** Fill row[k] for one point. False when a value is missing or the point has
 * a level that the matrix has not seen: *why (may be NULL) then points to a
 * static word, "value" or "level". */
bool ptq_matrix_row(const ptq_matrix *m, const ptq_obs *o, double *row,
                    const char **why);

/** The dearest tier among the columns' numbers. */
ptq_tier ptq_matrix_tier(const ptq_matrix *m);

#endif /* PTQ_ANALYSIS_MATRIX_H */
