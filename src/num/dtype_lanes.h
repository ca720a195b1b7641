/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file dtype_lanes.h
 * What the number formats share. Kernels are in round_kernels.h.
 */
#ifndef PTQ_NUM_DTYPE_LANES_H
#define PTQ_NUM_DTYPE_LANES_H

#include <stdint.h>
#include <string.h>

#include "ptq/num/dtype.h"

/** Values that loops in plain C take at a time. */
enum { PTQ_LANES = 16 };

/** 1.5 * 2^23: for |v| < 2^22, (v + PTQ_ROUND_MAGIC) - PTQ_ROUND_MAGIC is v
 * rounded to the nearest integer, ties to even, and never -0. */
#define PTQ_ROUND_MAGIC 12582912.0F

static inline float ptq_near_even(float v) {
  return (v + PTQ_ROUND_MAGIC) - PTQ_ROUND_MAGIC;
}

/** v >= 0 to the nearest value with `mantissa` explicit bits and normal
 * exponents from emin, ties to even, `most` at most; NaN too. */
static inline float ptq_near_float(float v, int mantissa, int emin,
                                   float most) {
  uint32_t bits, least = (uint32_t)(emin + 127) << 23;
  float shift;
  v = v < most ? v : most;
  memcpy(&bits, &v, sizeof bits);
  /* 1.5 * 2^(23 - mantissa) units of the leading power of two */
  bits = (bits > least ? bits & 0x7F800000U : least) +
         ((uint32_t)(23 - mantissa) << 23 | 0x400000U);
  memcpy(&shift, &bits, sizeof shift);
  return (v + shift) - shift;
}

static inline float ptq_near_e4m3(float v) {
  return ptq_near_float(v, 3, -6, 448.0F);
}

/** PTQ_LANES partial sums added up, halves at a time; overwrites them. */
static inline double ptq_lanes_total(double sum[PTQ_LANES]) {
  for (int half = PTQ_LANES / 2; half > 0; half /= 2)
    for (int j = 0; j < half; j++) sum[j] += sum[j + half];
  return sum[0];
}

/** Smallest and largest of x[0], x[inc], ...; n > 0, no NaN. */
void ptq_lanes_range(const float *x, int64_t n, int64_t inc, float *lo,
                     float *hi);

/** The power of two nearest in ratio to v > 0, of 2^lo .. 2^hi. */
float ptq_nearest_power(float v, int lo, int hi);

/** True when x[0..n) has neither NaN nor Inf. */
bool ptq_lanes_finite(const float *x, int64_t n);

#endif /* PTQ_NUM_DTYPE_LANES_H */
