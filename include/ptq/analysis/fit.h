/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file fit.h
 * Regressions of the loss added by quantization. Each estimator is one row;
 * all of them predict dnll = exp(x b).
 *
 *   quasi     quasi-likelihood with a log link on dnll itself, variance
 *             phi mean^p + dnll_se^2; takes zero and negative dnll as they are
 *   censored  least squares on ln(dnll), where dnll < 2 dnll_se is known only
 *             to be below 2 dnll_se, and a collapsed point only to be above
 *             the unigram model's loss (Tobit, maximum likelihood)
 *   ols       least squares on ln(dnll) of the uncensored points alone
 *   weighted  the same with weights 1 / (se^2 + tau^2), tau^2 estimated
 *   robust    the same by Tukey's bisquare
 *   ridge     the same with shrunken slopes, the penalty by generalized
 *             cross-validation
 */
#ifndef PTQ_ANALYSIS_FIT_H
#define PTQ_ANALYSIS_FIT_H

#include "ptq/analysis/matrix.h"

/** A point takes part as measured, or as a bound. */
typedef enum ptq_censoring {
  PTQ_CENSORED_NOT,
  PTQ_CENSORED_LEFT, /* dnll < 2 dnll_se, or not positive */
  PTQ_CENSORED_RIGHT /* collapsed */
} ptq_censoring;

/** How ln(dnll) of a point is known; *log_dnll is its value or its bound (NaN
 * when a bound is unknown: dnll <= 0 without an error bar). */
ptq_censoring ptq_obs_censoring(const ptq_obs *o, double *log_dnll);

/** One coefficient. Not estimable ones are in the matrix's dropped list. */
typedef struct ptq_coefficient {
  double estimate;
  double std_error;         /* classical */
  double std_error_cluster; /* clustered by model */
  double df;                /* Satterthwaite's, of the clustered error */
  /* From the clustered error; from the classical one with n - k degrees of
   * freedom where there is only one model. */
  double t, p;
  double ci_low, ci_high; /* 95 % */
  double vif;             /* variance inflation; NaN for the intercept */
} ptq_coefficient;

/** Checks of the residuals. NaN where one does not apply. */
typedef struct ptq_diagnostics {
  double jarque_bera, jarque_bera_p;
  double breusch_pagan, breusch_pagan_p; /* Koenker's studentized form */
  double condition; /* of the columns scaled to unit length */
  struct {
    int64_t row; /* of the matrix */
    double distance;
  } cook[5]; /* largest Cook's distances, descending */
  int n_cook;
} ptq_diagnostics;

typedef struct ptq_estimator ptq_estimator;

/** How to fit. Zero-initialized means the defaults. */
typedef struct ptq_fit_options {
  double power;      /* quasi: variance = phi mean^power + dnll_se^2; 0 means
                        PTQ_POWER_DEFAULT, or 1 where that has no maximum */
  bool ignore_noise; /* quasi: leave dnll_se out of the variance */
  double lambda;     /* ridge: the penalty; 0 means by cross-validation */
  bool bare;         /* only what predicts: estimates and their covariance; no
                        tests, shares explained, diagnostics, left_out */
} ptq_fit_options;
#define PTQ_POWER_DEFAULT 2.0
/* Said beside the variance of a fit with power_lowered. */
#define PTQ_POWER_LOWERED \
  ", as with mean^2 there is no maximum (of points whose dnll is below zero)"

/** A finished point that the fit does not use, and why (static text, or the
 * name of the column it has no value for). */
typedef struct ptq_left_out {
  const ptq_obs *obs;
  const char *why, *column; /* column: "" if it is not one's fault */
} ptq_left_out;

/** A fitted law. */
typedef struct ptq_fit {
  const ptq_estimator *estimator;
  ptq_matrix matrix;     /* owned */
  ptq_coefficient *coef; /* owned; [k] */
  double *cov;           /* owned; [k, k] clustered by model */
  double *cov_classical; /* owned; [k, k] */
  double *bread;         /* owned; [k, k] (X'WX)^-1 where there are weights */
  double *residual;      /* owned; [n] of the last weighted least squares, on
                            the scale of ln(dnll); bound - fitted if censored */
  double *weight;        /* owned; [n] its weights; NULL for censored, ridge */
  double *fitted;        /* owned; [n] predicted dnll, nats */
  double scale;          /* quasi: dispersion phi; others: sigma of ln(dnll) */
  double power;          /* quasi only */
  bool power_lowered;    /* quasi: at PTQ_POWER_DEFAULT there is no maximum */
  bool noise;            /* quasi: the variance holds dnll_se^2 */
  double tau2;           /* weighted: between points, of ln(dnll); else NaN */
  double lambda, edf;    /* ridge: the penalty, the slopes' effective number */
  double log_likelihood; /* of ln(dnll) or its bounds; NaN where the estimator
                            has none: quasi, robust */
  double aic, bic;       /* of it; the variance is not counted as a parameter */
  int64_t n_left, n_right; /* censored points among matrix.n */
  int64_t n_unbounded;     /* left out: dnll <= 0 and no dnll_se to bound it */
  int64_t n_excluded;      /* left out: the estimator takes no such point */
  int64_t n_rejected;      /* robust: points of weight zero */
  ptq_left_out *left_out;  /* owned; [n_left_out] every finished native point
                              that is not a row */
  int64_t n_left_out;
  double r2; /* of ln(dnll), over uncensored points */
  double r2_adjusted;
  double r2_nats; /* of dnll, over points that are not collapsed */
  int iterations;
  ptq_diagnostics diagnostics;
} ptq_fit;

struct ptq_estimator {
  const char *name, *title;
  const char *excludes; /* which points takes() refuses, "" for none */
  bool on_log;          /* works on ln(dnll) and its bounds, not on dnll */
  /** Does the estimator take a point that is censored like this? */
  bool (*takes)(ptq_censoring c);
  /** Estimate; matrix is built. Fills estimates, cov_classical, residual,
   * fitted, scale, iterations, and either weight and bread (errors clustered
   * by model then follow as CR2) or cov and df of each coefficient. */
  ptq_status (*solve)(const ptq_fit_options *options, ptq_fit *fit,
                      ptq_err *err);
};

const ptq_estimator *ptq_estimator_at(size_t i); /* NULL past the end */
/** PTQ_E_ARG lists the names. */
ptq_status ptq_estimator_find(const char *name, const ptq_estimator **out,
                              ptq_err *err);

/**
 * Fit `formula` to those of the n points that `use` allows (used and
 * collapsed ones; others are passed over: they are counted in the frame).
 * PTQ_E_ARG: too few points; PTQ_E_NUMERIC: no convergence.
 */
ptq_status ptq_fit_points(const ptq_estimator *estimator,
                          const ptq_formula *formula,
                          const ptq_fit_options *options,
                          const ptq_obs *const *obs, int64_t n, ptq_fit *out,
                          ptq_err *err);
/** All points of a frame. */
ptq_status ptq_fit_frame(const ptq_estimator *estimator,
                         const ptq_formula *formula,
                         const ptq_fit_options *options, const ptq_frame *f,
                         ptq_fit *out, ptq_err *err);
void ptq_fit_release(ptq_fit *f);

/** A prediction for a point, and its 90 % interval for one new measurement, by
 * Student's t with a degree of freedom less than there are models. */
typedef struct ptq_prediction {
  double dnll, low, high; /* nats; NaN when it cannot be made */
  const char *why;        /* then: "value" or "level", else NULL */
} ptq_prediction;
ptq_prediction ptq_fit_predict(const ptq_fit *f, const ptq_obs *o);

#endif /* PTQ_ANALYSIS_FIT_H */
