/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MXINT: signed integers of b bits that share a power of two a block (E8M0),
 * value = scale * code with |code| <= 2^(b-1) - 1.
 *
 * With E the exponent of the block's largest magnitude the step is
 * 2^(E-(b-2)). With round=even and round=away values are rounded once, as
 * microxcaling does; exp=log2f is that tool in float32, and scale= takes E as
 * for floats (see dtype_mxfp.c).
 *
 * round=dmx rounds twice: dmx-compressor adds 6 * 2^E in float32, which leaves
 * 22 bits below 2^(E+1), then cuts that sum to the step, ties to even. A value
 * within 2^(E-22) of a tie may so fall on the other side; equality with that
 * tool needs both roundings.
 *
 * Where the largest magnitude is subnormal the tool adds 0 instead: the step
 * is then 2^(-126-b) and codes reach 2^b - 1, but what rounds up to 2^-126
 * becomes 2^b - 4. Equal bits again need the same. From 2^126 on its sum
 * overflows and every weight of the block would become the most negative
 * value; here that is a failure (the scale is returned as infinite).
 *
 * BFP is the same under the tool's name for it; asym adds the code -2^(b-1):
 * what was clipped to one more takes it where that is as near. (A block of
 * subnormals stays as it is, where the tool cuts off bits.) */
#include "dtype_mx.h"
#include "round_table.h"

enum { ROUND = 3U, DMX = 0U, EVEN = 1U, AWAY = 2U, LOG2F = 4U };
enum { SCALE = 24U, FLOOR = 0U, CEIL = 8U, NEAR = 16U, RCEIL = 24U };
enum { ASYMMETRIC = 1U }; /* of BFP */

/* Steps below this belong to blocks whose largest magnitude is subnormal. */
static float least_normal_step(const ptq_dtype *dt) {
  return ptq_mx_power(-126 - (dt->bits - 2));
}

extern const ptq_dtype_family ptq_dtype_bfp;

/* The rounding of MXINT; BFP's options are others. */
static unsigned rounding(const ptq_dtype *dt) {
  return dt->family == &ptq_dtype_bfp ? DMX : dt->options & ROUND;
}

/* True where there is a code more below. */
static bool is_wide(const ptq_dtype *dt) {
  return dt->family == &ptq_dtype_bfp && (dt->options & ASYMMETRIC) != 0;
}

/* What is added to a float's bits so that its exponent is taken by the mode. */
static uint32_t carry_of(unsigned mode, int mantissa) {
  if (mode == FLOOR) return 0;
  return mode == NEAR ? (uint32_t)1 << (22 - mantissa) : 0x7FFFFFU;
}

/* E of a block that is rounded once, by the mode: see dtype_mxfp.c. */
static int shared_exponent(const ptq_dtype *dt, float most) {
  const unsigned mode = dt->options & SCALE;
  const int mantissa = dt->bits - 2, top = (1 << (dt->bits - 1)) - 1;
  if (mode == RCEIL) most /= (float)top / (float)(1 << mantissa);
  if (most == 0.0F) return -127;
  if ((dt->options & LOG2F) != 0 && mode != NEAR) {
    const float log = (float)log2((double)most);
    return (int)(mode == FLOOR ? floorf(log) : ceilf(log));
  }
  const uint32_t carry = carry_of(mode, mantissa);
  uint32_t bits;
  memcpy(&bits, &most, sizeof bits);
  if (mode == RCEIL && bits <= 0x400000U) return -127; /* most <= 2^-127 */
  return (int)((bits + carry) >> 23) - 127;
}

/* Its step; E from -127 up, as E8M0. */
static float step_once(const ptq_dtype *dt, float most) {
  const int e = shared_exponent(dt, most);
  if (e > 127) return INFINITY;
  return ptq_mx_power((e > -127 ? e : -127) - (dt->bits - 2));
}

static ptq_group_params fit_most(const ptq_dtype *dt, float most) {
  ptq_group_params p = {0.0F, 0.0F};
  if (rounding(dt) != DMX) {
    p.scale = step_once(dt, most);
    return p;
  }
  if (most <= 0.0F) return p; /* a block of zeros: every code is 0 */
  uint32_t bits;
  memcpy(&bits, &most, sizeof bits);
  const int e = (int)(bits >> 23 & 0xFFU) - 127;
  if (e >= 126)
    p.scale = INFINITY;
  else if (e == -127)
    p.scale = ptq_mx_power(-126 - dt->bits);
  else
    p.scale = ptq_mx_power(e - (dt->bits - 2));
  return p;
}

/* fit_most where all steps are normal floats, from the exponent's bits, in a
 * loop that is vectorized. False: some are not. */
static bool fit_normal(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  const int shift = dt->bits - 2;
  const unsigned mode = rounding(dt) == DMX ? FLOOR : dt->options & SCALE;
  const uint32_t carry = carry_of(mode, shift);
  const float top = (float)((1 << (dt->bits - 1)) - 1);
  const float by = mode == RCEIL ? top / (float)(1 << shift) : 1.0F;
  int bad = 0;
  for (int64_t g = 0; g < groups; g++) {
    const float most = (-r[g].lo > r[g].hi ? -r[g].lo : r[g].hi) / by;
    uint32_t bits;
    memcpy(&bits, &most, sizeof bits);
    const int e = (int)((bits + carry) >> 23);
    const uint32_t step = (uint32_t)(e > shift ? e - shift : 1) << 23;
    bad |= (bits < 1U << 23) | (e <= shift) | (e >= 126 + 127);
    memcpy(&out[g].scale, &step, sizeof step);
    out[g].zero = 0.0F;
  }
  return bad == 0;
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  const bool by_bits = rounding(dt) == DMX || (dt->options & LOG2F) == 0;
  if (by_bits && fit_normal(dt, r, groups, out)) return;
  for (int64_t g = 0; g < groups; g++)
    out[g] = fit_most(dt, -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi);
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  return fit_most(dt, -lo > hi ? -lo : hi);
}

static void round_run(const ptq_dtype *dt, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *params, float *y,
                      int16_t *q, bool stream) {
  const ptq_round_mxint c = {.top = (float)((1 << (dt->bits - 1)) - 1),
                             .to_base = 6.0F * (float)(1 << (dt->bits - 2)),
                             .tiny = least_normal_step(dt),
                             .bits = dt->bits,
                             .wide = is_wide(dt)};
  ptq_rounding()->mxints(&c, x, n, width, params, y, q, stream);
}

/* A float whose least normal value no code reaches is an integer. */
static void round_once(const ptq_dtype *dt, const float *x, int64_t n,
                       int64_t width, const ptq_group_params *params, float *y,
                       int16_t *q, bool stream) {
  const int mantissa = dt->bits - 1;
  const ptq_round_float c = {.most = (float)((1 << mantissa) - 1),
                             .least = (float)(1 << mantissa),
                             .mantissa = mantissa,
                             .bias = 127 + mantissa,
                             .away = rounding(dt) == AWAY,
                             .log2f = (dt->options & LOG2F) != 0,
                             .unit = ptq_mx_power(dt->bits - 2)};
  ptq_rounding()->floats(&c, x, n, width, params, y, q, stream);
}

static void round_mxint(const ptq_dtype *dt, const float *x, int64_t n,
                        int64_t width, const ptq_group_params *params, float *y,
                        int16_t *q, bool stream) {
  if (rounding(dt) == DMX)
    round_run(dt, x, n, width, params, y, q, stream);
  else
    round_once(dt, x, n, width, params, y, q, stream);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_mxint(dt, x, n, params_inc != 0 ? 1 : n, params, y, q, false);
}

static void snap(const ptq_dtype *dt, int64_t index, ptq_group_params *p) {
  (void)index;
  if (p->scale == 0.0F) return; /* a block of zeros */
  const int shift = dt->bits - 2;
  p->scale = ptq_nearest_power(p->scale, -126 - shift, 125 - shift);
  p->zero = 0.0F;
}

static double param_bits(const ptq_dtype *dt) {
  (void)dt;
  return 8.0;
}

static int levels(const ptq_dtype *dt) {
  return (1 << dt->bits) - 1;
}

/* The largest magnitude is clipped to (2 - 2^-(b-2)) 2^E. */
static double error_bound(const ptq_dtype *dt) {
  return ldexp(1.0, 2 - dt->bits);
}

static int levels_bfp(const ptq_dtype *dt) {
  return (1 << dt->bits) - !is_wide(dt);
}

static ptq_status check(const ptq_dtype *dt, ptq_err *err) {
  if ((dt->options & (LOG2F | SCALE)) == 0 || rounding(dt) != DMX)
    return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "dtype '%s': round=dmx, the default, has scale=floor and "
                  "exp=bits only; add round=even or round=away",
                  dt->name);
}

static unsigned exceptions(const ptq_dtype *dt) {
  return (dt->options & LOG2F) != 0
             ? (unsigned)(PTQ_NOT_EQUIVARIANT | PTQ_NOT_NEAREST)
             : 0U;
}

static unsigned exceptions_bfp(const ptq_dtype *dt) {
  return is_wide(dt) ? PTQ_NOT_ODD : 0U;
}

/* clang-format off */
static const ptq_dtype_option options[] = {
  {"scale=floor", SCALE, FLOOR}, {"scale=ceil", SCALE, CEIL},
  {"scale=even", SCALE, NEAR},   {"scale=rceil", SCALE, RCEIL},
  {"round=dmx", ROUND, DMX}, {"round=even", ROUND, EVEN},
  {"round=away", ROUND, AWAY},
  {"exp=bits", LOG2F, 0}, {"exp=log2f", LOG2F, LOG2F},
  {0},
};
static const ptq_dtype_option options_bfp[] = {
  {"sym", ASYMMETRIC, 0}, {"asym", ASYMMETRIC, ASYMMETRIC}, {0},
};
/* clang-format on */

static const char *const dialects[] = {"round=even",
                                       "round=away",
                                       "round=even:exp=log2f",
                                       "round=away:exp=log2f",
                                       "scale=ceil:round=even",
                                       "scale=even:round=away",
                                       "scale=rceil:round=even",
                                       NULL};
static const char *const dialects_bfp[] = {"asym", NULL};

const ptq_dtype_family ptq_dtype_mxint = {
    .name = "mxint",
    .suffix = "",
    .options = options,
    .dialects = dialects,
    .signed_codes = true,
    .summary = "integers that share a power-of-two scale a block (OCP MX "
               "with integer elements)",
    .source = "dmx-compressor 0.1.11, MXINT = BFP[b|8]{k}(SN); round=even, "
              "away: microxcaling 7bc4195",
    .min_bits = 2,
    .max_bits = 8,
    .pads_groups = true,
    .check = check,
    .fit = fit,
    .fits_peaks = true,
    .fit_ranges = fit_ranges,
    .round = round_values,
    .round_run = round_mxint,
    .snap = snap,
    .param_bits = param_bits,
    .levels = levels,
    .exceptions = exceptions,
    .error_bound = error_bound,
};

const ptq_dtype_family ptq_dtype_bfp = {
    .name = "bfp",
    .suffix = "",
    .options = options_bfp,
    .dialects = dialects_bfp,
    .signed_codes = true,
    .summary = "block floating point: MXINT of more widths; asym has one code "
               "more below",
    .source = "dmx-compressor 0.1.11, BFP[b|8]{k}(SN), asym (_N)",
    .min_bits = 2,
    .max_bits = 14,
    .pads_groups = true,
    .fit = fit,
    .fits_peaks = true,
    .fit_ranges = fit_ranges,
    .round = round_values,
    .round_run = round_mxint,
    .snap = snap,
    .param_bits = param_bits,
    .levels = levels_bfp,
    .exceptions = exceptions_bfp,
    .error_bound = error_bound,
};
