/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Four lanes of plain C that compilers map to SSE2, NEON or whatever the
 * target's baseline has. */
#include <stdint.h>
#include <string.h>

#include "round_table.h"

#define ROUND_TABLE ptq_round_generic
#define ROUND_ISA "generic"
enum { LANES = 4 };

typedef float vf __attribute__((vector_size(16)));
typedef int32_t vi __attribute__((vector_size(16)));
typedef uint32_t vu __attribute__((vector_size(16)));
typedef vi vm;

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
static inline void v_stream(float *p, vf v) { /* plain C has no such store */
  memcpy(p, &v, sizeof v);
}
static inline void v_fence(void) {
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
static inline vm v_lt(vf a, vf b) {
  return a < b;
}
static inline vm v_le(vf a, vf b) {
  return a <= b;
}
static inline vm v_eq(vf a, vf b) {
  return a == b;
}
static inline vm vm_and(vm a, vm b) {
  return a & b;
}
static inline int vm_any(vm m) {
  return (m[0] | m[1] | m[2] | m[3]) != 0;
}
/* a where the mask is set, else b. */
static inline vf v_pick(vm m, vf a, vf b) {
  return (vf)((m & (vi)a) | (~m & (vi)b));
}
/* b where either is NaN. */
static inline vf v_max(vf a, vf b) {
  return v_pick(a > b, a, b);
}
static inline vf v_min(vf a, vf b) {
  return v_pick(a < b, a, b);
}
static inline vi v_bits(vf a) {
  return (vi)a;
}
static inline vf v_float(vi a) {
  return (vf)a;
}
static inline vf v_from_int(vi a) {
  return (vf){(float)a[0], (float)a[1], (float)a[2], (float)a[3]};
}
/* For |a| < 2^22. */
static inline vf v_floor(vf a) {
  const vf magic = v_set(12582912.0F);
  const vf near = (a + magic) - magic;
  return near - (vf)((near > a) & (vi)v_set(1.0F));
}
static inline vi vi_set(int32_t s) {
  return (vi){s, s, s, s};
}
static inline vi vi_and(vi a, vi b) {
  return a & b;
}
static inline vi vi_or(vi a, vi b) {
  return a | b;
}
static inline vi vi_add(vi a, vi b) {
  return a + b;
}
static inline vi vi_sub(vi a, vi b) {
  return a - b;
}
static inline vi vi_exponent(vi a) { /* bits >> 23 */
  return (vi)((vu)a >> 23);
}
static inline vi vi_max(vi a, vi b) {
  const vm m = a > b;
  return (m & a) | (~m & b);
}
/* The least of lo and the largest of hi. */
static inline void v_ends(vf lo, vf hi, ptq_range *r) {
  const float x = lo[0] < lo[1] ? lo[0] : lo[1];
  const float y = lo[2] < lo[3] ? lo[2] : lo[3];
  const float v = hi[0] > hi[1] ? hi[0] : hi[1];
  const float w = hi[2] > hi[3] ? hi[2] : hi[3];
  *r = (ptq_range){x < y ? x : y, v > w ? v : w};
}
static inline int32_t vi_most(vi a) {
  const int32_t x = a[0] > a[1] ? a[0] : a[1], y = a[2] > a[3] ? a[2] : a[3];
  return x > y ? x : y;
}
/* Steps that bring what belongs to a and what belongs to b side by side. */
static inline void v_fold0(vf a, vf b, vf *p, vf *q) {
  *p = (vf){a[0], b[0], a[1], b[1]};
  *q = (vf){a[2], b[2], a[3], b[3]};
}
static inline void v_fold1(vf a, vf b, vf *p, vf *q) {
  *p = (vf){a[0], a[1], b[0], b[1]};
  *q = (vf){a[2], a[3], b[2], b[3]};
}
static inline void v_fold2(vf a, vf b, vf *p, vf *q) { /* of 8 lanes */
  *p = a;
  *q = b;
}
static inline void v_fold3(vf a, vf b, vf *p, vf *q) { /* of 16 lanes */
  *p = a;
  *q = b;
}
/* a[0], b[0], a[1], b[1], ... */
static inline void v_store_pairs(float *p, vf a, vf b) {
  v_store(p, (vf){a[0], b[0], a[1], b[1]});
  v_store(p + LANES, (vf){a[2], b[2], a[3], b[3]});
}
/* Scales and zeros of 4 groups. */
static inline void v_params(const ptq_group_params *p, vf *scale, vf *zero) {
  *scale = (vf){p[0].scale, p[1].scale, p[2].scale, p[3].scale};
  *zero = (vf){p[0].zero, p[1].zero, p[2].zero, p[3].zero};
}
static inline void v_store_codes(int16_t *q, vf code) {
  for (int j = 0; j < LANES; j++) q[j] = (int16_t)code[j];
}

#include "round_kernels.h"
