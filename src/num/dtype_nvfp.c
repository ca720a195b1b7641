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
#include "round_table.h"

enum { AUTO_ROUND = 1U };

static bool like_auto_round(const ptq_dtype *dt) {
  return (dt->options & AUTO_ROUND) != 0;
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
  ptq_range r;
  if (ptq_rounding()->peaks(w, rows * cols, rows * cols, &r) == 0)
    return ptq_dtype_check_finite(w, rows, cols, err);
  const float most = r.hi;
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
    const float s = ptq_near_e4m3(wanted > 0x1p-6F ? wanted : 0x1p-6F);
    *p = (ptq_group_params){.scale = t * s, .zero = (1.0F / t) / s};
    return;
  }
  const float s = ptq_near_e4m3(t * p->scale);
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

/* snap of most / 6, in a loop that is vectorized. */
static void fit_torchao(float t, const ptq_range *r, int64_t groups,
                        ptq_group_params *out) {
  const float inverse = 1.0F / t;
  for (int64_t g = 0; g < groups; g++) {
    const float most = -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi;
    const float wanted = (most / 6.0F + 0.0F) / t;
    const float s = ptq_near_e4m3(wanted > 0x1p-6F ? wanted : 0x1p-6F);
    out[g].scale = t * s;
    out[g].zero = inverse / s;
  }
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  if (!like_auto_round(dt)) {
    fit_torchao(dt->matrix->tensor, r, groups, out);
    return;
  }
  for (int64_t g = 0; g < groups; g++)
    out[g] = fit_most(dt, -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi);
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  return fit_most(dt, largest(x, n, inc));
}

static void round_run(const ptq_dtype *dt, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *params, float *y,
                      int16_t *q, bool stream) {
  const ptq_round_float c = {.most = 6.0F,
                             .least = 1.0F,
                             .mantissa = 1,
                             .bias = 127,
                             .by_zero = true,
                             .keeps_zero = !like_auto_round(dt)};
  ptq_rounding()->floats(&c, x, n, width, params, y, q, stream);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_run(dt, x, n, params_inc != 0 ? 1 : n, params, y, q, false);
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
    .fits_peaks = true,
    .fit_ranges = fit_ranges,
    .round = round_values,
    .round_run = round_run,
    .value = value,
    .prepare = prepare,
    .snap = snap,
    .param_bits = scale_bits,
    .matrix_bits = tensor_bits,
    .levels = levels,
    .exceptions = exceptions,
    .error_bound = error_bound,
};
