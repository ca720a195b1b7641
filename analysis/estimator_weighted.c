/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Weighted least squares on ln(dnll) with weights 1 / (s^2 + tau^2): s =
 * dnll_se / dnll is the error of measurement on the logarithmic scale (delta
 * method), tau^2 what the law leaves unexplained. tau^2 is Paule and Mandel's
 * (1982): the root of
 *   Q(tau^2) = sum (y - x b)^2 / (s^2 + tau^2) = n - k,
 * with b refitted at every tau^2. Q falls with tau^2, so there is one root,
 * or none where measurement explains everything (Q(0) <= n - k): tau^2 = 0.
 */
#include <math.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

enum { MAX_ITERATIONS = 200 };

static bool takes(ptq_censoring c) {
  return c == PTQ_CENSORED_NOT;
}

typedef struct problem {
  const ptq_matrix *m;
  double *y, *s2, *b; /* owned; [n], [n], [k] */
  double *w, *bread;  /* borrowed from the fit */
} problem;

/* Q at tau2; b, w and bread are those of it. */
static ptq_status pearson(problem *p, double tau2, double *q, ptq_err *err) {
  const int64_t n = p->m->n, k = p->m->k;
  for (int64_t i = 0; i < n; i++) p->w[i] = 1.0 / (p->s2[i] + tau2);
  const ptq_status rc = ptq_wls(p->m->x, p->w, p->y, n, k, p->b, p->bread, err);
  *q = 0.0;
  for (int64_t i = 0; i < n && rc == PTQ_OK; i++) {
    const double r = p->y[i] - ptq_row_dot(p->m->x + i * k, p->b, k);
    *q += p->w[i] * r * r;
  }
  return rc;
}

/* Regula falsi (Illinois) on Q - (n - k), from a bracket by doubling. */
static ptq_status find_tau2(problem *p, double start, double *tau2, double *q,
                            int *iterations, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const double df = (double)(p->m->n - p->m->k);
  double low = 0.0, high = start, f_low = 0.0, f_high = 0.0;
  PTQ_TRY(pearson(p, low, q, err));
  *tau2 = 0.0;
  *iterations = 1;
  f_low = *q - df;
  if (f_low <= 0.0) goto done;
  for (; *iterations < MAX_ITERATIONS; ++*iterations, high *= 2.0) {
    PTQ_TRY(pearson(p, high, q, err));
    f_high = *q - df;
    if (f_high <= 0.0) break;
    low = high;
    f_low = f_high;
  }
  for (; *iterations < MAX_ITERATIONS; ++*iterations) {
    const double mid = (low * f_high - high * f_low) / (f_high - f_low);
    PTQ_TRY(pearson(p, mid, q, err));
    const double f = *q - df;
    *tau2 = mid;
    if (fabs(f) <= 1e-13 * df || high - low <= 1e-15 * high) goto done;
    if (f > 0.0) {
      if (f_low > 0.0) f_high *= 0.5;
      low = mid;
      f_low = f;
    } else {
      f_low *= 0.5;
      high = mid;
      f_high = f;
    }
  }
  if (!(fabs(*q - df) <= 1e-8 * df))
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "weighted fit: the variance between points was not found");
done:
  return rc;
}

static ptq_status read_points(problem *p, ptq_err *err) {
  for (int64_t i = 0; i < p->m->n; i++) {
    const ptq_point_row *row = p->m->obs[i]->point;
    const double s = row->dnll_se / row->dnll;
    (void)ptq_obs_censoring(p->m->obs[i], &p->y[i]);
    if (!(s > 0.0) || !isfinite(s))
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "weighted fit: point '%s' has no dnll_se to weigh by; "
                      "use --estimator ols",
                      row->key);
    p->s2[i] = s * s;
  }
  return PTQ_OK;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  (void)options;
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  problem p = {.m = m};
  double q = 0.0, spread = 0.0;
  PTQ_TRY(ptq_alloc(&fit->weight, m->n, sizeof *fit->weight, "weights", err));
  PTQ_TRY(ptq_alloc(&p.y, m->n, sizeof *p.y, "responses", err));
  PTQ_TRY(ptq_alloc(&p.s2, m->n, sizeof *p.s2, "variances", err));
  PTQ_TRY(ptq_alloc(&p.b, m->k, sizeof *p.b, "coefficients", err));
  p.w = fit->weight;
  p.bread = fit->bread;
  PTQ_TRY(read_points(&p, err));
  for (int64_t i = 0; i < m->n; i++) spread += p.s2[i] / (double)m->n;
  PTQ_TRY(find_tau2(&p, spread, &fit->tau2, &q, &fit->iterations, err));
  /* one at a positive root, less where tau^2 is zero */
  fit->scale = sqrt(q / (double)(m->n - m->k));
  for (int64_t i = 0; i < m->n; i++) {
    const double eta = ptq_row_dot(m->x + i * m->k, p.b, m->k);
    fit->residual[i] = p.y[i] - eta;
    fit->fitted[i] = exp(eta);
  }
  for (int64_t j = 0; j < m->k; j++) fit->coef[j].estimate = p.b[j];
  for (int64_t j = 0; j < m->k * m->k; j++)
    fit->cov_classical[j] = fit->bread[j] * fit->scale * fit->scale;
  fit->noise = true;
  fit->log_likelihood = ptq_gaussian_likelihood(fit);
done:
  ptq_free(p.y);
  ptq_free(p.s2);
  ptq_free(p.b);
  return rc;
}

const ptq_estimator ptq_estimator_weighted = {
    .name = "weighted",
    .title = "weighted log-linear least squares, 1/(se^2 + tau^2)",
    .excludes = "collapsed, or dnll < 2 dnll_se",
    .on_log = true,
    .takes = takes,
    .solve = solve,
};
