/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <math.h>

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

/* n R^2 of the regression of squared residuals on the columns (Koenker). */
static ptq_status breusch_pagan(ptq_fit *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &f->matrix;
  double *z = NULL, *b = NULL, *bread = NULL;
  if (m->k < 2) goto done;
  PTQ_TRY(ptq_alloc(&z, m->n, sizeof *z, "squared residuals", err));
  PTQ_TRY(ptq_alloc(&b, m->k, sizeof *b, "coefficients", err));
  PTQ_TRY(ptq_alloc(&bread, m->k * m->k, sizeof *bread, "covariance", err));
  double mean = 0.0, total = 0.0, rest = 0.0;
  for (int64_t i = 0; i < m->n; i++) {
    z[i] = weighted_residual(f, i) * weighted_residual(f, i);
    mean += z[i] / (double)m->n;
  }
  PTQ_TRY(ptq_wls(m->x, NULL, z, m->n, m->k, b, bread, err));
  for (int64_t i = 0; i < m->n; i++) {
    const double r = z[i] - ptq_row_dot(m->x + i * m->k, b, m->k);
    total += (z[i] - mean) * (z[i] - mean);
    rest += r * r;
  }
  if (!(total > 0.0)) goto done;
  f->diagnostics.breusch_pagan = (double)m->n * (1.0 - rest / total);
  f->diagnostics.breusch_pagan_p =
      gsl_cdf_chisq_Q(f->diagnostics.breusch_pagan, (double)(m->k - 1));
done:
  ptq_free(z);
  ptq_free(b);
  ptq_free(bread);
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

/* VIF_j = (X'X)^-1_jj sum (x_j - mean)^2, unweighted. */
static ptq_status inflation(ptq_fit *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &f->matrix;
  double *z = NULL, *b = NULL, *bread = NULL;
  PTQ_TRY(ptq_alloc(&z, m->n, sizeof *z, "zeros", err));
  PTQ_TRY(ptq_alloc(&b, m->k, sizeof *b, "coefficients", err));
  PTQ_TRY(ptq_alloc(&bread, m->k * m->k, sizeof *bread, "covariance", err));
  PTQ_TRY(ptq_wls(m->x, NULL, z, m->n, m->k, b, bread, err));
  f->coef[0].vif = NAN;
  for (int64_t j = 1; j < m->k; j++) {
    double mean = 0.0, spread = 0.0;
    for (int64_t i = 0; i < m->n; i++)
      mean += m->x[i * m->k + j] / (double)m->n;
    for (int64_t i = 0; i < m->n; i++) {
      const double d = m->x[i * m->k + j] - mean;
      spread += d * d;
    }
    f->coef[j].vif = bread[j * m->k + j] * spread;
  }
done:
  ptq_free(z);
  ptq_free(b);
  ptq_free(bread);
  return rc;
}

/* Largest over smallest singular value, columns at unit length (Belsley): of
 * the R of their QR factorization. */
static ptq_status condition(ptq_fit *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &f->matrix;
  const size_t k = (size_t)m->k;
  double *r = NULL;
  gsl_matrix *a = gsl_matrix_alloc(k, k), *v = gsl_matrix_alloc(k, k);
  gsl_vector *s = gsl_vector_alloc(k), *w = gsl_vector_alloc(k);
  if (a == NULL || v == NULL || s == NULL || w == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "singular values of %zu x %zu", k, k));
  PTQ_TRY(ptq_alloc(&r, m->k * m->k, sizeof *r, "singular values", err));
  PTQ_TRY(ptq_qr_factor(m->x, m->n, m->k, r, err));
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
  ptq_free(r);
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
