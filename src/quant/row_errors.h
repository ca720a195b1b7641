/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file row_errors.h
 * The squared error of each row of quantized weights.
 */
#ifndef PTQ_QUANT_ROW_ERRORS_H
#define PTQ_QUANT_ROW_ERRORS_H

#include <stdint.h>

#include "ptq/base/team.h"

/**
 * out[r] = e' H e, e the difference of row r of w and y [rows, cols], 0 in
 * columns that are dead[cols]; h[cols, cols] symmetric. Bits do not depend on
 * threads. PTQ_E_NOMEM.
 */
ptq_status ptq_row_errors(const float *w, const float *y, int64_t rows,
                          int64_t cols, const double *h,
                          const unsigned char *dead, int threads,
                          ptq_team *team, double *out, ptq_err *err);

#endif /* PTQ_QUANT_ROW_ERRORS_H */
