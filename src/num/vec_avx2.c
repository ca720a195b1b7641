/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Eight lanes: AVX2 with fused multiply-add. Compiled with -mavx2 -mfma. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#include "vec_table.h"

#define VEC_TABLE ptq_vec_avx2
#define VEC_ISA "avx2"
#define VEC_ROUNDING ptq_round_avx2
#define VEC_DIFF ptq_diff_avx2
enum { LANES = 8 };

typedef __m256 vf;
typedef __m256d vd;

static inline vf v_set(float s) {
  return _mm256_set1_ps(s);
}
static inline vf v_load(const float *p) {
  return _mm256_loadu_ps(p);
}
static inline void v_store(float *p, vf v) {
  _mm256_storeu_ps(p, v);
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
static inline vf v_fma(vf a, vf b, vf c) {
  return _mm256_fmadd_ps(a, b, c);
}
/* b where either is NaN. */
static inline vf v_max(vf a, vf b) {
  return _mm256_max_ps(a, b);
}
static inline vf v_min(vf a, vf b) {
  return _mm256_min_ps(a, b);
}
/* 1 where a > 0, else 0. */
static inline vf v_step(vf a) {
  return _mm256_and_ps(_mm256_cmp_ps(a, v_set(0.0F), _CMP_GT_OQ), v_set(1.0F));
}
static inline vf v_round(vf a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
/* p * 2^k for integral k in [-126, 128]; 0 where x < low. */
static inline vf v_scale2(vf p, vf k, vf x, vf low) {
  const __m256i e = _mm256_cvtps_epi32(k), bias = _mm256_set1_epi32(127);
  const __m256i half = _mm256_srai_epi32(e, 1);
  const __m256i rest = _mm256_sub_epi32(e, half);
  const __m256i s1 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
  const __m256i s2 = _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23);
  const vf y =
      v_mul(v_mul(p, _mm256_castsi256_ps(s1)), _mm256_castsi256_ps(s2));
  return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), y);
}
static inline vd vd_set(double s) {
  return _mm256_set1_pd(s);
}
static inline vd v_lo(vf a) {
  return _mm256_cvtps_pd(_mm256_castps256_ps128(a));
}
static inline vd v_hi(vf a) {
  return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
}
static inline vd vd_load(const double *p) {
  return _mm256_loadu_pd(p);
}
static inline void vd_store(double *p, vd v) {
  _mm256_storeu_pd(p, v);
}
static inline vd vd_add(vd a, vd b) {
  return _mm256_add_pd(a, b);
}
static inline vd vd_fma(vd a, vd b, vd c) {
  return _mm256_fmadd_pd(a, b, c);
}

#include "vec_kernels.h"
/* after it */
#include "diff_kernels.h"
