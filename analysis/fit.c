/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/fit.h"

#include <gsl/gsl_cdf.h>
#include <gsl/gsl_errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "least_squares.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

static const ptq_estimator *const estimators[] = {
    &ptq_estimator_quasi,    &ptq_estimator_censored, &ptq_estimator_ols,
    &ptq_estimator_weighted, &ptq_estimator_robust,   &ptq_estimator_ridge};

const ptq_estimator *ptq_estimator_at(size_t i) {
  return i < sizeof estimators / sizeof estimators[0] ? estimators[i] : NULL;
}

ptq_status ptq_estimator_find(const char *name, const ptq_estimator **out,
                              ptq_err *err) {
  char known[128] = "";
  size_t at = 0;
  *out = NULL;
  for (size_t i = 0; ptq_estimator_at(i) != NULL; i++) {
    if (strcmp(estimators[i]->name, name) == 0) {
      *out = estimators[i];
      return PTQ_OK;
    }
    const int n = snprintf(known + at, sizeof known - at, "%s%s",
                           i > 0 ? ", " : "", estimators[i]->name);
    if (n > 0 && at + (size_t)n < sizeof known) at += (size_t)n;
  }
  return PTQ_FAIL(err, PTQ_E_ARG, "unknown estimator '%s'; there are %s", name,
                  known);
}

ptq_censoring ptq_obs_censoring(const ptq_obs *o, double *log_dnll) {
  const double dnll = o->point->dnll, se = o->point->dnll_se;
  if (o->use == PTQ_USE_COLLAPSED) {
    const double bound = o->model->nll_unigram - o->model->nll;
    *log_dnll = bound > 0.0 ? log(bound) : NAN;
    return PTQ_CENSORED_RIGHT;
  }
  if (dnll > 0.0 && !(dnll < 2.0 * se)) {
    *log_dnll = log(dnll);
    return PTQ_CENSORED_NOT;
  }
  *log_dnll = se > 0.0 && isfinite(se) ? log(2.0 * se) : NAN;
  return PTQ_CENSORED_LEFT;
}

static const char *why_censored(ptq_censoring c, const ptq_obs *o) {
  if (c == PTQ_CENSORED_RIGHT) return "collapsed";
  return o->point->dnll > 0.0 ? "dnll < 2 dnll_se"
                              : "dnll is not positive: no logarithm";
}

static void leave_out(ptq_fit *f, const ptq_obs *o, const char *why,
                      const char *column) {
  f->left_out[f->n_left_out++] = (ptq_left_out){o, why, column};
}

/* What became of the points, where none is left. */
static ptq_status name_missing(const ptq_obs *const *obs, int64_t n,
                               const ptq_fit *fit, ptq_err *err) {
  long long count[PTQ_USE_COUNT] = {0};
  long long collapsed = 0, learned = 0;
  for (int64_t i = 0; i < n; i++) {
    count[obs[i]->use]++;
    learned += ptq_obs_learned(obs[i]);
    collapsed += ptq_obs_learned(obs[i]) && obs[i]->use == PTQ_USE_COLLAPSED;
  }
  if (collapsed > 0 && collapsed == learned)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "fit: all %lld finished points of %lld have collapsed "
                    "(predict no better than word frequencies), which '%s' "
                    "cannot learn from; add formats of more bits to the sweep "
                    "and 'ptqsweep run ... --extend' the store",
                    collapsed, (long long)n, fit->estimator->name);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "fit: no finished point that '%s' can use: of %lld, %lld "
                  "are pending, %lld failed, %lld have no loss or wait for "
                  "their model's own item, %lld are left out; 'ptqsweep "
                  "status' says what is missing",
                  fit->estimator->name, (long long)n, count[PTQ_USE_PENDING],
                  count[PTQ_USE_FAILED], count[PTQ_USE_INCOMPLETE],
                  (long long)(fit->n_excluded + fit->n_unbounded));
}

/* The points this estimator takes, in order; left_out has room for all. */
static ptq_status choose_points(const ptq_obs *const *obs, int64_t n,
                                ptq_fit *fit, const ptq_obs **chosen,
                                int64_t *n_chosen, ptq_err *err) {
  for (int64_t i = 0; i < n; i++) {
    if (!ptq_obs_learned(obs[i])) continue;
    double log_dnll = NAN;
    const ptq_censoring c = ptq_obs_censoring(obs[i], &log_dnll);
    if (!fit->estimator->takes(c)) {
      fit->n_excluded++;
      leave_out(fit, obs[i], why_censored(c, obs[i]), "");
    } else if (fit->estimator->on_log && !isfinite(log_dnll)) {
      fit->n_unbounded++;
      leave_out(fit, obs[i],
                "dnll is not positive and has no dnll_se that bounds it", "");
    } else {
      chosen[(*n_chosen)++] = obs[i];
    }
  }
  return *n_chosen > 0 ? PTQ_OK : name_missing(obs, n, fit, err);
}

static ptq_status allocate(ptq_fit *f, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = f->matrix.n, k = f->matrix.k;
  PTQ_TRY(ptq_alloc(&f->coef, k, sizeof *f->coef, "coefficients", err));
  PTQ_TRY(ptq_alloc(&f->cov, k * k, sizeof *f->cov, "covariance", err));
  PTQ_TRY(
      ptq_alloc(&f->cov_classical, k * k, sizeof *f->cov, "covariance", err));
  PTQ_TRY(ptq_alloc(&f->bread, k * k, sizeof *f->bread, "covariance", err));
  PTQ_TRY(ptq_alloc(&f->residual, n, sizeof *f->residual, "residuals", err));
  PTQ_TRY(ptq_alloc(&f->fitted, n, sizeof *f->fitted, "fitted values", err));
  f->log_likelihood = f->tau2 = NAN;
done:
  return rc;
}

/* CR2 where the estimator is a weighted least squares. */
static ptq_status cluster_errors(ptq_fit *f, bool bare, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = f->matrix.n, k = f->matrix.k;
  double *x = NULL, *e = NULL, *df = NULL;
  if (f->weight == NULL || f->matrix.n_clusters < 2) goto done;
  PTQ_TRY(ptq_alloc(&x, n * k, sizeof *x, "weighted columns", err));
  PTQ_TRY(ptq_alloc(&e, n, sizeof *e, "weighted residuals", err));
  PTQ_TRY(ptq_alloc(&df, k, sizeof *df, "degrees of freedom", err));
  for (int64_t i = 0; i < n; i++) {
    const double w = sqrt(f->weight[i]);
    e[i] = w * f->residual[i];
    for (int64_t j = 0; j < k; j++) x[i * k + j] = w * f->matrix.x[i * k + j];
  }
  PTQ_TRY(ptq_cluster_cr2(x, e, f->matrix.cluster, f->matrix.n_clusters, n, k,
                          f->bread, f->cov, bare ? NULL : df, err));
  for (int64_t j = 0; j < k; j++) f->coef[j].df = df[j];
done:
  ptq_free(x);
  ptq_free(e);
  ptq_free(df);
  return rc;
}

/* Clustered errors below this share of the classical ones are rounding. */
static const double rounding = 1e-6;

static double square(double x) {
  return x * x;
}

static void test_coefficients(ptq_fit *f) {
  const int64_t k = f->matrix.k;
  const bool clustered = f->matrix.n_clusters >= 2;
  for (int64_t j = 0; j < k; j++) {
    ptq_coefficient *c = &f->coef[j];
    c->std_error = sqrt(f->cov_classical[j * k + j]);
    if (!clustered) {
      for (int64_t i = 0; i < k; i++) f->cov[j * k + i] = NAN;
      c->df = NAN;
    }
    const double v = f->cov[j * k + j];
    /* A model's own level fits that model's points: their scores sum to zero,
     * and what is left of the error is rounding, not certainty. */
    c->std_error_cluster = v > square(rounding * c->std_error) ? sqrt(v) : NAN;
    const double se = clustered ? c->std_error_cluster : c->std_error;
    const double df = clustered ? c->df : (double)(f->matrix.n - f->matrix.k);
    c->t = c->p = c->ci_low = c->ci_high = NAN;
    if (!(se > 0.0) || !(df > 0.0)) continue;
    c->t = c->estimate / se;
    c->p = 2.0 * gsl_cdf_tdist_Q(fabs(c->t), df);
    const double half = gsl_cdf_tdist_Pinv(0.975, df) * se;
    c->ci_low = c->estimate - half;
    c->ci_high = c->estimate + half;
  }
}

/* Share explained: of ln(dnll) over uncensored points, of dnll over points
 * that are not collapsed. */
static void explain(ptq_fit *f) {
  double sum[2] = {0.0, 0.0}, n[2] = {0.0, 0.0};
  double total[2] = {0.0, 0.0}, rest[2] = {0.0, 0.0};
  f->n_left = f->n_right = 0;
  for (int pass = 0; pass < 2; pass++)
    for (int64_t i = 0; i < f->matrix.n; i++) {
      double y[2] = {NAN, f->matrix.obs[i]->point->dnll};
      const double yhat[2] = {log(f->fitted[i]), f->fitted[i]};
      const ptq_censoring c = ptq_obs_censoring(f->matrix.obs[i], &y[0]);
      if (pass == 0) {
        f->n_left += c == PTQ_CENSORED_LEFT;
        f->n_right += c == PTQ_CENSORED_RIGHT;
      }
      for (int s = 0; s < 2; s++) {
        if (c == PTQ_CENSORED_RIGHT || (s == 0 && c != PTQ_CENSORED_NOT))
          continue;
        if (pass == 0) {
          sum[s] += y[s];
          n[s] += 1.0;
        } else {
          const double d = y[s] - sum[s] / n[s];
          total[s] += d * d;
          rest[s] += (y[s] - yhat[s]) * (y[s] - yhat[s]);
        }
      }
    }
  f->r2 = total[0] > 0.0 ? 1.0 - rest[0] / total[0] : NAN;
  const double k = f->lambda > 0.0 ? 1.0 + f->edf : (double)f->matrix.k;
  f->r2_adjusted =
      n[0] > k ? 1.0 - (1.0 - f->r2) * (n[0] - 1.0) / (n[0] - k) : NAN;
  f->aic = -2.0 * f->log_likelihood + 2.0 * k;
  f->bic = -2.0 * f->log_likelihood + k * log((double)f->matrix.n);
  f->r2_nats = total[1] > 0.0 ? 1.0 - rest[1] / total[1] : NAN;
}

static ptq_status finish(ptq_fit *f, bool bare, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (!(f->scale > 0.0)) {
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "fit: the formula leaves no residual at all; it has a "
                  "column a point");
    goto done;
  }
  PTQ_TRY(cluster_errors(f, bare, err));
  if (bare) goto done;
  test_coefficients(f);
  explain(f);
  PTQ_TRY(ptq_diagnose(f, f->bread, err));
  for (int64_t i = 0; i < f->matrix.n_lost; i++)
    leave_out(f, f->matrix.lost[i], "no finite value of",
              f->matrix.unusable[f->matrix.lost_for[i]].name);
done:
  return rc;
}

ptq_status ptq_fit_points(const ptq_estimator *estimator,
                          const ptq_formula *formula,
                          const ptq_fit_options *options,
                          const ptq_obs *const *obs, int64_t n, ptq_fit *out,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **chosen = NULL;
  int64_t n_chosen = 0;
  *out = (ptq_fit){.estimator = estimator};
  (void)gsl_set_error_handler_off();
  PTQ_TRY(ptq_alloc(&chosen, n, sizeof *chosen, "points", err));
  PTQ_TRY(ptq_alloc(&out->left_out, n, sizeof *out->left_out, "points", err));
  PTQ_TRY(choose_points(obs, n, out, chosen, &n_chosen, err));
  PTQ_TRY(ptq_matrix_build(formula, chosen, n_chosen, &out->matrix, err));
  PTQ_TRY(allocate(out, err));
  PTQ_TRY(estimator->solve(options, out, err));
  PTQ_TRY(finish(out, options->bare, err));
done:
  ptq_free(chosen);
  if (rc != PTQ_OK) ptq_fit_release(out);
  return rc;
}

ptq_status ptq_fit_frame(const ptq_estimator *estimator,
                         const ptq_formula *formula,
                         const ptq_fit_options *options, const ptq_frame *f,
                         ptq_fit *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_obs **obs = NULL;
  *out = (ptq_fit){0};
  PTQ_TRY(ptq_alloc(&obs, f->n, sizeof *obs, "points", err));
  for (int64_t i = 0; i < f->n; i++) obs[i] = &f->obs[i];
  PTQ_TRY(ptq_fit_points(estimator, formula, options, obs, f->n, out, err));
done:
  ptq_free(obs);
  return rc;
}

void ptq_fit_release(ptq_fit *f) {
  ptq_matrix_release(&f->matrix);
  ptq_free(f->coef);
  ptq_free(f->cov);
  ptq_free(f->cov_classical);
  ptq_free(f->bread);
  ptq_free(f->left_out);
  ptq_free(f->residual);
  ptq_free(f->fitted);
  ptq_free(f->weight);
  *f = (ptq_fit){0};
}

ptq_prediction ptq_fit_predict(const ptq_fit *f, const ptq_obs *o) {
  ptq_prediction p = {NAN, NAN, NAN, NULL};
  double row[PTQ_COLUMN_MAX];
  if (!ptq_matrix_row(&f->matrix, o, row, &p.why)) return p;
  const int64_t k = f->matrix.k;
  double eta = 0.0;
  for (int64_t j = 0; j < k; j++) eta += row[j] * f->coef[j].estimate;
  /* what a measurement of this point would scatter by, on the log scale */
  double noise = f->power > 0.0 ? f->scale * exp((f->power - 2.0) * eta)
                                : f->scale * f->scale;
  if (f->tau2 >= 0.0) noise = f->tau2;
  if (f->noise && o->point->dnll_se > 0.0 && isfinite(o->point->dnll_se))
    noise += pow(o->point->dnll_se * exp(-eta), 2.0);
  const bool clustered = f->matrix.n_clusters >= 2;
  const double *cov = clustered ? f->cov : f->cov_classical;
  const double df = clustered ? (double)(f->matrix.n_clusters - 1)
                              : (double)(f->matrix.n - k);
  const double half = gsl_cdf_tdist_Pinv(0.95, df) *
                      sqrt(noise + fmax(0.0, ptq_quadratic(row, cov, k)));
  p.dnll = exp(eta);
  p.low = exp(eta - half);
  p.high = exp(eta + half);
  return p;
}
