/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Three values a weight.
 *
 *   ternary            BitNet b1.58's absmean: the scale m is the mean
 *                      magnitude, at least 1e-5; code = clamp(round(w * (1 /
 *                      m)), -1, 1), value = code / (1 / m)
 *   ternary:trits      the GPTQ reference's trits: above half the largest
 *                      weight that weight, below half the least the least,
 *                      else 0
 *   ternary:trits=sym  the same with the symmetric range of its integers
 *
 * Codes are -1, 0, 1. The two parameters are the values of 1 and of -1, but
 * for absmean, where the second is what weights are multiplied by. */
#include <math.h>

#include "dtype_lanes.h"
#include "round_table.h"

enum { RULE = 3U, ABSMEAN = 0U, TRITS = 1U, TRITS_SYM = 2U };

static unsigned rule_of(const ptq_dtype *dt) {
  return dt->options & RULE;
}

/* Parameters of absmean with the scale 1 / by. */
static inline ptq_group_params params_of(float mean) {
  const float by = 1.0F / (mean > 1e-5F ? mean : 1e-5F);
  return (ptq_group_params){.scale = 1.0F / by, .zero = by};
}

static ptq_group_params fit_absmean(const float *x, int64_t n, int64_t inc) {
  double sum = 0.0;
  if (inc == 1) {
    ptq_rounding()->sums_abs(x, n, n, &sum);
  } else { /* the same sums */
    double lanes[PTQ_LANES] = {0.0};
    for (int64_t i = 0; i < n; i++)
      lanes[i % PTQ_LANES] += fabs((double)x[i * inc]);
    sum = ptq_lanes_total(lanes);
  }
  return params_of((float)(sum / (double)n));
}

/* Values of 1 and -1 of trits in a group from lo to hi. */
static inline ptq_group_params trits_of(bool sym, float lo, float hi) {
  lo = lo < 0.0F ? lo : 0.0F;
  hi = hi > 0.0F ? hi : 0.0F;
  const float most = -lo > hi ? -lo : hi;
  const bool nothing = most == 0.0F;
  const float up = sym ? most : hi;
  const float down = sym && lo < 0.0F ? -most : lo;
  return (ptq_group_params){.scale = nothing ? 1.0F : up,
                            .zero = nothing ? -1.0F : down};
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  if (rule_of(dt) == ABSMEAN) return fit_absmean(x, n, inc);
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  return trits_of(rule_of(dt) == TRITS_SYM, lo, hi);
}

enum { AT_ONCE = 64 }; /* groups */

static void fit_means(const float *x, int64_t n, int64_t width,
                      ptq_group_params *out) {
  double sum[AT_ONCE];
  for (int64_t i = 0; i < n; i += AT_ONCE * width, out += AT_ONCE) {
    const int64_t m = n - i < AT_ONCE * width ? n - i : AT_ONCE * width;
    const int64_t whole = m / width;
    ptq_rounding()->sums_abs(x + i, m, width, sum);
    for (int64_t g = 0; g < whole; g++)
      out[g] = params_of((float)(sum[g] / (double)width));
    if (m % width != 0)
      out[whole] = params_of((float)(sum[whole] / (double)(m % width)));
  }
}

static void fit_trits(bool sym, const float *x, int64_t n, int64_t width,
                      ptq_group_params *out) {
  ptq_range r[AT_ONCE];
  for (int64_t i = 0; i < n; i += AT_ONCE * width, out += AT_ONCE) {
    const int64_t m = n - i < AT_ONCE * width ? n - i : AT_ONCE * width;
    const int64_t groups = ptq_rounding()->ranges(x + i, m, width, r);
    for (int64_t g = 0; g < groups; g++)
      out[g] = trits_of(sym, r[g].lo, r[g].hi);
  }
}

static void fit_run(const ptq_dtype *dt, const float *x, int64_t n,
                    int64_t width, ptq_group_params *out) {
  if (rule_of(dt) == ABSMEAN)
    fit_means(x, n, width, out);
  else
    fit_trits(rule_of(dt) == TRITS_SYM, x, n, width, out);
}

static void round_run(const ptq_dtype *dt, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *params, float *y,
                      int16_t *q, bool stream) {
  const ptq_round_ternary c = {.trits = rule_of(dt) != ABSMEAN};
  ptq_rounding()->ternary(&c, x, n, width, params, y, q, stream);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_run(dt, x, n, params_inc != 0 ? 1 : n, params, y, q, false);
}

static float value(const ptq_dtype *dt, const ptq_group_params *p, int code) {
  if (code == 0) return 0.0F;
  if (code > 0) return p->scale;
  return rule_of(dt) == ABSMEAN ? -p->scale : p->zero;
}

/* Wanted: the value of code 1, and for trits that of -1. Where scales are not
 * stored as float32, weights are divided by what is. */
static void snap(const ptq_dtype *dt, int64_t index, ptq_group_params *p) {
  (void)index;
  if (rule_of(dt) == ABSMEAN && (dt->options & PTQ_OPTION_STORE) != 0)
    p->zero = 1.0F / p->scale;
  else if (rule_of(dt) == ABSMEAN)
    *p = params_of(p->scale);
  else if (rule_of(dt) == TRITS_SYM)
    p->zero = p->zero < 0.0F ? -p->scale : 0.0F;
  else if (p->zero > 0.0F)
    p->zero = 0.0F;
}

static double param_bits(const ptq_dtype *dt) {
  return rule_of(dt) == TRITS ? 64.0 : 32.0;
}

/* Five trits a byte. */
static double code_bits(const ptq_dtype *dt) {
  (void)dt;
  return 1.6;
}

static int levels(const ptq_dtype *dt) {
  (void)dt;
  return 3;
}

static ptq_status check(const ptq_dtype *dt, ptq_err *err) {
  if (rule_of(dt) != TRITS || (dt->options & PTQ_OPTION_STORE) == 0)
    return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "dtype '%s': trits have two scales a group, keep= and dq= "
                  "store one; take trits=sym",
                  dt->name);
}

static unsigned exceptions(const ptq_dtype *dt) {
  if (rule_of(dt) == ABSMEAN) return PTQ_NOT_EQUIVARIANT; /* the 1e-5 */
  if ((dt->options & PTQ_OPTION_STORE) != 0)
    return PTQ_NOT_ODD | PTQ_NOT_EQUIVARIANT;
  return PTQ_NOT_ODD;
}

static double error_bound(const ptq_dtype *dt) {
  if ((dt->options & PTQ_OPTION_STORE) >= PTQ_DQ_BNB) return (double)INFINITY;
  if ((dt->options & PTQ_OPTION_STORE) != 0) return 1.0;
  return rule_of(dt) == ABSMEAN ? 1.0 : 0.5;
}

static const ptq_dtype_option options[] = {{"absmean", RULE, ABSMEAN},
                                           {"trits", RULE, TRITS},
                                           {"trits=sym", RULE, TRITS_SYM},
                                           PTQ_STORE_OPTIONS,
                                           {0}};

static const char *const dialects[] = {
    "trits",  "trits=sym",           "keep=f16", "dq=fp8",
    "dq=bnb", "trits=sym:keep=bf16", NULL};

const ptq_dtype_family ptq_dtype_ternary = {
    .name = "ternary",
    .suffix = "",
    .summary = "-1, 0, 1 times the mean magnitude, or GPTQ's trits",
    .source = "BitNet b1.58, weight_quant of its training tips; "
              "IST-DASLab/gptq 2d65066 trits",
    .options = options,
    .dialects = dialects,
    .min_bits = 2,
    .max_bits = 2,
    .bare = true,
    .signed_codes = true,
    .check = check,
    .fit = fit,
    .fit_run = fit_run,
    .round = round_values,
    .round_run = round_run,
    .value = value,
    .snap = snap,
    .param_bits = param_bits,
    .code_bits = code_bits,
    .levels = levels,
    .exceptions = exceptions,
    .error_bound = error_bound,
};
