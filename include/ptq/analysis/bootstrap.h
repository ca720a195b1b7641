/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file bootstrap.h
 * Errors by resampling whole models: the cluster bootstrap.
 */
#ifndef PTQ_ANALYSIS_BOOTSTRAP_H
#define PTQ_ANALYSIS_BOOTSTRAP_H

#include "ptq/analysis/fit.h"

/** What resampling says of one coefficient; NaN where fewer than half of the
 * resamples determine it. */
typedef struct ptq_resampled {
  double std_error, low, high; /* 95 %: percentiles */
} ptq_resampled;

/**
 * Refit `n_resamples` samples of as many models as `fit` has, drawn with
 * replacement from `seed`, each with all its points.
 *
 * @param out       [fit->matrix.k]
 * @param n_failed  resamples that could not be fitted
 * @return PTQ_OK, PTQ_E_ARG (one model), PTQ_E_NOMEM
 */
ptq_status ptq_bootstrap_models(const ptq_fit *fit, const ptq_formula *formula,
                                const ptq_fit_options *options,
                                const ptq_frame *frame, int64_t n_resamples,
                                uint64_t seed, ptq_resampled *out,
                                int64_t *n_failed, ptq_err *err);

#endif /* PTQ_ANALYSIS_BOOTSTRAP_H */
