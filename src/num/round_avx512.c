/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sixteen lanes: AVX-512 F. Compiled with -mavx512f. */
#include <immintrin.h>
#include <stdint.h>

#include "round_table.h"

#define ROUND_TABLE ptq_round_avx512
#define ROUND_ISA "avx512"
enum { LANES = 16 };

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

static inline vf v_set(float s) {
  return _mm512_set1_ps(s);
}
static inline vf v_load(const float *p) {
  return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
  _mm512_storeu_ps(p, v);
}
static inline void v_stream(float *p, vf v) {
  _mm512_stream_ps(p, v);
}
static inline void v_fence(void) {
  _mm_sfence();
}
static inline vm first(int64_t n) {
  return (vm)((1U << n) - 1U);
}
static inline vf v_load_n(const float *p, int64_t n, float fill) {
  return _mm512_mask_loadu_ps(v_set(fill), first(n), p);
}
static inline void v_store_n(float *p, int64_t n, vf v) {
  _mm512_mask_storeu_ps(p, first(n), v);
}
static inline vf v_add(vf a, vf b) {
  return _mm512_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
  return _mm512_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
  return _mm512_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b) {
  return _mm512_div_ps(a, b);
}
/* b where either is NaN. */
static inline vf v_max(vf a, vf b) {
  return _mm512_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
  return _mm512_min_ps(a, b);
}
static inline vf v_floor(vf a) {
  return _mm512_floor_ps(a);
}
static inline vm v_lt(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
static inline vm v_le(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
static inline vm v_eq(vf a, vf b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
static inline vm vm_and(vm a, vm b) {
  return a & b;
}
static inline int vm_any(vm m) {
  return m != 0;
}
/* a where the mask is set, else b. */
static inline vf v_pick(vm m, vf a, vf b) {
  return _mm512_mask_blend_ps(m, b, a);
}
static inline vi v_bits(vf a) {
  return _mm512_castps_si512(a);
}
static inline vf v_float(vi a) {
  return _mm512_castsi512_ps(a);
}
static inline vf v_from_int(vi a) {
  return _mm512_cvtepi32_ps(a);
}
static inline vi vi_set(int32_t s) {
  return _mm512_set1_epi32(s);
}
static inline vi vi_and(vi a, vi b) {
  return _mm512_and_si512(a, b);
}
static inline vi vi_or(vi a, vi b) {
  return _mm512_or_si512(a, b);
}
static inline vi vi_add(vi a, vi b) {
  return _mm512_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
  return _mm512_sub_epi32(a, b);
}
static inline vi vi_exponent(vi a) { /* bits >> 23 */
  return _mm512_srli_epi32(a, 23);
}
static inline vi vi_max(vi a, vi b) {
  return _mm512_max_epi32(a, b);
}
/* The least of lo and the largest of hi, which is -hi's least, together. */
static inline void v_ends(vf lo, vf hi, ptq_range *r) {
  const vf minus =
      v_float(_mm512_xor_si512(v_bits(hi), _mm512_set1_epi32(INT32_MIN)));
  /* halves of both in one vector, then within its quarters */
  vf m = v_min(_mm512_shuffle_f32x4(lo, minus, 0x44),
               _mm512_shuffle_f32x4(lo, minus, 0xEE));
  m = v_min(m, _mm512_shuffle_f32x4(m, m, 0xB1));
  m = v_min(m, _mm512_permute_ps(m, 0x4E));
  m = v_min(m, _mm512_permute_ps(m, 0xB1));
  r->lo = _mm512_cvtss_f32(m);
  r->hi = -_mm_cvtss_f32(_mm512_extractf32x4_ps(m, 2));
}
static inline int32_t vi_most(vi a) {
  return _mm512_reduce_max_epi32(a);
}
/* Steps that bring what belongs to a and what belongs to b side by side. */
static inline void v_fold0(vf a, vf b, vf *p, vf *q) {
  *p = _mm512_unpacklo_ps(a, b);
  *q = _mm512_unpackhi_ps(a, b);
}
static inline void v_fold1(vf a, vf b, vf *p, vf *q) {
  const __m512d x = _mm512_castps_pd(a), y = _mm512_castps_pd(b);
  *p = _mm512_castpd_ps(_mm512_unpacklo_pd(x, y));
  *q = _mm512_castpd_ps(_mm512_unpackhi_pd(x, y));
}
static inline void v_fold2(vf a, vf b, vf *p, vf *q) {
  *p = _mm512_shuffle_f32x4(a, b, 0x88);
  *q = _mm512_shuffle_f32x4(a, b, 0xDD);
}
static inline void v_fold3(vf a, vf b, vf *p, vf *q) {
  v_fold2(a, b, p, q);
}
/* a[0], b[0], a[1], b[1], ... */
static inline void v_store_pairs(float *p, vf a, vf b) {
  const vi low =
      _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  const vi high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  _mm512_storeu_ps(p, _mm512_permutex2var_ps(a, low, b));
  _mm512_storeu_ps(p + LANES, _mm512_permutex2var_ps(a, high, b));
}
/* Scales and zeros of 16 groups. */
static inline void v_params(const ptq_group_params *p, vf *scale, vf *zero) {
  const vf a = _mm512_loadu_ps(p), b = _mm512_loadu_ps(p + 8);
  const vi even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10,
                                   8, 6, 4, 2, 0);
  *scale = _mm512_permutex2var_ps(a, even, b);
  *zero = _mm512_permutex2var_ps(a, vi_or(even, vi_set(1)), b);
}
static inline void v_store_codes(int16_t *q, vf code) {
  const vi k = _mm512_cvtps_epi32(code);
  _mm256_storeu_si256((__m256i *)q, _mm512_cvtepi32_epi16(k));
}

#include "round_kernels.h"
