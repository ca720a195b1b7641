/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spectrum.h
 * What the eigenvalues of a second moment come to.
 */
#ifndef PTQ_BASE_SPECTRUM_H
#define PTQ_BASE_SPECTRUM_H

#include <stdint.h>

/** Of eigenvalues v[0] >= v[1] >= ... of a d x d second moment, the positive
 * ones before the first that is not. */
typedef struct ptq_spectrum_summary {
  int64_t n;    /* positive ones */
  double trace; /* their sum; 0: none, and then rank is 0 and the rest NaN */
  double max;   /* v[0] */
  double rank;  /* exp(entropy of v / trace): the effective rank (Roy and
                   Vetterli 2007), 1 to d */
  double condition; /* v[0] / v[9d/10], or over the last positive one: the last
                       tenth is noise */
  double tail; /* minus the slope of ln v by ln rank from d/10 to d/2; NaN where
                  these are less than two */
} ptq_spectrum_summary;

ptq_spectrum_summary ptq_spectrum_summary_of(const double *values, int64_t d);

#endif /* PTQ_BASE_SPECTRUM_H */
