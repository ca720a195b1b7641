/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SBFP12 of dmx-compressor: integers -7 .. 7 a weight and, a block, the largest
 * magnitude over 7, m. Weights are divided by m itself and restored by m in an
 * unsigned float of 4 exponent and 4 mantissa bits, whose least value is
 * 2^(1 - bias): below, it is 0, and so is the block. Its largest is 31 * 2^4
 * for any bias, which is the tool's arithmetic, not what 4 bits of exponent
 * hold. params.zero is m. */
#include <math.h>

#include "dtype_lanes.h"
#include "round_table.h"

enum { BIAS = 15U, USUAL = 7, LEAST = 4, TOP = 7 };
#define MOST_SCALE 496.0F

/* bias=7 has value 0, the others, from 4 up, follow. */
static int bias_of(const ptq_dtype *dt) {
  const int v = (int)(dt->options & BIAS);
  if (v == 0) return USUAL;
  return v + LEAST - 1 < USUAL ? v + LEAST - 1 : v + LEAST;
}

/* v >= 0 as the scale's float. */
static float cast(const ptq_dtype *dt, float v) {
  const int emin = 1 - bias_of(dt);
  if (v < ldexpf(1.0F, emin)) return 0.0F;
  return ptq_near_float(v, 4, emin, MOST_SCALE);
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  const int emin = 1 - bias_of(dt);
  const float least = ldexpf(1.0F, emin);
  for (int64_t g = 0; g < groups; g++) {
    const float most = -r[g].lo > r[g].hi ? -r[g].lo : r[g].hi;
    const float m = most / (float)TOP + 0.0F;
    const float s = ptq_near_float(m, 4, emin, MOST_SCALE);
    out[g].scale = m < least ? 0.0F : s;
    out[g].zero = m;
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

static void round_run(const ptq_dtype *dt, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *params, float *y,
                      int16_t *q, bool stream) {
  const ptq_round_sbfp c = {.top = (float)TOP};
  (void)dt;
  ptq_rounding()->sbfps(&c, x, n, width, params, y, q, stream);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_run(dt, x, n, params_inc != 0 ? 1 : n, params, y, q, false);
}

static float value(const ptq_dtype *dt, const ptq_group_params *p, int code) {
  (void)dt;
  return (float)code * p->scale;
}

static void snap(const ptq_dtype *dt, int64_t index, ptq_group_params *p) {
  (void)index;
  const float s = cast(dt, fabsf(p->scale));
  p->zero = s > 0.0F ? s : fabsf(p->scale);
  p->scale = s;
}

static double param_bits(const ptq_dtype *dt) {
  (void)dt;
  return 8.0;
}

static int levels(const ptq_dtype *dt) {
  (void)dt;
  return 2 * TOP + 1;
}

/* Scales have a least and a largest value; codes are not chosen by them. */
static unsigned exceptions(const ptq_dtype *dt) {
  (void)dt;
  return PTQ_NOT_IDEMPOTENT | PTQ_NOT_EQUIVARIANT | PTQ_NOT_NEAREST |
         PTQ_NOT_ODD;
}

static double error_bound(const ptq_dtype *dt) {
  (void)dt;
  return 1.0;
}

/* clang-format off */
static const ptq_dtype_option options[] = {
  {"bias=7", BIAS, 0}, {"bias=4", BIAS, 1}, {"bias=5", BIAS, 2},
  {"bias=6", BIAS, 3}, {"bias=8", BIAS, 4}, {"bias=9", BIAS, 5},
  {"bias=10", BIAS, 6}, {"bias=11", BIAS, 7}, {"bias=12", BIAS, 8},
  {"bias=13", BIAS, 9}, {"bias=14", BIAS, 10}, {"bias=15", BIAS, 11},
  {"bias=16", BIAS, 12}, {"bias=17", BIAS, 13}, {"bias=18", BIAS, 14},
  {0},
};
/* clang-format on */

static const char *const dialects[] = {"bias=12", "bias=18", NULL};

const ptq_dtype_family ptq_dtype_sbfp12 = {
    .name = "sbfp12",
    .suffix = "",
    .summary = "integers of 4 bits under an unsigned 8-bit float a block",
    .source = "dmx-compressor 0.1.11, SBFP<XP[4,0](CSN)><FP[0|4|4,bias](FN)>",
    .options = options,
    .dialects = dialects,
    .min_bits = 4,
    .max_bits = 4,
    .bare = true,
    .pads_groups = true,
    .signed_codes = true,
    .fit = fit,
    .fits_peaks = true,
    .fit_ranges = fit_ranges,
    .round = round_values,
    .round_run = round_run,
    .value = value,
    .snap = snap,
    .param_bits = param_bits,
    .levels = levels,
    .exceptions = exceptions,
    .error_bound = error_bound,
};
