/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file moment_shrink.h
 * A second moment estimated from few inputs, made fit for descending on.
 */
#ifndef PTQ_QUANT_MOMENT_SHRINK_H
#define PTQ_QUANT_MOMENT_SHRINK_H

#include <stdint.h>

#include "ptq/base/status.h"

/** A moment repaired and damped: a dead column (zero on the diagonal) takes
 * the mean of the others' diagonal (1 if there is no other), and damp times
 * that mean is added to the diagonal. */
typedef struct ptq_spectrum {
  int64_t n;
  double damp, mean;
  double *h;       /* owned; [n, n] */
  double *values;  /* owned, nullable; [n], descending, of h */
  double *vectors; /* owned; [n, n], eigenvectors in rows */
} ptq_spectrum;

/** h[n, n] is symmetric, float64, not changed. PTQ_E_NUMERIC where it is not
 * finite or has a negative diagonal. */
ptq_status ptq_spectrum_init(ptq_spectrum *s, const double *h, int64_t n,
                             double damp, ptq_err *err);
void ptq_spectrum_release(ptq_spectrum *s);

/**
 * out[n, n] = mean^(1 - power) h^power, the symmetric power of a matrix: it
 * keeps eigenvectors and pulls eigenvalues towards their mean, so directions
 * that calibration hardly saw weigh more, and those that own its variance
 * less.
 *
 * @param power above 0, up to 1; 1 needs no eigenvectors, any other has them
 *              computed the first time
 */
ptq_status ptq_spectrum_power(ptq_spectrum *s, double power, double *out,
                              ptq_err *err);

#endif /* PTQ_QUANT_MOMENT_SHRINK_H */
