/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file dtype_mx.h
 * Arithmetic that formats with power-of-two scales share.
 */
#ifndef PTQ_NUM_DTYPE_MX_H
#define PTQ_NUM_DTYPE_MX_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "dtype_lanes.h"

/** 2^e for -149 <= e <= 127. */
static inline float ptq_mx_power(int e) {
  const uint32_t bits =
      e >= -126 ? (uint32_t)(e + 127) << 23 : (uint32_t)1 << (e + 149);
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

/** floor(log2(v)) in the float32 arithmetic of PyTorch; v > 0. */
static inline int ptq_mx_log2f(float v) {
  return (int)floorf((float)log2((double)v));
}

/** t >= 0 to the nearest integer, ties to even or away from 0; in_float32:
 * as floor(t + 0.5), where 0.5 - 2^-25 becomes 1. */
static inline float ptq_mx_integer(float t, bool away, bool in_float32) {
  if (!away && !in_float32) return (t + PTQ_ROUND_MAGIC) - PTQ_ROUND_MAGIC;
  const float down = floorf(t);
  if (!in_float32) return t - down >= 0.5F ? down + 1.0F : down;
  const float up = floorf(t + 0.5F);
  if (!away && t - down == 0.5F && fmodf(down, 2.0F) == 0.0F) return down;
  return up;
}

#endif /* PTQ_NUM_DTYPE_MX_H */
