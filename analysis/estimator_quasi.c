/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Quasi-likelihood with a log link: mean mu = exp(x b), variance phi mu^p.
 * Newton's method on the quasi-score is iteratively reweighted least squares
 *   z = x b + (y - mu) / mu,   w = mu^(2 - p),
 * which asks nothing of the sign of y. Steps are halved until
 *   Q(b) = sum y mu^(1-p)/(1-p) - mu^(2-p)/(2-p)
 * (with logarithms at p = 1 and 2) does not fall. For p = 1 Q is concave
 * whatever the signs of y.
 */
#include <float.h>
#include <math.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

enum { MAX_ITERATIONS = 200, MAX_HALVINGS = 40 };

static bool takes(ptq_censoring c) {
  return c != PTQ_CENSORED_RIGHT;
}

typedef struct problem {
  const double *x, *y; /* borrowed; [n, k], [n] */
  int64_t n, k;
  double power;
} problem;

/* mu^q / q, and its limit's logarithm at q = 0. */
static double power_term(double eta, double q) {
  return fabs(q) < 1e-12 ? eta : exp(q * eta) / q;
}

static double quasi_likelihood(const problem *p, const double *b) {
  double q = 0.0;
  for (int64_t i = 0; i < p->n; i++) {
    const double eta = ptq_row_dot(p->x + i * p->k, b, p->k);
    q += p->y[i] * power_term(eta, 1.0 - p->power) -
         power_term(eta, 2.0 - p->power);
  }
  return q;
}

/* Start: least squares on ln(max(y, floor)), floor a hundredth of the mean. */
static ptq_status start(const problem *p, double *z, double *b, double *bread,
                        ptq_err *err) {
  double mean = 0.0;
  for (int64_t i = 0; i < p->n; i++) mean += p->y[i] / (double)p->n;
  if (!(mean > 0.0))
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "fit: the mean dnll is %g: nothing was lost by "
                    "quantization, so no law with a log link fits",
                    mean);
  for (int64_t i = 0; i < p->n; i++) z[i] = log(fmax(p->y[i], 0.01 * mean));
  return ptq_wls(p->x, NULL, z, p->n, p->k, b, bread, err);
}

/* One step; *change is the largest move in units of the quasi-likelihood's
 * own scale: the relative change of any mu. */
static ptq_status step(const problem *p, double *b, double *next, double *w,
                       double *z, double *bread, double *change, ptq_err *err) {
  for (int64_t i = 0; i < p->n; i++) {
    const double eta = ptq_row_dot(p->x + i * p->k, b, p->k), mu = exp(eta);
    z[i] = eta + (p->y[i] - mu) / mu;
    w[i] = exp((2.0 - p->power) * eta);
    if (!isfinite(z[i]) || !isfinite(w[i]) || !(w[i] > 0.0))
      return PTQ_FAIL(err, PTQ_E_NUMERIC,
                      "fit: a fitted mean left the range of numbers; the "
                      "formula separates the points");
  }
  ptq_status rc = ptq_wls(p->x, w, z, p->n, p->k, next, bread, err);
  if (rc != PTQ_OK) return rc;
  *change = 0.0;
  for (int64_t i = 0; i < p->n; i++) {
    const double *row = p->x + i * p->k;
    *change = fmax(*change, fabs(ptq_row_dot(row, next, p->k) -
                                 ptq_row_dot(row, b, p->k)));
  }
  const double before = quasi_likelihood(p, b);
  const double slack = 1e-12 * (fabs(before) + 1.0);
  for (int h = 0; h < MAX_HALVINGS; h++) {
    const double after = quasi_likelihood(p, next);
    if (isfinite(after) && after >= before - slack) break;
    for (int64_t j = 0; j < p->k; j++) next[j] = 0.5 * (next[j] + b[j]);
  }
  for (int64_t j = 0; j < p->k; j++) b[j] = next[j];
  return PTQ_OK;
}

static ptq_status iterate(const problem *p, ptq_fit *fit, double *b, double *z,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *next = NULL, change = DBL_MAX;
  PTQ_TRY(ptq_alloc(&next, p->k, sizeof *next, "coefficients", err));
  PTQ_TRY(start(p, z, b, fit->cov_classical, err));
  while (change > 1e-10 && fit->iterations < MAX_ITERATIONS) {
    PTQ_TRY(step(p, b, next, fit->weight, z, fit->cov_classical, &change, err));
    fit->iterations++;
  }
  if (change > 1e-6)
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "fit: no convergence in %d iterations (a fitted mean still "
                  "moves by %g); shorten the formula or use --power 1",
                  MAX_ITERATIONS, change);
done:
  ptq_free(next);
  return rc;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  double *y = NULL, *z = NULL, *b = NULL;
  fit->power = options->power > 0.0 ? options->power : PTQ_POWER_DEFAULT;
  PTQ_TRY(ptq_alloc(&y, m->n, sizeof *y, "responses", err));
  PTQ_TRY(ptq_alloc(&z, m->n, sizeof *z, "working responses", err));
  PTQ_TRY(ptq_alloc(&b, m->k, sizeof *b, "coefficients", err));
  PTQ_TRY(ptq_alloc(&fit->weight, m->n, sizeof *fit->weight, "weights", err));
  for (int64_t i = 0; i < m->n; i++) y[i] = m->obs[i]->point->dnll;
  const problem p = {m->x, y, m->n, m->k, fit->power};
  PTQ_TRY(iterate(&p, fit, b, z, err));

  double pearson = 0.0;
  for (int64_t i = 0; i < m->n; i++) {
    const double eta = ptq_row_dot(m->x + i * m->k, b, m->k), mu = exp(eta);
    fit->fitted[i] = mu;
    fit->weight[i] = exp((2.0 - p.power) * eta);
    fit->residual[i] = (y[i] - mu) / mu;
    pearson += fit->weight[i] * fit->residual[i] * fit->residual[i];
    z[i] = eta + fit->residual[i];
  }
  /* the bread at the optimum itself, not one step before it */
  PTQ_TRY(
      ptq_wls(m->x, fit->weight, z, m->n, m->k, b, fit->cov_classical, err));
  fit->scale = pearson / (double)(m->n - m->k);
  for (int64_t j = 0; j < m->k; j++) fit->coef[j].estimate = b[j];
  for (int64_t j = 0; j < m->k * m->k; j++) fit->cov_classical[j] *= fit->scale;
done:
  ptq_free(y);
  ptq_free(z);
  ptq_free(b);
  return rc;
}

const ptq_estimator ptq_estimator_quasi = {
    .name = "quasi",
    .title = "quasi-likelihood with a log link on dnll",
    .excludes = "collapsed",
    .takes = takes,
    .solve = solve,
};
