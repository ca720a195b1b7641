/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file scale_search.h
 * Scales of groups chosen for weighted squared error, before any feedback.
 */
#ifndef PTQ_QUANT_SCALE_SEARCH_H
#define PTQ_QUANT_SCALE_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/team.h"
#include "ptq/num/dtype.h"

typedef struct ptq_scale_search {
  const float *w; /* borrowed; [rows, cols], finite */
  int64_t rows, cols;
  const ptq_dtype *dtype;    /* borrowed, prepared */
  int64_t group;             /* > 0, PTQ_GROUP_ROW or PTQ_GROUP_TENSOR */
  const double *weight;      /* borrowed; [cols], of a column's squared error */
  const unsigned char *dead; /* borrowed; [cols]: such weights count as 0 */
  bool search;               /* false: the dtype's own fit */
  int threads;               /* bits do not depend on it */
  ptq_team *team;            /* borrowed, nullable; likewise */
  ptq_group_params *params;  /* borrowed; [rows, n_groups], 1 for TENSOR */
} ptq_scale_search;

/**
 * For each group the parameters with the least sum over columns of weight *
 * (w - y)^2 among: the fitted ones, their scale times 0.4 to 1 (powers of two:
 * 1/4 to 2), and each of these once more after the least-squares scale of the
 * codes it gives, as the format can store it. Where codes are not symmetric
 * around zero (int4: -8 to 7) and the format keeps a scale's sign, negative
 * scales are tried as well: the group's longer tail gets the extra code.
 * The first of equals is taken. TENSOR is only fitted.
 *
 * @return PTQ_E_NUMERIC naming row and column where a scale overflows
 */
ptq_status ptq_scale_search_run(const ptq_scale_search *s, ptq_err *err);

/** True where a negative scale is another set of values, and storable. */
bool ptq_scale_has_sign(const ptq_dtype *dt);

/** *p with its scale times `by`, as the format can store it; a negative `by`
 * only where ptq_scale_has_sign. (row, col) is where the group starts. */
ptq_group_params ptq_scale_times(const ptq_dtype *dt, int64_t row, int64_t col,
                                 ptq_group_params p, double by);

/** True where scales are so far apart (powers of two) that 1.3 times one is
 * not another. */
bool ptq_scale_is_coarse(const ptq_dtype *dt);

#endif /* PTQ_QUANT_SCALE_SEARCH_H */
