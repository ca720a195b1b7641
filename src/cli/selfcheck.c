/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "selfcheck.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"

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

ptq_status ptq_selfcheck(ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_rng rng;
  ptq_rng_init(&rng, 1);
  for (int s = NT; s <= TN; s++) {
    PTQ_TRY(check_sgemm((shape)s, M, N, K, &rng, err));
    PTQ_TRY(check_sgemm((shape)s, 64, 64, 64, &rng, err));
    PTQ_TRY(check_sgemm((shape)s, 1, 33, 17, &rng, err));
  }
  PTQ_TRY(check_moments(&rng, err));
done:
  return rc;
}
