/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file statistics.h
 * Means, errors and quantiles of per-window results (float64, fixed order).
 */
#ifndef PTQ_BASE_STATISTICS_H
#define PTQ_BASE_STATISTICS_H

#include <stdint.h>

#include "ptq/base/status.h"

enum { PTQ_BOOTSTRAP_RESAMPLES = 1000 };

/**
 * Standard error of a ratio sum(x) / sum(w) over windows in text order, by
 * moving-block bootstrap (Kuensch 1989): blocks of ceil(n^(1/3)) windows,
 * PTQ_BOOTSTRAP_RESAMPLES resamples, standard deviation over resamples.
 * @param x [n] sums a window (e.g. of NLL differences)
 * @param w [n] scored positions a window, positive
 * NaN when n < 2 or any x is not finite.
 */
double ptq_block_bootstrap_se(const double *x, const double *w, int64_t n,
                              uint64_t seed);

/** Standard deviation (n - 1) of x[i] / w[i] over sqrt(n): NaN when n < 2. */
double ptq_window_se(const double *x, const double *w, int64_t n);

/** Quantile p in [0, 1] with linear interpolation between order statistics
 * (NumPy's default); sorts x in place; NaN if n == 0 or any x is NaN. */
double ptq_quantile(float *x, int64_t n, double p);

#endif /* PTQ_BASE_STATISTICS_H */
