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

static ptq_status parse_options(ptq_dtype *dt, const char *text, ptq_err *err) {
  if (strcmp(text, "") == 0 || strcmp(text, "sym") == 0) return PTQ_OK;
  if (strcmp(text, "asym") != 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "dtype '%s' has no option '%s'; known: asym, sym (the "
                    "default)",
                    dt->name, text);
  dt->options |= ASYMMETRIC;
  strcat(dt->name, ":asym"); /* "int8:asym" fits by far */
  return PTQ_OK;
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  if (lo > 0.0F) lo = 0.0F;
  if (hi < 0.0F) hi = 0.0F;
  if (!is_asym(dt)) {
    /* A group that is nowhere negative keeps lo = 0 and with it a scale half
     * as large, so that its upper half saturates: the reference's rule. */
    if (-lo > hi) hi = -lo;
    if (lo < 0.0F) lo = -hi;
  }
  const float top = top_code(dt);
  float scale = (hi - lo) / top;
  if (scale == 0.0F) { /* all zero, or too small for float32 to divide */
    lo = -1.0F;
    hi = 1.0F;
    scale = (hi - lo) / top;
  }
  ptq_group_params p = {.scale = scale, .zero = (top + 1.0F) / 2.0F};
  if (is_asym(dt)) p.zero = rintf(-lo / scale) + 0.0F;
  return p;
}

static ptq_group_params64 fit64(const ptq_dtype *dt, double lo, double hi,
                                bool given) {
  if (lo > 0.0) lo = 0.0;
  if (hi < 0.0) hi = 0.0;
  if (!is_asym(dt)) {
    if (-lo > hi) hi = -lo;
    if (lo < 0.0) lo = -hi;
  }
  const double top = (double)top_code(dt);
  double scale = (hi - lo) / top;
  if (!((float)(hi - lo) <= FLT_MAX)) scale = (double)INFINITY;
  if ((float)scale == 0.0F) {
    lo = -1.0;
    hi = 1.0;
    scale = (hi - lo) / top;
  }
  ptq_group_params64 p = {.scale = scale, .zero = (top + 1.0) / 2.0};
  if (is_asym(dt)) {
    p.zero = rint(-lo / scale) + 0.0;
  } else if (!given && lo < 0.0) {
    /* lo / scale is -top / 2 but for three roundings of 2^-53 at most */
    p.scale *= 1.0 - 0x1p-50;
  }
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

static double param_bits(const ptq_dtype *dt) {
  return is_asym(dt) ? 32.0 + dt->bits : 32.0;
}

static int levels(const ptq_dtype *dt) {
  return 1 << dt->bits;
}

const ptq_dtype_family ptq_dtype_int = {
    .name = "int",
    .suffix = "",
    .options = "asym, sym",
    .summary = "integers with a float32 scale a group; symmetric, or asym "
               "with a zero point",
    .source = "IST-DASLab/gptq 2d65066 quant.py",
    .min_bits = 2,
    .max_bits = 8,
    .pads_groups = false,
    .parse_options = parse_options,
    .fit = fit,
    .round = round_values,
    .fit64 = fit64,
    .round64 = round64,
    .param_bits = param_bits,
    .levels = levels,
};
