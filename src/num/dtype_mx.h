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

#endif /* PTQ_NUM_DTYPE_MX_H */
