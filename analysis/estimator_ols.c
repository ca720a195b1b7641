/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

static bool takes(ptq_censoring c) {
  return c == PTQ_CENSORED_NOT;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  (void)options;
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  double *y = NULL, *b = NULL;
  PTQ_TRY(ptq_alloc(&y, m->n, sizeof *y, "responses", err));
  PTQ_TRY(ptq_alloc(&b, m->k, sizeof *b, "coefficients", err));
  PTQ_TRY(ptq_alloc(&fit->weight, m->n, sizeof *fit->weight, "weights", err));
  for (int64_t i = 0; i < m->n; i++) {
    (void)ptq_obs_censoring(m->obs[i], &y[i]);
    fit->weight[i] = 1.0;
  }
  PTQ_TRY(ptq_wls(m->x, NULL, y, m->n, m->k, b, fit->bread, err));
  double rss = 0.0;
  for (int64_t i = 0; i < m->n; i++) {
    const double eta = ptq_row_dot(m->x + i * m->k, b, m->k);
    fit->residual[i] = y[i] - eta;
    fit->fitted[i] = exp(eta);
    rss += fit->residual[i] * fit->residual[i];
  }
  const double s2 = rss / (double)(m->n - m->k);
  fit->scale = sqrt(s2);
  fit->iterations = 1;
  for (int64_t j = 0; j < m->k; j++) fit->coef[j].estimate = b[j];
  for (int64_t j = 0; j < m->k * m->k; j++)
    fit->cov_classical[j] = s2 * fit->bread[j];
  fit->log_likelihood = ptq_gaussian_likelihood(fit);
done:
  ptq_free(y);
  ptq_free(b);
  return rc;
}

const ptq_estimator ptq_estimator_ols = {
    .name = "ols",
    .title = "log-linear least squares on uncensored points",
    .excludes = "collapsed, or dnll < 2 dnll_se",
    .on_log = true,
    .takes = takes,
    .solve = solve,
};
