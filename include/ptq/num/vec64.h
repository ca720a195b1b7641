/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file vec64.h
 * Plain float64 twins of the kernels of ptq/num/vec.h that the forward pass
 * uses, for the float64 build that checks it (ptq/num/real.h).
 */
#ifndef PTQ_NUM_VEC64_H
#define PTQ_NUM_VEC64_H

#include <stdint.h>

double ptq_vec64_exp(const double *x, int64_t n, double shift, double *y);
double ptq_vec64_max(const double *x, int64_t n, int64_t *at);
double ptq_vec64_sum(const double *x, int64_t n);
double ptq_vec64_dot(const double *x, const double *y, int64_t n);
double ptq_vec64_sum_sq(const double *x, int64_t n);
double ptq_vec64_sum_sq_diff(const double *x, const double *y, int64_t n);
void ptq_vec64_add(const double *x, int64_t n, double *y);
void ptq_vec64_scale(double s, int64_t n, double *y);
void ptq_vec64_accumulate(const double *x, int64_t n, double s, double *acc);
void ptq_vec64_silu_mul(const double *up, int64_t n, double *gate);
void ptq_vec64_relu(int64_t n, double *x);
void ptq_vec64_silu(int64_t n, double *x);
void ptq_vec64_gelu(int64_t n, double *x);
void ptq_vec64_gelu_tanh(int64_t n, double *x);
void ptq_vec64_soft_cap(double cap, int64_t n, double *x);
void ptq_vec64_multiply(const double *x, int64_t n, double *y);
void ptq_vec64_normalize(const double *x, int64_t n, double mean, double scale,
                         const double *w, const double *b, double *y);
void ptq_vec64_rotate(const double *x, const double *cosines,
                      const double *sines, int64_t half, double *y);
int ptq_vec64_all_finite(const double *x, int64_t n);

#endif /* PTQ_NUM_VEC64_H */
