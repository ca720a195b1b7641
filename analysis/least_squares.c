/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "least_squares.h"

#include <gsl/gsl_errno.h>
#include <gsl/gsl_multifit.h>

#include "ptq/base/mem.h"

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

ptq_status ptq_wls(const double *x, const double *w, const double *z, int64_t n,
                   int64_t k, double *b, double *bread, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *ones = NULL;
  gsl_multifit_linear_workspace *work =
      gsl_multifit_linear_alloc((size_t)n, (size_t)k);
  if (work == NULL) {
    rc = PTQ_FAIL(err, PTQ_E_NOMEM, "least squares of %lld x %lld",
                  (long long)n, (long long)k);
    goto done;
  }
  if (w == NULL) {
    PTQ_TRY(ptq_alloc(&ones, n, sizeof *ones, "weights", err));
    for (int64_t i = 0; i < n; i++) ones[i] = 1.0;
    w = ones;
  }
  const gsl_matrix_const_view xv =
      gsl_matrix_const_view_array(x, (size_t)n, (size_t)k);
  const gsl_vector_const_view wv = gsl_vector_const_view_array(w, (size_t)n);
  const gsl_vector_const_view zv = gsl_vector_const_view_array(z, (size_t)n);
  gsl_vector_view bv = gsl_vector_view_array(b, (size_t)k);
  gsl_matrix_view cv = gsl_matrix_view_array(bread, (size_t)k, (size_t)k);
  double chisq = 0.0;
  const int code = gsl_multifit_wlinear(&xv.matrix, &wv.vector, &zv.vector,
                                        &bv.vector, &cv.matrix, &chisq, work);
  if (code != GSL_SUCCESS)
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC, "least squares: %s", gsl_strerror(code));
done:
  if (work != NULL) gsl_multifit_linear_free(work);
  ptq_free(ones);
  return rc;
}
