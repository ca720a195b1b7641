/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Ridge regression on ln(dnll). Columns are centred and divided by their
 * standard deviation (denominator n), the intercept is not penalized:
 *   minimize |y - z b|^2 + lambda |b|^2,
 * lambda by generalized cross-validation, the minimum of
 *   G = RSS / (n - sum d^2 / (d^2 + lambda))^2
 * over the singular values d of z (Golub, Heath and Wahba 1979; the
 * convention of MASS::lm.ridge). gsl_multifit finds the grid's least G, and
 * bisection of its slope in ln(lambda) the minimum beside it. Coefficients
 * are given for the columns as they are.
 *
 * With B = (z'z + lambda I)^-1: the classical covariance is s^2 B z'z B,
 * s^2 = RSS / (n - 1 - edf); the clustered one sums scores by model, times
 * G/(G-1), with G-1 degrees of freedom. Both describe the shrunken estimate,
 * not its bias.
 */
#include <gsl/gsl_errno.h>
#include <gsl/gsl_multifit.h>
#include <math.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

enum { GRID = 200, MAX_SECTIONS = 200 };

static bool takes(ptq_censoring c) {
  return c == PTQ_CENSORED_NOT;
}

/* k counts the penalized columns: all but the intercept. */
typedef struct problem {
  int64_t n, k;
  double *z, *y;         /* owned; [n, k] standardized, [n] centred */
  double *mean, *sd;     /* owned; [k] */
  double *b;             /* owned; [k] of the standardized columns */
  double *inner, *outer; /* owned; [k, k] covariances of b */
  double y_mean;
  gsl_multifit_linear_workspace *work; /* owned; holds the SVD of z */
} problem;

static void release(problem *p) {
  double *blocks[] = {p->z, p->y, p->mean, p->sd, p->b, p->inner, p->outer};
  for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
    ptq_free(blocks[i]);
  if (p->work != NULL) gsl_multifit_linear_free(p->work);
}

static ptq_status prepare(problem *p, const ptq_matrix *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = p->n = m->n, k = p->k = m->k - 1;
  const char *what = "ridge regression";
  if (k < 1)
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_ARG, "ridge: the formula has no column to shrink"));
  PTQ_TRY(ptq_alloc(&p->z, n * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&p->y, n, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&p->mean, k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&p->sd, k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&p->b, k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&p->inner, k * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&p->outer, k * k, sizeof(double), what, err));
  for (int64_t i = 0; i < n; i++) {
    (void)ptq_obs_censoring(m->obs[i], &p->y[i]);
    p->y_mean += p->y[i] / (double)n;
  }
  for (int64_t i = 0; i < n; i++) p->y[i] -= p->y_mean;
  for (int64_t j = 0; j < k; j++) {
    double square = 0.0;
    for (int64_t i = 0; i < n; i++)
      p->mean[j] += m->x[i * (k + 1) + j + 1] / (double)n;
    for (int64_t i = 0; i < n; i++) {
      p->z[i * k + j] = m->x[i * (k + 1) + j + 1] - p->mean[j];
      square += p->z[i * k + j] * p->z[i * k + j];
    }
    p->sd[j] = sqrt(square / (double)n);
    for (int64_t i = 0; i < n; i++) p->z[i * k + j] /= p->sd[j];
  }
  p->work = gsl_multifit_linear_alloc((size_t)n, (size_t)k);
  if (p->work == NULL) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "%s", what));
done:
  return rc;
}

/* d ln G / d ln lambda: with f = d^2 / (d^2 + lambda) and u = U'y,
 * RSS = delta0 + sum ((1 - f) u)^2 and d(1 - f)/d ln lambda = f (1 - f). */
static double slope(const problem *p, const gsl_vector *u, double delta0,
                    double lambda) {
  double rss = delta0, d_rss = 0.0, left = (double)p->n, d_left = 0.0;
  for (size_t j = 0; j < (size_t)p->k; j++) {
    const double d = gsl_vector_get(p->work->S, j), uj = gsl_vector_get(u, j);
    const double f = d * d / (d * d + lambda), rest = (1.0 - f) * uj;
    rss += rest * rest;
    d_rss += 2.0 * f * rest * rest;
    left -= f;
    d_left += f * (1.0 - f);
  }
  return d_rss / rss - 2.0 * d_left / left;
}

/* GSL's parameter is the root of lambda. */
static ptq_status choose(problem *p, double *lambda, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const gsl_matrix_const_view zv =
      gsl_matrix_const_view_array(p->z, (size_t)p->n, (size_t)p->k);
  const gsl_vector_const_view yv =
      gsl_vector_const_view_array(p->y, (size_t)p->n);
  gsl_vector *uty = gsl_vector_alloc((size_t)p->k);
  gsl_vector *grid = gsl_vector_alloc(GRID), *g = gsl_vector_alloc(GRID);
  double delta0 = 0.0;
  if (uty == NULL || grid == NULL || g == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "ridge regression"));
  int code = gsl_multifit_linear_svd(&zv.matrix, p->work);
  if (code == GSL_SUCCESS)
    code =
        gsl_multifit_linear_gcv_init(&yv.vector, grid, uty, &delta0, p->work);
  /* GSL's own grid ends at the least singular value, too early */
  const double top = log(10.0 * gsl_vector_get(p->work->S, 0));
  const double bottom =
      log(1e-4 * gsl_vector_get(p->work->S, (size_t)p->k - 1));
  for (size_t i = 0; i < GRID; i++)
    gsl_vector_set(grid, i,
                   exp(top + (bottom - top) * (double)i / (GRID - 1.0)));
  if (code == GSL_SUCCESS)
    code = gsl_multifit_linear_gcv_curve(grid, uty, delta0, g, p->work);
  if (code != GSL_SUCCESS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "ridge: %s", gsl_strerror(code)));
  const size_t best = gsl_vector_min_index(g);
  /* the grid falls; the minimum is between the neighbours, or at an end */
  double low =
      2.0 * log(gsl_vector_get(grid, best + 1 < GRID ? best + 1 : best));
  double high = 2.0 * log(gsl_vector_get(grid, best > 0 ? best - 1 : best));
  for (int i = 0; i < MAX_SECTIONS && high - low > 1e-14 * fabs(high); i++) {
    const double mid = 0.5 * (low + high);
    if (slope(p, uty, delta0, exp(mid)) > 0.0)
      high = mid;
    else
      low = mid;
  }
  *lambda = exp(0.5 * (low + high));
done:
  gsl_vector_free(uty);
  gsl_vector_free(grid);
  gsl_vector_free(g);
  return rc;
}

/* b, edf, and (z'z + lambda)^-1 into outer, from the SVD. */
static ptq_status shrink(problem *p, double lambda, double *edf, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const gsl_matrix_const_view zv =
      gsl_matrix_const_view_array(p->z, (size_t)p->n, (size_t)p->k);
  const gsl_vector_const_view yv =
      gsl_vector_const_view_array(p->y, (size_t)p->n);
  gsl_vector_view bv = gsl_vector_view_array(p->b, (size_t)p->k);
  double rnorm = 0.0, snorm = 0.0;
  const int code =
      gsl_multifit_linear_solve(sqrt(lambda), &zv.matrix, &yv.vector,
                                &bv.vector, &rnorm, &snorm, p->work);
  if (code != GSL_SUCCESS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "ridge: %s", gsl_strerror(code)));
  *edf = 0.0;
  const gsl_matrix *q = p->work->Q;
  for (int64_t c = 0; c < p->k; c++) {
    const double d = gsl_vector_get(p->work->S, (size_t)c);
    *edf += d * d / (d * d + lambda);
    for (int64_t a = 0; a < p->k; a++)
      for (int64_t b = 0; b < p->k; b++) {
        const double v = gsl_matrix_get(q, (size_t)a, (size_t)c) *
                         gsl_matrix_get(q, (size_t)b, (size_t)c);
        p->outer[a * p->k + b] += v / (d * d + lambda);
        p->inner[a * p->k + b] += v * d * d / pow(d * d + lambda, 2.0);
      }
  }
done:
  return rc;
}

/* Covariance c of the standardized b to that of the columns as they are; the
 * mean of y has variance v and is independent of b. */
static void unscale(const problem *p, const double *c, double v, double *out) {
  const int64_t k = p->k, d = k + 1;
  out[0] = v;
  for (int64_t i = 0; i < k; i++) {
    double s = 0.0;
    for (int64_t j = 0; j < k; j++) {
      out[(i + 1) * d + j + 1] = c[i * k + j] / (p->sd[i] * p->sd[j]);
      s -= p->mean[j] * out[(i + 1) * d + j + 1];
    }
    out[i + 1] = out[(i + 1) * d] = s;
  }
  for (int64_t i = 0; i < k; i++) out[0] -= p->mean[i] * out[i + 1];
}

/* G/(G-1) sum of (B z'e, mean e) by model. */
static ptq_status cluster(const problem *p, ptq_fit *fit, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = p->k, d = k + 1;
  const int n_clusters = fit->matrix.n_clusters;
  double *score = NULL, *move = NULL;
  PTQ_TRY(ptq_alloc(&score, n_clusters * d, sizeof *score, "scores", err));
  PTQ_TRY(ptq_alloc(&move, d, sizeof *move, "scores", err));
  for (int64_t i = 0; i < p->n; i++) {
    double *s = score + fit->matrix.cluster[i] * d;
    s[0] += fit->residual[i] / (double)p->n;
    for (int64_t j = 0; j < k; j++)
      s[j + 1] += p->z[i * k + j] * fit->residual[i];
  }
  const double factor =
      n_clusters > 1 ? (double)n_clusters / (double)(n_clusters - 1) : NAN;
  for (int64_t j = 0; j < d * d; j++) fit->cov[j] = 0.0;
  for (int g = 0; g < n_clusters; g++) {
    const double *s = score + g * d;
    move[0] = s[0];
    for (int64_t a = 0; a < k; a++) {
      move[a + 1] = ptq_row_dot(p->outer + a * k, s + 1, k) / p->sd[a];
      move[0] -= p->mean[a] * move[a + 1];
    }
    for (int64_t a = 0; a < d; a++)
      for (int64_t b = 0; b < d; b++)
        fit->cov[a * d + b] += factor * move[a] * move[b];
  }
  for (int64_t j = 0; j < d; j++) fit->coef[j].df = (double)(n_clusters - 1);
done:
  ptq_free(score);
  ptq_free(move);
  return rc;
}

static ptq_status solve(const ptq_fit_options *options, ptq_fit *fit,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_matrix *m = &fit->matrix;
  problem p = {.n = m->n};
  double rss = 0.0;
  PTQ_TRY(prepare(&p, m, err));
  PTQ_TRY(choose(&p, &fit->lambda, err));
  if (options->lambda > 0.0) fit->lambda = options->lambda;
  PTQ_TRY(shrink(&p, fit->lambda, &fit->edf, err));
  double *b0 = &fit->coef[0].estimate;
  *b0 = p.y_mean;
  for (int64_t j = 0; j < p.k; j++) {
    fit->coef[j + 1].estimate = p.b[j] / p.sd[j];
    *b0 -= p.mean[j] * fit->coef[j + 1].estimate;
  }
  for (int64_t i = 0; i < p.n; i++) {
    const double eta = p.y_mean + ptq_row_dot(p.z + i * p.k, p.b, p.k);
    fit->residual[i] = p.y[i] + p.y_mean - eta;
    fit->fitted[i] = exp(eta);
    rss += fit->residual[i] * fit->residual[i];
  }
  const double s2 = rss / ((double)p.n - 1.0 - fit->edf);
  fit->scale = sqrt(s2);
  fit->iterations = 1;
  unscale(&p, p.inner, 1.0 / (double)p.n, fit->bread);
  for (int64_t j = 0; j < m->k * m->k; j++)
    fit->cov_classical[j] = s2 * fit->bread[j];
  PTQ_TRY(cluster(&p, fit, err));
  fit->log_likelihood = ptq_gaussian_likelihood(fit);
done:
  release(&p);
  return rc;
}

const ptq_estimator ptq_estimator_ridge = {
    .name = "ridge",
    .title = "log-linear ridge regression, lambda by GCV",
    .excludes = "collapsed, or dnll < 2 dnll_se",
    .on_log = true,
    .takes = takes,
    .solve = solve,
};
