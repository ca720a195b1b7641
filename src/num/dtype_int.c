/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Integers with a scale a group: codes 0 .. 2^b - 1, value = scale * (code -
 * zero). Symmetric and asymmetric as GPTQ's reference quantizer has them; full
 * as auto-round: the larger end of the group becomes the lowest code, which
 * takes a negative scale where that end is positive. Its scales are at least
 * 1e-5 and, unless keep= or dq= says otherwise, f16. */
#include <float.h>
#include <math.h>

#include "dtype_lanes.h"
#include "round_table.h"

enum { RANGE = 3U | PTQ_OPTION_SIGNED, ASYMMETRIC = 1U };
#define FULL (2U | PTQ_OPTION_SIGNED)

static bool is_asym(const ptq_dtype *dt) {
  return (dt->options & ASYMMETRIC) != 0;
}

static bool is_full(const ptq_dtype *dt) {
  return (dt->options & PTQ_OPTION_SIGNED) != 0;
}

static float top_code(const ptq_dtype *dt) {
  return (float)((1 << dt->bits) - 1);
}

/* Of full. Doubles of floats over a power of two: what float32 would give. */
static double full_scale(const ptq_dtype *dt, double lo, double hi) {
  const double half = ldexp(1.0, dt->bits - 1), floor = (double)1e-5F;
  lo = lo < 0.0 ? -lo : 0.0;
  hi = hi > 0.0 ? hi : 0.0;
  const double size = (lo > hi ? lo : hi) / half;
  const double most = size > floor ? size : floor;
  return hi >= lo && size > 0.0 ? -most : most;
}

/* The range that the scale spans: it holds 0, and is symmetric unless asym.
 * A group that is nowhere negative keeps lo = 0 and with it a scale half as
 * large, so that its upper half saturates: the reference's rule. */
static ptq_group_params span(float top, bool asym, float lo, float hi,
                             float by) {
  lo = lo < 0.0F ? lo : 0.0F;
  hi = hi > 0.0F ? hi : 0.0F;
  if (!asym) {
    hi = -lo > hi ? -lo : hi;
    lo = lo < 0.0F ? -hi : lo;
  }
  float scale = (by * hi - by * lo) / top;
  if (hi - lo < FLT_MIN * 512.0F && (hi - lo) / top == 0.0F) {
    lo = -1.0F; /* all zero, or too small to divide */
    hi = 1.0F;
    scale = (by * hi - by * lo) / top;
  }
  ptq_group_params p = {.scale = scale, .zero = (top + 1.0F) / 2.0F};
  if (asym) p.zero = ptq_near_even(-(by * lo) / scale);
  return p;
}

static ptq_group_params shrink(const ptq_dtype *dt, float lo, float hi,
                               float by) {
  const float top = top_code(dt);
  if (!is_full(dt)) return span(top, is_asym(dt), lo, hi, by);
  const double scale = full_scale(dt, (double)(lo * by), (double)(hi * by));
  return (ptq_group_params){.scale = (float)scale, .zero = (top + 1.0F) / 2.0F};
}

/* full_scale in float32, where only what is below the floor underflows. */
static void fit_full(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                     ptq_group_params *out) {
  const float floor = 1e-5F, zero = (float)(1 << (dt->bits - 1));
  const float inverse = 1.0F / zero; /* a power of two */
  for (int64_t g = 0; g < groups; g++) {
    const float lo = r[g].lo < 0.0F ? -r[g].lo : 0.0F;
    const float hi = r[g].hi > 0.0F ? r[g].hi : 0.0F;
    const float most = lo > hi ? lo : hi;
    const float wanted = most * inverse;
    const float size = wanted > floor ? wanted : floor;
    const float up = hi >= lo ? -size : size;
    out[g].scale = most > 0.0F ? up : size;
    out[g].zero = zero;
  }
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  const float top = top_code(dt);
  const bool asym = is_asym(dt);
  if (is_full(dt))
    fit_full(dt, r, groups, out);
  else
    for (int64_t g = 0; g < groups; g++)
      out[g] = span(top, asym, r[g].lo, r[g].hi, 1.0F);
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  ptq_range r;
  ptq_lanes_range(x, n, inc, &r.lo, &r.hi);
  return shrink(dt, r.lo, r.hi, 1.0F);
}

/* As shrink; the scale must not be 0 as a float32 either. */
static ptq_group_params64 shrink64(const ptq_dtype *dt, double lo, double hi,
                                   double by) {
  const double top = (double)top_code(dt);
  if (is_full(dt))
    return (ptq_group_params64){.scale = full_scale(dt, lo * by, hi * by),
                                .zero = (top + 1.0) / 2.0};
  lo = lo < 0.0 ? lo : 0.0;
  hi = hi > 0.0 ? hi : 0.0;
  if (!is_asym(dt)) {
    hi = -lo > hi ? -lo : hi;
    lo = lo < 0.0 ? -hi : lo;
  }
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
  if ((dt->options & RANGE) == 0 && !given && lo < 0.0)
    p.scale *= 1.0 - 0x1p-50;
  return p;
}

static void round_run(const ptq_dtype *dt, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *params, float *y,
                      int16_t *q, bool stream) {
  const ptq_round_int c = {.top = top_code(dt)};
  ptq_rounding()->ints(&c, x, n, width, params, y, q, stream);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_run(dt, x, n, params_inc != 0 ? 1 : n, params, y, q, false);
}

static void round64(const ptq_dtype *dt, const double *x, int64_t n,
                    const double *scale, const double *zero, double *y,
                    int16_t *q) {
  ptq_rounding()->ints64((double)top_code(dt), x, n, scale, zero, y, q);
}

static double zero_at(const ptq_dtype *dt, double lo, double hi, double scale) {
  const double top = (double)top_code(dt);
  (void)hi;
  if (!is_asym(dt)) return (top + 1.0) / 2.0;
  const double zero = (lo < 0.0 ? -lo : 0.0) / scale;
  if (zero >= top) return top; /* a scale rounded down */
  return (zero + 0x1.8p52) - 0x1.8p52;
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
  if ((dt->options & PTQ_OPTION_STORE) >= PTQ_DQ_BNB) return INFINITY;
  if ((dt->options & (PTQ_OPTION_STORE | PTQ_OPTION_SEARCH)) != 0) return 1.0;
  if (is_full(dt)) return 1.0; /* below 2^(b-1) * 1e-5 all is 0 */
  return is_asym(dt) ? 1.0 / steps : 0.5;
}

/* auto-round's default. */
static unsigned default_store(const ptq_dtype *dt) {
  return is_full(dt) ? (unsigned)PTQ_KEEP_F16 : (unsigned)PTQ_KEEP_F32;
}

/* dq=bnb takes a mean off, which scales of both signs have near 0. */
static ptq_status check(const ptq_dtype *dt, ptq_err *err) {
  if (!is_full(dt) || (dt->options & PTQ_OPTION_STORE) < PTQ_DQ_BNB)
    return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "dtype '%s': full has scales of both signs and dq=bnb nests "
                  "positive ones; take dq=fp8, or leave full out",
                  dt->name);
}

static unsigned exceptions(const ptq_dtype *dt) {
  unsigned e = PTQ_NOT_ODD; /* 2^b codes: one side has one more */
  if ((dt->options & PTQ_OPTION_STORE) != 0 || is_full(dt))
    e |= PTQ_NOT_EQUIVARIANT; /* full: the 1e-5 */
  return e;
}

/* clang-format off */
static const ptq_dtype_option options[] = {
  {"sym", RANGE, 0}, {"asym", RANGE, ASYMMETRIC}, {"full", RANGE, FULL},
  PTQ_SEARCH_OPTIONS("minmax"),
  PTQ_STORE_OPTIONS,
  {0},
};
/* clang-format on */

static const char *const dialects[] = {
    "asym",           "scale=mse", "asym:scale=mse", "keep=f16",
    "asym:keep=bf16", "dq=fp8",    "asym:dq=fp8",    "dq=bnb",
    "dq=bnb_cpu",     "full",      "full:keep=f32",  "full:scale=mse",
    "full:dq=fp8",    NULL};

const ptq_dtype_family ptq_dtype_int = {
    .name = "int",
    .suffix = "",
    .options = options,
    .dialects = dialects,
    .summary = "integers with a scale a group; asym has a zero point, full "
               "auto-round's range and f16 scales",
    .source = "IST-DASLab/gptq 2d65066 quant.py; full: auto-round 0.16.1 "
              "int_sym",
    .min_bits = 2,
    .max_bits = 8,
    .pads_groups = false,
    .default_store = default_store,
    .check = check,
    .fit = fit,
    .fit_ranges = fit_ranges,
    .round = round_values,
    .round_run = round_run,
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
