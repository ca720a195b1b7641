/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Codebooks: the values of a table times the group's largest magnitude.
 *
 *   nf2 nf3 nf4  normal float: quantiles of the normal distribution
 *                (QLoRA, arXiv 2305.14314), by the formula of bitsandbytes'
 *                create_normal_map with 2^b values; nf4 is its table
 *   af4          abnormal float for groups of 64 (arXiv 2306.06965)
 *   fp4_bnb      bitsandbytes' FP4, whose values are not E2M1's
 *
 * The code is that of the nearest value, the lower one on a tie, as in
 * bitsandbytes: w times the reciprocal of the largest magnitude is compared
 * with the midpoints of the table, all in float32. What weights are divided by
 * (zero) and what restores them (scale) differ where scales are stored
 * otherwise than in float32. */
#include <math.h>

#include "dtype_lanes.h"
#include "round_table.h"

enum { MOST_VALUES = 16 };

typedef struct codebook {
  int n;
  float value[MOST_VALUES]; /* ascending */
} codebook;

static const codebook nf2 = {4, {-1.0F, 0.0F, 0x1.5a0674p-2F, 1.0F}};

static const codebook nf3 = {
    8,
    {-1.0F, -0x1.ea1dc6p-2F, -0x1.bcb4d6p-3F, 0.0F, 0x1.4995c6p-3F,
     0x1.5a0674p-2F, 0x1.200f56p-1F, 1.0F}};

static const codebook nf4 = {
    16,
    {-1.0F, -0x1.647362p-1F, -0x1.0cd660p-1F, -0x1.946540p-2F, -0x1.23449ap-2F,
     -0x1.7a6a7ep-3F, -0x1.74f0e2p-4F, 0.0F, 0x1.45f5fep-4F, 0x1.4995c6p-3F,
     0x1.f809bap-3F, 0x1.5a0674p-2F, 0x1.c34970p-2F, 0x1.200f56p-1F,
     0x1.722766p-1F, 1.0F}};

static const codebook af4 = {
    16,
    {-1.0F, -0x1.6389b8p-1F, -0x1.065e32p-1F, -0x1.7ea9eep-2F, -0x1.0638aap-2F,
     -0x1.32d756p-3F, -0x1.944282p-5F, 0.0F, 0x1.5e0ebep-5F, 0x1.08e5f2p-3F,
     0x1.c1c454p-3F, 0x1.445bdcp-2F, 0x1.b3daaap-2F, 0x1.1c2406p-1F,
     0x1.72d0b8p-1F, 1.0F}};

/* {0, 0.0625, 2, 3, 4, 6, 8, 12} / 12 with both signs; 0 once */
static const codebook fp4 = {
    15,
    {-1.0F, -0x1.555556p-1F, -0.5F, -0x1.555556p-2F, -0.25F, -0x1.555556p-3F,
     -0x1.555556p-8F, 0.0F, 0x1.555556p-8F, 0x1.555556p-3F, 0.25F,
     0x1.555556p-2F, 0.5F, 0x1.555556p-1F, 1.0F}};

extern const ptq_dtype_family ptq_dtype_af4;
extern const ptq_dtype_family ptq_dtype_fp4_bnb;

static const codebook *book_of(const ptq_dtype *dt) {
  if (dt->family == &ptq_dtype_af4) return &af4;
  if (dt->family == &ptq_dtype_fp4_bnb) return &fp4;
  return dt->bits == 2 ? &nf2 : dt->bits == 3 ? &nf3 : &nf4;
}

static ptq_group_params shrink(const ptq_dtype *dt, float lo, float hi,
                               float by) {
  (void)dt;
  const float most = by * (-lo > hi ? -lo : hi) + 0.0F;
  return (ptq_group_params){.scale = most, .zero = most};
}

static void fit_ranges(const ptq_dtype *dt, const ptq_range *r, int64_t groups,
                       ptq_group_params *out) {
  for (int64_t g = 0; g < groups; g++)
    out[g] = shrink(dt, r[g].lo, r[g].hi, 1.0F);
}

static ptq_group_params fit(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc) {
  float lo, hi;
  ptq_lanes_range(x, n, inc, &lo, &hi);
  return shrink(dt, lo, hi, 1.0F);
}

static void round_run(const ptq_dtype *dt, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *params, float *y,
                      int16_t *q, bool stream) {
  const codebook *b = book_of(dt);
  ptq_round_book c = {.n = b->n};
  for (int k = 0; k < b->n; k++) c.level[k] = b->value[k];
  for (int k = 1; k < b->n; k++)
    c.bound[k - 1] = (b->value[k - 1] + b->value[k]) / 2.0F;
  ptq_rounding()->book(&c, x, n, width, params, y, q, stream);
}

static void round_values(const ptq_dtype *dt, const float *x, int64_t n,
                         const ptq_group_params *params, int64_t params_inc,
                         float *y, int16_t *q) {
  round_run(dt, x, n, params_inc != 0 ? 1 : n, params, y, q, false);
}

static ptq_group_params64 fit64(const ptq_dtype *dt, double lo, double hi,
                                bool given) {
  (void)dt, (void)given; /* no value lies between two codes by construction */
  const double most = -lo > hi ? -lo : hi;
  ptq_group_params64 p = {.scale = most + 0.0, .zero = most + 0.0};
  if ((float)most == 0.0F) p.scale = p.zero = 0.0;
  if (!isfinite((float)most)) p.scale = (double)INFINITY;
  return p;
}

static ptq_group_params64 shrink64(const ptq_dtype *dt, double lo, double hi,
                                   double by) {
  return fit64(dt, by * lo, by * hi, false);
}

static void round64(const ptq_dtype *dt, const double *x, int64_t n,
                    const double *scale, const double *zero, double *y,
                    int16_t *q) {
  const codebook *b = book_of(dt);
  for (int64_t i = 0; i < n; i++) {
    const double v = zero[i] > 0.0 ? x[i] / zero[i] : 0.0;
    int code = 0;
    for (int k = 1; k < b->n; k++)
      code += v > ((double)b->value[k - 1] + (double)b->value[k]) / 2.0;
    q[i] = (int16_t)code;
    y[i] = (double)b->value[code] * scale[i];
  }
}

static float value(const ptq_dtype *dt, const ptq_group_params *p, int code) {
  return book_of(dt)->value[code] * p->scale;
}

static double param_bits(const ptq_dtype *dt) {
  (void)dt;
  return 32.0;
}

static int levels(const ptq_dtype *dt) {
  return book_of(dt)->n;
}

/* Codes and values mirror each other only where the table does; and a tie goes
 * down on both sides of 0. With dq=bnb the codes are not chosen by the scale
 * that restores them, which may be negative. */
static unsigned exceptions(const ptq_dtype *dt) {
  const unsigned store = dt->options & PTQ_OPTION_STORE;
  if (store >= PTQ_DQ_BNB)
    return PTQ_NOT_ODD | PTQ_NOT_IDEMPOTENT | PTQ_NOT_MONOTONE |
           PTQ_NOT_EQUIVARIANT | PTQ_NOT_NEAREST;
  return store != 0 ? (unsigned)(PTQ_NOT_ODD | PTQ_NOT_EQUIVARIANT)
                    : (unsigned)PTQ_NOT_ODD;
}

/* Half the widest gap of the table; the ends are values. */
static double error_bound(const ptq_dtype *dt) {
  const codebook *b = book_of(dt);
  const unsigned store = dt->options & PTQ_OPTION_STORE;
  double gap = 0.0;
  if (store >= PTQ_DQ_BNB) return (double)INFINITY;
  if (store != 0 || (dt->options & PTQ_OPTION_SEARCH) != 0) return 1.0;
  for (int k = 1; k < b->n; k++)
    gap = fmax(gap, (double)b->value[k] - (double)b->value[k - 1]);
  return gap / 2.0;
}

static const ptq_dtype_option options[] = {
    PTQ_STORE_OPTIONS, PTQ_SEARCH_OPTIONS("absmax"), {0}};

static const char *const dialects[] = {"keep=f16", "keep=bf16", "dq=fp8",
                                       "dq=bnb",   "scale=mse", NULL};

#define CODEBOOK(id, prefix, tail, least, most, what, from)   \
  const ptq_dtype_family ptq_dtype_##id = {                   \
      .name = prefix,                                         \
      .suffix = tail,                                         \
      .summary = what " times the group's largest magnitude", \
      .source = from,                                         \
      .options = options,                                     \
      .dialects = dialects,                                   \
      .min_bits = least,                                      \
      .max_bits = most,                                       \
      .encodes_by_zero = true,                                \
      .fit = fit,                                             \
      .fits_peaks = true,                                     \
      .fit_ranges = fit_ranges,                               \
      .round = round_values,                                  \
      .round_run = round_run,                                 \
      .fit64 = fit64,                                         \
      .round64 = round64,                                     \
      .shrink = shrink,                                       \
      .shrink64 = shrink64,                                   \
      .value = value,                                         \
      .param_bits = param_bits,                               \
      .levels = levels,                                       \
      .exceptions = exceptions,                               \
      .error_bound = error_bound,                             \
  }

CODEBOOK(nf, "nf", "", 2, 4, "quantiles of the normal distribution",
         "bitsandbytes 0.50.2 create_normal_map, quantize_4bit");
CODEBOOK(af4, "af", "", 4, 4, "AF4, made for groups of 64 normal weights,",
         "bitsandbytes 0.50.2 get_4bit_type('af4'); arXiv 2306.06965");
CODEBOOK(fp4_bnb, "fp", "_bnb", 4, 4, "bitsandbytes' FP4, not E2M1,",
         "bitsandbytes 0.50.2 quantize_4bit");
