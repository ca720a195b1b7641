/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Integers with a float32 scale a group, as GPTQ's reference quantizer has
 * them: codes 0 .. 2^b - 1, value = scale * (code - zero). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "dtype_lanes.h"

enum { ASYMMETRIC = 1U };

/* 1.5 * 2^52: PTQ_ROUND_MAGIC of float64. */
#define ROUND_MAGIC64 6755399441055744.0

static bool is_asym(const ptq_dtype *dt) {
  return (dt->options & ASYMMETRIC) != 0;
}

static float top_code(const ptq_dtype *dt) {
  return (float)((1 << dt->bits) - 1);
}

/* The range that the scale spans: it holds 0, and is symmetric unless asym.
 * A group that is nowhere negative keeps lo = 0 and with it a scale half as
 * large, so that its upper half saturates: the reference's rule. */
static void widen(const ptq_dtype *dt, double *lo, double *hi) {
  if (*lo > 0.0) *lo = 0.0;
  if (*hi < 0.0) *hi = 0.0;
  if (is_asym(dt)) return;
  if (-*lo > *hi) *hi = -*lo;
  if (*lo < 0.0) *lo = -*hi;
}

static ptq_group_params span(const ptq_dtype *dt, float lo, float hi) {
  const float top = top_code(dt);
  ptq_group_params p = {.scale = (hi - lo) / top, .zero = (top + 1.0F) / 2.0F};
  if (is_asym(dt)) p.zero = rintf(-lo / p.scale) + 0.0F;
  return p;
}

static ptq_group_params shrink(const ptq_dtype *dt, float lo, float hi,
                               float by) {
  double least = (double)lo, most = (double)hi;
  widen(dt, &least, &most);
  if (((float)most - (float)least) / top_code(dt) == 0.0F) {
    least = -1.0; /* all zero, or too small for float32 to divide */
    most = 1.0;
  }
  return span(dt, by * (float)least, by * (float)most);
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  return shrink(dt, lo, hi, 1.0F);
}

/* As shrink; the scale must not be 0 as a float32 either. */
static ptq_group_params64 shrink64(const ptq_dtype *dt, double lo, double hi,
                                   double by) {
  const double top = (double)top_code(dt);
  widen(dt, &lo, &hi);
  if ((float)((hi - lo) / top) == 0.0F) {
    lo = -1.0;
    hi = 1.0;
  }
  lo *= by;
  hi *= by;
  ptq_group_params64 p = {.scale = (hi - lo) / top, .zero = (top + 1.0) / 2.0};
  if (!((float)(hi - lo) <= FLT_MAX)) p.scale = (double)INFINITY;
  if (is_asym(dt)) p.zero = rint(-lo / p.scale) + 0.0;
  return p;
}

static ptq_group_params64 fit64(const ptq_dtype *dt, double lo, double hi,
                                bool given) {
  ptq_group_params64 p = shrink64(dt, lo, hi, 1.0);
  /* lo / scale is -top / 2 but for three roundings of 2^-53 at most */
  if (!is_asym(dt) && !given && lo < 0.0) p.scale *= 1.0 - 0x1p-50;
  return p;
}

/* clamp(round(v) + zero, 0, top) - zero == round(clamp(v, -zero, top - zero))
 * since zero is an integer and rounding monotone; clamping first keeps v in
 * the range of the magic number. NaN becomes the lowest code. */
static void round_lanes(const ptq_dtype *dt, ptq_lanes *c) {
  const float top = top_code(dt);
  for (int j = 0; j < PTQ_LANES; j++) {
    const float lo = -c->zero[j], hi = top - c->zero[j];
    float v = c->x[j] / c->scale[j];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    const float k = (v + PTQ_ROUND_MAGIC) - PTQ_ROUND_MAGIC;
    c->y[j] = c->scale[j] * k;
    c->code[j] = k + c->zero[j];
  }
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  ptq_lanes_round(round_lanes, dt, x, n, params, params_inc, y, q);
}

/* As round_lanes, which gcc and clang vectorize in this form. */
static void round_chunk64(double top, const double *restrict x,
                          const double *restrict scale,
                          const double *restrict zero, double *restrict y,
                          int16_t *restrict q) {
  double code[PTQ_LANES];
  for (int j = 0; j < PTQ_LANES; j++) {
    const double lo = -zero[j], hi = top - zero[j];
    double v = x[j] / scale[j];
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    const double k = (v + ROUND_MAGIC64) - ROUND_MAGIC64;
    y[j] = scale[j] * k;
    code[j] = k + zero[j];
  }
  for (int j = 0; j < PTQ_LANES; j++) q[j] = (int16_t)code[j];
}

static void round64(const ptq_dtype *dt, const double *x, int64_t n,
                    const double *scale, const double *zero, double *y,
                    int16_t *q) {
  const double top = (double)top_code(dt);
  int64_t i = 0;
  for (; i + PTQ_LANES <= n; i += PTQ_LANES)
    round_chunk64(top, x + i, scale + i, zero + i, y + i, q + i);
  if (i == n) return;
  double in[3][PTQ_LANES] = {{0.0}}, out[PTQ_LANES];
  int16_t code[PTQ_LANES];
  for (int j = 0; j < PTQ_LANES; j++) in[1][j] = 1.0;
  const size_t rest = (size_t)(n - i);
  memcpy(in[0], x + i, rest * sizeof *x);
  memcpy(in[1], scale + i, rest * sizeof *scale);
  memcpy(in[2], zero + i, rest * sizeof *zero);
  round_chunk64(top, in[0], in[1], in[2], out, code);
  memcpy(y + i, out, rest * sizeof *y);
  memcpy(q + i, code, rest * sizeof *q);
}

static double zero_at(const ptq_dtype *dt, double lo, double hi, double scale) {
  const double top = (double)top_code(dt);
  (void)hi;
  if (!is_asym(dt)) return (top + 1.0) / 2.0;
  const double zero = rint((lo < 0.0 ? -lo : 0.0) / scale);
  return zero < top ? zero : top; /* a scale rounded down */
}

static double param_bits(const ptq_dtype *dt) {
  return is_asym(dt) ? 32.0 + dt->bits : 32.0;
}

static int levels(const ptq_dtype *dt) {
  return 1 << dt->bits;
}

/* Where zero may fall within an asymmetric range, an end is off by a whole
 * step: the zero point is rounded. A symmetric group without a negative weight
 * has half the scale and saturates (the reference's rule). Stored scales lose
 * up to their own half step; those of dq=bnb are not bounded by their group. */
static double error_bound(const ptq_dtype *dt) {
  const double steps = (double)top_code(dt);
  if ((dt->options & PTQ_OPTION_STORE) == PTQ_DQ_BNB) return INFINITY;
  if ((dt->options & (PTQ_OPTION_STORE | PTQ_OPTION_SEARCH)) != 0) return 1.0;
  return is_asym(dt) ? 1.0 / steps : 0.5;
}

static unsigned exceptions(const ptq_dtype *dt) {
  unsigned e = PTQ_NOT_ODD; /* 2^b codes: one side has one more */
  if ((dt->options & PTQ_OPTION_STORE) != 0) e |= PTQ_NOT_EQUIVARIANT;
  return e;
}

/* clang-format off */
static const ptq_dtype_option options[] = {
  {"sym", ASYMMETRIC, 0}, {"asym", ASYMMETRIC, ASYMMETRIC},
  PTQ_SEARCH_OPTIONS("minmax"),
  PTQ_STORE_OPTIONS,
  {0},
};
/* clang-format on */

static const char *const dialects[] = {
    "asym",   "scale=mse",   "asym:scale=mse", "keep=f16", "asym:keep=bf16",
    "dq=fp8", "asym:dq=fp8", "dq=bnb",         NULL};

const ptq_dtype_family ptq_dtype_int = {
    .name = "int",
    .suffix = "",
    .options = options,
    .dialects = dialects,
    .summary = "integers with a scale a group; symmetric, or asym with a zero "
               "point",
    .source = "IST-DASLab/gptq 2d65066 quant.py",
    .min_bits = 2,
    .max_bits = 8,
    .pads_groups = false,
    .fit = fit,
    .round = round_values,
    .fit64 = fit64,
    .round64 = round64,
    .zero_at = zero_at,
    .shrink = shrink,
    .shrink64 = shrink64,
    .param_bits = param_bits,
    .levels = levels,
    .exceptions = exceptions,
    .error_bound = error_bound,
};
