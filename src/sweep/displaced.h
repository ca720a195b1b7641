/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file displaced.h
 * What quantizing does to a model's weights, seen with the calibration text:
 * GPTQ's weights, on second moments of the unquantized model's inputs, and how
 * each layer's error lies to those moments.
 */
#ifndef PTQ_SWEEP_DISPLACED_H
#define PTQ_SWEEP_DISPLACED_H

#include "displace.h"
#include "ptq/record/result.h"
#include "spool.h"

/** Of a layer, as its columns of PTQ_TABLE_DIRECTION_LAYERS. */
typedef struct ptq_alignment {
  double output_noise, err_hessian, err_top, size_top;
} ptq_alignment;

typedef struct ptq_displaced {
  ptq_spool weights; /* owned; of GPTQ: [n_blocks] of a block's weights */
  ptq_alignment *alignment; /* owned; [layers of all blocks], in their order;
                               NULL unless asked for */
} ptq_displaced;

/** Whether a direction needs it: GPTQ's does, and RTN's where derivatives are
 * measured. */
bool ptq_displaced_is_needed(const ptq_grid *g, int64_t direction);
/** Walk the unquantized model over the calibration text. A failure leaves
 * *out to be closed. */
ptq_status ptq_displaced_run(ptq_displaced *out, const ptq_grid *g,
                             int64_t direction, const ptq_sink *sink,
                             ptq_err *err);
void ptq_displaced_close(ptq_displaced *d);

/** Bytes that it takes while it runs, and that it leaves. */
int64_t ptq_displaced_bytes(const ptq_grid *g, int64_t direction);
int64_t ptq_displaced_left_bytes(const ptq_grid *g, int64_t direction);
/** FLOPs, but for the pass over the text and its moments. */
double ptq_displaced_flops(const ptq_grid *g, int64_t direction);

#endif /* PTQ_SWEEP_DISPLACED_H */
