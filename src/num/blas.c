/* SPDX-License-Identifier: GPL-3.0-or-later */
#define _GNU_SOURCE /* dladdr */
#include "ptq/num/blas.h"

#include <cblas.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/rng.h"
#include "ptq/num/vec.h"

static char blas_name[64] = "";

/* Both symbols must come from one library: with GSL's reference cblas linked
 * first, every product would be right and twenty times slower. */
static ptq_status check_library(ptq_err *err) {
  Dl_info product, config;
  /* POSIX lets a function pointer become a void pointer. */
  void *sgemm = NULL, *threads = NULL;
  void (*const product_fn)(void) = (void (*)(void))cblas_sgemm;
  void (*const config_fn)(void) = (void (*)(void))openblas_get_config;
  memcpy(&sgemm, &product_fn, sizeof sgemm);
  memcpy(&threads, &config_fn, sizeof threads);
  if (dladdr(sgemm, &product) == 0 || dladdr(threads, &config) == 0)
    return PTQ_OK; /* static program: one object by construction */
  if (product.dli_fbase != config.dli_fbase)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "cblas calls are answered by '%s', not by OpenBLAS ('%s');"
                    " link OpenBLAS first and leave gslcblas out",
                    product.dli_fname, config.dli_fname);
  return PTQ_OK;
}

static ptq_status check_product(ptq_err *err) {
  enum { M = 97, N = 83, K = 61 };
  float a[M * K], b[N * K], c[M * N];
  ptq_rng rng;
  ptq_rng_init(&rng, 1);
  for (int i = 0; i < M * K; i++) a[i] = (float)ptq_rng_unit(&rng) - 0.5F;
  for (int i = 0; i < N * K; i++) b[i] = (float)ptq_rng_unit(&rng) - 0.5F;
  ptq_sgemm_nt(M, N, K, 1.0F, a, K, b, K, 0.0F, c, N);
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) {
      double exact = 0.0;
      for (int k = 0; k < K; k++)
        exact += (double)a[i * K + k] * (double)b[j * K + k];
      /* K products of at most 1/4, each sum rounded to 2^-24 of at most K/4 */
      if (!(fabs(exact - (double)c[i * N + j]) <= K * K * 0.25 * 0x1p-24))
        return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                        "%s multiplies wrongly: element (%d, %d) of a test "
                        "product is %g, not %g; choose other kernels with "
                        "OPENBLAS_CORETYPE (Haswell, SkylakeX, Zen)",
                        blas_name, i, j, (double)c[i * N + j], exact);
    }
  return PTQ_OK;
}

ptq_status ptq_blas_init(ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_vec_init(err));
  PTQ_TRY(check_library(err));
  openblas_set_num_threads(1);
  /* "OpenBLAS 0.3.21 NO_AFFINITY ...": the second word is the version. */
  char version[16] = "unknown";
  (void)sscanf(openblas_get_config(), "%*s %15s", version);
  snprintf(blas_name, sizeof blas_name, "openblas %s %s", version,
           openblas_get_corename());
  PTQ_TRY(check_product(err));
done:
  return rc;
}

const char *ptq_blas_name(void) {
  return blas_name;
}

void ptq_sgemm_nt(int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta,
                  float *c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ptq_int(m), ptq_int(n),
              ptq_int(k), alpha, a, ptq_int(lda), b, ptq_int(ldb), beta, c,
              ptq_int(ldc));
}

void ptq_sgemm_nn(int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta,
                  float *c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, ptq_int(m), ptq_int(n),
              ptq_int(k), alpha, a, ptq_int(lda), b, ptq_int(ldb), beta, c,
              ptq_int(ldc));
}

void ptq_sgemm_tn(int64_t m, int64_t n, int64_t k, float alpha, const float *a,
                  int64_t lda, const float *b, int64_t ldb, float beta,
                  float *c, int64_t ldc) {
  cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, ptq_int(m), ptq_int(n),
              ptq_int(k), alpha, a, ptq_int(lda), b, ptq_int(ldb), beta, c,
              ptq_int(ldc));
}

void ptq_dgemm_nt(int64_t m, int64_t n, int64_t k, double alpha,
                  const double *a, int64_t lda, const double *b, int64_t ldb,
                  double beta, double *c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ptq_int(m), ptq_int(n),
              ptq_int(k), alpha, a, ptq_int(lda), b, ptq_int(ldb), beta, c,
              ptq_int(ldc));
}

void ptq_dgemm_nn(int64_t m, int64_t n, int64_t k, double alpha,
                  const double *a, int64_t lda, const double *b, int64_t ldb,
                  double beta, double *c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, ptq_int(m), ptq_int(n),
              ptq_int(k), alpha, a, ptq_int(lda), b, ptq_int(ldb), beta, c,
              ptq_int(ldc));
}

void ptq_dgemm_tn(int64_t m, int64_t n, int64_t k, double alpha,
                  const double *a, int64_t lda, const double *b, int64_t ldb,
                  double beta, double *c, int64_t ldc) {
  cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, ptq_int(m), ptq_int(n),
              ptq_int(k), alpha, a, ptq_int(lda), b, ptq_int(ldb), beta, c,
              ptq_int(ldc));
}

void ptq_ssyrk_upper(int64_t n, int64_t k, const float *x, int64_t ldx,
                     float *c, int64_t ldc) {
  cblas_ssyrk(CblasRowMajor, CblasUpper, CblasTrans, ptq_int(n), ptq_int(k),
              1.0F, x, ptq_int(ldx), 0.0F, c, ptq_int(ldc));
}
