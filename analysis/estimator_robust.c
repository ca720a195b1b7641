/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Robust least squares on ln(dnll): Tukey's bisquare by GSL's
 * gsl_multifit_robust, whose residuals are divided by sigma sqrt(1 - h), h the
 * leverage, sigma the median absolute deviation of the residuals (without the
 * k - 1 smallest) over 0.6745, at the tuning constant 4.685. The classical
 * covariance is GSL's; errors clustered by model are the CR2 of the weighted
 * least squares with the final weights.
 */
#include <gsl/gsl_errno.h>
#include <gsl/gsl_multifit.h>
#include <math.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

static bool takes(ptq_censoring c) {
  return c == PTQ_CENSORED_NOT;
}

enum { MAX_ITERATIONS = 1000 };

/* GSL stops when no coefficient moves by more than 1.5e-8 of itself. */
static ptq_status iterate(const ptq_matrix *m, const double *y, double *b,
                          ptq_fit *fit, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const size_t n = (size_t)m->n, k = (size_t)m->k;
  gsl_multifit_robust_workspace *work =
      gsl_multifit_robust_alloc(gsl_multifit_robust_bisquare, n, k);
  if (work == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "robust fit of %zu x %zu", n, k));
  (void)gsl_multifit_robust_maxiter(MAX_ITERATIONS, work);
  const gsl_matrix_const_view xv = gsl_matrix_const_view_array(m->x, n, k);
  const gsl_vector_const_view yv = gsl_vector_const_view_array(y, n);
  gsl_vector_view bv = gsl_vector_view_array(b, k);
  gsl_matrix_view cv = gsl_matrix_view_array(fit->cov_classical, k, k);
  const int code =
      gsl_multifit_robust(&xv.matrix, &yv.vector, &bv.vector, &cv.matrix, work);
  if (code != GSL_SUCCESS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "robust fit: %s in %d iterations",
                     gsl_strerror(code), (int)MAX_ITERATIONS));
  const gsl_multifit_robust_stats stats = gsl_multifit_robust_statistics(work);
  fit->scale = stats.sigma;
  fit->iterations = (int)stats.numit;
  for (size_t i = 0; i < n; i++)
    fit->weight[i] = gsl_vector_get(stats.weights, i);
done:
  if (work != NULL) gsl_multifit_robust_free(work);
  return rc;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  (void)options;
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  double *y = NULL, *b = NULL, *again = NULL;
  PTQ_TRY(ptq_alloc(&y, m->n, sizeof *y, "responses", err));
  PTQ_TRY(ptq_alloc(&b, m->k, sizeof *b, "coefficients", err));
  PTQ_TRY(ptq_alloc(&again, m->k, sizeof *again, "coefficients", err));
  PTQ_TRY(ptq_alloc(&fit->weight, m->n, sizeof *fit->weight, "weights", err));
  for (int64_t i = 0; i < m->n; i++) (void)ptq_obs_censoring(m->obs[i], &y[i]);
  PTQ_TRY(iterate(m, y, b, fit, err));
  /* only for its bread (X' W X)^-1 */
  PTQ_TRY(ptq_wls(m->x, fit->weight, y, m->n, m->k, again, fit->bread, err));
  for (int64_t j = 0; j < m->k; j++) fit->coef[j].estimate = b[j];
  for (int64_t i = 0; i < m->n; i++) {
    const double eta = ptq_row_dot(m->x + i * m->k, b, m->k);
    fit->residual[i] = y[i] - eta;
    fit->fitted[i] = exp(eta);
    fit->n_rejected += fit->weight[i] <= 0.0;
  }
done:
  ptq_free(y);
  ptq_free(b);
  ptq_free(again);
  return rc;
}

const ptq_estimator ptq_estimator_robust = {
    .name = "robust",
    .title = "robust log-linear least squares (bisquare)",
    .excludes = "collapsed, or dnll < 2 dnll_se",
    .on_log = true,
    .takes = takes,
    .solve = solve,
};
