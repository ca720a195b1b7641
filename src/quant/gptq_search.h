/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gptq_search.h
 * Choosing GPTQ's damping on held-out calibration windows.
 */
#ifndef PTQ_QUANT_GPTQ_SEARCH_H
#define PTQ_QUANT_GPTQ_SEARCH_H

#include "gptq_core.h"

/** Number of dampings that are tried: 0.001, 0.003, ..., 0.3, 1. */
enum { PTQ_GPTQ_DAMPINGS = 7 };

/**
 * `run` is ptq_gptq_factor_create's. For each of a site's n layers the damping
 * whose codes, made with h_train, have the least tr(E H E') under h_holdout; of
 * equals the smallest. A damping at which h_train cannot be factorized or
 * feedback diverges is passed over.
 * @param in   [n]; h_train and h_holdout of the first are used
 * @param jobs [n]; factor is set here, the outputs are overwritten
 * @param[out] damp [n]; 1 where none would do
 */
ptq_status ptq_gptq_search(const ptq_quant_input *in, ptq_gptq_job *jobs, int n,
                           int64_t run, double *damp, ptq_err *err);

#endif /* PTQ_QUANT_GPTQ_SEARCH_H */
