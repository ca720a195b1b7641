/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * CR2 without n x n matrices. With M = (X'X)^-1 = L L' and Y_g = X_g L, the
 * hat matrix of a cluster is H_gg = Y_g Y_g'. Let Y_g'Y_g = V diag(t) V';
 * the eigenvalues t of H_gg that are not zero are the same. Then
 *
 *   A_g = (I - H_gg)^(-1/2) = I + Y_g F_g Y_g',  F_g = V diag(f(t)) V',
 *   f(t) = ((1 - t)^(-1/2) - 1) / t = 1 / (r (1 + r)),  r = (1 - t)^(1/2),
 *
 * and a direction that the cluster alone determines (t = 1) is left out as
 * the generalized inverse does: f = -1. Everything is k x k a cluster.
 *
 * Degrees of freedom (Bell and McCaffrey): for the j-th coefficient let
 * a_g = A_g X_g M e_j. Under independent errors of equal variance the cluster
 * contributions have the covariance
 *   G_gh = a_g'(I - H)_gh a_h = [g = h] a_g'a_g - u_g' M u_h, u_g = X_g'a_g,
 * and df = tr(G)^2 / sum G_gh^2.
 */
#include <gsl/gsl_blas.h>
#include <gsl/gsl_eigen.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <math.h>
#include <string.h>

#include "least_squares.h"
#include "ptq/base/mem.h"

/* 1 - t below this is the cluster's own direction, not rounding. */
static const double own_direction = 1e-10;

typedef struct work {
  int64_t n, k;
  double *xg, *yg, *pg;      /* owned; [n, k] rows of one cluster */
  double *eg;                /* owned; [n] */
  double *l, *f, *small, *v; /* owned; [k, k] */
  double *t;                 /* owned; [k] */
  double *u;                 /* owned; [n_clusters, k, k]: u_g, a column a
                                coefficient */
  double *own;               /* owned; [n_clusters, k]: a_g'a_g */
  gsl_eigen_symmv_workspace *eigen; /* owned */
} work;

static void release(work *w) {
  double *blocks[] = {w->xg,    w->yg, w->pg, w->eg, w->l,  w->f,
                      w->small, w->v,  w->t,  w->u,  w->own};
  for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
    ptq_free(blocks[i]);
  if (w->eigen != NULL) gsl_eigen_symmv_free(w->eigen);
}

/* n_clusters 0: without degrees of freedom. */
static ptq_status allocate(work *w, int64_t n_clusters, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = w->n, k = w->k;
  const char *what = "clustered errors";
  PTQ_TRY(ptq_alloc(&w->xg, n * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->yg, n * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->pg, n * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->eg, n, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->l, k * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->f, k * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->small, k * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->v, k * k, sizeof(double), what, err));
  PTQ_TRY(ptq_alloc(&w->t, k, sizeof(double), what, err));
  if (n_clusters > 0) {
    PTQ_TRY(ptq_alloc(&w->u, n_clusters * k * k, sizeof(double), what, err));
    PTQ_TRY(ptq_alloc(&w->own, n_clusters * k, sizeof(double), what, err));
  }
  w->eigen = gsl_eigen_symmv_alloc((size_t)k);
  if (w->eigen == NULL) rc = PTQ_FAIL(err, PTQ_E_NOMEM, "%s", what);
done:
  return rc;
}

/* c [ra, cb] = alpha op(a) b + beta c, all row-major; a is [rows, ca]. */
static void multiply(bool transpose, const double *a, int64_t rows, int64_t ca,
                     const double *b, int64_t cb, double beta, double *c) {
  const gsl_matrix_const_view av =
      gsl_matrix_const_view_array(a, (size_t)rows, (size_t)ca);
  const gsl_matrix_const_view bv = gsl_matrix_const_view_array(
      b, (size_t)(transpose ? rows : ca), (size_t)cb);
  gsl_matrix_view cv =
      gsl_matrix_view_array(c, (size_t)(transpose ? ca : rows), (size_t)cb);
  (void)gsl_blas_dgemm(transpose ? CblasTrans : CblasNoTrans, CblasNoTrans, 1.0,
                       &av.matrix, &bv.matrix, beta, &cv.matrix);
}

static ptq_status factor_bread(work *w, const double *bread, ptq_err *err) {
  const int64_t k = w->k;
  memcpy(w->l, bread, (size_t)(k * k) * sizeof *bread);
  gsl_matrix_view lv = gsl_matrix_view_array(w->l, (size_t)k, (size_t)k);
  const int code = gsl_linalg_cholesky_decomp1(&lv.matrix);
  if (code != GSL_SUCCESS)
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "clustered errors: the columns are too close to "
                    "collinear (%s)",
                    gsl_strerror(code));
  for (int64_t i = 0; i < k; i++)
    for (int64_t j = i + 1; j < k; j++) w->l[i * k + j] = 0.0;
  return PTQ_OK;
}

/* F_g from Y_g'Y_g. */
static ptq_status root(work *w, int64_t m, ptq_err *err) {
  const int64_t k = w->k;
  multiply(true, w->yg, m, k, w->yg, k, 0.0, w->small);
  gsl_matrix_view sv = gsl_matrix_view_array(w->small, (size_t)k, (size_t)k);
  gsl_vector_view tv = gsl_vector_view_array(w->t, (size_t)k);
  gsl_matrix_view vv = gsl_matrix_view_array(w->v, (size_t)k, (size_t)k);
  const int code =
      gsl_eigen_symmv(&sv.matrix, &tv.vector, &vv.matrix, w->eigen);
  if (code != GSL_SUCCESS)
    return PTQ_FAIL(err, PTQ_E_NUMERIC, "clustered errors: eigenvalues: %s",
                    gsl_strerror(code));
  for (int64_t a = 0; a < k * k; a++) w->f[a] = 0.0;
  for (int64_t c = 0; c < k; c++) {
    const double left = 1.0 - w->t[c], r = sqrt(fmax(left, 0.0));
    const double f = left > own_direction ? 1.0 / (r * (1.0 + r)) : -1.0;
    for (int64_t a = 0; a < k; a++)
      for (int64_t b = 0; b < k; b++)
        w->f[a * k + b] += f * w->v[a * k + c] * w->v[b * k + c];
  }
  return PTQ_OK;
}

/* One cluster of m rows in xg, eg: adds its scores to meat, fills u, own
 * (unless NULL). */
static ptq_status add_cluster(work *w, int64_t m, const double *bread,
                              double *meat, double *u, double *own,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = w->k;
  double *score = NULL, *fy = NULL;
  PTQ_TRY(ptq_alloc(&score, 2 * k, sizeof *score, "scores", err));
  PTQ_TRY(ptq_alloc(&fy, k * k, sizeof *fy, "scores", err));
  multiply(false, w->xg, m, k, w->l, k, 0.0, w->yg);
  PTQ_TRY(root(w, m, err));

  /* P = A X M: first A X = X + Y F (Y'X), then times M. */
  multiply(true, w->yg, m, k, w->xg, k, 0.0, w->small);
  multiply(false, w->f, k, k, w->small, k, 0.0, fy);
  memcpy(w->pg, w->xg, (size_t)(m * k) * sizeof *w->pg);
  multiply(false, w->yg, m, k, fy, k, 1.0, w->pg);
  /* scores X'A e = (A X)' e */
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < k; j++) score[j] += w->pg[i * k + j] * w->eg[i];
  for (int64_t a = 0; a < k; a++)
    for (int64_t b = 0; b < k; b++) meat[a * k + b] += score[a] * score[b];
  if (u == NULL) goto done;
  multiply(false, w->pg, m, k, bread, k, 0.0, w->yg);
  multiply(true, w->xg, m, k, w->yg, k, 0.0, u);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < k; j++)
      own[j] += w->yg[i * k + j] * w->yg[i * k + j];
done:
  ptq_free(score);
  ptq_free(fy);
  return rc;
}

/* Satterthwaite's degrees of freedom of coefficient j. */
static double satterthwaite(const work *w, int n_clusters, int64_t j,
                            const double *bread, double *mu) {
  const int64_t k = w->k;
  double trace = 0.0, square = 0.0;
  for (int h = 0; h < n_clusters; h++) {
    const double *uh = w->u + h * k * k;
    for (int64_t a = 0; a < k; a++) {
      mu[a] = 0.0;
      for (int64_t b = 0; b < k; b++) mu[a] += bread[a * k + b] * uh[b * k + j];
    }
    for (int g = 0; g < n_clusters; g++) {
      const double *ug = w->u + g * k * k;
      double v = g == h ? w->own[g * k + j] : 0.0;
      for (int64_t a = 0; a < k; a++) v -= ug[a * k + j] * mu[a];
      square += v * v;
      if (g == h) trace += v;
    }
  }
  return square > 0.0 ? trace * trace / square : NAN;
}

ptq_status ptq_cluster_cr2(const double *x, const double *e, const int *cluster,
                           int n_clusters, int64_t n, int64_t k,
                           const double *bread, double *cov, double *df,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  work w = {.n = n, .k = k};
  double *meat = NULL, *half = NULL;
  PTQ_TRY(allocate(&w, df != NULL ? n_clusters : 0, err));
  PTQ_TRY(ptq_alloc(&meat, k * k, sizeof *meat, "clustered errors", err));
  PTQ_TRY(ptq_alloc(&half, k * k, sizeof *half, "clustered errors", err));
  PTQ_TRY(factor_bread(&w, bread, err));
  for (int g = 0; g < n_clusters; g++) {
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
      if (cluster[i] != g) continue;
      memcpy(w.xg + m * k, x + i * k, (size_t)k * sizeof *x);
      w.eg[m++] = e[i];
    }
    double *u = df != NULL ? w.u + g * k * k : NULL;
    double *own = df != NULL ? w.own + g * k : NULL;
    if (m > 0) PTQ_TRY(add_cluster(&w, m, bread, meat, u, own, err));
  }
  multiply(false, meat, k, k, bread, k, 0.0, half);
  multiply(false, bread, k, k, half, k, 0.0, cov);
  for (int64_t j = 0; j < k && df != NULL; j++)
    df[j] = satterthwaite(&w, n_clusters, j, bread, half);
done:
  release(&w);
  ptq_free(meat);
  ptq_free(half);
  return rc;
}
