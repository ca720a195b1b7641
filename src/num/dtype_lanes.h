/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file dtype_lanes.h
 * What the number formats share: values taken sixteen at a time, so that the
 * compiler vectorizes the loop over a chunk on any instruction set. Divisions,
 * comparisons and sums are IEEE and never contracted: the bits do not depend
 * on which one.
 */
#ifndef PTQ_NUM_DTYPE_LANES_H
#define PTQ_NUM_DTYPE_LANES_H

#include <stdint.h>

#include "ptq/num/dtype.h"

enum { PTQ_LANES = 16 };

/** 1.5 * 2^23: for |v| < 2^22, (v + PTQ_ROUND_MAGIC) - PTQ_ROUND_MAGIC is v
 * rounded to the nearest integer, ties to even, and never -0. */
#define PTQ_ROUND_MAGIC 12582912.0F

static inline float ptq_near_even(float v) {
  return (v + PTQ_ROUND_MAGIC) - PTQ_ROUND_MAGIC;
}

/** One chunk: values in, dequantized values and codes out. */
typedef struct ptq_lanes {
  float x[PTQ_LANES], scale[PTQ_LANES], zero[PTQ_LANES];
  float y[PTQ_LANES], code[PTQ_LANES];
} ptq_lanes;

/** Rounds one chunk; every lane has valid parameters. */
typedef void ptq_lanes_kernel(const ptq_dtype *dt, ptq_lanes *c);

/** The `round` member of a family, chunk by chunk; arguments as there. */
void ptq_lanes_round(ptq_lanes_kernel *kernel, const ptq_dtype *dt,
                     const float *x, int64_t n, const ptq_group_params *params,
                     int64_t params_inc, float *y, int16_t *q);

/** Smallest and largest of x[0], x[inc], ...; n > 0, no NaN. */
void ptq_lanes_range(const float *x, int64_t n, int64_t inc, float *lo,
                     float *hi);

/** The power of two nearest in ratio to v > 0, of 2^lo .. 2^hi. */
float ptq_nearest_power(float v, int lo, int hi);

/** True when x[0..n) has neither NaN nor Inf. */
bool ptq_lanes_finite(const float *x, int64_t n);

#endif /* PTQ_NUM_DTYPE_LANES_H */
