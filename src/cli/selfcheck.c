/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "selfcheck.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

enum { M = 67, N = 130, K = 261, D = 48 };

/* Uniform in [-1, 1). */
static void fill(float *x, int64_t n, ptq_rng *rng) {
  for (int64_t i = 0; i < n; i++) x[i] = (float)(2.0 * ptq_rng_unit(rng) - 1.0);
}

typedef enum shape { NT, NN, TN } shape;

static double element(shape s, const float *a, const float *b, int64_t i,
                      int64_t j, int64_t m, int64_t n, int64_t k) {
  double sum = 0.0;
  for (int64_t p = 0; p < k; p++)
    sum += (double)(s == TN ? a[p * m + i] : a[i * k + p]) *
           (double)(s == NT ? b[j * k + p] : b[p * n + j]);
  return sum;
}

static ptq_status wrong(const char *routine, double off, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "%s is wrong on this CPU: %s of %s is off by %.3g; set "
                  "OPENBLAS_CORETYPE to an older core (such as Haswell or "
                  "Nehalem), or use another OpenBLAS",
                  ptq_blas_name(), routine, "a small product", off);
}

static ptq_status wrong_bf16(const char *routine, double off, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "%s is wrong on this CPU: %s of a small product is off by "
                  "%.3g; set ONEDNN_MAX_CPU_ISA=AVX512_CORE to have OpenBLAS "
                  "multiply, or use 'compute: f32'",
                  ptq_bf16_name(), routine, off);
}

/* Sums of k products of numbers below 1: k roundings of sums below k. */
static ptq_status check_sgemm(shape s, int64_t m, int64_t n, int64_t k,
                              ptq_rng *rng, ptq_err *err) {
  static const char *const names[] = {"sgemm nt", "sgemm nn", "sgemm tn"};
  ptq_status rc = PTQ_OK;
  float *a = NULL, *b = NULL, *c = NULL;
  const double bound = (double)k * (double)k * (double)FLT_EPSILON;
  PTQ_TRY(ptq_alloc(&a, m * k, sizeof *a, "check of BLAS", err));
  PTQ_TRY(ptq_alloc(&b, n * k, sizeof *b, "check of BLAS", err));
  PTQ_TRY(ptq_alloc(&c, m * n, sizeof *c, "check of BLAS", err));
  fill(a, m * k, rng);
  fill(b, n * k, rng);
  if (s == NT) ptq_sgemm_nt(m, n, k, 1.0F, a, k, b, k, 0.0F, c, n);
  if (s == NN) ptq_sgemm_nn(m, n, k, 1.0F, a, k, b, n, 0.0F, c, n);
  if (s == TN) ptq_sgemm_tn(m, n, k, 1.0F, a, m, b, n, 0.0F, c, n);
  if (getenv("PTQSWEEP_BREAK_BLAS") != NULL) c[m * n - 1] += 1.0F;
  for (int64_t i = 0; i < m && rc == PTQ_OK; i++)
    for (int64_t j = 0; j < n && rc == PTQ_OK; j++) {
      const double off =
          fabs((double)c[i * n + j] - element(s, a, b, i, j, m, n, k));
      if (!(off <= bound)) rc = wrong(names[s], off, err);
    }
done:
  ptq_free(a);
  ptq_free(b);
  ptq_free(c);
  return rc;
}

/* The same of bfloat16, in the three ways that the forward pass multiplies. */
static ptq_status check_bf16(int64_t m, int64_t n, int64_t k, ptq_rng *rng,
                             ptq_err *err) {
  static const char *const names[] = {"bf16 packed", "bf16 nt", "bf16 nn"};
  ptq_status rc = PTQ_OK;
  ptq_multiplier *mul = NULL;
  ptq_packed *packed = NULL;
  float *a = NULL, *b = NULL, *c = NULL;
  ptq_bf16 *ra = NULL, *rb = NULL;
  const double bound = (double)k * (double)k * (double)FLT_EPSILON;
  PTQ_TRY(ptq_alloc(&a, m * k, sizeof *a, "check of bf16", err));
  PTQ_TRY(ptq_alloc(&b, n * k, sizeof *b, "check of bf16", err));
  PTQ_TRY(ptq_alloc(&c, m * n, sizeof *c, "check of bf16", err));
  PTQ_TRY(ptq_alloc(&ra, m * k, sizeof *ra, "check of bf16", err));
  PTQ_TRY(ptq_alloc(&rb, n * k, sizeof *rb, "check of bf16", err));
  PTQ_TRY(ptq_multiplier_create(&mul, err));
  PTQ_TRY(ptq_packed_create(mul, n, k, &packed, err));
  fill(a, m * k, rng);
  fill(b, n * k, rng);
  ptq_vec_to_bf16(a, m * k, ra);
  ptq_vec_to_bf16(b, n * k, rb);
  ptq_vec_from_bf16(ra, m * k, a);
  ptq_vec_from_bf16(rb, n * k, b);
  PTQ_TRY(ptq_packed_set(packed, mul, b, err));
  for (int way = 0; way < 3; way++) {
    if (way == 0) PTQ_TRY(ptq_bf16_apply(mul, m, a, packed, c, err));
    if (way == 1) PTQ_TRY(ptq_bf16_nt(mul, m, n, k, 1.0F, ra, rb, c, err));
    if (way == 2) PTQ_TRY(ptq_bf16_nn(mul, m, n, k, ra, rb, false, c, err));
    if (getenv("PTQSWEEP_BREAK_BF16") != NULL) c[m * n - 1] += 1.0F;
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) {
        const double off =
            fabs((double)c[i * n + j] -
                 element(way == 2 ? NN : NT, a, b, i, j, m, n, k));
        if (!(off <= bound)) PTQ_TRY(wrong_bf16(names[way], off, err));
      }
  }
done:
  ptq_packed_free(packed);
  ptq_multiplier_free(mul);
  ptq_free(a);
  ptq_free(b);
  ptq_free(c);
  ptq_free(ra);
  ptq_free(rb);
  return rc;
}

/* X'X by ssyrk and by dgemm; the sum of its eigenvalues is its trace. */
static ptq_status check_moments(ptq_rng *rng, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  static float x[K * D], c[D * D];
  static double y[K * D], h[D * D], w[D];
  double trace = 0.0, sum = 0.0;
  fill(x, (int64_t)K * D, rng);
  for (int i = 0; i < K * D; i++) y[i] = (double)x[i];
  ptq_ssyrk_upper(D, K, x, D, c, D);
  ptq_dgemm_tn(D, D, K, 1.0, y, D, y, D, 0.0, h, D);
  for (int i = 0; i < D; i++)
    for (int j = i; j < D; j++) {
      const double exact = element(TN, x, x, i, j, D, D, K);
      const double off = fabs(h[i * D + j] - exact);
      const double single = fabs((double)c[i * D + j] - exact);
      if (!(off <= (double)K * K * DBL_EPSILON))
        return wrong("dgemm", off, err);
      if (!(single <= (double)K * K * (double)FLT_EPSILON))
        return wrong("ssyrk", single, err);
    }
  for (int i = 0; i < D; i++) trace += h[i * D + i];
  PTQ_TRY(ptq_eigenvalues(h, D, w, err));
  for (int i = 0; i < D; i++) sum += w[i];
  if (!(fabs(sum - trace) <= 1e-10 * trace))
    rc = wrong("dsyevr", fabs(sum - trace), err);
done:
  return rc;
}

ptq_status ptq_selfcheck(ptq_compute compute, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_rng rng;
  ptq_rng_init(&rng, 1);
  for (int s = NT; s <= TN; s++) {
    PTQ_TRY(check_sgemm((shape)s, M, N, K, &rng, err));
    PTQ_TRY(check_sgemm((shape)s, 64, 64, 64, &rng, err));
    PTQ_TRY(check_sgemm((shape)s, 1, 33, 17, &rng, err));
  }
  PTQ_TRY(check_moments(&rng, err));
  if (compute == PTQ_COMPUTE_F32) return PTQ_OK;
  PTQ_TRY(check_bf16(M, N, K, &rng, err));
  PTQ_TRY(check_bf16(64, 64, 64, &rng, err));
  PTQ_TRY(check_bf16(1, 33, 17, &rng, err));
done:
  return rc;
}
