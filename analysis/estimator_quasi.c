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
 * the whole variance. At p = 2 a negative y has no least mean, and where such
 * points rule there is no fixed point: unless p was asked for it is 1 then.
 */
#include <float.h>
#include <gsl/gsl_blas.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <string.h>

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
  double *u;       /* owned; [n, k] X R^-1, X = Q R: orthonormal columns */
  const double *y; /* borrowed; [n] */
  const double *a; /* borrowed; [n] prior weights */
  double *trial;   /* owned; [n] */
  int64_t n, k;
  double power;
} problem;

/* mu^q / q, and its limit's logarithm at q = 0. */
static double power_term(double eta, double q) {
  return fabs(q) < 1e-12 ? eta : exp(q * eta) / q;
}

static double quasi_likelihood(const problem *p, const double *eta) {
  double q = 0.0;
  for (int64_t i = 0; i < p->n; i++)
    q += p->a[i] * (p->y[i] * power_term(eta[i], 1.0 - p->power) -
                    power_term(eta[i], 2.0 - p->power));
  return q;
}

/* u = X R^-1: the steps are Newton's whatever the columns' scale, and normal
 * equations in u are as well conditioned as the weights are even. */
static ptq_status orthonormal(const ptq_matrix *m, problem *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = m->n, k = m->k;
  PTQ_TRY(ptq_alloc(&p->u, n * k, sizeof *p->u, "least squares", err));
  PTQ_TRY(ptq_alloc(&p->trial, n, sizeof *p->trial, "least squares", err));
  memcpy(p->u, m->x, (size_t)(n * k) * sizeof *m->x);
  const gsl_matrix_const_view rv =
      gsl_matrix_const_view_array(m->r, (size_t)k, (size_t)k);
  gsl_matrix_view uv = gsl_matrix_view_array(p->u, (size_t)n, (size_t)k);
  (void)gsl_blas_dtrsm(CblasRight, CblasUpper, CblasNoTrans, CblasNonUnit, 1.0,
                       &rv.matrix, &uv.matrix);
done:
  return rc;
}

/* out = U d or, transposed, U' d. */
static void apply(const problem *p, bool transpose, const double *d,
                  double *out) {
  const size_t n = (size_t)p->n, k = (size_t)p->k;
  const gsl_matrix_const_view uv = gsl_matrix_const_view_array(p->u, n, k);
  const gsl_vector_const_view dv =
      gsl_vector_const_view_array(d, transpose ? n : k);
  gsl_vector_view ov = gsl_vector_view_array(out, transpose ? k : n);
  (void)gsl_blas_dgemv(transpose ? CblasTrans : CblasNoTrans, 1.0, &uv.matrix,
                       &dv.vector, 0.0, &ov.vector);
}

/* Start: least squares on ln(max(y, floor)), floor a hundredth of the mean. */
static ptq_status start(const problem *p, double *d, double *eta,
                        ptq_err *err) {
  double mean = 0.0;
  for (int64_t i = 0; i < p->n; i++) mean += p->y[i] / (double)p->n;
  if (!(mean > 0.0))
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "fit: the mean dnll is %g: nothing was lost by "
                    "quantization, so no law with a log link fits",
                    mean);
  for (int64_t i = 0; i < p->n; i++)
    p->trial[i] = log(fmax(p->y[i], 0.01 * mean));
  apply(p, true, p->trial, d);
  apply(p, false, d, eta);
  return PTQ_OK;
}

/* h = U' W U (lower triangle) and d = U' (w r), blocks of rows at a time. */
static void normal_equations(const problem *p, const double *w, const double *r,
                             double *h, double *d) {
  enum { ROWS = 128 };
  double block[ROWS * PTQ_COLUMN_MAX];
  const int64_t k = p->k;
  gsl_matrix_view hv = gsl_matrix_view_array(h, (size_t)k, (size_t)k);
  memset(h, 0, (size_t)(k * k) * sizeof *h);
  for (int64_t first = 0; first < p->n; first += ROWS) {
    const int64_t rows = p->n - first < ROWS ? p->n - first : ROWS;
    for (int64_t i = 0; i < rows; i++) {
      const double s = sqrt(w[first + i]);
      const double *u = p->u + (first + i) * k;
      for (int64_t j = 0; j < k; j++) block[i * k + j] = s * u[j];
    }
    const gsl_matrix_const_view bv =
        gsl_matrix_const_view_array(block, (size_t)rows, (size_t)k);
    (void)gsl_blas_dsyrk(CblasLower, CblasTrans, 1.0, &bv.matrix, 1.0,
                         &hv.matrix);
  }
  for (int64_t i = 0; i < p->n; i++) p->trial[i] = w[i] * r[i];
  apply(p, true, p->trial, d);
}

/* One step from the linear predictors eta; *change is the largest move of
 * them, the relative change of any mu. z is workspace. */
static ptq_status step(const problem *p, double *eta, double *w, double *z,
                       double *h, double *d, double *change, ptq_err *err) {
  const int64_t k = p->k;
  for (int64_t i = 0; i < p->n; i++) {
    const double mu = exp(eta[i]);
    z[i] = (p->y[i] - mu) / mu;
    w[i] = p->a[i] * exp((2.0 - p->power) * eta[i]);
    if (!isfinite(z[i]) || !isfinite(w[i]) || !(w[i] > 0.0))
      return PTQ_FAIL(err, PTQ_E_NUMERIC,
                      "fit: a fitted mean left the range of numbers; "
                      "shorten the formula%s",
                      p->power > 1.0 ? " or use --power 1" : "");
  }
  normal_equations(p, w, z, h, d);
  gsl_matrix_view hv = gsl_matrix_view_array(h, (size_t)k, (size_t)k);
  gsl_vector_view dv = gsl_vector_view_array(d, (size_t)k);
  if (gsl_linalg_cholesky_decomp1(&hv.matrix) == GSL_SUCCESS) {
    (void)gsl_linalg_cholesky_svx(&hv.matrix, &dv.vector);
  } else { /* weights too uneven for them: the same step by QR */
    const ptq_status rc = ptq_wls(p->u, w, z, p->n, k, d, h, err);
    if (rc != PTQ_OK) return rc;
  }
  apply(p, false, d, z);
  *change = 0.0;
  for (int64_t i = 0; i < p->n; i++) *change = fmax(*change, fabs(z[i]));
  const double before = quasi_likelihood(p, eta);
  const double slack = 1e-12 * (fabs(before) + 1.0);
  double share = 1.0;
  for (int halved = 0;; halved++, share *= 0.5) {
    for (int64_t i = 0; i < p->n; i++) p->trial[i] = eta[i] + share * z[i];
    if (halved == MAX_HALVINGS) break;
    const double after = quasi_likelihood(p, p->trial);
    if (isfinite(after) && after >= before - slack) break;
  }
  memcpy(eta, p->trial, (size_t)p->n * sizeof *eta);
  return PTQ_OK;
}

/* At most `most` steps for fixed prior weights; *moved is how far the means
 * went in the last one. */
static ptq_status iterate(const problem *p, int most, ptq_fit *fit, double *eta,
                          double *z, double *d, double *moved, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *moved = DBL_MAX;
  for (int n = 0; n < most && !(*moved <= 1e-10); n++, fit->iterations++)
    PTQ_TRY(step(p, eta, fit->weight, z, fit->cov_classical, d, moved, err));
done:
  return rc;
}

static double noise_of(const ptq_obs *o) {
  const double se = o->point->dnll_se;
  return se > 0.0 && isfinite(se) ? se : 0.0;
}

/* phi of the current means and prior weights, then the weights of that phi. */
static double reweigh(const problem *p, const ptq_fit *fit, const double *eta,
                      double floor, double *a) {
  const ptq_matrix *m = &fit->matrix;
  double pearson = 0.0;
  for (int64_t i = 0; i < p->n; i++) {
    const double r = p->y[i] - exp(eta[i]);
    pearson += a[i] * r * r * exp(-p->power * eta[i]);
  }
  const double phi = fmax(pearson / (double)(p->n - p->k), floor);
  for (int64_t i = 0; i < p->n && fit->noise; i++) {
    const double s = noise_of(m->obs[i]);
    a[i] = 1.0 / (1.0 + s * s / (phi * exp(p->power * eta[i])));
  }
  return phi;
}

/* From the means at p = 1, whose quasi-likelihood is concave: for p > 1 and a
 * negative y it is unbounded as mu falls to zero, so only a local maximum is
 * meant, and noise in the variance is what keeps it. */
static ptq_status estimate(const problem *p, ptq_fit *fit, double *a,
                           double *eta, double *z, double *d, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  problem concave = *p;
  double moved = DBL_MAX, phi = 0.0;
  concave.power = 1.0;
  fit->iterations = 0;
  for (int64_t i = 0; i < p->n; i++) a[i] = 1.0;
  PTQ_TRY(start(p, d, eta, err));
  PTQ_TRY(iterate(&concave, MAX_ITERATIONS, fit, eta, z, d, &moved, err));
  if (!fit->noise) {
    PTQ_TRY(iterate(p, MAX_ITERATIONS, fit, eta, z, d, &moved, err));
    phi = reweigh(p, fit, eta, 0.0, a);
  } else {
    const double first = reweigh(p, fit, eta, 0.0, a);
    double last = 0.0;
    for (int n = 0; n < MAX_ROUNDS; n++) { /* phi alone, for these means */
      phi = reweigh(p, fit, eta, least_phi * first, a);
      if (fabs(phi - last) <= 1e-12 * phi) break;
      last = phi;
    }
    double before = 0.0;
    for (int n = 0; n < MAX_ROUNDS; n++) {
      if (moved < 1e-11 && fabs(phi - before) <= 1e-11 * phi) break;
      before = phi;
      PTQ_TRY(iterate(p, 1, fit, eta, z, d, &moved, err));
      phi = reweigh(p, fit, eta, least_phi * first, a);
    }
  }
  fit->scale = phi;
  if (moved > 1e-6)
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "fit: no convergence (a fitted mean still moves by %g in "
                  "its logarithm); shorten the formula%s",
                  moved, p->power > 1.0 ? " or use --power 1" : "");
done:
  return rc;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  double *y = NULL, *z = NULL, *b = NULL, *a = NULL, *eta = NULL;
  problem p = {.n = m->n, .k = m->k};
  fit->noise = !options->ignore_noise;
  PTQ_TRY(ptq_alloc(&y, m->n, sizeof *y, "responses", err));
  PTQ_TRY(ptq_alloc(&z, m->n, sizeof *z, "working responses", err));
  PTQ_TRY(ptq_alloc(&a, m->n, sizeof *a, "prior weights", err));
  PTQ_TRY(ptq_alloc(&eta, m->n, sizeof *eta, "linear predictors", err));
  PTQ_TRY(ptq_alloc(&b, m->k, sizeof *b, "coefficients", err));
  PTQ_TRY(ptq_alloc(&fit->weight, m->n, sizeof *fit->weight, "weights", err));
  for (int64_t i = 0; i < m->n; i++) y[i] = m->obs[i]->point->dnll;
  p.y = y;
  p.a = a;
  PTQ_TRY(orthonormal(m, &p, err));
  p.power = options->power > 0.0 ? options->power : PTQ_POWER_DEFAULT;
  rc = estimate(&p, fit, a, eta, z, b, err);
  if (rc == PTQ_E_NUMERIC && !(options->power > 0.0)) {
    fit->power_lowered = true;
    p.power = 1.0;
    rc = estimate(&p, fit, a, eta, z, b, err);
  }
  PTQ_TRY(rc);
  fit->power = p.power;

  for (int64_t i = 0; i < m->n; i++) {
    const double mu = exp(eta[i]);
    fit->fitted[i] = mu;
    fit->weight[i] = a[i] * exp((2.0 - p.power) * eta[i]);
    fit->residual[i] = (y[i] - mu) / mu;
    z[i] = eta[i] + fit->residual[i];
  }
  /* coefficients, and the bread at the optimum itself */
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
  ptq_free(eta);
  ptq_free(p.u);
  ptq_free(p.trial);
  return rc;
}

const ptq_estimator ptq_estimator_quasi = {
    .name = "quasi",
    .title = "quasi-likelihood with a log link on dnll",
    .excludes = "collapsed",
    .takes = takes,
    .solve = solve,
};
