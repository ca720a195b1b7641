/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Four lanes of plain C that compilers map to SSE2, NEON or whatever the
 * target's baseline has. No fused multiply-add. */
#include <stdint.h>
#include <string.h>

#include "vec_table.h"

#define VEC_TABLE ptq_vec_generic
#define VEC_ISA "generic"
#define VEC_ROUNDING ptq_round_generic
#define VEC_DIFF ptq_diff_generic
enum { LANES = 4 };

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef double vd __attribute__((vector_size(16)));

static inline vf v_set(float s) {
  return (vf){s, s, s, s};
}
static inline vf v_load(const float *p) {
  vf v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void v_store(float *p, vf v) {
  memcpy(p, &v, sizeof v);
}
static inline vf v_load_n(const float *p, int64_t n, float fill) {
  vf v = v_set(fill);
  memcpy(&v, p, (size_t)n * sizeof *p);
  return v;
}
static inline void v_store_n(float *p, int64_t n, vf v) {
  memcpy(p, &v, (size_t)n * sizeof *p);
}
static inline vf v_add(vf a, vf b) {
  return a + b;
}
static inline vf v_sub(vf a, vf b) {
  return a - b;
}
static inline vf v_mul(vf a, vf b) {
  return a * b;
}
static inline vf v_div(vf a, vf b) {
  return a / b;
}
static inline vf v_fma(vf a, vf b, vf c) {
  return a * b + c;
}
static inline vf v_pick(vi mask, vf a, vf b) {
  return (vf)((mask & (vi)a) | (~mask & (vi)b));
}
/* a where a > b, else b: b where either is NaN. */
static inline vf v_max(vf a, vf b) {
  return v_pick(a > b, a, b);
}
static inline vf v_min(vf a, vf b) {
  return v_pick(a < b, a, b);
}
/* 1 where a > 0, else 0. */
static inline vf v_step(vf a) {
  return (vf)((a > v_set(0.0F)) & (vi)v_set(1.0F));
}
/* To the nearest integer, for |a| < 2^22. */
static inline vf v_round(vf a) {
  const vf magic = v_set(12582912.0F);
  return (a + magic) - magic;
}
/* p * 2^k for integral k in [-126, 128]; 0 where x < low. */
static inline vf v_scale2(vf p, vf k, vf x, vf low) {
  /* NaN and what the mask removes must still convert to an int. */
  const vf c = v_min(v_max(k, v_set(-126.0F)), v_set(128.0F));
  const vi e = (vi){(int32_t)c[0], (int32_t)c[1], (int32_t)c[2], (int32_t)c[3]};
  const vi bias = {127, 127, 127, 127};
  const vi half = e >> 1;
  const vf y = p * (vf)((half + bias) << 23) * (vf)((e - half + bias) << 23);
  return (vf)(~(x < low) & (vi)y);
}
static inline vd vd_set(double s) {
  return (vd){s, s};
}
static inline vd v_lo(vf a) {
  return (vd){(double)a[0], (double)a[1]};
}
static inline vd v_hi(vf a) {
  return (vd){(double)a[2], (double)a[3]};
}
static inline vd vd_load(const double *p) {
  vd v;
  memcpy(&v, p, sizeof v);
  return v;
}
static inline void vd_store(double *p, vd v) {
  memcpy(p, &v, sizeof v);
}
static inline vd vd_add(vd a, vd b) {
  return a + b;
}
static inline vd vd_fma(vd a, vd b, vd c) {
  return a * b + c;
}

#include "vec_kernels.h"
/* after it */
#include "diff_kernels.h"
