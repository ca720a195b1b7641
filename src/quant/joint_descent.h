/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file joint_descent.h
 * Lowering tr(E H E'), E = W - Y, from codes and parameters that are there.
 */
#ifndef PTQ_QUANT_JOINT_DESCENT_H
#define PTQ_QUANT_JOINT_DESCENT_H

#include <stdint.h>

#include "ptq/base/team.h"
#include "ptq/num/dtype.h"

typedef struct ptq_joint_descent_job {
  const float *w; /* borrowed; [rows, cols], finite */
  int64_t rows, cols;
  const ptq_dtype *dtype;    /* borrowed, prepared */
  int64_t group;             /* > 0, PTQ_GROUP_ROW or PTQ_GROUP_TENSOR */
  const double *h;           /* borrowed; [cols, cols] positive definite */
  const unsigned char *dead; /* borrowed; [cols]: such weights count as 0 */
  int64_t passes;            /* over columns, at most, each time */
  int64_t sweeps;            /* over groups, each followed by passes */
  int threads;               /* bits do not depend on it */
  ptq_team *team;            /* borrowed, nullable; likewise */
  float *y;                  /* borrowed; [rows, cols], in and out */
  int16_t *q;                /* borrowed; [rows, cols], in and out */
  ptq_group_params *params;  /* borrowed; [rows, n_groups], 1 for TENSOR; in and
                                out */
} ptq_joint_descent_job;

/**
 * Coordinate passes: each code in turn becomes the one that is best while all
 * others stay, until a pass changes nothing or `passes` are done. Then `sweeps`
 * times: each group's scale and codes are chosen anew while all other groups
 * stay (GPTQ within the group on what the others leave, for several scales
 * around the one it has, each refitted by least squares under H), and again
 * coordinate passes. With TENSOR there are no sweeps.
 *
 * A step is taken where it lowers a row's own tr(e H e'), so the result is not
 * worse than the start in any row, but for rounding in float64. Rows do not
 * see each other.
 *
 * @return PTQ_E_NUMERIC where h is not positive definite, PTQ_E_NOMEM
 */
ptq_status ptq_joint_descent_run(const ptq_joint_descent_job *job,
                                 ptq_err *err);

#endif /* PTQ_QUANT_JOINT_DESCENT_H */
