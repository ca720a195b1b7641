/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Quasi-likelihood with a log link: mean mu = exp(x b), variance
 * phi mu^p + s^2, s = dnll_se the error of measurement, so that near-lossless
 * points, whose relative error is large, do not rule. Written as
 * phi mu^p / a with a = 1 / (1 + s^2 / (phi mu^p)) it is a quasi-likelihood
 * with prior weights a: for fixed a, Newton's method on the quasi-score is
 * iteratively reweighted least squares
 *   z = x b + (y - mu) / mu,   w = a mu^(2 - p),
 * which asks nothing of the sign of y; steps are halved until
 *   Q(b) = sum a (y mu^(1-p)/(1-p) - mu^(2-p)/(2-p))
 * (with logarithms at p = 1 and 2) does not fall. For p = 1 Q is concave
 * whatever the signs of y. Outside of it phi, by Pearson's statistic
 *   sum (y - mu)^2 / (phi mu^p + s^2) = n - k,
 * and a are iterated to their fixed point; its b solves the quasi-score of
 * the whole variance.
 */
#include <float.h>
#include <math.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

enum { MAX_ITERATIONS = 200, MAX_HALVINGS = 40, MAX_ROUNDS = 200 };
/* phi is held above this share of where it starts: noise of measurement may
 * explain everything. */
static const double least_phi = 1e-6;

static bool takes(ptq_censoring c) {
  return c != PTQ_CENSORED_RIGHT;
}

typedef struct problem {
  const double *x, *y; /* borrowed; [n, k], [n] */
  const double *a;     /* borrowed; [n] prior weights */
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
    q += p->a[i] * (p->y[i] * power_term(eta, 1.0 - p->power) -
                    power_term(eta, 2.0 - p->power));
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
    w[i] = p->a[i] * exp((2.0 - p->power) * eta);
    if (!isfinite(z[i]) || !isfinite(w[i]) || !(w[i] > 0.0))
      return PTQ_FAIL(err, PTQ_E_NUMERIC,
                      "fit: a fitted mean left the range of numbers; "
                      "shorten the formula or use --power 1");
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

/* At most `most` steps for fixed prior weights; *moved is how far the means
 * went in the last one. */
static ptq_status iterate(const problem *p, int most, ptq_fit *fit, double *b,
                          double *z, double *moved, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *next = NULL;
  PTQ_TRY(ptq_alloc(&next, p->k, sizeof *next, "coefficients", err));
  *moved = DBL_MAX;
  for (int n = 0; n<most && * moved> 1e-10; n++, fit->iterations++)
    PTQ_TRY(step(p, b, next, fit->weight, z, fit->cov_classical, moved, err));
done:
  ptq_free(next);
  return rc;
}

static double noise_of(const ptq_obs *o) {
  const double se = o->point->dnll_se;
  return se > 0.0 && isfinite(se) ? se : 0.0;
}

/* phi of the current means and prior weights, then the weights of that phi. */
static double reweigh(const problem *p, const ptq_fit *fit, const double *b,
                      double floor, double *a) {
  const ptq_matrix *m = &fit->matrix;
  double pearson = 0.0;
  for (int64_t i = 0; i < p->n; i++) {
    const double eta = ptq_row_dot(p->x + i * p->k, b, p->k);
    const double r = p->y[i] - exp(eta);
    pearson += a[i] * r * r * exp(-p->power * eta);
  }
  const double phi = fmax(pearson / (double)(p->n - p->k), floor);
  for (int64_t i = 0; i < p->n && fit->noise; i++) {
    const double eta = ptq_row_dot(p->x + i * p->k, b, p->k);
    const double s = noise_of(m->obs[i]);
    a[i] = 1.0 / (1.0 + s * s / (phi * exp(p->power * eta)));
  }
  return phi;
}

/* From the means at p = 1, whose quasi-likelihood is concave: for p > 1 and a
 * negative y it is unbounded as mu falls to zero, so only a local maximum is
 * meant, and noise in the variance is what keeps it. */
static ptq_status estimate(const problem *p, ptq_fit *fit, double *a, double *b,
                           double *z, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  problem concave = *p;
  double moved = DBL_MAX, phi = 0.0;
  concave.power = 1.0;
  PTQ_TRY(start(p, z, b, fit->cov_classical, err));
  PTQ_TRY(iterate(&concave, MAX_ITERATIONS, fit, b, z, &moved, err));
  if (!fit->noise) {
    PTQ_TRY(iterate(p, MAX_ITERATIONS, fit, b, z, &moved, err));
    phi = reweigh(p, fit, b, 0.0, a);
  } else {
    const double first = reweigh(p, fit, b, 0.0, a);
    double last = 0.0;
    for (int n = 0; n < MAX_ROUNDS; n++) { /* phi alone, for these means */
      phi = reweigh(p, fit, b, least_phi * first, a);
      if (fabs(phi - last) <= 1e-12 * phi) break;
      last = phi;
    }
    double before = 0.0;
    for (int n = 0; n < MAX_ROUNDS; n++) {
      if (moved < 1e-11 && fabs(phi - before) <= 1e-11 * phi) break;
      before = phi;
      PTQ_TRY(iterate(p, 1, fit, b, z, &moved, err));
      phi = reweigh(p, fit, b, least_phi * first, a);
    }
  }
  fit->scale = phi;
  if (moved > 1e-6)
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "fit: no convergence (a fitted mean still moves by %g in "
                  "its logarithm); shorten the formula or use --power 1",
                  moved);
done:
  return rc;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  double *y = NULL, *z = NULL, *b = NULL, *a = NULL;
  fit->power = options->power > 0.0 ? options->power : PTQ_POWER_DEFAULT;
  fit->noise = !options->ignore_noise;
  PTQ_TRY(ptq_alloc(&y, m->n, sizeof *y, "responses", err));
  PTQ_TRY(ptq_alloc(&z, m->n, sizeof *z, "working responses", err));
  PTQ_TRY(ptq_alloc(&a, m->n, sizeof *a, "prior weights", err));
  PTQ_TRY(ptq_alloc(&b, m->k, sizeof *b, "coefficients", err));
  PTQ_TRY(ptq_alloc(&fit->weight, m->n, sizeof *fit->weight, "weights", err));
  for (int64_t i = 0; i < m->n; i++) {
    y[i] = m->obs[i]->point->dnll;
    a[i] = 1.0;
  }
  const problem p = {m->x, y, a, m->n, m->k, fit->power};
  PTQ_TRY(estimate(&p, fit, a, b, z, err));

  for (int64_t i = 0; i < m->n; i++) {
    const double eta = ptq_row_dot(m->x + i * m->k, b, m->k), mu = exp(eta);
    fit->fitted[i] = mu;
    fit->weight[i] = a[i] * exp((2.0 - p.power) * eta);
    fit->residual[i] = (y[i] - mu) / mu;
    z[i] = eta + fit->residual[i];
  }
  /* the bread at the optimum itself, not one step before it */
  PTQ_TRY(
      ptq_wls(m->x, fit->weight, z, m->n, m->k, b, fit->cov_classical, err));
  for (int64_t j = 0; j < m->k; j++) fit->coef[j].estimate = b[j];
  for (int64_t j = 0; j < m->k * m->k; j++) {
    fit->bread[j] = fit->cov_classical[j];
    fit->cov_classical[j] *= fit->scale;
  }
done:
  ptq_free(y);
  ptq_free(z);
  ptq_free(a);
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
