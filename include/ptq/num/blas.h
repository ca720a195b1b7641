/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file blas.h
 * The matrix products and factorizations the program uses, over OpenBLAS and
 * its LAPACK: the only callers of either. Matrices are row-major.
 *
 * Every call is single-threaded (ptq_blas_init) and its result depends only
 * on shape and contents: cutting M or N of a product, or a second thread,
 * would change last bits, so callers fix shapes by model and window alone.
 */
#ifndef PTQ_NUM_BLAS_H
#define PTQ_NUM_BLAS_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"

/** Pin OpenBLAS to one thread and check that the library that answers cblas
 * calls is OpenBLAS and multiplies correctly (a 97 x 83 x 61 product against
 * a plain loop). PTQ_E_UNSUPPORTED names the remedy (OPENBLAS_CORETYPE). Call
 * once before anything else here. */
ptq_status ptq_blas_init(ptq_err *err);

/** "openblas 0.3.21 Haswell": library, version, kernel set; static storage,
 * valid after ptq_blas_init. */
const char *ptq_blas_name(void);

/** c[m, n] = alpha * a[m, k] * b[n, k]' + beta * c; leading dimensions in
 * elements. */
void ptq_sgemm_nt(int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta,
                  float *c, int64_t ldc);
/** c[m, n] = alpha * a[m, k] * b[k, n] + beta * c. */
void ptq_sgemm_nn(int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta,
                  float *c, int64_t ldc);
/** c[m, n] = alpha * a[k, m]' * b[k, n] + beta * c. */
void ptq_sgemm_tn(int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta,
                  float *c, int64_t ldc);
/** The same three in float64. */
void ptq_dgemm_nt(int64_t m, int64_t n, int64_t k, double alpha,
                  const double *a, int64_t lda, const double *b, int64_t ldb,
                  double beta, double *c, int64_t ldc);
void ptq_dgemm_nn(int64_t m, int64_t n, int64_t k, double alpha,
                  const double *a, int64_t lda, const double *b, int64_t ldb,
                  double beta, double *c, int64_t ldc);
void ptq_dgemm_tn(int64_t m, int64_t n, int64_t k, double alpha,
                  const double *a, int64_t lda, const double *b, int64_t ldb,
                  double beta, double *c, int64_t ldc);
/** Upper triangle of c[n, n] = x[k, n]' * x[k, n] (ssyrk); the strict lower
 * triangle is not touched. */
void ptq_ssyrk_upper(int64_t n, int64_t k, const float *x, int64_t ldx,
                     float *c, int64_t ldc);

/**
 * The GPTQ factor: upper-triangular U[n, n] with H^-1 = U' U, for symmetric
 * positive definite h[n, n] (full storage, float64), in its place, with zeros
 * below the diagonal. Computed without forming the inverse: H = R R' with R
 * upper triangular (a Cholesky factorization from the last column to the
 * first), then U = R^-1.
 * @param threads OpenMP-free worker threads for tiles; bits do not depend on
 *                it
 * @return PTQ_E_NUMERIC when h is not positive definite; then h is as it was
 *         below the diagonal, and undefined elsewhere
 */
ptq_status ptq_inverse_factor(double *h, int64_t n, int threads, ptq_err *err);

/** Eigenvalues of symmetric a[n, n] (float64, upper triangle read,
 * overwritten), descending into w[n] (LAPACK dsyevr). */
ptq_status ptq_eigenvalues(double *a, int64_t n, double *w, ptq_err *err);

/** The `count` largest eigenvalues of symmetric a[n, n] (float64, upper
 * triangle read, overwritten), descending into w[n] (of which the first
 * `count` are set), and their orthonormal eigenvectors, the rows of
 * v[count, n]; 0 < count <= n (LAPACK dsyevr). */
ptq_status ptq_eigenvectors(double *a, int64_t n, int64_t count, double *w,
                            double *v, ptq_err *err);

#endif /* PTQ_NUM_BLAS_H */
