/* SPDX-License-Identifier: GPL-3.0-or-later */
/* NVFP4: E2M1 elements, an E4M3 scale a group (usually 16 weights) and one
 * float32 scale a matrix, the largest magnitude over 448 * 6.
 *
 *   like=torchao     group scale s = e4m3(clamp((most / 6) / t, 2^-6, 448)),
 *                    codes of w * ((1 / t) / s), value = code * (t * s)
 *   like=auto_round  with g = 2688 * (1 / most of the matrix): s = e4m3(g *
 *                    (most * (1 / 6))), which goes down to 2^-9 and becomes 0
 *                    below 2^-10; codes of w * (1 / (s * (1 / g))), whose
 *                    reciprocal restores them; a group with s = 0 is zeros
 *
 * compressed-tensors and modelopt have the small scales of auto-round, replace
 * a scale of 0 by one that leaves zeros all the same, and divide where it
 * multiplies by a reciprocal.
 *
 * params.zero is what weights are multiplied by. */
#include <float.h>
#include <math.h>

#include "dtype_lanes.h"

enum { AUTO_ROUND = 1U };

static bool like_auto_round(const ptq_dtype *dt) {
  return (dt->options & AUTO_ROUND) != 0;
}

/* v >= 0 to the nearest E4M3 value, ties to even, 448 at most. */
static float to_e4m3(float v) {
  if (!(v < 448.0F)) return 448.0F;
  int e;
  (void)frexpf(v, &e);
  const int unit = (e - 1 > -6 ? e - 1 : -6) - 3;
  return ldexpf(rintf(ldexpf(v, -unit)), unit);
}

static float largest(const float *x, int64_t n, int64_t inc) {
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  return -lo > hi ? -lo : hi;
}

/* m->tensor is what the tools compute: t of torchao, g of auto-round. A matrix
 * of zeros, or too small for the reciprocals, gets 1: its codes are 0. */
static ptq_status prepare(const ptq_dtype *dt, const float *w, int64_t rows,
                          int64_t cols, ptq_dtype_matrix *m, ptq_err *err) {
  (void)err;
  const float most = largest(w, rows * cols, 1);
  m->tensor = like_auto_round(dt) ? 2688.0F * (1.0F / most) : most / 2688.0F;
  if (!isfinite(m->tensor) || !isfinite(1.0F / m->tensor) ||
      most < FLT_MIN * 0x1p24F)
    m->tensor = 1.0F;
  return PTQ_OK;
}

/* From the wanted scale of a group, which is the value of E2M1's 1. */
static void snap(const ptq_dtype *dt, int64_t index, ptq_group_params *p) {
  (void)index;
  const float t = dt->matrix->tensor;
  if (!like_auto_round(dt)) {
    const float wanted = p->scale / t;
    const float s = to_e4m3(wanted > 0x1p-6F ? wanted : 0x1p-6F);
    *p = (ptq_group_params){.scale = t * s, .zero = (1.0F / t) / s};
    return;
  }
  const float s = to_e4m3(t * p->scale);
  *p = (ptq_group_params){.scale = 0.0F, .zero = 0.0F};
  if (s == 0.0F) return;
  p->zero = 1.0F / (s * (1.0F / t));
  p->scale = 1.0F / p->zero;
}

static ptq_group_params fit_most(const ptq_dtype *dt, float most) {
  const float scale = like_auto_round(dt) ? most * (1.0F / 6.0F) : most / 6.0F;
  ptq_group_params p = {.scale = scale + 0.0F, .zero = 0.0F};
  snap(dt, 0, &p);
  return p;
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  for (int64_t g = 0; g < groups; g++)
    out[g] = fit_most(dt, -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi);
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  return fit_most(dt, largest(x, n, inc));
}

/* The E2M1 values 0, .5, 1, 1.5, 2, 3, 4, 6 have codes 0 .. 7. */
static void round_lanes(const ptq_dtype *dt, ptq_lanes *c) {
  const bool drops_sign = like_auto_round(dt);
  for (int j = 0; j < PTQ_LANES; j++) {
    const float v = c->x[j] * c->zero[j];
    float a = fabsf(v);
    a = a < 6.0F ? a : 6.0F;
    const float unit = a < 2.0F ? 0.5F : a < 4.0F ? 1.0F : 2.0F;
    const float first = a < 2.0F ? 0.0F : a < 4.0F ? 2.0F : 4.0F;
    const float k = (a / unit + PTQ_ROUND_MAGIC) - PTQ_ROUND_MAGIC;
    const float y = k * unit * c->scale[j], code = k + first;
    const float sign_of = drops_sign ? v + 0.0F : v;
    c->y[j] = copysignf(y, sign_of);
    c->code[j] = v < 0.0F ? 0.0F - code : code;
  }
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  ptq_lanes_round(round_lanes, dt, x, n, params, params_inc, y, q);
}

static float value(const ptq_dtype *dt, const ptq_group_params *p, int code) {
  static const float values[8] = {0.0F, 0.5F, 1.0F, 1.5F,
                                  2.0F, 3.0F, 4.0F, 6.0F};
  (void)dt;
  const float v = values[code < 0 ? -code : code] * p->scale;
  return code < 0 ? -v : v;
}

static double scale_bits(const ptq_dtype *dt) {
  (void)dt;
  return 8.0;
}

static double tensor_bits(const ptq_dtype *dt) {
  (void)dt;
  return 32.0;
}

static int levels(const ptq_dtype *dt) {
  (void)dt;
  return 15;
}

/* The tensor's scale has 24 bits, so that products round. */
static unsigned exceptions(const ptq_dtype *dt) {
  (void)dt;
  return 0;
}

/* A scale that is 1/16 short leaves the largest magnitude 1/17 beyond 6; else
 * half of the widest step, 1 of 6. */
static double error_bound(const ptq_dtype *dt) {
  (void)dt;
  return (1.0 + 1.0 / 16.0) / 6.0;
}

static const ptq_dtype_option options[] = {
    {"like=torchao", AUTO_ROUND, 0},
    {"like=auto_round", AUTO_ROUND, AUTO_ROUND},
    PTQ_SEARCH_OPTIONS("absmax"),
    {0}};

static const char *const dialects[] = {"like=auto_round", "scale=mse", NULL};

const ptq_dtype_family ptq_dtype_nvfp4 = {
    .name = "nvfp4",
    .suffix = "",
    .summary = "E2M1 under an E4M3 scale a group (16 in hardware) and a "
               "float32 scale a matrix",
    .source = "torchao 0.18.0 nvfp4_quantize; auto-round 0.16.1 nv_fp4",
    .options = options,
    .dialects = dialects,
    .min_bits = 4,
    .max_bits = 4,
    .bare = true,
    .pads_groups = true,
    .signed_codes = true,
    .element = {1, 0, 2, 7},
    .fit = fit,
    .fit_ranges = fit_ranges,
    .round = round_values,
    .value = value,
    .prepare = prepare,
    .snap = snap,
    .param_bits = scale_bits,
    .matrix_bits = tensor_bits,
    .levels = levels,
    .exceptions = exceptions,
    .error_bound = error_bound,
};
