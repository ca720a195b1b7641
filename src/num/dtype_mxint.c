/* SPDX-License-Identifier: GPL-3.0-or-later */
/* MXINT: signed integers of b bits that share a power of two a block (E8M0),
 * value = scale * code with |code| <= 2^(b-1) - 1.
 *
 * With E the exponent of the block's largest magnitude the step is
 * 2^(E-(b-2)), and a value is rounded twice: dmx-compressor adds 6 * 2^E in
 * float32, which leaves 22 bits below 2^(E+1), then cuts that sum to the step,
 * ties to even. A value within 2^(E-22) of a tie may so fall on the other
 * side; equality with that tool needs both roundings.
 *
 * Where the largest magnitude is subnormal the tool adds 0 instead: the step
 * is then 2^(-126-b) and codes reach 2^b - 1, but what rounds up to 2^-126
 * becomes 2^b - 4. Equal bits again need the same. From 2^126 on its sum
 * overflows and every weight of the block would become the most negative
 * value; here that is a failure (the scale is returned as infinite). */
#include <math.h>
#include <string.h>

#include "dtype_lanes.h"
#include "round_table.h"

/* 2^e for -149 <= e <= 127. */
static float power_of_two(int e) {
  const uint32_t bits =
      e >= -126 ? (uint32_t)(e + 127) << 23 : (uint32_t)1 << (e + 149);
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

/* Steps below this belong to blocks whose largest magnitude is subnormal. */
static float least_normal_step(const ptq_dtype *dt) {
  return power_of_two(-126 - (dt->bits - 2));
}

static ptq_group_params fit_most(const ptq_dtype *dt, float most) {
  ptq_group_params p = {0.0F, 0.0F};
  if (most <= 0.0F) return p; /* a block of zeros: every code is 0 */
  uint32_t bits;
  memcpy(&bits, &most, sizeof bits);
  const int e = (int)(bits >> 23 & 0xFFU) - 127;
  if (e >= 126)
    p.scale = INFINITY;
  else if (e == -127)
    p.scale = power_of_two(-126 - dt->bits);
  else
    p.scale = power_of_two(e - (dt->bits - 2));
  return p;
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
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
                      int16_t *q) {
  const ptq_round_mxint c = {.top = (float)((1 << (dt->bits - 1)) - 1),
                             .to_base = 6.0F * (float)(1 << (dt->bits - 2)),
                             .tiny = least_normal_step(dt),
                             .bits = dt->bits};
  ptq_rounding()->mxints(&c, x, n, width, params, y, q);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_run(dt, x, n, params_inc != 0 ? 1 : n, params, y, q);
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

const ptq_dtype_family ptq_dtype_mxint = {
    .name = "mxint",
    .suffix = "",
    .signed_codes = true,
    .summary = "integers that share a power-of-two scale a block (OCP MX "
               "with integer elements)",
    .source = "dmx-compressor 0.1.11, MXINT = BFP[b|8]{k}(SN)",
    .min_bits = 2,
    .max_bits = 8,
    .pads_groups = true,
    .fit = fit,
    .fit_ranges = fit_ranges,
    .round = round_values,
    .round_run = round_run,
    .snap = snap,
    .param_bits = param_bits,
    .levels = levels,
    .error_bound = error_bound,
};
