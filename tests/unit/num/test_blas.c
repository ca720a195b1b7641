/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"

static void *block(int64_t n, size_t size) {
  void *p = NULL;
  assert_int_equal(ptq_alloc(&p, n, size, "test", NULL), PTQ_OK);
  return p;
}

/* H = (1/k) X'X + 0.1 I for random X[k, n]: positive definite. */
static double *random_spd(int64_t n, uint64_t seed) {
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  const int64_t k = n / 2 + 3;
  float *x = block(k * n, sizeof *x), *c = block(n * n, sizeof *c);
  double *h = block(n * n, sizeof *h);
  for (int64_t i = 0; i < k * n; i++) x[i] = (float)ptq_rng_unit(&rng) - 0.5F;
  ptq_ssyrk_upper(n, k, x, n, c, n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i; j < n; j++) {
      const double v = (double)c[i * n + j] / (double)k + (i == j ? 0.1 : 0.0);
      h[i * n + j] = h[j * n + i] = v;
    }
  ptq_free(x);
  ptq_free(c);
  return h;
}

/* Plain loops: the upper U with A = U' U, in place (lower part zeroed). */
static void plain_cholesky(double *a, int64_t n) {
  for (int64_t j = 0; j < n; j++) {
    for (int64_t k = 0; k < j; k++)
      for (int64_t i = j; i < n; i++)
        a[j * n + i] -= a[k * n + j] * a[k * n + i];
    const double d = sqrt(a[j * n + j]);
    for (int64_t i = j; i < n; i++) a[j * n + i] /= d;
    for (int64_t i = 0; i < j; i++) a[j * n + i] = 0.0;
  }
}

/* Plain loops: inverse of the SPD matrix whose factor is U: solve column by
 * column. */
static double *plain_inverse(const double *u, int64_t n) {
  double *inv = block(n * n, sizeof *inv);
  for (int64_t c = 0; c < n; c++) {
    double *x = inv + c * n; /* symmetric: row c is column c */
    for (int64_t i = 0; i < n; i++) {
      double s = i == c ? 1.0 : 0.0;
      for (int64_t k = 0; k < i; k++) s -= u[k * n + i] * x[k];
      x[i] = s / u[i * n + i];
    }
    for (int64_t i = n - 1; i >= 0; i--) {
      double s = x[i];
      for (int64_t k = i + 1; k < n; k++) s -= u[i * n + k] * x[k];
      x[i] = s / u[i * n + i];
    }
  }
  return inv;
}

static void the_library_is_openblas_and_has_a_name(void **state) {
  (void)state;
  assert_non_null(strstr(ptq_blas_name(), "openblas 0."));
}

static void products_equal_plain_loops(void **state) {
  (void)state;
  enum { M = 5, N = 7, K = 11, LD = 13 };
  float a[LD * LD], b[LD * LD], c[LD * LD], old[LD * LD];
  ptq_rng rng;
  ptq_rng_init(&rng, 2);
  for (int i = 0; i < LD * LD; i++) {
    a[i] = (float)ptq_rng_unit(&rng) - 0.5F;
    b[i] = (float)ptq_rng_unit(&rng) - 0.5F;
    old[i] = (float)ptq_rng_unit(&rng) - 0.5F;
  }
  for (int kind = 0; kind < 3; kind++) {
    memcpy(c, old, sizeof c);
    (kind == 0   ? ptq_sgemm_nt
     : kind == 1 ? ptq_sgemm_nn
                 : ptq_sgemm_tn)(M, N, K, 2.0F, a, LD, b, LD, 0.5F, c, LD);
    for (int i = 0; i < LD; i++)
      for (int j = 0; j < LD; j++) {
        double s = (double)old[i * LD + j];
        if (i < M && j < N) {
          s *= 0.5;
          for (int k = 0; k < K; k++)
            s += 2.0 * (double)(kind == 2 ? a[k * LD + i] : a[i * LD + k]) *
                 (double)(kind == 0 ? b[j * LD + k] : b[k * LD + j]);
        }
        /* K + 1 terms of at most 1/2 */
        assert_true(fabs((double)c[i * LD + j] - s) <= K * K * 0x1p-24);
      }
  }
}

static void products_in_float64_equal_plain_loops(void **state) {
  (void)state;
  enum { M = 5, N = 7, K = 11, LD = 13 };
  double a[LD * LD], b[LD * LD], c[LD * LD], old[LD * LD];
  ptq_rng rng;
  ptq_rng_init(&rng, 3);
  for (int i = 0; i < LD * LD; i++) {
    a[i] = ptq_rng_unit(&rng) - 0.5;
    b[i] = ptq_rng_unit(&rng) - 0.5;
    c[i] = old[i] = ptq_rng_unit(&rng) - 0.5;
  }
  ptq_dgemm_tn(M, N, K, 2.0, a, LD, b, LD, 0.5, c, LD);
  for (int i = 0; i < LD; i++)
    for (int j = 0; j < LD; j++) {
      double s = old[i * LD + j];
      if (i < M && j < N) {
        s *= 0.5;
        for (int k = 0; k < K; k++) s += 2.0 * a[k * LD + i] * b[k * LD + j];
      }
      assert_true(fabs(c[i * LD + j] - s) <= K * K * 0x1p-53);
    }
}

static void ssyrk_leaves_the_lower_triangle_alone(void **state) {
  (void)state;
  const float x[6] = {1, 2, 3, 4, 5, 6}; /* [2, 3] */
  float c[9];
  for (int i = 0; i < 9; i++) c[i] = NAN;
  ptq_ssyrk_upper(3, 2, x, 3, c, 3);
  assert_true(c[0] == 17 && c[1] == 22 && c[2] == 27);
  assert_true(c[4] == 29 && c[5] == 36 && c[8] == 45);
  assert_true(isnan(c[3]) && isnan(c[6]) && isnan(c[7]));
}

/* Orders around the tile's 256, and the smallest. */
static void inverse_factor_equals_cholesky_of_the_inverse(void **state) {
  (void)state;
  static const int64_t orders[] = {1, 2, 31, 255, 256, 257, 515};
  for (size_t o = 0; o < sizeof orders / sizeof orders[0]; o++) {
    const int64_t n = orders[o];
    double *h = random_spd(n, 100 + o), *plain = block(n * n, sizeof *plain);
    memcpy(plain, h, (size_t)(n * n) * sizeof *h);
    plain_cholesky(plain, n);
    double *inv = plain_inverse(plain, n);
    plain_cholesky(inv, n);
    assert_int_equal(ptq_inverse_factor(h, n, 2, NULL), PTQ_OK);
    /* H has eigenvalues of about 0.1 to 1: both ways lose few digits. */
    for (int64_t i = 0; i < n * n; i++)
      if (!(fabs(h[i] - inv[i]) <= 1e-11) || (i % n < i / n && h[i] != 0.0))
        fail_msg("order %d, element %d: %g, plain %g", (int)n, (int)i, h[i],
                 inv[i]);
    ptq_free(h);
    ptq_free(plain);
    ptq_free(inv);
  }
}

static void inverse_factor_has_the_same_bits_for_any_threads(void **state) {
  (void)state;
  enum { N = 777 };
  double *first = random_spd(N, 5);
  assert_int_equal(ptq_inverse_factor(first, N, 1, NULL), PTQ_OK);
  for (int threads = 2; threads <= 5; threads++) {
    double *h = random_spd(N, 5);
    assert_int_equal(ptq_inverse_factor(h, N, threads, NULL), PTQ_OK);
    assert_memory_equal(h, first, (size_t)N * N * sizeof *h);
    ptq_free(h);
  }
  ptq_free(first);
}

static void an_indefinite_matrix_is_refused_with_its_row(void **state) {
  (void)state;
  enum { N = 300 };
  static const double bad[] = {-1.0, 0.0, NAN};
  for (int row = 0; row < N; row += 23)
    for (int k = 0; k < 3; k++) {
      double *h = block(N * N, sizeof *h);
      for (int i = 0; i < N; i++) h[i * N + i] = i == row ? bad[k] : 1.0;
      ptq_err err = {0};
      char want[32];
      snprintf(want, sizeof want, "seen at row %d,", row);
      assert_int_equal(ptq_inverse_factor(h, N, 1, &err), PTQ_E_NUMERIC);
      assert_non_null(strstr(err.msg, "not positive definite"));
      assert_non_null(strstr(err.msg, want));
      ptq_free(h);
    }
}

/* The second difference matrix: eigenvalues 2 - 2 cos(pi k / (n + 1)). */
static void eigenvalues_descend_and_match_a_known_spectrum(void **state) {
  (void)state;
  enum { N = 50 };
  const double pi = acos(-1.0);
  double *a = block(N * N, sizeof *a), w[N];
  for (int i = 0; i < N; i++) {
    a[i * N + i] = 2.0;
    if (i + 1 < N) a[i * N + i + 1] = -1.0;
    if (i > 0) a[i * N + i - 1] = 1e9; /* below the diagonal: not read */
  }
  assert_int_equal(ptq_eigenvalues(a, N, w, NULL), PTQ_OK);
  for (int i = 0; i < N; i++) {
    const double want = 2.0 - 2.0 * cos(pi * (N - i) / (N + 1.0));
    assert_true(fabs(w[i] - want) <= N * 4.0 * DBL_EPSILON);
  }
  double one = 3.5, w1 = 0.0;
  assert_int_equal(ptq_eigenvalues(&one, 1, &w1, NULL), PTQ_OK);
  assert_true(w1 == 3.5);
  assert_int_equal(ptq_eigenvalues(NULL, 0, NULL, NULL), PTQ_OK);
  ptq_free(a);
}

static void eigenvalues_of_nan_are_refused(void **state) {
  (void)state;
  double a[4] = {1.0, NAN, 0.0, 1.0}, w[2];
  ptq_err err = {0};
  assert_int_equal(ptq_eigenvalues(a, 2, w, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "NaN"));
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : -1;
}

/* Of the second difference matrix again: component j of eigenvector k is
 * proportional to sin(pi k j / (n + 1)). */
static void eigenvectors_solve_a_known_problem(void **state) {
  (void)state;
  enum { N = 40, MOST = 40 };
  double a[N * N], w[N], v[MOST * N];
  for (int count = 1; count <= MOST; count += 13) {
    memset(a, 0, sizeof a);
    for (int i = 0; i < N; i++) {
      a[i * N + i] = 2.0;
      if (i + 1 < N) a[i * N + i + 1] = -1.0;
    }
    assert_int_equal(ptq_eigenvectors(a, N, count, w, v, NULL), PTQ_OK);
    for (int k = 0; k < count; k++) {
      const double angle = acos(-1.0) * (N - k) / (N + 1.0);
      assert_true(fabs(w[k] - (2.0 - 2.0 * cos(angle))) < 1e-13);
      double dot = 0.0;
      for (int i = 0; i < N; i++)
        dot += v[k * N + i] * sin(angle * (i + 1)) * sqrt(2.0 / (N + 1.0));
      assert_true(fabs(fabs(dot) - 1.0) < 1e-12);
    }
  }
}

static void eigenvectors_of_zero_are_orthonormal(void **state) {
  (void)state;
  enum { N = 6, COUNT = 3 };
  double a[N * N] = {0.0}, w[N], v[COUNT * N];
  assert_int_equal(ptq_eigenvectors(a, N, COUNT, w, v, NULL), PTQ_OK);
  for (int k = 0; k < COUNT; k++)
    for (int l = 0; l < COUNT; l++) {
      double dot = 0.0;
      for (int i = 0; i < N; i++) dot += v[k * N + i] * v[l * N + i];
      assert_true(fabs(dot - (k == l)) < 1e-14 && w[k] == 0.0);
    }
}

static void products_in_float64_agree(void **state) {
  (void)state;
  enum { M = 5, N = 4, K = 3 };
  double a[M * K], b[K * N], at[K * M], bt[N * K], c[3][M * N];
  for (int i = 0; i < M * K; i++) a[i] = 0.5 * i - 3.0;
  for (int i = 0; i < K * N; i++) b[i] = 1.25 * i - 4.0;
  for (int i = 0; i < M; i++)
    for (int k = 0; k < K; k++) at[k * M + i] = a[i * K + k];
  for (int k = 0; k < K; k++)
    for (int j = 0; j < N; j++) bt[j * K + k] = b[k * N + j];
  for (int i = 0; i < 3 * M * N; i++) c[i / (M * N)][i % (M * N)] = 1.0;
  ptq_dgemm_nn(M, N, K, 2.0, a, K, b, N, -1.0, c[0], N);
  ptq_dgemm_nt(M, N, K, 2.0, a, K, bt, K, -1.0, c[1], N);
  ptq_dgemm_tn(M, N, K, 2.0, at, M, b, N, -1.0, c[2], N);
  for (int i = 0; i < M; i++)
    for (int j = 0; j < N; j++) {
      double sum = 0.0; /* of small multiples of 1/8: exact */
      for (int k = 0; k < K; k++) sum += a[i * K + k] * b[k * N + j];
      for (int x = 0; x < 3; x++)
        assert_true(c[x][i * N + j] == 2.0 * sum - 1.0);
    }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_library_is_openblas_and_has_a_name),
      cmocka_unit_test(products_equal_plain_loops),
      cmocka_unit_test(products_in_float64_equal_plain_loops),
      cmocka_unit_test(ssyrk_leaves_the_lower_triangle_alone),
      cmocka_unit_test(inverse_factor_equals_cholesky_of_the_inverse),
      cmocka_unit_test(inverse_factor_has_the_same_bits_for_any_threads),
      cmocka_unit_test(an_indefinite_matrix_is_refused_with_its_row),
      cmocka_unit_test(eigenvalues_descend_and_match_a_known_spectrum),
      cmocka_unit_test(eigenvalues_of_nan_are_refused),
      cmocka_unit_test(eigenvectors_solve_a_known_problem),
      cmocka_unit_test(eigenvectors_of_zero_are_orthonormal),
      cmocka_unit_test(products_in_float64_agree),
  };
  return cmocka_run_group_tests_name("num/blas", tests, start, NULL);
}
