/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file tune.h
 * QuIP's passes behind LDLQ: coordinate descent on codes, parameters fixed.
 */
#ifndef PTQ_QUANT_TUNE_H
#define PTQ_QUANT_TUNE_H

#include <stdint.h>

#include "ptq/base/team.h"
#include "ptq/num/dtype.h"

typedef struct ptq_tune_job {
  const float *w; /* borrowed; [rows, cols], finite */
  int64_t rows, cols;
  const ptq_dtype *dtype;         /* borrowed, prepared */
  int64_t group;                  /* > 0, PTQ_GROUP_ROW or PTQ_GROUP_TENSOR */
  const double *h;                /* borrowed; [cols, cols], symmetric */
  const ptq_group_params *params; /* borrowed; [rows, n_groups], 1 for TENSOR;
                                     they stay */
  int64_t passes;
  int threads;    /* bits do not depend on it */
  ptq_team *team; /* borrowed, nullable; likewise */
  float *y;       /* borrowed; [rows, cols], to start from and to improve */
  int16_t *q;     /* borrowed; [rows, cols] */
} ptq_tune_job;

/**
 * `passes` times over the columns, the last first: column k becomes the
 * rounding of y_k + (w - y) h_k / h_kk, which is best while the others stay.
 * Columns whose h_kk is not positive are left as they are. PTQ_E_NOMEM.
 */
ptq_status ptq_tune(const ptq_tune_job *job, ptq_err *err);

#endif /* PTQ_QUANT_TUNE_H */
