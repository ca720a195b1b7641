/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file curve.h
 * Nonlinear laws of the literature, fitted by least squares on ln(dnll) (or on
 * nll). A law is one file law_<name>.c that ends in its row, listed once in
 * curve_list.c.
 *
 * Censored points are one-sided residuals: a point with dnll < 2 dnll_se only
 * counts where the law is above 2 dnll_se, a collapsed one only where it is
 * below the unigram model's loss.
 */
#ifndef PTQ_ANALYSIS_CURVE_H
#define PTQ_ANALYSIS_CURVE_H

#include "ptq/analysis/fit.h"

enum { PTQ_CURVE_PARAMS = 6, PTQ_CURVE_COVARIATES = 4 };

/** One parameter. Starting values are drawn between low and high, by their
 * logarithm if it is positive. Positive parameters stay so; no other bound is
 * active at an optimum that is reported as identified. */
typedef struct ptq_curve_param {
  const char *name, *text;
  double low, high; /* of starting values */
  bool positive;
} ptq_curve_param;

/** A law. */
typedef struct ptq_curve {
  const char *name, *equation, *source, *text;
  const char *covariates[PTQ_CURVE_COVARIATES + 1]; /* features; NULL ends */
  ptq_curve_param params[PTQ_CURVE_PARAMS + 1];     /* name NULL ends */
  /** ln(dnll), or nll if base is given; q in the order of params, x of
   * covariates. */
  double (*value)(const double *q, const double *x);
  /** nll of the unquantized model; NULL for laws of ln(dnll). */
  double (*base)(const double *q, const double *x);
} ptq_curve;

const ptq_curve *ptq_curve_at(size_t i); /* NULL past the end */
/** PTQ_E_ARG names the nearest. */
ptq_status ptq_curve_find(const char *name, const ptq_curve **out,
                          ptq_err *err);
int ptq_curve_n_params(const ptq_curve *c);

/** A fitted law; plain data. */
typedef struct ptq_curve_fit {
  const ptq_curve *curve;
  bool identified; /* false: why_not says what is missing; no estimates then,
                      unless the points cannot tell parameters apart */
  char why_not[320];
  double q[PTQ_CURVE_PARAMS];                 /* estimates */
  double std_error[PTQ_CURVE_PARAMS];         /* classical, delta method */
  double std_error_cluster[PTQ_CURVE_PARAMS]; /* CR2 of the linearized fit */
  double df[PTQ_CURVE_PARAMS];
  double cov[PTQ_CURVE_PARAMS][PTQ_CURVE_PARAMS]; /* clustered, else classical;
                                                     of ln(q) if positive */
  double rss;                 /* sum of squared residuals at the optimum */
  double sigma;               /* sqrt(rss / (rows - parameters)) */
  double r2;                  /* of the uncensored points' response */
  int64_t n, n_left, n_right; /* points; of them censored */
  int64_t n_lost;             /* points without a covariate, or a bound */
  int n_clusters;
  int n_starts, n_agree; /* starts; those that reached the same optimum */
  uint64_t seed;         /* of the starts */
} ptq_curve_fit;

/**
 * Fit a law to the used and collapsed points among `obs` by
 * gsl_multifit_nlinear from several starts. PTQ_E_ARG: not more points than
 * parameters. What the data cannot identify is no error: see identified.
 */
ptq_status ptq_curve_fit_points(const ptq_curve *curve,
                                const ptq_obs *const *obs, int64_t n,
                                ptq_curve_fit *out, ptq_err *err);

/** dnll of a point with its 90 % interval for a new measurement. */
ptq_prediction ptq_curve_predict(const ptq_curve_fit *f, const ptq_obs *o);

#endif /* PTQ_ANALYSIS_CURVE_H */
