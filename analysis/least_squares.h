/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file least_squares.h
 * The weighted least squares that estimators share, errors clustered by
 * model, and checks of residuals. Private to the module.
 */
#ifndef PTQ_ANALYSIS_LEAST_SQUARES_H
#define PTQ_ANALYSIS_LEAST_SQUARES_H

#include <stdint.h>

#include "ptq/analysis/fit.h"
#include "ptq/base/status.h"

/**
 * Minimize sum w (z - x b)^2 by a QR factorization.
 *
 * @param x      [n, k] row-major, full rank
 * @param w      [n], positive; NULL means ones
 * @param z      [n]
 * @param b      [k] out
 * @param bread  [k, k] out: (X' W X)^-1
 * @return PTQ_OK, PTQ_E_NOMEM, PTQ_E_NUMERIC
 */
ptq_status ptq_wls(const double *x, const double *w, const double *z, int64_t n,
                   int64_t k, double *b, double *bread, ptq_err *err);

/** R of X = Q R: r[k, k] row-major, upper. x is [n, k], n >= k. */
ptq_status ptq_qr_factor(const double *x, int64_t n, int64_t k, double *r,
                         ptq_err *err);

/** Log-likelihood of a weighted least squares on ln(dnll) at the variance
 * that maximizes it; of fit->residual and fit->weight (NULL: ones). */
double ptq_gaussian_likelihood(const ptq_fit *fit);

/** x_i' b for one row of k. */
double ptq_row_dot(const double *row, const double *b, int64_t k);
/** a' M a, M [k, k] symmetric. */
double ptq_quadratic(const double *a, const double *m, int64_t k);

/**
 * CR2 covariance (Bell and McCaffrey 2002) of least squares on rows that are
 * already multiplied by the root of their weight, and Satterthwaite degrees
 * of freedom under independent errors of equal variance.
 *
 * @param x        [n, k]; @param e [n] residuals
 * @param cluster  [n] in 0..n_clusters-1, n_clusters >= 2
 * @param bread    [k, k] (X' X)^-1
 * @param cov      [k, k] out
 * @param df       [k] out, NaN where undefined; NULL: not wanted
 */
ptq_status ptq_cluster_cr2(const double *x, const double *e, const int *cluster,
                           int n_clusters, int64_t n, int64_t k,
                           const double *bread, double *cov, double *df,
                           ptq_err *err);

/** Fill fit->diagnostics and the VIF of coefficients; weight may be NULL
 * (then only what concerns the columns). */
ptq_status ptq_diagnose(ptq_fit *fit, const double *bread, ptq_err *err);

extern const ptq_estimator ptq_estimator_quasi, ptq_estimator_censored,
    ptq_estimator_ols, ptq_estimator_weighted, ptq_estimator_robust,
    ptq_estimator_ridge;

#endif /* PTQ_ANALYSIS_LEAST_SQUARES_H */
