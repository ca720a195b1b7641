/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Integers with a float32 scale a group, as GPTQ's reference quantizer has
 * them: codes 0 .. 2^b - 1, value = scale * (code - zero). */
#include <math.h>
#include <string.h>

#include "dtype_lanes.h"

enum { ASYMMETRIC = 1U };

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

static ptq_group_params settle_tie(const ptq_dtype *dt, const float *x,
                                   int64_t n, int64_t inc, bool exact,
                                   ptq_group_params p) {
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  const double top = (double)top_code(dt), most = -(double)lo;
  if (is_asym(dt)) { /* where lo = -hi the zero point itself is a tie */
    if (exact && lo < 0.0F && hi > 0.0F)
      p.zero = (float)rint(most / (((double)hi + most) / top));
    return p;
  }
  /* on the positive side both neighbours saturate to the same code */
  if (!(lo < 0.0F) || -lo < hi) return p;
  const double scale = (most + most) / top;
  const double wanted = exact ? rint(most / scale) : (top + 1.0) / 2.0;
  ptq_group_params settled = p;
  for (int ulps = 0; ulps < 4; ulps++) {
    const double k = (double)rintf(-lo / settled.scale);
    if (k == wanted) return settled;
    settled.scale = nextafterf(settled.scale, k < wanted ? 0.0F : INFINITY);
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

static double param_bits(const ptq_dtype *dt) {
  return is_asym(dt) ? 32.0 + dt->bits : 32.0;
}

static int levels(const ptq_dtype *dt) {
  return 1 << dt->bits;
}

const ptq_dtype_family ptq_dtype_int = {
    .name = "int",
    .summary = "integers with a float32 scale a group; symmetric, or asym "
               "with a zero point",
    .source = "IST-DASLab/gptq 2d65066 quant.py",
    .min_bits = 2,
    .max_bits = 8,
    .pads_groups = false,
    .parse_options = parse_options,
    .fit = fit,
    .settle_tie = settle_tie,
    .round = round_values,
    .param_bits = param_bits,
    .levels = levels,
};
