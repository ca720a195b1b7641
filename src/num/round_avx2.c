/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Eight lanes: AVX2. Compiled with -mavx2. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "round_table.h"

#define ROUND_TABLE ptq_round_avx2
#define ROUND_ISA "avx2"
enum { LANES = 8 };

typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm;

static inline vf v_set(float s) {
  return _mm256_set1_ps(s);
}
static inline vf v_load(const float *p) {
  return _mm256_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
  _mm256_storeu_ps(p, v);
}
static inline void v_stream(float *p, vf v) {
  _mm256_stream_ps(p, v);
}
static inline void v_fence(void) {
  _mm_sfence();
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
  return _mm256_add_ps(a, b);
}
static inline vf v_sub(vf a, vf b) {
  return _mm256_sub_ps(a, b);
}
static inline vf v_mul(vf a, vf b) {
  return _mm256_mul_ps(a, b);
}
static inline vf v_div(vf a, vf b) {
  return _mm256_div_ps(a, b);
}
/* b where either is NaN. */
static inline vf v_max(vf a, vf b) {
  return _mm256_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
  return _mm256_min_ps(a, b);
}
static inline vf v_floor(vf a) {
  return _mm256_floor_ps(a);
}
static inline vm v_lt(vf a, vf b) {
  return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}
static inline vm v_le(vf a, vf b) {
  return _mm256_cmp_ps(a, b, _CMP_LE_OQ);
}
static inline vm v_eq(vf a, vf b) {
  return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
static inline vm vm_and(vm a, vm b) {
  return _mm256_and_ps(a, b);
}
static inline int vm_any(vm m) {
  return _mm256_movemask_ps(m) != 0;
}
/* a where the mask is set, else b. */
static inline vf v_pick(vm m, vf a, vf b) {
  return _mm256_blendv_ps(b, a, m);
}
static inline vi v_bits(vf a) {
  return _mm256_castps_si256(a);
}
static inline vf v_float(vi a) {
  return _mm256_castsi256_ps(a);
}
static inline vf v_from_int(vi a) {
  return _mm256_cvtepi32_ps(a);
}
static inline vi vi_set(int32_t s) {
  return _mm256_set1_epi32(s);
}
static inline vi vi_and(vi a, vi b) {
  return _mm256_and_si256(a, b);
}
static inline vi vi_or(vi a, vi b) {
  return _mm256_or_si256(a, b);
}
static inline vi vi_add(vi a, vi b) {
  return _mm256_add_epi32(a, b);
}
static inline vi vi_sub(vi a, vi b) {
  return _mm256_sub_epi32(a, b);
}
static inline vi vi_exponent(vi a) { /* bits >> 23 */
  return _mm256_srli_epi32(a, 23);
}
static inline vi vi_max(vi a, vi b) {
  return _mm256_max_epi32(a, b);
}
/* The least of lo and the largest of hi, which is -hi's least, together. */
static inline void v_ends(vf lo, vf hi, ptq_range *r) {
  const vf minus = _mm256_xor_ps(hi, v_set(-0.0F));
  vf m = v_min(_mm256_permute2f128_ps(lo, minus, 0x20),
               _mm256_permute2f128_ps(lo, minus, 0x31));
  m = v_min(m, _mm256_permute_ps(m, 0x4E));
  m = v_min(m, _mm256_permute_ps(m, 0xB1));
  r->lo = _mm256_cvtss_f32(m);
  r->hi = -_mm_cvtss_f32(_mm256_extractf128_ps(m, 1));
}
static inline int32_t vi_most(vi a) {
  __m128i m =
      _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
  return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}
/* Steps that bring what belongs to a and what belongs to b side by side. */
static inline void v_fold0(vf a, vf b, vf *p, vf *q) {
  *p = _mm256_unpacklo_ps(a, b);
  *q = _mm256_unpackhi_ps(a, b);
}
static inline void v_fold1(vf a, vf b, vf *p, vf *q) {
  const __m256d x = _mm256_castps_pd(a), y = _mm256_castps_pd(b);
  *p = _mm256_castpd_ps(_mm256_unpacklo_pd(x, y));
  *q = _mm256_castpd_ps(_mm256_unpackhi_pd(x, y));
}
static inline void v_fold2(vf a, vf b, vf *p, vf *q) {
  *p = _mm256_permute2f128_ps(a, b, 0x20);
  *q = _mm256_permute2f128_ps(a, b, 0x31);
}
static inline void v_fold3(vf a, vf b, vf *p, vf *q) { /* of 16 lanes */
  *p = a;
  *q = b;
}
/* a[0], b[0], a[1], b[1], ... */
static inline void v_store_pairs(float *p, vf a, vf b) {
  vf low, high, first, second;
  v_fold0(a, b, &low, &high);
  v_fold2(low, high, &first, &second);
  v_store(p, first);
  v_store(p + LANES, second);
}
/* Scales and zeros of 8 groups. */
static inline void v_params(const ptq_group_params *p, vf *scale, vf *zero) {
  const vf a = _mm256_loadu_ps((const float *)p);
  const vf b = _mm256_loadu_ps((const float *)(p + 4));
  const __m256d s = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88));
  const __m256d z = _mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xDD));
  *scale = _mm256_castpd_ps(_mm256_permute4x64_pd(s, 0xD8));
  *zero = _mm256_castpd_ps(_mm256_permute4x64_pd(z, 0xD8));
}
static inline void v_store_codes(int16_t *q, vf code) {
  const vi k = _mm256_cvtps_epi32(code);
  _mm_storeu_si128((__m128i *)q,
                   _mm_packs_epi32(_mm256_castsi256_si128(k),
                                   _mm256_extracti128_si256(k, 1)));
}

#include "round_kernels.h"
