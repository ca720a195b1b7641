/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tobit: ln(dnll) = x b + sigma e, e standard normal; a left-censored point
 * says ln(dnll) < y, a right-censored one ln(dnll) > y. In Olsen's parameters
 * d = b / sigma, h = 1 / sigma the likelihood is concave (Olsen 1978):
 * with r = h y - x d,
 *   measured  ln h - ln(2 pi)/2 - r^2/2
 *   left      ln Phi(r)
 *   right     ln Phi(-r)
 * so Newton's method with halved steps finds the one maximum. Errors: the
 * inverse of the observed information, and the sandwich of scores summed by
 * model times G/(G-1) with G-1 degrees of freedom (there is no CR2 for a
 * censored likelihood).
 */
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_sf_erf.h>
#include <math.h>
#include <string.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

enum { MAX_ITERATIONS = 200, MAX_HALVINGS = 60 };
static const double half_log_2pi = 0.918938533204672741780329736406;

static bool takes(ptq_censoring c) {
  (void)c;
  return true;
}

typedef struct problem {
  const double *x;  /* borrowed; [n, k] */
  double *y;        /* owned; [n] */
  ptq_censoring *c; /* owned; [n] */
  int64_t n, k;
  double *grad, *hess, *step, *trial; /* owned; [k+1] or [k+1, k+1]; hess is
                                         minus the Hessian */
} problem;

static double log_phi(double r) {
  return gsl_sf_log_erfc(-r / sqrt(2.0)) - log(2.0);
}

static double residual(const problem *p, const double *q, int64_t i) {
  return q[p->k] * p->y[i] - ptq_row_dot(p->x + i * p->k, q, p->k);
}

static double log_likelihood(const problem *p, const double *q) {
  const double h = q[p->k];
  if (!(h > 0.0)) return -INFINITY;
  double sum = 0.0;
  for (int64_t i = 0; i < p->n; i++) {
    const double r = residual(p, q, i);
    if (p->c[i] == PTQ_CENSORED_LEFT)
      sum += log_phi(r);
    else if (p->c[i] == PTQ_CENSORED_RIGHT)
      sum += log_phi(-r);
    else
      sum += log(h) - half_log_2pi - 0.5 * r * r;
  }
  return sum;
}

/* First derivative of a point's term by r, and minus the second. */
static double slope(const problem *p, int64_t i, double r, double *curve) {
  if (p->c[i] == PTQ_CENSORED_NOT) {
    *curve = 1.0;
    return -r;
  }
  const double side = p->c[i] == PTQ_CENSORED_LEFT ? 1.0 : -1.0;
  const double hazard = gsl_sf_hazard(-side * r); /* phi(r) / Phi(side r) */
  *curve = hazard * (hazard + side * r);
  return side * hazard;
}

/* Gradient of point i into g[k+1]; returns minus the curvature along r. */
static double point_score(const problem *p, const double *q, int64_t i,
                          double *g) {
  double curve = 0.0;
  const double s = slope(p, i, residual(p, q, i), &curve);
  for (int64_t j = 0; j < p->k; j++) g[j] = -s * p->x[i * p->k + j];
  g[p->k] = s * p->y[i];
  if (p->c[i] == PTQ_CENSORED_NOT) g[p->k] += 1.0 / q[p->k];
  return curve;
}

static void derivatives(problem *p, const double *q) {
  const int64_t k = p->k, d = k + 1;
  memset(p->grad, 0, (size_t)d * sizeof *p->grad);
  memset(p->hess, 0, (size_t)(d * d) * sizeof *p->hess);
  double *g = p->trial;
  for (int64_t i = 0; i < p->n; i++) {
    const double curve = point_score(p, q, i, g);
    for (int64_t a = 0; a < d; a++) p->grad[a] += g[a];
    const double *row = p->x + i * k;
    for (int64_t a = 0; a < d; a++) {
      const double va = a < k ? -row[a] : p->y[i];
      for (int64_t b = 0; b <= a; b++)
        p->hess[a * d + b] += curve * va * (b < k ? -row[b] : p->y[i]);
    }
    if (p->c[i] == PTQ_CENSORED_NOT) p->hess[d * d - 1] += 1.0 / (q[k] * q[k]);
  }
  for (int64_t a = 0; a < d; a++)
    for (int64_t b = 0; b < a; b++) p->hess[b * d + a] = p->hess[a * d + b];
}

/* Scaled Cholesky of hess in place; solves for the columns of rhs. */
static ptq_status solve_columns(problem *p, double *rhs, int64_t n_rhs,
                                ptq_err *err) {
  const size_t d = (size_t)p->k + 1;
  gsl_vector *s = gsl_vector_alloc(d);
  if (s == NULL) return PTQ_FAIL(err, PTQ_E_NOMEM, "censored fit");
  gsl_matrix_view h = gsl_matrix_view_array(p->hess, d, d);
  int code = gsl_linalg_cholesky_decomp2(&h.matrix, s);
  for (int64_t i = 0; i < n_rhs && code == GSL_SUCCESS; i++) {
    gsl_vector_view v = gsl_vector_view_array(rhs + i * (int64_t)d, d);
    code = gsl_linalg_cholesky_svx2(&h.matrix, s, &v.vector);
  }
  gsl_vector_free(s);
  if (code != GSL_SUCCESS)
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "censored fit: the uncensored points do not determine "
                    "every coefficient (%s)",
                    gsl_strerror(code));
  return PTQ_OK;
}

static ptq_status maximize(problem *p, double *q, int *iterations, double *best,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t d = p->k + 1;
  *best = log_likelihood(p, q);
  for (*iterations = 1; *iterations <= MAX_ITERATIONS; ++*iterations) {
    derivatives(p, q);
    memcpy(p->step, p->grad, (size_t)d * sizeof *p->grad);
    PTQ_TRY(solve_columns(p, p->step, 1, err));
    const double decrement = ptq_row_dot(p->step, p->grad, d);
    double scale = 1.0, value = -INFINITY;
    for (int h = 0; h < MAX_HALVINGS; h++, scale *= 0.5) {
      for (int64_t j = 0; j < d; j++) p->trial[j] = q[j] + scale * p->step[j];
      value = log_likelihood(p, p->trial);
      if (value >= *best - 1e-13 * (fabs(*best) + 1.0)) break;
    }
    if (value < *best - 1e-13 * (fabs(*best) + 1.0)) break;
    memcpy(q, p->trial, (size_t)d * sizeof *q);
    *best = value;
    if (decrement < 1e-16 * (fabs(*best) + 1.0)) goto done;
  }
  rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                "censored fit: no convergence in %d iterations; too few "
                "uncensored points for the formula",
                MAX_ITERATIONS);
done:
  return rc;
}

/* cov of (d, h) to cov of b = d / h. */
static void transform_cov(const double *q, const double *c, int64_t k,
                          double *out) {
  const int64_t d = k + 1;
  const double h = q[k];
  for (int64_t a = 0; a < k; a++)
    for (int64_t b = 0; b < k; b++) {
      const double ta = -q[a] / h, tb = -q[b] / h;
      out[a * k + b] = (c[a * d + b] + ta * c[k * d + b] + tb * c[a * d + k] +
                        ta * tb * c[k * d + k]) /
                       (h * h);
    }
}

static ptq_status covariances(problem *p, const double *q, ptq_fit *fit,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = p->k, d = k + 1;
  const int n_clusters = fit->matrix.n_clusters;
  double *inverse = NULL, *scores = NULL, *cov = NULL;
  PTQ_TRY(ptq_alloc(&inverse, d * d, sizeof *inverse, "covariance", err));
  PTQ_TRY(ptq_alloc(&cov, d * d, sizeof *cov, "covariance", err));
  PTQ_TRY(ptq_alloc(&scores, n_clusters * d, sizeof *scores, "scores", err));
  derivatives(p, q);
  for (int64_t a = 0; a < d; a++) inverse[a * d + a] = 1.0;
  PTQ_TRY(solve_columns(p, inverse, d, err));
  transform_cov(q, inverse, k, fit->cov_classical);
  for (int64_t i = 0; i < p->n; i++) {
    (void)point_score(p, q, i, p->trial);
    double *s = scores + fit->matrix.cluster[i] * d;
    for (int64_t a = 0; a < d; a++) s[a] += p->trial[a];
  }
  const double factor =
      n_clusters > 1 ? (double)n_clusters / (double)(n_clusters - 1) : NAN;
  for (int g = 0; g < n_clusters; g++) {
    for (int64_t a = 0; a < d; a++)
      p->trial[a] = ptq_row_dot(inverse + a * d, scores + g * d, d);
    for (int64_t a = 0; a < d; a++)
      for (int64_t b = 0; b < d; b++)
        cov[a * d + b] += factor * p->trial[a] * p->trial[b];
  }
  transform_cov(q, cov, k, fit->cov);
  for (int64_t j = 0; j < k; j++) fit->coef[j].df = (double)(n_clusters - 1);
done:
  ptq_free(inverse);
  ptq_free(scores);
  ptq_free(cov);
  return rc;
}

/* Least squares on the uncensored points, as a start. */
static ptq_status start(const problem *p, double *q, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *w = NULL, *bread = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_alloc(&w, p->n, sizeof *w, "weights", err));
  PTQ_TRY(ptq_alloc(&bread, p->k * p->k, sizeof *bread, "covariance", err));
  for (int64_t i = 0; i < p->n; i++) {
    /* censored points hold the rank where uncensored ones cannot */
    w[i] = p->c[i] == PTQ_CENSORED_NOT ? 1.0 : 1e-6;
    n += p->c[i] == PTQ_CENSORED_NOT;
  }
  if (n <= p->k) {
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "censored fit: %lld uncensored points (dnll > 2 dnll_se) "
                  "cannot determine %lld coefficients",
                  (long long)n, (long long)p->k);
    goto done;
  }
  PTQ_TRY(ptq_wls(p->x, w, p->y, p->n, p->k, q, bread, err));
  double rss = 0.0;
  for (int64_t i = 0; i < p->n; i++) {
    const double r = p->y[i] - ptq_row_dot(p->x + i * p->k, q, p->k);
    if (p->c[i] == PTQ_CENSORED_NOT) rss += r * r;
  }
  const double sigma = sqrt(rss / (double)n);
  if (!(sigma > 0.0)) {
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "censored fit: the uncensored points leave no residual");
    goto done;
  }
  for (int64_t j = 0; j < p->k; j++) q[j] /= sigma;
  q[p->k] = 1.0 / sigma;
done:
  ptq_free(w);
  ptq_free(bread);
  return rc;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  (void)options;
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  const int64_t d = m->k + 1;
  problem p = {.x = m->x, .n = m->n, .k = m->k};
  double *q = NULL;
  PTQ_TRY(ptq_alloc(&q, d, sizeof *q, "coefficients", err));
  PTQ_TRY(ptq_alloc(&p.y, p.n, sizeof *p.y, "responses", err));
  PTQ_TRY(ptq_alloc(&p.c, p.n, sizeof *p.c, "censoring", err));
  PTQ_TRY(ptq_alloc(&p.grad, d, sizeof(double), "gradient", err));
  PTQ_TRY(ptq_alloc(&p.hess, d * d, sizeof(double), "Hessian", err));
  PTQ_TRY(ptq_alloc(&p.step, d, sizeof(double), "step", err));
  PTQ_TRY(ptq_alloc(&p.trial, d, sizeof(double), "trial", err));
  for (int64_t i = 0; i < p.n; i++)
    p.c[i] = ptq_obs_censoring(m->obs[i], &p.y[i]);
  PTQ_TRY(start(&p, q, err));
  PTQ_TRY(maximize(&p, q, &fit->iterations, &fit->log_likelihood, err));
  fit->scale = 1.0 / q[p.k];
  for (int64_t j = 0; j < p.k; j++) fit->coef[j].estimate = q[j] * fit->scale;
  for (int64_t i = 0; i < p.n; i++) {
    const double eta = ptq_row_dot(m->x + i * p.k, q, p.k) * fit->scale;
    fit->fitted[i] = exp(eta);
    fit->residual[i] = p.y[i] - eta;
  }
  PTQ_TRY(covariances(&p, q, fit, err));
done:
  ptq_free(q);
  ptq_free(p.y);
  ptq_free(p.c);
  ptq_free(p.grad);
  ptq_free(p.hess);
  ptq_free(p.step);
  ptq_free(p.trial);
  return rc;
}

const ptq_estimator ptq_estimator_censored = {
    .name = "censored",
    .title = "censored log-linear least squares (Tobit)",
    .excludes = "",
    .on_log = true,
    .takes = takes,
    .solve = solve,
};
