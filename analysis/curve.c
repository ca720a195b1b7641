/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/curve.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <gsl/gsl_linalg.h>
#include <gsl/gsl_multifit_nlinear.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "least_squares.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"

/* So many starts at most; when so many have reached the least optimum, the
 * search ends. */
enum { STARTS = 24, AGREE = 4, MAX_ITERATIONS = 300, SCREEN_ROWS = 2000 };
/* Columns of the scaled Jacobian closer to collinear than this cannot be told
 * apart: half the digits of central differences. */
static const double least_condition = 1e-6;
static const uint64_t seed = 20241012;

/* The points as the solver sees them. */
typedef struct problem {
  const ptq_curve *curve;
  int p;              /* parameters */
  int64_t n;          /* rows */
  double *x;          /* owned; [n, PTQ_CURVE_COVARIATES] */
  double *y;          /* owned; [n] response or bound */
  ptq_censoring *c;   /* owned; [n] */
  int *cluster;       /* owned; [n] */
  const char **model; /* owned; [n_clusters] borrowed names */
  int n_clusters;
  int64_t stride; /* every stride-th row takes part */
} problem;

static void release(problem *s) {
  ptq_free(s->x);
  ptq_free(s->y);
  ptq_free(s->c);
  ptq_free(s->cluster);
  ptq_free(s->model);
}

/* Estimates from the solver's coordinates: logarithms of positive ones. */
static void natural(const ptq_curve *c, int p, const double *u, double *q) {
  for (int j = 0; j < p; j++) q[j] = c->params[j].positive ? exp(u[j]) : u[j];
}

static int64_t rows(const problem *s) {
  return (s->n + s->stride - 1) / s->stride;
}

static double residual(const problem *s, const double *q, int64_t i) {
  const double v = s->curve->value(q, s->x + i * PTQ_CURVE_COVARIATES);
  const double r = s->y[i] - v;
  if (s->c[i] == PTQ_CENSORED_LEFT) return fmin(r, 0.0);
  if (s->c[i] == PTQ_CENSORED_RIGHT) return fmax(r, 0.0);
  return r;
}

static int residuals(const gsl_vector *u, void *params, gsl_vector *f) {
  const problem *s = params;
  double q[PTQ_CURVE_PARAMS];
  natural(s->curve, s->p, u->data, q);
  for (int64_t i = 0, k = 0; i < s->n; i += s->stride, k++) {
    const double r = residual(s, q, i);
    if (!isfinite(r)) return GSL_EDOM;
    gsl_vector_set(f, (size_t)k, r);
  }
  return GSL_SUCCESS;
}

/* Response of a point and how it is known; false: it has none. */
static bool response(const ptq_curve *c, const ptq_obs *o, double *y,
                     ptq_censoring *how) {
  *how = ptq_obs_censoring(o, y);
  if (c->base != NULL) { /* nll itself, above noise everywhere */
    *y = *how == PTQ_CENSORED_RIGHT ? o->model->nll_unigram : o->point->nll;
    if (*how == PTQ_CENSORED_LEFT) *how = PTQ_CENSORED_NOT;
  }
  return isfinite(*y);
}

static ptq_status number_model(problem *s, const char *name, int64_t row,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int g = s->n_clusters - 1;
  while (g >= 0 && strcmp(s->model[g], name) != 0) g--;
  if (g < 0) {
    g = s->n_clusters;
    PTQ_TRY(ptq_grow(&s->model, g, g + 1, sizeof *s->model, "models", err));
    s->model[s->n_clusters++] = name;
  }
  s->cluster[row] = g;
done:
  return rc;
}

static ptq_status read_points(problem *s, const ptq_obs *const *obs, int64_t n,
                              ptq_curve_fit *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_feature *feature[PTQ_CURVE_COVARIATES] = {NULL};
  int n_features = 0;
  for (const char *const *name = s->curve->covariates; *name != NULL; name++)
    feature[n_features++] = ptq_feature_find(*name);
  PTQ_TRY(ptq_alloc(&s->x, n * PTQ_CURVE_COVARIATES, sizeof *s->x, "covariates",
                    err));
  PTQ_TRY(ptq_alloc(&s->y, n, sizeof *s->y, "responses", err));
  PTQ_TRY(ptq_alloc(&s->c, n, sizeof *s->c, "censoring", err));
  PTQ_TRY(ptq_alloc(&s->cluster, n, sizeof *s->cluster, "clusters", err));
  for (int64_t i = 0; i < n; i++) {
    if (!ptq_obs_learned(obs[i])) continue;
    double *x = s->x + s->n * PTQ_CURVE_COVARIATES;
    bool whole = response(s->curve, obs[i], &s->y[s->n], &s->c[s->n]);
    for (int j = 0; j < n_features; j++) {
      x[j] = feature[j]->get(obs[i]);
      whole = whole && isfinite(x[j]) && x[j] > 0.0;
    }
    if (!whole) {
      out->n_lost++;
      continue;
    }
    out->n_left += s->c[s->n] == PTQ_CENSORED_LEFT;
    out->n_right += s->c[s->n] == PTQ_CENSORED_RIGHT;
    PTQ_TRY(number_model(s, obs[i]->run, s->n, err));
    s->n++;
  }
  out->n = s->n;
  out->n_clusters = s->n_clusters;
done:
  return rc;
}

/* Is every covariate there, and does it vary? */
static bool covariates_vary(const problem *s, const ptq_obs *const *obs,
                            int64_t n, ptq_curve_fit *out) {
  for (const char *const *name = s->curve->covariates; *name != NULL; name++) {
    const ptq_feature *f = ptq_feature_find(*name);
    int64_t known = 0;
    double low = INFINITY, high = -INFINITY;
    for (int64_t i = 0; i < n; i++) {
      const double v = f->get(obs[i]);
      if (!isfinite(v)) continue;
      known++;
      low = fmin(low, v);
      high = fmax(high, v);
    }
    if (known == 0)
      (void)snprintf(out->why_not, sizeof out->why_not,
                     "'%s' is absent (%s); models of the sweep file may give "
                     "it",
                     f->name, f->text);
    else if (low == high)
      (void)snprintf(out->why_not, sizeof out->why_not,
                     "'%s' is constant (%.6g): its parameter could be anything",
                     f->name, low);
    if (known == 0 || low == high) return false;
  }
  return true;
}

/* From u to the optimum near it; *rss is infinite when none was found. */
static void descend(gsl_multifit_nlinear_workspace *w,
                    gsl_multifit_nlinear_fdf *fdf, double *u, int p,
                    double *rss) {
  const gsl_vector_view uv = gsl_vector_view_array(u, (size_t)p);
  int info = 0;
  *rss = INFINITY;
  if (gsl_multifit_nlinear_init(&uv.vector, fdf, w) != GSL_SUCCESS) return;
  (void)gsl_multifit_nlinear_driver(MAX_ITERATIONS, 1e-12, 1e-12, 0.0, NULL,
                                    NULL, &info, w);
  const gsl_vector *f = gsl_multifit_nlinear_residual(w);
  const gsl_vector *at = gsl_multifit_nlinear_position(w);
  double sum = 0.0;
  for (size_t i = 0; i < f->size; i++)
    sum += gsl_vector_get(f, i) * gsl_vector_get(f, i);
  if (!isfinite(sum)) return;
  for (int j = 0; j < p; j++) u[j] = gsl_vector_get(at, (size_t)j);
  *rss = sum;
}

static gsl_multifit_nlinear_workspace *solver(int64_t n, int p) {
  gsl_multifit_nlinear_parameters o = gsl_multifit_nlinear_default_parameters();
  o.trs = gsl_multifit_nlinear_trs_lm;
  o.solver = gsl_multifit_nlinear_solver_qr;
  o.fdtype = GSL_MULTIFIT_NLINEAR_CTRDIFF;
  o.h_df = 6e-6; /* third root of the rounding unit */
  return gsl_multifit_nlinear_alloc(gsl_multifit_nlinear_trust, &o, (size_t)n,
                                    (size_t)p);
}

/* The best optimum of all starts into u; many points are screened by some. */
static ptq_status search(problem *s, ptq_curve_fit *out, double *u,
                         ptq_err *err) {
  gsl_multifit_nlinear_fdf fdf = {.f = residuals, .p = (size_t)s->p};
  double all[STARTS];
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  s->stride = s->n > SCREEN_ROWS ? s->n / SCREEN_ROWS : 1;
  fdf.n = (size_t)rows(s);
  fdf.params = s;
  gsl_multifit_nlinear_workspace *w = solver(rows(s), s->p);
  if (w == NULL) return PTQ_FAIL(err, PTQ_E_NOMEM, "%s", s->curve->name);
  double best = INFINITY;
  int tried = 0;
  for (int agree = 0; tried < STARTS && agree < AGREE; tried++) {
    const int k = tried;
    double trial[PTQ_CURVE_PARAMS];
    for (int j = 0; j < s->p; j++) {
      const ptq_curve_param *q = &s->curve->params[j];
      const double r = ptq_rng_unit(&rng);
      trial[j] = q->positive ? log(q->low) + r * log(q->high / q->low)
                             : q->low + r * (q->high - q->low);
    }
    descend(w, &fdf, trial, s->p, &all[k]);
    if (all[k] < best) {
      best = all[k];
      memcpy(u, trial, sizeof trial);
    }
    agree = 0;
    for (int i = 0; i <= k; i++) agree += all[i] <= best * (1 + 1e-6);
  }
  gsl_multifit_nlinear_free(w);
  out->n_starts = tried;
  out->seed = seed;
  for (int k = 0; k < tried; k++) out->n_agree += all[k] <= best * (1 + 1e-6);
  out->rss = best;
  return PTQ_OK;
}

/* Central differences of the residuals' negative at u: j[n, p]. */
static void jacobian(const problem *s, const double *u, double *j) {
  for (int k = 0; k < s->p; k++) {
    double a[PTQ_CURVE_PARAMS], b[PTQ_CURVE_PARAMS];
    double qa[PTQ_CURVE_PARAMS], qb[PTQ_CURVE_PARAMS];
    memcpy(a, u, sizeof a);
    memcpy(b, u, sizeof b);
    const double h = 6e-6 * fmax(1.0, fabs(u[k]));
    a[k] += h;
    b[k] -= h;
    natural(s->curve, s->p, a, qa);
    natural(s->curve, s->p, b, qb);
    for (int64_t i = 0; i < s->n; i++)
      j[i * s->p + k] =
          (residual(s, qb, i) - residual(s, qa, i)) / (a[k] - b[k]);
  }
}

/* Do the points tell the parameters apart? Least singular value of the
 * Jacobian's R, columns at unit length. */
static bool identifiable(const problem *s, const double *r,
                         ptq_curve_fit *out) {
  const size_t p = (size_t)s->p;
  double unit[PTQ_CURVE_PARAMS * PTQ_CURVE_PARAMS];
  double v[PTQ_CURVE_PARAMS * PTQ_CURVE_PARAMS];
  double sv[PTQ_CURVE_PARAMS], work[PTQ_CURVE_PARAMS];
  for (size_t j = 0; j < p; j++) {
    double norm = 0.0;
    for (size_t i = 0; i < p; i++) norm += r[i * p + j] * r[i * p + j];
    if (!(norm > 0.0)) {
      (void)snprintf(out->why_not, sizeof out->why_not,
                     "no point says anything of '%s' at the optimum",
                     s->curve->params[j].name);
      return false;
    }
    for (size_t i = 0; i < p; i++) unit[i * p + j] = r[i * p + j] / sqrt(norm);
  }
  gsl_matrix_view a = gsl_matrix_view_array(unit, p, p);
  gsl_matrix_view vv = gsl_matrix_view_array(v, p, p);
  gsl_vector_view sw = gsl_vector_view_array(sv, p);
  gsl_vector_view ww = gsl_vector_view_array(work, p);
  if (p > 1)
    (void)gsl_linalg_SV_decomp(&a.matrix, &vv.matrix, &sw.vector, &ww.vector);
  if (p == 1 || sv[p - 1] > least_condition * sv[0]) return true;
  size_t one = 0, two = p > 1 ? 1 : 0;
  for (size_t j = 0; j < p; j++)
    if (fabs(v[j * p + p - 1]) > fabs(v[one * p + p - 1])) one = j;
  two = one == 0 ? 1 : 0;
  for (size_t j = 0; j < p; j++)
    if (j != one && fabs(v[j * p + p - 1]) > fabs(v[two * p + p - 1])) two = j;
  (void)snprintf(out->why_not, sizeof out->why_not,
                 "the points do not tell '%s' from '%s'",
                 s->curve->params[one].name, s->curve->params[two].name);
  return false;
}

/* Errors of the linearized regression, clustered by model where there are
 * two. */
static ptq_status errors(const problem *s, const double *u, ptq_curve_fit *out,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int p = s->p;
  double *j = NULL, *e = NULL, r[PTQ_CURVE_PARAMS * PTQ_CURVE_PARAMS];
  double bread[PTQ_CURVE_PARAMS * PTQ_CURVE_PARAMS], b[PTQ_CURVE_PARAMS];
  double cov[PTQ_CURVE_PARAMS * PTQ_CURVE_PARAMS];
  PTQ_TRY(ptq_alloc(&j, s->n * p, sizeof *j, "Jacobian", err));
  PTQ_TRY(ptq_alloc(&e, s->n, sizeof *e, "residuals", err));
  jacobian(s, u, j);
  PTQ_TRY(ptq_qr_factor(j, s->n, p, r, err));
  out->identified = identifiable(s, r, out);
  if (!out->identified) goto done;
  for (int64_t i = 0; i < s->n; i++) e[i] = residual(s, out->q, i);
  PTQ_TRY(ptq_wls(j, NULL, e, s->n, p, b, bread, err));
  const double s2 = out->sigma * out->sigma;
  for (int k = 0; k < p; k++) cov[k * p + k] = NAN;
  if (s->n_clusters >= 2)
    PTQ_TRY(ptq_cluster_cr2(j, e, s->cluster, s->n_clusters, s->n, p, bread,
                            cov, out->df, err));
  for (int a = 0; a < p; a++) {
    const double scale = s->curve->params[a].positive ? out->q[a] : 1.0;
    out->std_error[a] = scale * sqrt(s2 * bread[a * p + a]);
    out->std_error_cluster[a] = scale * sqrt(cov[a * p + a]);
    for (int c = 0; c < p; c++)
      out->cov[a][c] =
          s->n_clusters >= 2 ? cov[a * p + c] : s2 * bread[a * p + c];
  }
done:
  ptq_free(j);
  ptq_free(e);
  return rc;
}

static double explained(const problem *s, const ptq_curve_fit *f) {
  double n = 0.0, mean = 0.0, total = 0.0, rest = 0.0;
  for (int64_t i = 0; i < s->n; i++)
    if (s->c[i] == PTQ_CENSORED_NOT) {
      n += 1.0;
      mean += s->y[i];
    }
  mean /= n;
  for (int64_t i = 0; i < s->n; i++)
    if (s->c[i] == PTQ_CENSORED_NOT) {
      const double r = residual(s, f->q, i);
      total += (s->y[i] - mean) * (s->y[i] - mean);
      rest += r * r;
    }
  return total > 0.0 ? 1.0 - rest / total : NAN;
}

/* From the screened optimum to that of all points, and its errors. */
static ptq_status finish(problem *s, double *u, ptq_curve_fit *out,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (s->stride > 1) {
    s->stride = 1;
    gsl_multifit_nlinear_fdf fdf = {
        .f = residuals, .n = (size_t)s->n, .p = (size_t)s->p, .params = s};
    gsl_multifit_nlinear_workspace *w = solver(s->n, s->p);
    if (w == NULL) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "%s", s->curve->name));
    descend(w, &fdf, u, s->p, &out->rss);
    gsl_multifit_nlinear_free(w);
  }
  if (!isfinite(out->rss)) {
    (void)snprintf(out->why_not, sizeof out->why_not,
                   "no start of %d led to an optimum", (int)STARTS);
    goto done;
  }
  natural(s->curve, s->p, u, out->q);
  out->sigma = sqrt(out->rss / (double)(s->n - s->p));
  out->r2 = explained(s, out);
  PTQ_TRY(errors(s, u, out, err));
done:
  return rc;
}

ptq_status ptq_curve_fit_points(const ptq_curve *curve,
                                const ptq_obs *const *obs, int64_t n,
                                ptq_curve_fit *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  problem s = {.curve = curve, .p = ptq_curve_n_params(curve), .stride = 1};
  double u[PTQ_CURVE_PARAMS] = {0.0};
  *out = (ptq_curve_fit){.curve = curve, .r2 = NAN};
  (void)gsl_set_error_handler_off();
  PTQ_TRY(read_points(&s, obs, n, out, err));
  if (!covariates_vary(&s, obs, n, out)) goto done;
  if (out->n - out->n_left - out->n_right <= s.p)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "law '%s': %lld uncensored points cannot determine %d "
                     "parameters; finish more of the sweep",
                     curve->name,
                     (long long)(out->n - out->n_left - out->n_right), s.p));
  PTQ_TRY(search(&s, out, u, err));
  PTQ_TRY(finish(&s, u, out, err));
done:
  release(&s);
  return rc;
}

/* What is predicted, and its gradient by ln q or q, on the fit's scale. */
static double predicted(const ptq_curve_fit *f, const double *x,
                        double *gradient) {
  const ptq_curve *c = f->curve;
  const int p = ptq_curve_n_params(c);
  const double at = c->value(f->q, x);
  for (int k = 0; k < p; k++) {
    double q[PTQ_CURVE_PARAMS];
    memcpy(q, f->q, sizeof q);
    const double h = 6e-6 * fmax(1.0, fabs(q[k]));
    q[k] = c->params[k].positive ? f->q[k] * exp(6e-6) : f->q[k] + h;
    const double up = c->value(q, x);
    q[k] = c->params[k].positive ? f->q[k] * exp(-6e-6) : f->q[k] - h;
    const double step = c->params[k].positive ? 12e-6 : 2.0 * h;
    gradient[k] = (up - c->value(q, x)) / step;
  }
  return at;
}

ptq_prediction ptq_curve_predict(const ptq_curve_fit *f, const ptq_obs *o) {
  ptq_prediction out = {NAN, NAN, NAN, "value"};
  double x[PTQ_CURVE_COVARIATES] = {0.0}, g[PTQ_CURVE_PARAMS] = {0.0};
  const int p = ptq_curve_n_params(f->curve);
  for (int j = 0; f->curve->covariates[j] != NULL; j++) {
    x[j] = ptq_feature_find(f->curve->covariates[j])->get(o);
    if (!(x[j] > 0.0) || !isfinite(x[j])) return out;
  }
  const double at = predicted(f, x, g);
  if (!isfinite(at)) return out;
  double v = f->sigma * f->sigma;
  for (int a = 0; a < p; a++)
    for (int b = 0; b < p; b++) v += g[a] * f->cov[a][b] * g[b];
  const double df =
      f->n_clusters >= 2 ? (double)(f->n_clusters - 1) : (double)(f->n - p);
  const double half = gsl_cdf_tdist_Pinv(0.95, df) * sqrt(v);
  if (f->curve->base != NULL) {
    const double nll = f->curve->base(f->q, x);
    return (ptq_prediction){at - nll, at - nll - half, at - nll + half, NULL};
  }
  return (ptq_prediction){exp(at), exp(at - half), exp(at + half), NULL};
}
