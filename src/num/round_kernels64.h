/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file round_kernels64.h
 * What the rounding kernels do in float64: plain loops over PTQ_LANES values,
 * which compilers vectorize for the instruction set of the round_<isa>.c that
 * includes them through round_kernels.h. Nothing is fused: the bits are the
 * same everywhere.
 */
#ifndef PTQ_NUM_ROUND_KERNELS64_H
#define PTQ_NUM_ROUND_KERNELS64_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "dtype_lanes.h"

static inline uint64_t bits_of(double v) {
  uint64_t b;
  memcpy(&b, &v, sizeof b);
  return b;
}

static inline double double_of(uint64_t b) {
  double v;
  memcpy(&v, &b, sizeof v);
  return v;
}

/* d^2.4 to 1e-9, d >= 1e-100. With d = 2^e m, m in [sqrt(1/2),
 * sqrt(2)), log2(m) by the series of artanh((m - 1) / (m + 1)) and 2^f, f in
 * [-1/2, 1/2], by that of exp; exponents go in and out as bits. The libm's pow
 * is no loop that could be vectorized. */
static inline double power_2_4(double d) {
  const uint64_t root = 0x3FE6A09E667F3BCD, one = 0x3FF0000000000000;
  const uint64_t b = bits_of(d) + (one - root);
  const double e =
      double_of((b >> 52) | 0x4330000000000000) - (4503599627370496.0 + 1023.0);
  const double m = double_of((b & 0xFFFFFFFFFFFFF) + root);
  const double t = (m - 1.0) / (m + 1.0), u = t * t;
  double log = 1.0 / 9.0 + u * (1.0 / 11.0 + u * (1.0 / 13.0));
  log = 1.0 + u * (1.0 / 3.0 + u * (1.0 / 5.0 + u * (1.0 / 7.0 + u * log)));
  const double power = 2.4 * (e + 2.8853900817779268 * (t * log));
  const double shifted = power + 6755399441055744.0; /* 1.5 * 2^52 */
  const double f =
      (power - (shifted - 6755399441055744.0)) * 0.6931471805599453;
  double exp = 1.0 / 720.0 + f * (1.0 / 5040.0 + f * (1.0 / 40320.0));
  exp = 1.0 / 6.0 + f * (1.0 / 24.0 + f * (1.0 / 120.0 + f * exp));
  exp = 1.0 + f * (1.0 + f * (0.5 + f * exp));
  return double_of(bits_of(exp) + (bits_of(shifted) << 52));
}

/* Of |d|^2.4: sixteen partial sums, each in order. */
static double k_sum_2_4(const double *d, int64_t n) {
  const double none = 1e-100; /* counts as 1e-240 */
  double sum[PTQ_LANES] = {0.0};
  int64_t i = 0;
  for (; i + PTQ_LANES <= n; i += PTQ_LANES)
    for (int j = 0; j < PTQ_LANES; j++) {
      const double a = fabs(d[i + j]);
      sum[j] += power_2_4(a > none ? a : none);
    }
  for (int j = 0; i < n; i++, j++)
    sum[j] += power_2_4(fabs(d[i]) > none ? fabs(d[i]) : none);
  return ptq_lanes_total(sum);
}

/* The same in float64 of magnitudes. */
static inline double sum_abs(const float *x, int64_t n) {
  double sum[PTQ_LANES] = {0.0};
  int64_t i = 0;
  for (; i + PTQ_LANES <= n; i += PTQ_LANES)
    for (int j = 0; j < PTQ_LANES; j++) sum[j] += fabs((double)x[i + j]);
  for (int j = 0; i < n; i++, j++) sum[j] += fabs((double)x[i]);
  return ptq_lanes_total(sum);
}

/* Those of groups of `width` values. */
static void k_sums_abs(const float *x, int64_t n, int64_t width, double *out) {
  for (int64_t i = 0; i < n; i += width) {
    const int64_t m = n - i < width ? n - i : width;
    *out++ = sum_abs(x + i, m);
  }
}

/* As step_int, in a form that compilers vectorize. */
static inline void chunk64(double top, const double *restrict x,
                           const double *restrict scale,
                           const double *restrict zero, double *restrict y,
                           int16_t *restrict q) {
  const double magic = 6755399441055744.0; /* 1.5 * 2^52 */
  double code[PTQ_LANES];
  for (int j = 0; j < PTQ_LANES; j++) {
    const double lo = -zero[j], hi = top - zero[j];
    double v = x[j] / scale[j];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    const double k = (v + magic) - magic;
    y[j] = scale[j] * k;
    code[j] = k + zero[j];
  }
  for (int j = 0; j < PTQ_LANES; j++) q[j] = (int16_t)code[j];
}

static void k_ints64(double top, const double *x, int64_t n,
                     const double *scale, const double *zero, double *y,
                     int16_t *q) {
  int64_t i = 0;
  for (; i + PTQ_LANES <= n; i += PTQ_LANES)
    chunk64(top, x + i, scale + i, zero + i, y + i, q + i);
  if (i == n) return;
  double in[3][PTQ_LANES] = {{0.0}}, out[PTQ_LANES];
  int16_t code[PTQ_LANES];
  for (int j = 0; j < PTQ_LANES; j++) in[1][j] = 1.0;
  const size_t rest = (size_t)(n - i);
  memcpy(in[0], x + i, rest * sizeof *x);
  memcpy(in[1], scale + i, rest * sizeof *scale);
  memcpy(in[2], zero + i, rest * sizeof *zero);
  chunk64(top, in[0], in[1], in[2], out, code);
  memcpy(y + i, out, rest * sizeof *y);
  memcpy(q + i, code, rest * sizeof *q);
}

#endif /* PTQ_NUM_ROUND_KERNELS64_H */
