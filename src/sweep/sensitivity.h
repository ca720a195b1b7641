/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file sensitivity.h
 * What each layer of a block costs: the loss where it alone is rounded, and
 * where it alone is not.
 */
#ifndef PTQ_SWEEP_SENSITIVITY_H
#define PTQ_SWEEP_SENSITIVITY_H

#include "ptq/record/result.h"
#include "ptq/sweep/grid.h"

typedef struct ptq_sensitivity {
  ptq_direction_layer_row *rows; /* owned; [n] the block's layers */
  int64_t n;
} ptq_sensitivity;

/** Forward passes only, over the evaluation text: blocks before the layer's
 * are walked once for all of its block. Fills out->rows and, of the row, nll,
 * dnll and dnll_se. A failure leaves *out to be released. */
ptq_status ptq_sensitivity_run(ptq_sensitivity *out, const ptq_grid *g,
                               int64_t direction, const ptq_sink *sink,
                               ptq_direction_row *row, ptq_err *err);
void ptq_sensitivity_release(ptq_sensitivity *s);

/** Streams of the item, and how often it pushes a stream through a block. */
int64_t ptq_sensitivity_lanes(const ptq_model_info *info);
double ptq_sensitivity_pushes(const ptq_model_info *info, int64_t block);

#endif /* PTQ_SWEEP_SENSITIVITY_H */
