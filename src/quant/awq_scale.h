/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file awq_scale.h
 * AWQ's search for the scales of a site's input channels.
 */
#ifndef PTQ_QUANT_AWQ_SCALE_H
#define PTQ_QUANT_AWQ_SCALE_H

#include "ptq/quant/method.h"

typedef enum ptq_awq_scaling {
  PTQ_AWQ_INPUTS, /* mean|x|^r, r = 0, 0.05, ..., 0.95 */
  PTQ_AWQ_DUO,    /* none, then mean|x|^r / mean|w|^(1-r), r = 0, ..., 1 */
  PTQ_AWQ_NONE
} ptq_awq_scaling;

typedef enum ptq_awq_objective {
  PTQ_AWQ_MODULE, /* the module loss */
  PTQ_AWQ_SITE    /* the sum of tr(E H E') over the site's layers */
} ptq_awq_objective;

enum { PTQ_AWQ_CANDIDATES = 20 };

/**
 * The candidate with the least objective, the first of equals.
 * @param in     [n] layers of one site; mean_abs, and what the objective takes
 * @param out    [n]; y and params are overwritten
 * @param scaled scratch, the largest layer's [rows, cols]
 * @param[out] scale [cols], the product of its extremes is 1
 * @return PTQ_E_NUMERIC when no candidate has a finite objective
 */
ptq_status ptq_awq_search(ptq_awq_scaling scaling, ptq_awq_objective objective,
                          const ptq_quant_input *in, ptq_quant_output *out,
                          int n, float *scaled, float *scale, ptq_err *err);

#endif /* PTQ_QUANT_AWQ_SCALE_H */
