/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file round_kernels.h
 * The rounding kernels over an instruction set's vector type.
 *
 * Included at the end of each round_<isa>.c, which has defined vf (LANES
 * floats), vi (as many int32), vm (a mask of them) and the operations on them.
 * Everything is IEEE single operations, none fused, so the bits are the same
 * for any LANES.
 *
 * A format is one step: a vector of values and the parameters of their groups
 * in, values and codes out. RUN makes the loop over a run of groups from it.
 */
#ifndef PTQ_NUM_ROUND_KERNELS_H
#define PTQ_NUM_ROUND_KERNELS_H

#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "dtype_lanes.h"
#include "round_kernels64.h"
#include "round_ranges.h"

/* Streaming stores want whole vectors in place. */
static inline int is_aligned(const float *y) {
  return y != NULL && (uintptr_t)y % (LANES * sizeof *y) == 0;
}

typedef struct rounded {
  vf y, code;
} rounded;

static inline void put(float *y, int16_t *q, int64_t i, rounded r) {
  if (y != NULL) v_store(y + i, r.y);
  if (q != NULL) v_store_codes(q + i, r.code);
}

static inline void put_n(float *y, int16_t *q, int64_t i, int64_t n,
                         rounded r) {
  if (y != NULL) v_store_n(y + i, n, r.y);
  if (q == NULL) return;
  int16_t codes[LANES];
  v_store_codes(codes, r.code);
  memcpy(q + i, codes, (size_t)n * sizeof *q);
}

/* Divisors: all scales are powers of two whose inverses are normal floats too,
 * so that a product is the quotient. */
static inline int all_exact(const ptq_group_params *p, int64_t groups) {
  int bad = 0;
  for (int64_t g = 0; g < groups; g++) {
    int32_t bits;
    memcpy(&bits, &p[g].scale, sizeof bits);
    bad |= (bits & 0x7FFFFF) | (bits < 1 << 23) | (bits > 253 << 23);
  }
  return bad == 0;
}

static inline vf v_inverse(vf power) {
  return v_float(vi_sub(vi_set(254 << 23), v_bits(power)));
}

static inline vf over(vf x, vf scale, int exact) {
  return exact ? v_mul(x, scale) : v_div(x, scale);
}

/* One group: n values; `by` divides them, or multiplies where exact. */
#define GROUP(name, constants, step)                                        \
  static inline void name##_group(const constants *c, const float *x,       \
                                  int64_t n, vf scale, vf zero, vf by,      \
                                  int exact, float *y, int16_t *q) {        \
    int64_t i = 0;                                                          \
    for (; i + LANES <= n; i += LANES)                                      \
      put(y, q, i, step(c, v_load(x + i), scale, zero, by, exact));         \
    if (i < n)                                                              \
      put_n(y, q, i, n - i,                                                 \
            step(c, v_load_n(x + i, n - i, 0.0F), scale, zero, by, exact)); \
  }

/* Groups of whole vectors, values alone; `stream`: past the caches. */
#define WHOLE(name, constants, step)                                    \
  static inline void name##_whole(                                      \
      const constants *c, const float *x, int64_t n, int64_t width,     \
      const ptq_group_params *p, float *y, int exact, int stream) {     \
    const constants k = *c; /* which no store to y changes */           \
    for (int64_t i = 0; i < n; p++) {                                   \
      const vf scale = v_set(p->scale), zero = v_set(p->zero);          \
      const vf by = exact ? v_inverse(scale) : scale;                   \
      for (const int64_t end = i + width; i < end; i += LANES) {        \
        if (stream) __builtin_prefetch(x + i + PTQ_ROUND_AHEAD);        \
        const vf v = step(&k, v_load(x + i), scale, zero, by, exact).y; \
        if (stream)                                                     \
          v_stream(y + i, v);                                           \
        else                                                            \
          v_store(y + i, v);                                            \
      }                                                                 \
    }                                                                   \
    if (stream) v_fence();                                              \
  }

/* A column: value i has parameters p[i]. */
#define COLUMN(name, constants, step)                                          \
  static void name##_column(const constants *c, const float *x, int64_t n,     \
                            const ptq_group_params *p, float *y, int16_t *q) { \
    vf scale, zero;                                                            \
    int64_t i = 0;                                                             \
    for (; i + LANES <= n; i += LANES) {                                       \
      v_params(p + i, &scale, &zero);                                          \
      put(y, q, i, step(c, v_load(x + i), scale, zero, scale, 0));             \
    }                                                                          \
    if (i == n) return;                                                        \
    ptq_group_params rest[LANES];                                              \
    for (int j = 0; j < LANES; j++) rest[j] = p[i + j < n ? i + j : i];        \
    v_params(rest, &scale, &zero);                                             \
    put_n(y, q, i, n - i,                                                      \
          step(c, v_load_n(x + i, n - i, 0.0F), scale, zero, scale, 0));       \
  }

/* A run; `powers` says that scales mostly are powers of two. */
#define RUN(name, constants, step, powers)                                \
  GROUP(name, constants, step)                                            \
  WHOLE(name, constants, step)                                            \
  COLUMN(name, constants, step)                                           \
  static inline void name##_groups(const constants *c, const float *x,    \
                                   int64_t n, int64_t width,              \
                                   const ptq_group_params *p, float *y,   \
                                   int16_t *q, int exact, int stream) {   \
    if (y != NULL && q == NULL && n % width == 0 && width % LANES == 0) { \
      if (!stream || !is_aligned(y))                                      \
        name##_whole(c, x, n, width, p, y, exact, 0);                     \
      else if (width == LANES)                                            \
        name##_whole(c, x, n, LANES, p, y, exact, 1);                     \
      else if (width == 2 * LANES)                                        \
        name##_whole(c, x, n, 2 * LANES, p, y, exact, 1);                 \
      else                                                                \
        name##_whole(c, x, n, width, p, y, exact, 1);                     \
      return;                                                             \
    }                                                                     \
    for (int64_t i = 0; i < n; i += width, p++) {                         \
      const int64_t m = n - i < width ? n - i : width;                    \
      const vf scale = v_set(p->scale), zero = v_set(p->zero);            \
      const vf by = exact ? v_inverse(scale) : scale;                     \
      name##_group(c, x + i, m, scale, zero, by, exact,                   \
                   y != NULL ? y + i : NULL, q != NULL ? q + i : NULL);   \
    }                                                                     \
  }                                                                       \
  static void name(const constants *c, const float *x, int64_t n,         \
                   int64_t width, const ptq_group_params *p, float *y,    \
                   int16_t *q, bool stream) {                             \
    const int64_t groups = n / width + (n % width != 0);                  \
    if (width == 1)                                                       \
      name##_column(c, x, n, p, y, q);                                    \
    else if ((powers) && all_exact(p, groups))                            \
      name##_groups(c, x, n, width, p, y, q, 1, stream);                  \
    else                                                                  \
      name##_groups(c, x, n, width, p, y, q, 0, stream);                  \
  }

/* |v| < 2^22 to an integer, ties to even, never -0. */
static inline vf near_even(vf v) {
  const vf magic = v_set(PTQ_ROUND_MAGIC);
  return v_sub(v_add(v, magic), magic);
}

/* clamp(round(v) + zero, 0, top) - zero == round(clamp(v, -zero, top - zero))
 * since zero is an integer and rounding monotone; clamping first keeps v in
 * the range of the magic number. NaN becomes the lowest code. */
static inline rounded step_int(const ptq_round_int *c, vf x, vf scale, vf zero,
                               vf by, int exact) {
  const vf lo = v_sub(v_set(0.0F), zero), hi = v_sub(v_set(c->top), zero);
  const vf k = near_even(v_min(v_max(over(x, by, exact), lo), hi));
  return (rounded){v_mul(scale, k), v_add(k, zero)};
}

RUN(k_ints, ptq_round_int, step_int, 0)

/* One value of a block of zeros or of subnormals. */
static void round_tiny(const ptq_round_mxint *c, float x, float scale, float *y,
                       float *code) {
  *y = *code = 0.0F;
  if (scale == 0.0F || x == 0.0F) return;
  const float top = (float)(1 << c->bits);
  float k = rintf(fminf(fmaxf(x / scale, -top), top));
  if (fabsf(k) >= top) k = copysignf(top - 4.0F, x);
  *y = copysignf(fabsf(k) * scale, x); /* -0 where the tool has it */
  *code = k + 0.0F;
}

static rounded step_tiny(const ptq_round_mxint *c, vf x, vf scale, rounded r) {
  float in[LANES], by[LANES], y[LANES], code[LANES];
  v_store(in, x);
  v_store(by, scale);
  v_store(y, r.y);
  v_store(code, r.code);
  for (int j = 0; j < LANES; j++)
    if (by[j] < c->tiny) round_tiny(c, in[j], by[j], &y[j], &code[j]);
  return (rounded){v_load(y), v_load(code)};
}

static inline rounded step_mxint(const ptq_round_mxint *c, vf x, vf scale,
                                 vf zero, vf by, int exact) {
  (void)zero;
  const vf base = v_mul(scale, v_set(c->to_base)); /* 6 * 2^E, exact */
  const vf top = v_set(c->top), bottom = v_set(-c->top);
  const vf v = over(v_sub(v_add(x, base), base), by, exact);
  const vf k = near_even(v_min(v_max(v, bottom), top));
  const rounded r = {v_mul(scale, k), k};
  if (!exact && vm_any(v_lt(scale, v_set(c->tiny))))
    return step_tiny(c, x, scale, r);
  return r;
}

RUN(k_mxints_odd, ptq_round_mxint, step_mxint, 1)

static inline rounded step_wide(const ptq_round_mxint *c, vf x, vf scale,
                                vf zero, vf by, int exact) {
  const vi magnitude = vi_set(0x7FFFFFFF);
  const rounded r = step_mxint(c, x, scale, zero, by, exact);
  const vf off = v_sub(r.y, x), next = v_sub(off, scale);
  const vf a = v_float(vi_and(v_bits(off), magnitude));
  const vf b = v_float(vi_and(v_bits(next), magnitude));
  const vm far = vm_and(v_eq(r.code, v_set(-c->top)), v_le(b, a));
  const vm more = vm_and(far, v_le(v_set(c->tiny), scale));
  const vf low = v_set(-c->top - 1.0F);
  return (rounded){v_pick(more, v_mul(scale, low), r.y),
                   v_pick(more, low, r.code)};
}

RUN(k_mxints_wide, ptq_round_mxint, step_wide, 1)

static void k_mxints(const ptq_round_mxint *c, const float *x, int64_t n,
                     int64_t width, const ptq_group_params *p, float *y,
                     int16_t *q, bool stream) {
  if (c->wide)
    k_mxints_wide(c, x, n, width, p, y, q, stream);
  else
    k_mxints_odd(c, x, n, width, p, y, q, stream);
}

/* dmx-compressor's SBFP: u = x / m + 0.5 in float32, then u - 0.5 to even: the
 * integer at or below u, or where u is one the even one of it and that below.
 * A code 0 keeps the sign of u - 0.5, or in a block of zeros that of x. */
static inline rounded step_sbfp(const ptq_round_sbfp *c, vf x, vf scale,
                                vf zero, vf by, int exact) {
  (void)by, (void)exact;
  const vf none = v_set(0.0F), half = v_set(0.5F), top = v_set(c->top);
  const vi sign = vi_set(INT32_MIN);
  const vf low = v_sub(half, top), high = v_add(half, top);
  const vf u = v_min(v_max(v_add(v_div(x, zero), half), low), high);
  const vf down = v_floor(u), halved = v_mul(down, half);
  const vm even = v_eq(v_floor(halved), halved);
  const vf tied = v_pick(even, down, v_sub(down, v_set(1.0F)));
  vf k = v_pick(v_eq(down, u), tied, down);
  k = v_pick(v_lt(u, half), v_float(vi_or(v_bits(k), sign)), k);
  const vm some = v_lt(none, zero);
  const vf of_zeros = v_float(vi_and(v_bits(x), sign));
  return (rounded){v_pick(some, v_mul(k, scale), of_zeros),
                   v_pick(some, k, none)};
}

RUN(k_sbfps, ptq_round_sbfp, step_sbfp, 0)

/* t >= 0 to an integer where ties do not go to even, or where that is done as
 * floor(t + 0.5) in float32. */
static inline vf to_integer(const ptq_round_float *c, vf t) {
  const vf half = v_set(0.5F), down = v_floor(t), over = v_sub(t, down);
  if (!c->log2f)
    return v_pick(v_lt(over, half), down, v_add(down, v_set(1.0F)));
  const vf up = v_floor(v_add(t, half));
  if (c->away) return up;
  const vf halved = v_mul(down, half);
  const vm tie_at_even =
      vm_and(v_eq(over, half), v_eq(v_floor(halved), halved));
  return v_pick(tie_at_even, down, up);
}

/* The magnitude a >= 0 to an element r, and its code: with u the power of two
 * at or below a, but not below the least normal element, r is a multiple of u
 * 2^-m. To even, that is the addition of 1.5 u 2^(23-m), whose last place is
 * that multiple. NaN saturates. */
static inline rounded element(const ptq_round_float *c, vf a, int even) {
  a = v_min(a, v_set(c->most));
  const vi u = vi_and(v_bits(v_max(a, v_set(c->least))), vi_set(0x7F800000));
  const int32_t m = c->mantissa;
  const vi inverse = vi_sub(vi_set(254 << 23), u); /* of 1 / u */
  const vf to_steps = v_float(vi_add(inverse, vi_set(m << 23)));
  vf r;
  if (even) {
    const vf shift = v_float(vi_add(u, vi_set(((23 - m) << 23) | 0x400000)));
    r = v_sub(v_add(a, shift), shift);
  } else {
    const vf step = v_float(vi_sub(u, vi_set(m << 23)));
    r = v_mul(to_integer(c, v_mul(a, to_steps)), step);
  }
  const vi exponent = vi_sub(vi_exponent(u), vi_set(c->bias));
  const vf digits = v_set((float)(1 << m));
  return (rounded){
      r, v_add(v_mul(v_from_int(exponent), digits), v_mul(r, to_steps))};
}

static inline vf v_abs(vf a) {
  return v_float(magnitude_bits(a));
}

/* a with the sign of b; a >= 0. */
static inline vf v_sign(vf a, vf b) {
  return v_float(vi_or(v_bits(a), vi_and(v_bits(b), vi_set(INT32_MIN))));
}

/* -a where b is below 0: of a value 0 only then -0. */
static inline vf v_below(vf a, vf b) {
  const vf minus = v_float(vi_or(v_bits(a), vi_set(INT32_MIN)));
  return v_pick(v_lt(b, v_set(0.0F)), minus, a);
}

static inline vf signed_code(vf code, vf v) {
  return v_pick(v_lt(v, v_set(0.0F)), v_sub(v_set(0.0F), code), code);
}

/* MX with ties to even. */
static inline rounded step_mx(const ptq_round_float *c, vf x, vf scale, vf zero,
                              vf by, int exact) {
  (void)zero;
  const vf v = over(x, by, exact);
  const rounded r = element(c, v_abs(v), 1);
  return (rounded){v_below(v_mul(r.y, scale), x), signed_code(r.code, v)};
}

/* With other ties. */
static inline rounded step_mx_ties(const ptq_round_float *c, vf x, vf scale,
                                   vf zero, vf by, int exact) {
  (void)zero;
  const vf v = over(x, by, exact);
  const rounded r = element(c, v_abs(v), 0);
  vf sign_of = x;
  if (c->log2f)
    sign_of = c->unit == 1.0F ? v : v_div(x, v_mul(scale, v_set(c->unit)));
  return (rounded){v_below(v_mul(r.y, scale), sign_of), signed_code(r.code, x)};
}

/* dmx-compressor: what lies below the least normal element is summed with it
 * first; no zero keeps a sign, but all of a block whose scale is 0. */
static inline rounded step_dmx(const ptq_round_float *c, vf x, vf scale,
                               vf zero, vf by, int exact) {
  (void)zero;
  const vf none = v_set(0.0F), least = v_set(c->least);
  const vf v = over(x, by, exact), a = v_abs(v);
  const vf summed = v_sub(v_add(a, least), least);
  const rounded r = element(c, v_pick(v_lt(a, least), summed, a), 1);
  vf y = v_pick(v_eq(r.y, none), none, v_below(v_mul(r.y, scale), x));
  vf code = signed_code(r.code, v);
  if (!exact) {
    const vm nothing = v_eq(scale, none);
    y = v_pick(nothing, v_pick(v_lt(none, x), none, v_set(-0.0F)), y);
    code = v_pick(nothing, none, code);
  }
  return (rounded){y, code};
}

/* Any scale, ties to even. */
static inline rounded step_fp(const ptq_round_float *c, vf x, vf scale, vf zero,
                              vf by, int exact) {
  (void)zero;
  const vf v = over(x, by, exact);
  const rounded r = element(c, v_abs(v), 1);
  return (rounded){v_sign(v_mul(r.y, scale), x), signed_code(r.code, v)};
}

/* NVFP4: weights are multiplied by p.zero. */
static inline rounded step_nv(const ptq_round_float *c, vf x, vf scale, vf zero,
                              vf by, int exact) {
  (void)by, (void)exact;
  const vf v = v_mul(x, zero);
  const rounded r = element(c, v_abs(v), 1);
  const vf y = v_mul(r.y, scale);
  return (rounded){c->keeps_zero ? v_sign(y, v) : v_below(y, v),
                   signed_code(r.code, v)};
}

RUN(k_mx, ptq_round_float, step_mx, 1)
RUN(k_mx_ties, ptq_round_float, step_mx_ties, 1)
RUN(k_dmx, ptq_round_float, step_dmx, 1)
RUN(k_fp, ptq_round_float, step_fp, 0)
RUN(k_nv, ptq_round_float, step_nv, 0)

static void k_floats(const ptq_round_float *c, const float *x, int64_t n,
                     int64_t width, const ptq_group_params *p, float *y,
                     int16_t *q, bool stream) {
  if (c->by_zero)
    k_nv(c, x, n, width, p, y, q, stream);
  else if (c->keeps_zero)
    k_fp(c, x, n, width, p, y, q, stream);
  else if (c->dmx)
    k_dmx(c, x, n, width, p, y, q, stream);
  else if (c->away || c->log2f)
    k_mx_ties(c, x, n, width, p, y, q, stream);
  else
    k_mx(c, x, n, width, p, y, q, stream);
}

/* BitNet's: weights times p.zero to the nearest of -1, 0, 1, half to 0. */
static inline rounded step_absmean(const ptq_round_ternary *c, vf x, vf scale,
                                   vf zero, vf by, int exact) {
  (void)c, (void)by, (void)exact;
  const vf none = v_set(0.0F), one = v_set(1.0F), v = v_mul(x, zero);
  const vm far = v_lt(v_set(0.5F), v_abs(v));
  return (rounded){v_sign(v_pick(far, scale, none), v),
                   v_pick(far, v_sign(one, v), none)};
}

/* GPTQ's trits: beyond half the largest weight, p.scale, that; below half the
 * least, p.zero, that. */
static inline rounded step_trits(const ptq_round_ternary *c, vf x, vf scale,
                                 vf zero, vf by, int exact) {
  (void)c, (void)by, (void)exact;
  const vf none = v_set(0.0F), half = v_set(0.5F);
  const vm up = v_lt(v_mul(scale, half), x), down = v_lt(x, v_mul(zero, half));
  return (rounded){v_pick(up, scale, v_pick(down, zero, none)),
                   v_pick(up, v_set(1.0F), v_pick(down, v_set(-1.0F), none))};
}

RUN(k_absmean, ptq_round_ternary, step_absmean, 0)
RUN(k_trits, ptq_round_ternary, step_trits, 0)

static void k_ternary(const ptq_round_ternary *c, const float *x, int64_t n,
                      int64_t width, const ptq_group_params *p, float *y,
                      int16_t *q, bool stream) {
  if (c->trits)
    k_trits(c, x, n, width, p, y, q, stream);
  else
    k_absmean(c, x, n, width, p, y, q, stream);
}

static inline rounded step_book(const ptq_round_book *c, vf x, vf scale,
                                vf zero, vf by, int exact) {
  (void)by, (void)exact;
  const vf inverse = v_div(v_set(1.0F), v_max(zero, v_set(1e-38F)));
  const vf v = v_mul(x, inverse);
  vf level = v_set(c->level[0]), code = v_set(0.0F);
  for (int k = 1; k < c->n; k++) {
    const vm above = v_lt(v_set(c->bound[k - 1]), v);
    level = v_pick(above, v_set(c->level[k]), level);
    code = v_pick(above, v_set((float)k), code);
  }
  return (rounded){v_mul(level, scale), code};
}

RUN(k_book, ptq_round_book, step_book, 0)

const ptq_round_table ROUND_TABLE = {
    .isa = ROUND_ISA,
    .ranges = k_ranges,
    .peaks = k_peaks,
    .ints = k_ints,
    .mxints = k_mxints,
    .sbfps = k_sbfps,
    .floats = k_floats,
    .ternary = k_ternary,
    .sums_abs = k_sums_abs,
    .sum_2_4 = k_sum_2_4,
    .book = k_book,
    .ints64 = k_ints64,
};

#endif /* PTQ_NUM_ROUND_KERNELS_H */
