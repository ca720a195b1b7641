/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Sixteen lanes: AVX-512 F. Compiled with -mavx512f -mfma. */
#include <immintrin.h>
#include <stdint.h>

#include "vec_table.h"

#define VEC_TABLE ptq_vec_avx512
#define VEC_ISA "avx512"
#define VEC_ROUNDING ptq_round_avx512
#define VEC_DIFF ptq_diff_avx512
enum { LANES = 16 };

typedef __m512 vf;
typedef __m512d vd;

static inline vf v_set(float s) {
  return _mm512_set1_ps(s);
}
static inline vf v_load(const float *p) {
  return _mm512_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
  _mm512_storeu_ps(p, v);
}
static inline __mmask16 first(int64_t n) {
  return (__mmask16)((1U << n) - 1U);
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
static inline vf v_fma(vf a, vf b, vf c) {
  return _mm512_fmadd_ps(a, b, c);
}
/* b where either is NaN. */
static inline vf v_max(vf a, vf b) {
  return _mm512_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
  return _mm512_min_ps(a, b);
}
/* 1 where a > 0, else 0. */
static inline vf v_step(vf a) {
  const __mmask16 above = _mm512_cmp_ps_mask(a, v_set(0.0F), _CMP_GT_OQ);
  return _mm512_maskz_mov_ps(above, v_set(1.0F));
}
static inline vf v_round(vf a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* p * 2^k for integral k; 0 where x < low. */
static inline vf v_scale2(vf p, vf k, vf x, vf low) {
  const __mmask16 keep = _mm512_cmp_ps_mask(x, low, _CMP_NLT_UQ);
  return _mm512_maskz_scalef_ps(keep, p, k);
}
#define VEC_NARROWS
/* upper_half of each lane. */
static inline void v_store_bf16(uint16_t *p, vf v) {
  const __m512i b = _mm512_castps_si512(v), h = _mm512_srli_epi32(b, 16);
  const __m512i odd = _mm512_and_si512(h, _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(b, up), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  const __m512i quiet = _mm512_set1_epi32(0x40);
  const __m512i all = _mm512_mask_or_epi32(rounded, nan, h, quiet);
  _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(all));
}
static inline vd vd_set(double s) {
  return _mm512_set1_pd(s);
}
static inline vd v_lo(vf a) {
  return _mm512_cvtps_pd(_mm512_castps512_ps256(a));
}
static inline vd v_hi(vf a) {
  const __m512d halves = _mm512_castps_pd(a);
  return _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(halves, 1)));
}
static inline vd vd_load(const double *p) {
  return _mm512_loadu_pd(p);
}
static inline void vd_store(double *p, vd v) {
  _mm512_storeu_pd(p, v);
}
static inline vd vd_add(vd a, vd b) {
  return _mm512_add_pd(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c) {
  return _mm512_fmadd_pd(a, b, c);
}

#include "vec_kernels.h"
/* after it */
#include "diff_kernels.h"
