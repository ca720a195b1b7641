/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file bf16.h
 * Matrix products of bfloat16 numbers with float32 sums, as accelerators
 * compute them: operands are rounded to the nearest bfloat16 (ties to even),
 * their products are exact in float32, and sums are rounded to float32.
 *
 * oneDNN multiplies where it has instructions for it (AVX-512 BF16, AMX). On
 * other CPUs, and in builds without oneDNN, OpenBLAS multiplies the rounded
 * numbers in float32: the same definition, other last bits, no gain in speed;
 * ptq_bf16_name tells which. Matrices are row-major without gaps (with gaps,
 * oneDNN falls back to plain loops); every call is single-threaded and its
 * result depends on shape and contents alone.
 */
#ifndef PTQ_NUM_BF16_H
#define PTQ_NUM_BF16_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"

/** The upper half of a float32. */
typedef uint16_t ptq_bf16;

/** Arithmetic of a forward pass's matrix products. */
typedef enum ptq_compute {
  PTQ_COMPUTE_F32,
  PTQ_COMPUTE_BF16,
  PTQ_COMPUTE_COUNT
} ptq_compute;

/** "f32", "bf16". */
const char *ptq_compute_name(ptq_compute c);
/** One line for `ptqsweep list compute`. */
const char *ptq_compute_summary(ptq_compute c);
/** False when `name` is none of them. */
bool ptq_compute_parse(const char *name, ptq_compute *out);

/** Choose the library and check it against a plain loop. PTQ_E_UNSUPPORTED
 * names the remedy (ONEDNN_MAX_CPU_ISA). Call after ptq_blas_init and before
 * anything below. */
ptq_status ptq_bf16_init(ptq_err *err);
/** "onednn 2.6.3 avx512_core_bf16", or "openblas" where numbers are rounded
 * and multiplied in float32; static storage, valid after ptq_bf16_init. */
const char *ptq_bf16_name(void);
/** Whether products are faster than in float32; after ptq_bf16_init. */
bool ptq_bf16_is_fast(void);

/** Kernels for the shapes met so far, and scratch; one a thread. */
typedef struct ptq_multiplier ptq_multiplier;
ptq_status ptq_multiplier_create(ptq_multiplier **out, ptq_err *err);
void ptq_multiplier_free(ptq_multiplier *mul);
/** What one takes whose operands have up to `most` elements. */
int64_t ptq_multiplier_bytes(int64_t most);

/** Weights w[n, k], rounded and in the order that products read them. */
typedef struct ptq_packed ptq_packed;
ptq_status ptq_packed_create(ptq_multiplier *mul, int64_t n, int64_t k,
                             ptq_packed **out, ptq_err *err);
void ptq_packed_free(ptq_packed *p);
/** Fill from w[n, k]. */
ptq_status ptq_packed_set(ptq_packed *p, ptq_multiplier *mul, const float *w,
                          ptq_err *err);
/** About what one takes, and what packing takes besides. */
int64_t ptq_packed_bytes(int64_t n, int64_t k);

/** y[m, n] = x[m, k] w' of packed w[n, k]; x is rounded on the way. */
ptq_status ptq_bf16_apply(ptq_multiplier *mul, int64_t m, const float *x,
                          const ptq_packed *w, float *y, ptq_err *err);
/** c[m, n] = alpha a[m, k] b[n, k]'. */
ptq_status ptq_bf16_nt(ptq_multiplier *mul, int64_t m, int64_t n, int64_t k,
                       float alpha, const ptq_bf16 *a, const ptq_bf16 *b,
                       float *c, ptq_err *err);
/** c[m, n] = a[m, k] b[k, n], added to what c has where `add`. */
ptq_status ptq_bf16_nn(ptq_multiplier *mul, int64_t m, int64_t n, int64_t k,
                       const ptq_bf16 *a, const ptq_bf16 *b, bool add, float *c,
                       ptq_err *err);

#endif /* PTQ_NUM_BF16_H */
