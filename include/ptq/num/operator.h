/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file operator.h
 * A symmetric matrix of which only products with vectors are known, and random
 * vectors to probe it with.
 */
#ifndef PTQ_NUM_OPERATOR_H
#define PTQ_NUM_OPERATOR_H

#include <stdint.h>

#include "ptq/base/status.h"

typedef struct ptq_operator {
  int64_t n;     /* rows */
  int64_t width; /* vectors that it takes at once, >= 1 */
  void *ctx;     /* borrowed */
  /** y[j] = A x[j] for `count` <= width vectors; y[j] is none of the x. */
  ptq_status (*apply)(void *ctx, int64_t count, const double *const *x,
                      double *const *y, ptq_err *err);
} ptq_operator;

/** Elements of random vectors. */
typedef enum ptq_probe_kind {
  PTQ_PROBE_SIGNS,    /* +1 or -1 */
  PTQ_PROBE_GAUSSIAN, /* normal, variance 1 */
  PTQ_PROBE_UNIFORM   /* in [-1, 1), like a rounding error */
} ptq_probe_kind;

/** Seed of part `part` of vector `probe`: what is drawn from it depends on
 * these three alone. */
uint64_t ptq_probe_seed(uint64_t seed, int64_t probe, int64_t part);
/** n elements. */
void ptq_probe_fill(uint64_t probe_seed, ptq_probe_kind kind, int64_t n,
                    double *x);

/** A Monte Carlo estimate: mean of `count` draws and its standard error (NaN of
 * a single one). */
typedef struct ptq_estimate {
  double mean, se;
  int64_t count;
} ptq_estimate;
/** Mean and standard error of x[count]. */
ptq_estimate ptq_estimate_of(const double *x, int64_t count);

/** Hutchinson's estimate of the trace: mean of v' A v over vectors of signs.
 * PTQ_E_ARG: no probes. */
ptq_status ptq_trace(const ptq_operator *a, uint64_t seed, int64_t probes,
                     ptq_estimate *out, ptq_err *err);

#endif /* PTQ_NUM_OPERATOR_H */
