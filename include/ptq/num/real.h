/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file real.h
 * The number type of the forward and backward passes.
 *
 * It is float in the program. The same sources compiled with PTQ_REAL64 make
 * a second library in float64 that serves checks: there PTQ_VEC(add, ...)
 * calls the plain twin ptq_vec64_add instead of ptq_vec_add, and so on.
 */
#ifndef PTQ_NUM_REAL_H
#define PTQ_NUM_REAL_H

#ifdef PTQ_REAL64
typedef double ptq_real;
#define PTQ_VEC(name, ...) ptq_vec64_##name(__VA_ARGS__)
#define PTQ_DIFF(name, ...) ptq_diff64_##name(__VA_ARGS__)
#define PTQ_GEMM(form, ...) ptq_dgemm_##form(__VA_ARGS__)
#else
typedef float ptq_real;
#define PTQ_VEC(name, ...) ptq_vec_##name(__VA_ARGS__)
#define PTQ_DIFF(name, ...) ptq_diff_##name(__VA_ARGS__)
#define PTQ_GEMM(form, ...) ptq_sgemm_##form(__VA_ARGS__)
#endif

#endif /* PTQ_NUM_REAL_H */
