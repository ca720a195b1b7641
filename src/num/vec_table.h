/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file vec_table.h
 * The kernels of one instruction set. vec_generic.c, vec_avx2.c and
 * vec_avx512.c each define one table from the same source, vec_kernels.h.
 */
#ifndef PTQ_NUM_VEC_TABLE_H
#define PTQ_NUM_VEC_TABLE_H

#include <stdint.h>

#include "diff_table.h"
#include "round_table.h"

/** Members are the functions of ptq/num/vec.h of the same name. */
typedef struct ptq_vec_table {
  const char *isa;
  const ptq_round_table *rounding; /* of the same instruction set */
  const ptq_diff_table *diff;      /* likewise */
  double (*exp)(const float *x, int64_t n, float shift, float *y);
  double (*exp_bf16)(const float *x, int64_t n, float shift, uint16_t *y);
  double (*sum_exp)(const float *x, int64_t n, float shift);
  float (*max)(const float *x, int64_t n, int64_t *at);
  double (*sum)(const float *x, int64_t n);
  double (*dot)(const float *x, const float *y, int64_t n);
  double (*sum_sq)(const float *x, int64_t n);
  double (*sum_sq_diff)(const float *x, const float *y, int64_t n);
  void (*add)(const float *x, int64_t n, float *y);
  void (*scale)(float s, int64_t n, float *y);
  void (*accumulate)(const float *x, int64_t n, double s, double *acc);
  void (*silu_mul)(const float *up, int64_t n, float *gate);
  void (*relu)(int64_t n, float *x);
  void (*silu)(int64_t n, float *x);
  void (*gelu)(int64_t n, float *x);
  void (*gelu_tanh)(int64_t n, float *x);
  void (*soft_cap)(float cap, int64_t n, float *x);
  void (*multiply)(const float *x, int64_t n, float *y);
  void (*normalize)(const float *x, int64_t n, float mean, float scale,
                    const float *w, const float *b, float *y);
  void (*rotate)(const float *x, const float *cosines, const float *sines,
                 int64_t half, float *y);
  int (*all_finite)(const float *x, int64_t n);
  void (*kl_slice)(const float *r, const float *c, int64_t n, float mr,
                   float mc, double sums[4]);
  void (*to_bf16)(const float *x, int64_t n, uint16_t *y);
  void (*from_bf16)(const uint16_t *x, int64_t n, float *y);
  void (*round_bf16)(const float *x, int64_t n, float *y);
} ptq_vec_table;

extern const ptq_vec_table ptq_vec_generic;
#ifdef PTQ_VEC_X86
extern const ptq_vec_table ptq_vec_avx2;
extern const ptq_vec_table ptq_vec_avx512;
#endif

#endif /* PTQ_NUM_VEC_TABLE_H */
