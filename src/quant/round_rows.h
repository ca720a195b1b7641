/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file round_rows.h  Rounding to nearest on several threads. */
#ifndef PTQ_QUANT_ROUND_ROWS_H
#define PTQ_QUANT_ROUND_ROWS_H

#include "ptq/quant/method.h"

/** ptq_dtype_round_matrix of w in the shape of a layer's weights, by tiles of
 * rows where rows share nothing. */
ptq_status ptq_round_rows(const ptq_dtype *dt, const ptq_quant_input *in,
                          const float *w, float *y, int16_t *q,
                          ptq_group_params *params, ptq_err *err);

#endif /* PTQ_QUANT_ROUND_ROWS_H */
