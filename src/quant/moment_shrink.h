/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file moment_shrink.h
 * A second moment estimated from few inputs, made fit for descending on.
 */
#ifndef PTQ_QUANT_MOMENT_SHRINK_H
#define PTQ_QUANT_MOMENT_SHRINK_H

#include <stdint.h>

#include "ptq/base/status.h"

/**
 * out[n, n] = mean^(1 - power) * (h repaired + damp * mean * I)^power.
 *
 * h[n, n] is symmetric, float64, not changed. A dead column (zero on the
 * diagonal) takes the mean of the others' diagonal, which is `mean` too; with
 * no other it is 1. A symmetric power keeps eigenvectors and pulls eigenvalues
 * towards the mean: directions that calibration hardly saw weigh more, those
 * that own its variance less.
 *
 * @param power above 0, up to 1; 1 needs no eigenvalues
 * @return PTQ_E_NUMERIC where h is not finite or has a negative diagonal
 */
ptq_status ptq_moment_shrink(const double *h, int64_t n, double damp,
                             double power, double *out, ptq_err *err);

#endif /* PTQ_QUANT_MOMENT_SHRINK_H */
