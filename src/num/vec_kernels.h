/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file vec_kernels.h
 * The kernels of ptq/num/vec.h over an instruction set's vector type.
 *
 * Included at the end of each vec_<isa>.c, which has defined vf (LANES
 * floats), vd (LANES / 2 doubles) and the v_ and vd_ operations on them. The
 * ragged end of an array goes through the same operations with filled lanes,
 * so an element's value does not depend on where in the array it stands.
 */
#ifndef PTQ_NUM_VEC_KERNELS_H
#define PTQ_NUM_VEC_KERNELS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Sums in float64: one partial sum a lane, added up lane by lane. */
typedef struct vsum {
  vd lo, hi;
} vsum;

static inline vsum vsum_zero(void) {
  return (vsum){vd_set(0.0), vd_set(0.0)};
}

static inline void vsum_add(vsum *s, vf x) {
  s->lo = vd_add(s->lo, v_lo(x));
  s->hi = vd_add(s->hi, v_hi(x));
}

/* s += x * y, each factor widened first: products of floats are exact. */
static inline void vsum_fma(vsum *s, vf x, vf y) {
  s->lo = vd_fma(v_lo(x), v_lo(y), s->lo);
  s->hi = vd_fma(v_hi(x), v_hi(y), s->hi);
}

static inline double vsum_total(const vsum *s) {
  double lane[LANES], total = 0.0;
  vd_store(lane, s->lo);
  vd_store(lane + LANES / 2, s->hi);
  for (int i = 0; i < LANES; i++) total += lane[i];
  return total;
}

/* exp(x) = 2^k exp(r), k = round(x / ln 2), |r| <= ln(2) / 2. The polynomial
 * 1 + r + r^2 q(r), q of degree 4, is the minimax approximation in relative
 * error over that interval (3.1e-9), found by Remez exchange. ln 2 is split
 * so that k * LN2_HIGH is exact. Below ln(2^-126) the result is 0. */
static inline vf v_exp(vf x) {
  const vf low = v_set(-87.33654F), high = v_set(89.0F);
  const vf t = v_min(high, x); /* NaN stays: v_min gives its second operand */
  const vf k = v_round(v_mul(t, v_set(1.44269504F)));
  vf r = v_fma(k, v_set(-0.693359375F), t);
  r = v_fma(k, v_set(2.12194440e-4F), r);
  vf q = v_set(1.3814540e-3F);
  q = v_fma(q, r, v_set(8.3687451e-3F));
  q = v_fma(q, r, v_set(4.1668391e-2F));
  q = v_fma(q, r, v_set(1.6666520e-1F));
  q = v_fma(q, r, v_set(4.9999993e-1F));
  const vf p = v_add(v_fma(v_mul(r, r), q, r), v_set(1.0F));
  return v_scale2(p, k, t, low);
}

/* Widening takes as long as half an exp, so four vectors are added up first:
 * a sum of four positive numbers has a relative error of 2^-23 at most. */
static inline void vsum_add4(vsum *s, const vf e[4]) {
  vsum_add(s, v_add(v_add(e[0], e[1]), v_add(e[2], e[3])));
}

static double k_exp(const float *x, int64_t n, float shift, float *y) {
  const vf s = v_set(shift);
  vsum sum = vsum_zero();
  int64_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    vf e[4];
    for (int k = 0; k < 4; k++) {
      e[k] = v_exp(v_sub(v_load(x + i + k * LANES), s));
      v_store(y + i + k * LANES, e[k]);
    }
    vsum_add4(&sum, e);
  }
  for (; i + LANES <= n; i += LANES) {
    const vf e = v_exp(v_sub(v_load(x + i), s));
    v_store(y + i, e);
    vsum_add(&sum, e);
  }
  if (i < n) {
    v_store_n(y + i, n - i, v_exp(v_sub(v_load_n(x + i, n - i, shift), s)));
    vsum_add(&sum, v_load_n(y + i, n - i, 0.0F));
  }
  return vsum_total(&sum);
}

/* A float's bits rounded to their upper half: to nearest, ties to even; a NaN
 * stays one. */
static inline uint16_t upper_half(float x) {
  uint32_t b;
  memcpy(&b, &x, sizeof b);
  const uint32_t rounded = (b + 0x7fffU + (b >> 16 & 1U)) >> 16;
  const bool nan = (b & 0x7fffffffU) > 0x7f800000U;
  return (uint16_t)(nan ? b >> 16 | 0x40U : rounded);
}

#ifndef VEC_NARROWS
static inline void v_store_bf16(uint16_t *p, vf v) {
  float lane[LANES];
  v_store(lane, v);
  for (int l = 0; l < LANES; l++) p[l] = upper_half(lane[l]);
}
#endif

/* k_exp, its results rounded; the sum is that of what was rounded. */
static double k_exp_bf16(const float *x, int64_t n, float shift, uint16_t *y) {
  const vf s = v_set(shift);
  vsum sum = vsum_zero();
  int64_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    vf e[4];
    for (int k = 0; k < 4; k++) {
      e[k] = v_exp(v_sub(v_load(x + i + k * LANES), s));
      v_store_bf16(y + i + k * LANES, e[k]);
    }
    vsum_add4(&sum, e);
  }
  for (; i + LANES <= n; i += LANES) {
    const vf e = v_exp(v_sub(v_load(x + i), s));
    v_store_bf16(y + i, e);
    vsum_add(&sum, e);
  }
  if (i < n) {
    float rest[LANES];
    v_store(rest, v_exp(v_sub(v_load_n(x + i, n - i, shift), s)));
    for (int64_t l = 0; l < n - i; l++) y[i + l] = upper_half(rest[l]);
    vsum_add(&sum, v_load_n(rest, n - i, 0.0F));
  }
  return vsum_total(&sum);
}

static double k_sum_exp(const float *x, int64_t n, float shift) {
  const vf s = v_set(shift);
  vsum sum = vsum_zero();
  int64_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    vf e[4];
    for (int k = 0; k < 4; k++)
      e[k] = v_exp(v_sub(v_load(x + i + k * LANES), s));
    vsum_add4(&sum, e);
  }
  for (; i + LANES <= n; i += LANES)
    vsum_add(&sum, v_exp(v_sub(v_load(x + i), s)));
  if (i < n) {
    float rest[LANES];
    v_store(rest, v_exp(v_sub(v_load_n(x + i, n - i, shift), s)));
    vsum_add(&sum, v_load_n(rest, n - i, 0.0F));
  }
  return vsum_total(&sum);
}

static float k_max(const float *x, int64_t n, int64_t *at) {
  vf top = v_set(-INFINITY);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) top = v_max(v_load(x + i), top);
  if (i < n) top = v_max(v_load_n(x + i, n - i, -INFINITY), top);
  float lane[LANES], best = -INFINITY;
  v_store(lane, top);
  for (int l = 0; l < LANES; l++)
    if (lane[l] > best) best = lane[l];
  if (at != NULL) {
    *at = 0;
    for (i = 0; i < n; i++)
      if (x[i] == best) {
        *at = i;
        break;
      }
  }
  return best;
}

static double k_sum(const float *x, int64_t n) {
  vsum sum = vsum_zero();
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) vsum_add(&sum, v_load(x + i));
  if (i < n) vsum_add(&sum, v_load_n(x + i, n - i, 0.0F));
  return vsum_total(&sum);
}

static double k_dot(const float *x, const float *y, int64_t n) {
  vsum sum = vsum_zero();
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    vsum_fma(&sum, v_load(x + i), v_load(y + i));
  if (i < n)
    vsum_fma(&sum, v_load_n(x + i, n - i, 0.0F), v_load_n(y + i, n - i, 0.0F));
  return vsum_total(&sum);
}

static double k_sum_sq(const float *x, int64_t n) {
  return k_dot(x, x, n);
}

static double k_sum_sq_diff(const float *x, const float *y, int64_t n) {
  vsum sum = vsum_zero();
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const vf d = v_sub(v_load(x + i), v_load(y + i));
    vsum_fma(&sum, d, d);
  }
  if (i < n) {
    const vf d =
        v_sub(v_load_n(x + i, n - i, 0.0F), v_load_n(y + i, n - i, 0.0F));
    vsum_fma(&sum, d, d);
  }
  return vsum_total(&sum);
}

static void k_add(const float *x, int64_t n, float *y) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    v_store(y + i, v_add(v_load(y + i), v_load(x + i)));
  for (; i < n; i++) y[i] += x[i];
}

static void k_scale(float s, int64_t n, float *y) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    v_store(y + i, v_mul(v_load(y + i), v_set(s)));
  for (; i < n; i++) y[i] *= s;
}

static void k_accumulate(const float *x, int64_t n, double s, double *acc) {
  const vd f = vd_set(s);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const vf v = v_load(x + i);
    double *a = acc + i;
    vd_store(a, vd_fma(v_lo(v), f, vd_load(a)));
    a += LANES / 2;
    vd_store(a, vd_fma(v_hi(v), f, vd_load(a)));
  }
  if (i < n) {
    double rest[LANES] = {0.0};
    const vf v = v_load_n(x + i, n - i, 0.0F);
    for (int64_t l = 0; l < n - i; l++) rest[l] = acc[i + l];
    vd_store(rest, vd_fma(v_lo(v), f, vd_load(rest)));
    vd_store(rest + LANES / 2, vd_fma(v_hi(v), f, vd_load(rest + LANES / 2)));
    for (int64_t l = 0; l < n - i; l++) acc[i + l] = rest[l];
  }
}

static inline vf silu_mul(vf g, vf u) {
  const vf e = v_exp(v_sub(v_set(0.0F), g));
  return v_mul(v_div(g, v_add(v_set(1.0F), e)), u);
}

static void k_silu_mul(const float *up, int64_t n, float *gate) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    v_store(gate + i, silu_mul(v_load(gate + i), v_load(up + i)));
  if (i < n)
    v_store_n(gate + i, n - i,
              silu_mul(v_load_n(gate + i, n - i, 0.0F),
                       v_load_n(up + i, n - i, 0.0F)));
}

static void k_relu(int64_t n, float *x) {
  const vf zero = v_set(0.0F);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) v_store(x + i, v_max(zero, v_load(x + i)));
  if (i < n) v_store_n(x + i, n - i, v_max(zero, v_load_n(x + i, n - i, 0.0F)));
}

/* One element's worth of each activation. */

static inline vf silu(vf x) {
  return v_div(x, v_add(v_set(1.0F), v_exp(v_sub(v_set(0.0F), x))));
}

/* x Phi(x) = max(x, 0) - a Q(a) with a = |x| and the upper tail Q of the
 * normal distribution, Q(a) = exp(-a^2 / 2) t (b1 + .. + b5 t^4), t = 1 / (1 +
 * p a): Abramowitz and Stegun 7.1.26, error of Q below 7.5e-8. */
static inline vf gelu(vf x) {
  const vf zero = v_set(0.0F);
  const vf a = v_max(x, v_sub(zero, x));
  const vf t = v_div(v_set(1.0F), v_fma(a, v_set(0.23164190F), v_set(1.0F)));
  vf q = v_set(0.53070271F);
  q = v_fma(q, t, v_set(-0.72657601F));
  q = v_fma(q, t, v_set(0.71070687F));
  q = v_fma(q, t, v_set(-0.14224837F));
  q = v_fma(q, t, v_set(0.12741480F));
  const vf e = v_exp(v_mul(v_mul(a, a), v_set(-0.5F)));
  return v_sub(v_max(zero, x), v_mul(a, v_mul(v_mul(q, t), e)));
}

/* 0.5 x (1 + tanh(u)) = x / (1 + exp(-2 u)), u = sqrt(2 / pi) (x + 0.044715
 * x^3). */
static inline vf gelu_tanh(vf x) {
  const vf cube = v_fma(v_mul(x, x), v_set(0.044715F), v_set(1.0F));
  const vf u = v_mul(v_mul(x, cube), v_set(-1.5957691F));
  return v_div(x, v_add(v_set(1.0F), v_exp(u)));
}

/* tanh(y) = (1 - e) / (1 + e), e = exp(-2 y); beyond 15 it is 1 in float32.
 * v_min and v_max give their second operand for NaN. */
static inline vf soft_cap(vf x, vf cap) {
  const vf y = v_max(v_set(-15.0F), v_min(v_set(15.0F), v_div(x, cap)));
  const vf e = v_exp(v_mul(y, v_set(-2.0F)));
  const vf one = v_set(1.0F);
  return v_mul(cap, v_div(v_sub(one, e), v_add(one, e)));
}

#define K_IN_PLACE(name)                                                    \
  static void k_##name(int64_t n, float *x) {                               \
    int64_t i = 0;                                                          \
    for (; i + LANES <= n; i += LANES) v_store(x + i, name(v_load(x + i))); \
    if (i < n) v_store_n(x + i, n - i, name(v_load_n(x + i, n - i, 0.0F))); \
  }

K_IN_PLACE(silu)
K_IN_PLACE(gelu)
K_IN_PLACE(gelu_tanh)
#undef K_IN_PLACE

static void k_soft_cap(float cap, int64_t n, float *x) {
  const vf c = v_set(cap);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) v_store(x + i, soft_cap(v_load(x + i), c));
  if (i < n) v_store_n(x + i, n - i, soft_cap(v_load_n(x + i, n - i, 0.0F), c));
}

static void k_multiply(const float *x, int64_t n, float *y) {
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    v_store(y + i, v_mul(v_load(y + i), v_load(x + i)));
  for (; i < n; i++) y[i] *= x[i];
}

static void k_normalize(const float *x, int64_t n, float mean, float scale,
                        const float *w, const float *b, float *y) {
  const vf m = v_set(mean), s = v_set(scale), zero = v_set(0.0F);
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const vf t = v_mul(v_mul(v_sub(v_load(x + i), m), s), v_load(w + i));
    v_store(y + i, v_add(t, b != NULL ? v_load(b + i) : zero));
  }
  if (i < n) {
    const vf t = v_mul(v_mul(v_sub(v_load_n(x + i, n - i, 0.0F), m), s),
                       v_load_n(w + i, n - i, 0.0F));
    v_store_n(y + i, n - i,
              v_add(t, b != NULL ? v_load_n(b + i, n - i, 0.0F) : zero));
  }
}

static void k_rotate(const float *x, const float *cosines, const float *sines,
                     int64_t half, float *y) {
  int64_t i = 0;
  for (; i + LANES <= half; i += LANES) {
    const vf a = v_load(x + i), b = v_load(x + half + i);
    const vf c = v_load(cosines + i), s = v_load(sines + i);
    v_store(y + i, v_sub(v_mul(a, c), v_mul(b, s)));
    v_store(y + half + i, v_add(v_mul(b, c), v_mul(a, s)));
  }
  if (i < half) {
    const int64_t n = half - i;
    const vf a = v_load_n(x + i, n, 0.0F), b = v_load_n(x + half + i, n, 0.0F);
    const vf c = v_load_n(cosines + i, n, 0.0F);
    const vf s = v_load_n(sines + i, n, 0.0F);
    v_store_n(y + i, n, v_sub(v_mul(a, c), v_mul(b, s)));
    v_store_n(y + half + i, n, v_add(v_mul(b, c), v_mul(a, s)));
  }
}

static int k_all_finite(const float *x, int64_t n) {
  /* 0 * v is 0 for finite v and NaN for all others, and NaN survives sums. */
  const vf zero = v_set(0.0F);
  vf seen = zero;
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    seen = v_add(seen, v_mul(zero, v_load(x + i)));
  if (i < n) seen = v_add(seen, v_mul(zero, v_load_n(x + i, n - i, 0.0F)));
  float lane[LANES], total = 0.0F;
  v_store(lane, seen);
  for (int l = 0; l < LANES; l++) total += lane[l];
  return total == 0.0F;
}

static inline void kl_step(vf r, vf c, vf pr, vf pc, vsum sum[4]) {
  const vf d = v_sub(r, c);
  vsum_add(&sum[0], pr);
  vsum_fma(&sum[1], pr, d);
  vsum_add(&sum[2], pc);
  vsum_fma(&sum[3], pc, v_sub(v_set(0.0F), d));
}

static void k_kl_slice(const float *r, const float *c, int64_t n, float mr,
                       float mc, double sums[4]) {
  const vf sr = v_set(mr), sc = v_set(mc);
  vsum sum[4] = {vsum_zero(), vsum_zero(), vsum_zero(), vsum_zero()};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    const vf vr = v_load(r + i), vc = v_load(c + i);
    kl_step(vr, vc, v_exp(v_sub(vr, sr)), v_exp(v_sub(vc, sc)), sum);
  }
  if (i < n) {
    float pr[LANES], pc[LANES];
    const vf vr = v_load_n(r + i, n - i, 0.0F);
    const vf vc = v_load_n(c + i, n - i, 0.0F);
    v_store(pr, v_exp(v_sub(vr, sr)));
    v_store(pc, v_exp(v_sub(vc, sc)));
    kl_step(vr, vc, v_load_n(pr, n - i, 0.0F), v_load_n(pc, n - i, 0.0F), sum);
  }
  for (int k = 0; k < 4; k++) sums[k] += vsum_total(&sum[k]);
}

/* Compilers vectorize these loops, the first only so far. */
static void k_to_bf16(const float *restrict x, int64_t n,
                      uint16_t *restrict y) {
  int64_t i = 0;
#ifdef VEC_NARROWS
  for (; i + LANES <= n; i += LANES) v_store_bf16(y + i, v_load(x + i));
#endif
  for (; i < n; i++) y[i] = upper_half(x[i]);
}

static void k_from_bf16(const uint16_t *restrict x, int64_t n,
                        float *restrict y) {
  for (int64_t i = 0; i < n; i++) {
    const uint32_t b = (uint32_t)x[i] << 16;
    memcpy(y + i, &b, sizeof b);
  }
}

static void k_round_bf16(const float *restrict x, int64_t n,
                         float *restrict y) {
  for (int64_t i = 0; i < n; i++) {
    const uint32_t b = (uint32_t)upper_half(x[i]) << 16;
    memcpy(y + i, &b, sizeof b);
  }
}

const ptq_vec_table VEC_TABLE = {
    .isa = VEC_ISA,
    .rounding = &VEC_ROUNDING,
    .diff = &VEC_DIFF,
    .exp = k_exp,
    .exp_bf16 = k_exp_bf16,
    .sum_exp = k_sum_exp,
    .max = k_max,
    .sum = k_sum,
    .dot = k_dot,
    .sum_sq = k_sum_sq,
    .sum_sq_diff = k_sum_sq_diff,
    .add = k_add,
    .scale = k_scale,
    .accumulate = k_accumulate,
    .silu_mul = k_silu_mul,
    .relu = k_relu,
    .silu = k_silu,
    .gelu = k_gelu,
    .gelu_tanh = k_gelu_tanh,
    .soft_cap = k_soft_cap,
    .multiply = k_multiply,
    .normalize = k_normalize,
    .rotate = k_rotate,
    .all_finite = k_all_finite,
    .kl_slice = k_kl_slice,
    .to_bf16 = k_to_bf16,
    .from_bf16 = k_from_bf16,
    .round_bf16 = k_round_bf16,
};

#endif /* PTQ_NUM_VEC_KERNELS_H */
