/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <gsl/gsl_blas.h>
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <string.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

static double weighted_residual(const ptq_fit *f, int64_t i) {
  return sqrt(f->weight[i]) * f->residual[i];
}

/* n/6 (S^2 + K^2/4), chi-squared with two degrees of freedom. */
static void jarque_bera(ptq_fit *f) {
  const int64_t n = f->matrix.n;
  double mean = 0.0, m2 = 0.0, m3 = 0.0, m4 = 0.0;
  for (int64_t i = 0; i < n; i++) mean += weighted_residual(f, i);
  mean /= (double)n;
  for (int64_t i = 0; i < n; i++) {
    const double d = weighted_residual(f, i) - mean;
    m2 += d * d;
    m3 += d * d * d;
    m4 += d * d * d * d;
  }
  m2 /= (double)n;
  m3 /= (double)n;
  m4 /= (double)n;
  if (!(m2 > 0.0)) return;
  const double skew = m3 / pow(m2, 1.5), excess = m4 / (m2 * m2) - 3.0;
  f->diagnostics.jarque_bera =
      (double)n / 6.0 * (skew * skew + 0.25 * excess * excess);
  f->diagnostics.jarque_bera_p =
      gsl_cdf_chisq_Q(f->diagnostics.jarque_bera, 2.0);
}

/* n R^2 of the regression of squared residuals z on the columns (Koenker).
 * Q'z = R'^-1 X'z; the first of it is the mean's share, the intercept's. */
static ptq_status breusch_pagan(ptq_fit *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &f->matrix;
  const size_t n = (size_t)m->n, k = (size_t)m->k;
  double *z = NULL, *q = NULL;
  if (m->k < 2) goto done;
  PTQ_TRY(ptq_alloc(&z, m->n, sizeof *z, "squared residuals", err));
  PTQ_TRY(ptq_alloc(&q, m->k, sizeof *q, "squared residuals", err));
  double mean = 0.0, total = 0.0, explained = 0.0;
  for (int64_t i = 0; i < m->n; i++) {
    z[i] = weighted_residual(f, i) * weighted_residual(f, i);
    mean += z[i] / (double)m->n;
  }
  for (int64_t i = 0; i < m->n; i++) total += (z[i] - mean) * (z[i] - mean);
  if (!(total > 0.0)) goto done;
  const gsl_matrix_const_view xv = gsl_matrix_const_view_array(m->x, n, k);
  const gsl_matrix_const_view rv = gsl_matrix_const_view_array(m->r, k, k);
  const gsl_vector_const_view zv = gsl_vector_const_view_array(z, n);
  gsl_vector_view qv = gsl_vector_view_array(q, k);
  (void)gsl_blas_dgemv(CblasTrans, 1.0, &xv.matrix, &zv.vector, 0.0,
                       &qv.vector);
  (void)gsl_blas_dtrsv(CblasUpper, CblasTrans, CblasNonUnit, &rv.matrix,
                       &qv.vector);
  for (int64_t j = 1; j < m->k; j++) explained += q[j] * q[j];
  f->diagnostics.breusch_pagan = (double)m->n * explained / total;
  f->diagnostics.breusch_pagan_p =
      gsl_cdf_chisq_Q(f->diagnostics.breusch_pagan, (double)(m->k - 1));
done:
  ptq_free(z);
  ptq_free(q);
  return rc;
}

static void insert_cook(ptq_diagnostics *d, int64_t row, double distance) {
  const int max = (int)(sizeof d->cook / sizeof d->cook[0]);
  int at = d->n_cook;
  while (at > 0 && d->cook[at - 1].distance < distance) at--;
  if (at == max) return;
  if (d->n_cook < max) d->n_cook++;
  for (int i = d->n_cook - 1; i > at; i--) d->cook[i] = d->cook[i - 1];
  d->cook[at].row = row;
  d->cook[at].distance = distance;
}

static void cook(ptq_fit *f, const double *bread) {
  const ptq_matrix *m = &f->matrix;
  double rss = 0.0;
  for (int64_t i = 0; i < m->n; i++)
    rss += weighted_residual(f, i) * weighted_residual(f, i);
  const double s2 = rss / (double)(m->n - m->k);
  if (!(s2 > 0.0)) return;
  for (int64_t i = 0; i < m->n; i++) {
    const double h = f->weight[i] * ptq_quadratic(m->x + i * m->k, bread, m->k);
    const double e = weighted_residual(f, i), left = 1.0 - h;
    if (left > 1e-10)
      insert_cook(&f->diagnostics, i,
                  e * e * h / ((double)m->k * s2 * left * left));
  }
}

/* VIF_j = (X'X)^-1_jj sum (x_j - mean)^2, unweighted. Of R: the sum is that of
 * its column's squares below the intercept's row. */
static ptq_status inflation(ptq_fit *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = f->matrix.k;
  const double *r = f->matrix.r;
  double *inverse = NULL;
  PTQ_TRY(ptq_alloc(&inverse, k * k, sizeof *inverse, "inflation", err));
  memcpy(inverse, r, (size_t)(k * k) * sizeof *r);
  gsl_matrix_view v = gsl_matrix_view_array(inverse, (size_t)k, (size_t)k);
  const int code = gsl_linalg_tri_invert(CblasUpper, CblasNonUnit, &v.matrix);
  if (code != GSL_SUCCESS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "inflation: %s", gsl_strerror(code)));
  f->coef[0].vif = NAN;
  for (int64_t j = 1; j < k; j++) {
    double variance = 0.0, spread = 0.0;
    for (int64_t l = j; l < k; l++)
      variance += inverse[j * k + l] * inverse[j * k + l];
    for (int64_t i = 1; i <= j; i++) spread += r[i * k + j] * r[i * k + j];
    f->coef[j].vif = variance * spread;
  }
done:
  ptq_free(inverse);
  return rc;
}

/* Largest over smallest singular value, columns at unit length (Belsley): of
 * the R of their QR factorization. */
static ptq_status condition(ptq_fit *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &f->matrix;
  const size_t k = (size_t)m->k;
  const double *r = m->r;
  gsl_matrix *a = gsl_matrix_alloc(k, k), *v = gsl_matrix_alloc(k, k);
  gsl_vector *s = gsl_vector_alloc(k), *w = gsl_vector_alloc(k);
  if (a == NULL || v == NULL || s == NULL || w == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "singular values of %zu x %zu", k, k));
  for (size_t j = 0; j < k; j++) {
    double norm = 0.0;
    for (size_t i = 0; i < k; i++) norm += r[i * k + j] * r[i * k + j];
    norm = sqrt(norm);
    for (size_t i = 0; i < k; i++) gsl_matrix_set(a, i, j, r[i * k + j] / norm);
  }
  const int code = gsl_linalg_SV_decomp(a, v, s, w);
  if (code != GSL_SUCCESS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "singular values: %s",
                     gsl_strerror(code)));
  f->diagnostics.condition = gsl_vector_get(s, 0) / gsl_vector_get(s, k - 1);
done:
  gsl_matrix_free(a);
  gsl_matrix_free(v);
  gsl_vector_free(s);
  gsl_vector_free(w);
  return rc;
}

ptq_status ptq_diagnose(ptq_fit *fit, const double *bread, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  fit->diagnostics = (ptq_diagnostics){.jarque_bera = NAN,
                                       .jarque_bera_p = NAN,
                                       .breusch_pagan = NAN,
                                       .breusch_pagan_p = NAN,
                                       .condition = NAN};
  PTQ_TRY(inflation(fit, err));
  PTQ_TRY(condition(fit, err));
  if (fit->weight == NULL) goto done;
  jarque_bera(fit);
  PTQ_TRY(breusch_pagan(fit, err));
  cook(fit, bread);
done:
  return rc;
}
