/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file vec.h
 * Vectorized elementwise kernels and reductions on float arrays.
 *
 * Each kernel exists in several instruction sets, chosen once at start by the
 * CPU (PTQ_ISA=generic|avx2|avx512 in the environment overrides); results are
 * bitwise equal for one instruction set whatever the thread or caller.
 * Pointers need no alignment; n == 0 is valid.
 */
#ifndef PTQ_NUM_VEC_H
#define PTQ_NUM_VEC_H

#include <stdint.h>

#include "ptq/base/status.h"

/** Choose the instruction set; ptq_blas_init calls it. PTQ_E_UNSUPPORTED when
 * PTQ_ISA names one that is unknown or that this CPU or build lacks. A kernel
 * used before that makes the same choice, and ends the process on a bad
 * PTQ_ISA. */
ptq_status ptq_vec_init(ptq_err *err);

/** "avx512", "avx2" or "generic". */
const char *ptq_vec_isa(void);

/** y[i] = exp(x[i] - shift), the difference rounded to float32; relative error
 * below 3e-7; y may be x. Results below 2^-126 are 0, above FLT_MAX infinity.
 * Returns the sum of y, added up in float32 by fours, then in float64 (fixed
 * order; relative error below 1.2e-7). */
double ptq_vec_exp(const float *x, int64_t n, float shift, float *y);
/** The same with y rounded to bfloat16; the sum is of what was rounded. */
double ptq_vec_exp_bf16(const float *x, int64_t n, float shift, uint16_t *y);
/** The same sum without storing. */
double ptq_vec_sum_exp(const float *x, int64_t n, float shift);
/** Largest element and, in *at (may be NULL), its first index; n > 0. NaN is
 * passed over; all NaN gives -INFINITY at 0. */
float ptq_vec_max(const float *x, int64_t n, int64_t *at);
/** Sum of x in float64, fixed order. */
double ptq_vec_sum(const float *x, int64_t n);
/** Dot product of floats in float64, fixed order. */
double ptq_vec_dot(const float *x, const float *y, int64_t n);
/** Sum of squares of x, and of (x - y), in float64. */
double ptq_vec_sum_sq(const float *x, int64_t n);
double ptq_vec_sum_sq_diff(const float *x, const float *y, int64_t n);
/** y += x. */
void ptq_vec_add(const float *x, int64_t n, float *y);
/** y *= s. */
void ptq_vec_scale(float s, int64_t n, float *y);
/** acc[i] += s * x[i], acc in float64. */
void ptq_vec_accumulate(const float *x, int64_t n, double s, double *acc);
/** gate = silu(gate) * up, silu(x) = x / (1 + exp(-x)). */
void ptq_vec_silu_mul(const float *up, int64_t n, float *gate);
/** x = max(x, 0); NaN stays NaN. */
void ptq_vec_relu(int64_t n, float *x);
/** x = silu(x). */
void ptq_vec_silu(int64_t n, float *x);
/** x = x Phi(x), Phi the normal distribution (GELU with erf); absolute error
 * below 2e-7 (1 + |x|). */
void ptq_vec_gelu(int64_t n, float *x);
/** x = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))): GELU as GPT-2 has
 * it; the same bound. */
void ptq_vec_gelu_tanh(int64_t n, float *x);
/** x = cap * tanh(x / cap), cap > 0; absolute error below 3e-7 cap. */
void ptq_vec_soft_cap(float cap, int64_t n, float *x);
/** y *= x. */
void ptq_vec_multiply(const float *x, int64_t n, float *y);
/** y = (x - mean) * scale * w + b, the affine part of a norm; b may be NULL;
 * y may be x. */
void ptq_vec_normalize(const float *x, int64_t n, float mean, float scale,
                       const float *w, const float *b, float *y);
/** Rotary embedding of one head: y[i] = x[i] cos[i] - x[half + i] sin[i] and
 * y[half + i] = x[half + i] cos[i] + x[i] sin[i] for i < half; y may be x. */
void ptq_vec_rotate(const float *x, const float *cosines, const float *sines,
                    int64_t half, float *y);
/** Non-zero when all of x is finite. */
int ptq_vec_all_finite(const float *x, int64_t n);

/**
 * Moments of a slice of vocabulary for KL in both directions, streaming.
 * Given reference logits r and candidate logits c over the same slice, shifted
 * by their running maxima mr and mc, adds to sums:
 *   sums[0] += sum exp(r - mr)          sums[1] += sum exp(r - mr) * (r - c)
 *   sums[2] += sum exp(c - mc)          sums[3] += sum exp(c - mc) * (c - r)
 */
void ptq_vec_kl_slice(const float *r, const float *c, int64_t n, float mr,
                      float mc, double sums[4]);

/** y = x to the nearest bfloat16, ties to even; beyond the largest infinity,
 * NaN stays NaN; and back, which is exact. Bitwise the same on every
 * instruction set. x and y do not overlap. */
void ptq_vec_to_bf16(const float *x, int64_t n, uint16_t *y);
void ptq_vec_from_bf16(const uint16_t *x, int64_t n, float *y);
/** There and back: y = x rounded to bfloat16. */
void ptq_vec_round_bf16(const float *x, int64_t n, float *y);

#endif /* PTQ_NUM_VEC_H */
