/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Microscaling floats (OCP MX 1.0): small floats that share a power of two a
 * block. A code is the element's magnitude as the format encodes it, with the
 * weight's sign: -levels/2 .. levels/2.
 *
 * The scale is 2^(E - emax), E taken from the block's largest magnitude:
 *   scale=floor  its exponent (OCP, microxcaling)
 *   scale=even   its exponent after rounding to the element's mantissa
 *   scale=ceil   the least E with 2^E at least as large
 *   scale=rceil  the least with scale * largest element at least as large
 * exp=log2f is the arithmetic of tools that take floor(log2(x)) in float32,
 * which is one too many just below 2^k for k >= 4 and k <= -20, and that round
 * by floor(x + 0.5) in float32, which turns 0.5 - 2^-25 into 1. exp=bits has
 * neither fault.
 *
 * sat=dmx is dmx-compressor, which keeps no code for Inf and NaN: E4M3 reaches
 * 480 and E5M2 114688, whose emax is then 16. What lies below the least normal
 * element is rounded twice there, a float32 sum with that element first; a
 * scale may be less than 2^-127, down to 0, and a block with that scale, one
 * of zeros too, becomes -0. It has scale=floor and round=even only; its
 * logarithm is that of exp=log2f. */
#include "dtype_mx.h"
#include "round_table.h"

enum { /* options */
       SCALE = 3U,
       FLOOR = 0U,
       CEIL = 1U,
       EVEN = 2U,
       RCEIL = 3U,
       AWAY = 4U,
       LOG2F = 8U,
       DMX = 16U
};

/* clang-format off */
static const ptq_dtype_option options[] = {
  {"scale=floor", SCALE, FLOOR}, {"scale=ceil", SCALE, CEIL},
  {"scale=even", SCALE, EVEN},   {"scale=rceil", SCALE, RCEIL},
  {"round=even", AWAY, 0},       {"round=away", AWAY, AWAY},
  {"exp=bits", LOG2F, 0},        {"exp=log2f", LOG2F, LOG2F},
  {"sat=ocp", DMX, 0},           {"sat=dmx", DMX, DMX},
  {0},
};
static const ptq_dtype_option fp8_options[] = {
  PTQ_SEARCH_OPTIONS("absmax"), PTQ_STORE_OPTIONS, {0},
};
/* clang-format on */

static const char *const dialects[] = {
    "scale=ceil", "scale=even",        "scale=rceil",
    "round=away", "exp=log2f",         "scale=rceil:round=away:exp=log2f",
    "sat=dmx",    "exp=log2f:sat=dmx", NULL};
static const char *const fp8_dialects[] = {"keep=f16", "keep=bf16", "dq=fp8",
                                           "dq=bnb",   "scale=mse", NULL};

static bool is_dmx(const ptq_dtype *dt) {
  return dt->family->pads_groups && (dt->options & DMX) != 0;
}

/* With sat=dmx all codes are numbers. */
static ptq_element element_of(const ptq_dtype *dt) {
  ptq_element e = dt->family->element;
  if (!is_dmx(dt)) return e;
  e.max_code = (1 << (dt->bits - 1)) - 1;
  e.emax = (e.max_code >> e.mantissa) - 1 + e.emin;
  return e;
}

static int levels(const ptq_dtype *dt) {
  return 2 * element_of(dt).max_code + 1;
}

/* Value of a magnitude's code. */
static float magnitude(const ptq_element *e, int code) {
  const int exponent = code >> e->mantissa;
  const int digits = code & ((1 << e->mantissa) - 1);
  if (exponent == 0) return ldexpf((float)digits, e->emin - e->mantissa);
  return ldexpf((float)(digits + (1 << e->mantissa)),
                e->emin + exponent - 1 - e->mantissa);
}

static float value(const ptq_dtype *dt, const ptq_group_params *p, int code) {
  const ptq_element e = element_of(dt);
  const float v = magnitude(&e, code < 0 ? -code : code);
  return p->scale * (code < 0 ? -v : v);
}

/* The scale 2^k for its biased exponent k + 127, at least 2^-127; infinite
 * where values would overflow. */
static inline float scale_of(int biased, int emax) {
  const uint32_t bits = biased > 0 ? (uint32_t)biased << 23 : 0x400000U;
  const uint32_t chosen = biased > 254 - emax ? 0x7F800000U : bits;
  float scale;
  memcpy(&scale, &chosen, sizeof scale);
  return scale;
}

/* With float32's logarithm, where it matters: scale=even has no logarithm. */
static ptq_group_params fit_log2f(const ptq_dtype *dt, float most) {
  const ptq_element e = element_of(dt);
  const unsigned mode = dt->options & SCALE;
  if (mode == RCEIL) most /= magnitude(&e, e.max_code);
  ptq_group_params p = {.scale = scale_of(0, e.emax), .zero = 0.0F};
  if (most == 0.0F) return p;
  const float log = (float)log2((double)most);
  const int exponent = (int)(mode == FLOOR ? floorf(log) : ceilf(log));
  p.scale = scale_of(exponent + 127 - (mode == RCEIL ? 0 : e.emax), e.emax);
  return p;
}

/* By bits: the exponent of the largest magnitude, or of that over the largest
 * element, after an addition that carries into it where the mode rounds up.
 * rceil takes up to 2^-127 as nothing. */
static void fit_bits(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                     ptq_group_params *out) {
  const ptq_element e = element_of(dt);
  const unsigned mode = dt->options & SCALE;
  const float by = mode == RCEIL ? magnitude(&e, e.max_code) : 1.0F;
  const int off = mode == RCEIL ? 0 : e.emax;
  const int nothing = mode == RCEIL ? 0x400000 : 0;
  const int carry = mode == FLOOR  ? 0
                    : mode == EVEN ? 1 << (23 - e.mantissa - 1)
                                   : 0x7FFFFF;
  for (int64_t g = 0; g < groups; g++) {
    const float most = (-r[g].lo > r[g].hi ? -r[g].lo : r[g].hi) / by;
    int bits;
    memcpy(&bits, &most, sizeof bits);
    const int biased = bits > nothing ? (bits + carry) >> 23 : 0;
    out[g].scale = scale_of(biased - off, e.emax);
    out[g].zero = 0.0F;
  }
}

static ptq_group_params fit_dmx(const ptq_dtype *dt, float most, int emax) {
  ptq_group_params p = {0.0F, 0.0F};
  if (most <= 0.0F) return p;
  int e, bits;
  memcpy(&bits, &most, sizeof bits);
  if ((dt->options & LOG2F) != 0)
    e = ptq_mx_log2f(most);
  else
    e = bits >> 23 != 0 ? (bits >> 23) - 127 : ilogbf(most);
  if (e > 127)
    p.scale = INFINITY;
  else if (e - emax >= -149) /* else 0 */
    p.scale = ptq_mx_power(e - emax);
  return p;
}

/* fit_dmx by bits where all scales are 0 or normal floats, in a loop that is
 * vectorized. False: some are not. */
static bool fit_dmx_normal(const ptq_range *r, int64_t groups, int emax,
                           ptq_group_params *out) {
  int bad = 0;
  for (int64_t g = 0; g < groups; g++) {
    const float most = -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi;
    int bits;
    memcpy(&bits, &most, sizeof bits);
    const int scale = bits > 0 ? bits - (emax << 23) : 0;
    const int power = scale & 0x7F800000;
    bad |= (bits > 0) & ((scale < 1 << 23) | (bits >= 0x7F800000));
    memcpy(&out[g].scale, &power, sizeof power);
    out[g].zero = 0.0F;
  }
  return bad == 0;
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  const bool logarithm =
      (dt->options & LOG2F) != 0 && (dt->options & SCALE) != EVEN;
  if (!is_dmx(dt) && !logarithm) {
    fit_bits(dt, r, groups, out);
    return;
  }
  const int emax = element_of(dt).emax;
  if (is_dmx(dt) && (dt->options & LOG2F) == 0 &&
      fit_dmx_normal(r, groups, emax, out))
    return;
  for (int64_t g = 0; g < groups; g++) {
    const float most = -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi;
    out[g] = is_dmx(dt) ? fit_dmx(dt, most, emax) : fit_log2f(dt, most);
  }
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  ptq_group_params p;
  ptq_range r;
  ptq_lanes_range(x, n, inc, &r.lo, &r.hi);
  fit_ranges(dt, &r, 1, &p);
  return p;
}

static ptq_round_float constants(const ptq_dtype *dt) {
  const ptq_element e = element_of(dt);
  const int digits = (1 << e.mantissa) | (e.max_code & ((1 << e.mantissa) - 1));
  return (ptq_round_float){
      .most = ptq_mx_power(e.emax - e.mantissa) * (float)digits,
      .least = ptq_mx_power(e.emin),
      .mantissa = e.mantissa,
      .bias = 127 + e.emin,
      .away = (dt->options & AWAY) != 0,
      .log2f = (dt->options & LOG2F) != 0,
      .unit = 1.0F,
      .dmx = is_dmx(dt),
      .keeps_zero = !dt->family->pads_groups};
}

static void round_run(const ptq_dtype *dt, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *params, float *y,
                      int16_t *q, bool stream) {
  const ptq_round_float c = constants(dt);
  ptq_rounding()->floats(&c, x, n, width, params, y, q, stream);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_run(dt, x, n, params_inc != 0 ? 1 : n, params, y, q, false);
}

static void snap(const ptq_dtype *dt, int64_t index, ptq_group_params *p) {
  (void)index;
  if (p->scale == 0.0F) return; /* a block of zeros of sat=dmx */
  p->scale = ptq_nearest_power(p->scale, -127, 127 - element_of(dt).emax);
  p->zero = 0.0F;
}

/* Half a step of the largest binade, or what is clipped: a magnitude of almost
 * 2^(E+1) where the largest element is m 2^E, m < 2. */
static double error_bound(const ptq_dtype *dt) {
  const ptq_element e = element_of(dt);
  const double top = (double)magnitude(&e, e.max_code);
  const double clipped = 1.0 - top / ldexp(2.0, e.emax);
  const double step = ldexp(1.0, -e.mantissa - 1);
  return clipped > step ? clipped : step;
}

static ptq_status check(const ptq_dtype *dt, ptq_err *err) {
  if (!is_dmx(dt) || (dt->options & (SCALE | AWAY)) == 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "dtype '%s': dmx-compressor has scale=floor and round=even "
                  "only; leave sat=dmx or the others out",
                  dt->name);
}

/* Scales in log2f change at other places than powers of two. */
static unsigned exceptions(const ptq_dtype *dt) {
  return (dt->options & LOG2F) != 0
             ? (unsigned)(PTQ_NOT_EQUIVARIANT | PTQ_NOT_NEAREST)
             : 0U;
}

static double param_bits(const ptq_dtype *dt) {
  (void)dt;
  return 8.0;
}

#define MXFP(id, width, tail, what, ...)                                    \
  const ptq_dtype_family ptq_dtype_##id = {                                 \
      .name = "mxfp",                                                       \
      .suffix = tail,                                                       \
      .summary = what " floats that share a power of two a block (OCP MX)", \
      .source = "microxcaling 7bc4195; scale modes: torchao "               \
                "0.18.0; sat=dmx: dmx-compressor 0.1.11",                   \
      .options = options,                                                   \
      .dialects = dialects,                                                 \
      .min_bits = width,                                                    \
      .max_bits = width,                                                    \
      .pads_groups = true,                                                  \
      .signed_codes = true,                                                 \
      .element = {__VA_ARGS__},                                             \
      .check = check,                                                       \
      .fit = fit,                                                           \
      .fits_peaks = true,                                                   \
      .fit_ranges = fit_ranges,                                             \
      .round = round_values,                                                \
      .round_run = round_run,                                               \
      .value = value,                                                       \
      .snap = snap,                                                         \
      .param_bits = param_bits,                                             \
      .levels = levels,                                                     \
      .exceptions = exceptions,                                             \
      .error_bound = error_bound,                                           \
  }

/* mantissa bits, exponents of the least and the largest normal element, code
 * of the largest magnitude */
MXFP(mxfp4, 4, "", "E2M1", 1, 0, 2, 7);
MXFP(mxfp6_e2m3, 6, "_e2m3", "E2M3", 3, 0, 2, 31);
MXFP(mxfp6_e3m2, 6, "_e3m2", "E3M2", 2, -2, 4, 31);
MXFP(mxfp8_e4m3, 8, "_e4m3", "E4M3", 3, -6, 8, 126);
MXFP(mxfp8_e5m2, 8, "_e5m2", "E5M2", 2, -14, 15, 123);

/* FP8 with a float32 scale: the largest magnitude becomes the largest code. */

static void absmax_ranges(const ptq_dtype *dt, const ptq_range *r,
                          int64_t groups, ptq_group_params *out) {
  const ptq_element *e = &dt->family->element;
  const float top = magnitude(e, e->max_code);
  for (int64_t g = 0; g < groups; g++) {
    const float most = -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi;
    float scale = most / top;
    if (scale == 0.0F) scale = 1.0F; /* zeros, or too small to divide */
    /* the largest code must not round beyond float32 */
    if (!isfinite(scale * top)) scale = INFINITY;
    out[g] = (ptq_group_params){.scale = scale};
  }
}

static ptq_group_params fit_absmax(const ptq_dtype *dt, const float *x,
                                   int64_t n, int64_t inc) {
  ptq_group_params p;
  ptq_range r;
  ptq_lanes_range(x, n, inc, &r.lo, &r.hi);
  absmax_ranges(dt, &r, 1, &p);
  return p;
}

static ptq_group_params shrink_absmax(const ptq_dtype *dt, float lo, float hi,
                                      float by) {
  const float most = by * (-lo > hi ? -lo : hi);
  return fit_absmax(dt, &most, 1, 1);
}

/* No value lies between two codes by construction: the largest magnitude is
 * the largest code. */
static ptq_group_params64 fit64(const ptq_dtype *dt, double lo, double hi,
                                bool given) {
  (void)given;
  const ptq_element *e = &dt->family->element;
  const double top = (double)magnitude(e, e->max_code);
  const double most = -lo > hi ? -lo : hi;
  ptq_group_params64 p = {.scale = most / top, .zero = 0.0};
  if ((float)p.scale == 0.0F) p.scale = 1.0;
  if (!isfinite((float)p.scale * (float)top)) p.scale = (double)INFINITY;
  return p;
}

static ptq_group_params64 shrink64(const ptq_dtype *dt, double lo, double hi,
                                   double by) {
  return fit64(dt, by * lo, by * hi, false);
}

/* As the float32 kernel: 1.5 u 2^(52-m) has u 2^-m as its last place. */
static void round64(const ptq_dtype *dt, const double *x, int64_t n,
                    const double *scale, const double *zero, double *y,
                    int16_t *q) {
  const ptq_element *e = &dt->family->element;
  const double top = (double)magnitude(e, e->max_code);
  const double least = ldexp(1.0, e->emin), steps = ldexp(1.0, e->mantissa);
  const uint64_t to_shift = (uint64_t)(52 - e->mantissa) << 52 | 1ULL << 51;
  (void)zero;
  for (int64_t i = 0; i < n; i++) {
    const double v = x[i] / scale[i];
    const double a = fabs(v) < top ? fabs(v) : top;
    const double at_least = a > least ? a : least;
    uint64_t u;
    double unit, shift;
    memcpy(&u, &at_least, sizeof u);
    u &= 0x7FF0000000000000;
    memcpy(&unit, &u, sizeof unit);
    u += to_shift;
    memcpy(&shift, &u, sizeof shift);
    const double r = (a + shift) - shift;
    const int exponent = (int)(u >> 52) - (52 - e->mantissa) - 1023 - e->emin;
    const double code = (double)exponent * steps + r / unit * steps;
    q[i] = (int16_t)(v < 0.0 ? -code : code);
    y[i] = copysign(r * scale[i], v);
  }
}

static double absmax_bits(const ptq_dtype *dt) {
  (void)dt;
  return 32.0;
}

/* A stored scale may be 2^-4 less than the fitted one: E4M3. */
static double fp8_bound(const ptq_dtype *dt) {
  const double step = ldexp(1.0, -dt->family->element.mantissa - 1);
  if ((dt->options & PTQ_OPTION_STORE) >= PTQ_DQ_BNB) return (double)INFINITY;
  return (dt->options & PTQ_OPTION_STORE) != 0 ? 2.0 * step : step;
}

static unsigned fp8_exceptions(const ptq_dtype *dt) {
  return (dt->options & PTQ_OPTION_STORE) != 0 ? PTQ_NOT_EQUIVARIANT : 0U;
}

#define FP8(id, tail, what, ...)                                              \
  const ptq_dtype_family ptq_dtype_##id = {                                   \
      .name = "fp",                                                           \
      .suffix = tail,                                                         \
      .summary = what " floats with a float32 scale a group, amax / largest", \
      .source = "PyTorch 2.15 float8 casts",                                  \
      .options = fp8_options,                                                 \
      .dialects = fp8_dialects,                                               \
      .min_bits = 8,                                                          \
      .max_bits = 8,                                                          \
      .pads_groups = false,                                                   \
      .signed_codes = true,                                                   \
      .element = {__VA_ARGS__},                                               \
      .fit = fit_absmax,                                                      \
      .fits_peaks = true,                                                     \
      .fit_ranges = absmax_ranges,                                            \
      .round = round_values,                                                  \
      .round_run = round_run,                                                 \
      .fit64 = fit64,                                                         \
      .round64 = round64,                                                     \
      .shrink = shrink_absmax,                                                \
      .shrink64 = shrink64,                                                   \
      .value = value,                                                         \
      .param_bits = absmax_bits,                                              \
      .levels = levels,                                                       \
      .exceptions = fp8_exceptions,                                           \
      .error_bound = fp8_bound,                                               \
  }

FP8(fp8_e4m3, "_e4m3", "E4M3", 3, -6, 8, 126);
FP8(fp8_e5m2, "_e5m2", "E5M2", 2, -14, 15, 123);
