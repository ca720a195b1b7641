/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "least_squares.h"

#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_math.h>
#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"

double ptq_gaussian_likelihood(const ptq_fit *fit) {
  const double n = (double)fit->matrix.n;
  double rss = 0.0, log_w = 0.0;
  for (int64_t i = 0; i < fit->matrix.n; i++) {
    const double w = fit->weight != NULL ? fit->weight[i] : 1.0;
    rss += w * fit->residual[i] * fit->residual[i];
    log_w += log(w);
  }
  return 0.5 * log_w - 0.5 * n * (log(2.0 * M_PI * rss / n) + 1.0);
}

double ptq_row_dot(const double *row, const double *b, int64_t k) {
  double s = 0.0;
  for (int64_t j = 0; j < k; j++) s += row[j] * b[j];
  return s;
}

double ptq_quadratic(const double *a, const double *m, int64_t k) {
  double s = 0.0;
  for (int64_t j = 0; j < k; j++) s += a[j] * ptq_row_dot(m + j * k, a, k);
  return s;
}

/* R of [sqrt(w) X, sqrt(w) z] = Q R: r[c, c] row-major, c = k, or k + 1 with
 * z. Rows come in blocks, each below the R of the rows before it: as stable as
 * one factorization of all (GSL's recursive one, level 3 BLAS), and in cache.
 */
static ptq_status factor(const double *x, const double *w, const double *z,
                         int64_t n, int64_t k, double *r, ptq_err *err) {
  enum { ROWS = 512 };
  ptq_status rc = PTQ_OK;
  const int64_t c = k + (z != NULL);
  double *a = NULL, *t = NULL;
  PTQ_TRY(ptq_alloc(&a, (c + ROWS) * c, sizeof *a, "least squares", err));
  PTQ_TRY(ptq_alloc(&t, c * c, sizeof *t, "least squares", err));
  gsl_matrix_view tv = gsl_matrix_view_array(t, (size_t)c, (size_t)c);
  for (int64_t first = 0, above = 0; first < n; first += ROWS, above = c) {
    const int64_t rows = n - first < ROWS ? n - first : ROWS;
    for (int64_t i = 0; i < rows; i++) {
      const double s = w != NULL ? sqrt(w[first + i]) : 1.0;
      double *to = a + (above + i) * c;
      for (int64_t j = 0; j < k; j++) to[j] = s * x[(first + i) * k + j];
      if (z != NULL) to[k] = s * z[first + i];
    }
    gsl_matrix_view av =
        gsl_matrix_view_array(a, (size_t)(above + rows), (size_t)c);
    const int code = gsl_linalg_QR_decomp_r(&av.matrix, &tv.matrix);
    if (code != GSL_SUCCESS)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "least squares: %s",
                       gsl_strerror(code)));
    for (int64_t i = 1; i < c; i++)
      for (int64_t j = 0; j < i; j++) a[i * c + j] = 0.0;
  }
  memcpy(r, a, (size_t)(c * c) * sizeof *r);
done:
  ptq_free(a);
  ptq_free(t);
  return rc;
}

ptq_status ptq_qr_factor(const double *x, int64_t n, int64_t k, double *r,
                         ptq_err *err) {
  return factor(x, NULL, NULL, n, k, r, err);
}

ptq_status ptq_wls(const double *x, const double *w, const double *z, int64_t n,
                   int64_t k, double *b, double *bread, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t c = k + 1;
  double *r = NULL;
  PTQ_TRY(ptq_alloc(&r, c * c, sizeof *r, "least squares", err));
  PTQ_TRY(factor(x, w, z, n, k, r, err));
  for (int64_t j = 0; j < k; j++)
    if (!(fabs(r[j * c + j]) > 0.0) || !isfinite(r[j * c + k]))
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC,
                       "least squares: the columns are collinear or not "
                       "finite"));
  for (int64_t j = k - 1; j >= 0; j--) {
    double s = r[j * c + k];
    for (int64_t i = j + 1; i < k; i++) s -= r[j * c + i] * b[i];
    b[j] = s / r[j * c + j];
  }
  gsl_matrix_view rv =
      gsl_matrix_view_array_with_tda(r, (size_t)k, (size_t)k, (size_t)c);
  const int code = gsl_linalg_tri_invert(CblasUpper, CblasNonUnit, &rv.matrix);
  if (code != GSL_SUCCESS)
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_NUMERIC, "least squares: %s", gsl_strerror(code)));
  for (int64_t i = 0; i < k; i++)
    for (int64_t j = 0; j <= i; j++) {
      double s = 0.0;
      for (int64_t l = i; l < k; l++) s += r[i * c + l] * r[j * c + l];
      bread[i * k + j] = bread[j * k + i] = s;
    }
done:
  ptq_free(r);
  return rc;
}
