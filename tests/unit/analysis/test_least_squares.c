/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "least_squares.h"
#include "ptq/base/rng.h"

enum { N = 1300, K = 6 };
static double x[N * K], z[N];

/* Columns of very different length, an intercept first. */
static void fill(int n) {
  ptq_rng rng;
  ptq_rng_init(&rng, 7);
  for (int i = 0; i < n; i++) {
    for (int j = 0; j < K; j++)
      x[i * K + j] = j == 0 ? 1.0 : exp(3.0 * j) * (ptq_rng_unit(&rng) - 0.5);
    z[i] = 2.0 - x[i * K + 1] + 0.01 * (ptq_rng_unit(&rng) - 0.5);
  }
}

/* (R'R - X'X)_ab is within n eps |x_a| |x_b|, twice for either sum, whether
 * the rows are less than a block, one, or several with a rest. */
static void r_is_that_of_the_columns_for_any_number_of_rows(void **state) {
  (void)state;
  static const int rows[] = {K, 511, 512, 513, N};
  for (int c = 0; c < 5; c++) {
    double r[K * K], norm[K] = {0.0};
    const int n = rows[c];
    fill(n);
    assert_int_equal(ptq_qr_factor(x, n, K, r, NULL), PTQ_OK);
    for (int i = 0; i < n; i++)
      for (int a = 0; a < K; a++) norm[a] = hypot(norm[a], x[i * K + a]);
    for (int b = 0; b < K; b++)
      for (int a = 0; a < K; a++) {
        double xx = 0.0, rr = 0.0;
        for (int i = 0; i < n; i++) xx += x[i * K + a] * x[i * K + b];
        for (int i = 0; i < K; i++) rr += r[i * K + a] * r[i * K + b];
        assert_true(fabs(rr - xx) <= 4.0 * n * DBL_EPSILON * norm[a] * norm[b]);
        if (a > b) assert_true(r[a * K + b] == 0.0);
      }
  }
}

/* Residuals are orthogonal to every column, and (X'WX) bread is the unit
 * matrix, with weights from 1 to 100. */
static void weighted_solution_leaves_what_no_column_explains(void **state) {
  (void)state;
  static double w[N];
  double b[K], bread[K * K];
  fill(N);
  for (int i = 0; i < N; i++) w[i] = 1.0 + i % 100;
  assert_int_equal(ptq_wls(x, w, z, N, K, b, bread, NULL), PTQ_OK);
  for (int j = 0; j < K; j++) {
    double moment = 0.0, size = 0.0;
    for (int i = 0; i < N; i++) {
      const double r = z[i] - ptq_row_dot(x + i * K, b, K);
      moment += w[i] * x[i * K + j] * r;
      size += fabs(w[i] * x[i * K + j] * z[i]);
    }
    assert_true(fabs(moment) <= 8.0 * N * DBL_EPSILON * size);
    for (int l = 0; l < K; l++) {
      double unit = 0.0;
      for (int a = 0; a < K; a++) {
        double xx = 0.0;
        for (int i = 0; i < N; i++) xx += w[i] * x[i * K + j] * x[i * K + a];
        unit += xx * bread[a * K + l];
      }
      /* the columns' lengths span e^15 = 3e6 */
      assert_true(fabs(unit - (j == l ? 1.0 : 0.0)) <=
                  exp(3.0 * abs(j - l)) * N * DBL_EPSILON * 10.0);
    }
  }
}

static void collinear_columns_are_refused(void **state) {
  (void)state;
  double b[K], bread[K * K];
  ptq_err err = {0};
  fill(N);
  for (int i = 0; i < N; i++) x[i * K + 3] = 0.0;
  assert_int_equal(ptq_wls(x, NULL, z, N, K, b, bread, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "collinear"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(r_is_that_of_the_columns_for_any_number_of_rows),
      cmocka_unit_test(weighted_solution_leaves_what_no_column_explains),
      cmocka_unit_test(collinear_columns_are_refused),
  };
  return cmocka_run_group_tests_name("analysis/least_squares", tests, NULL,
                                     NULL);
}
