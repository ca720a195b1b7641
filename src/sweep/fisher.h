/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file fisher.h
 * Second moments of derivatives of the NLL: a layer's Kronecker factors, its
 * inputs and the derivatives by its outputs, and by its weights the empirical
 * Fisher matrix of windows. Of each only what it sums up to.
 */
#ifndef PTQ_SWEEP_FISHER_H
#define PTQ_SWEEP_FISHER_H

#include "ptq/grad/gradient.h"
#include "ptq/record/rows.h"

/** One backward pass over the text. Fills fisher, input_... and output_... of
 * the rows of all layers, in their order, and row->fisher. */
ptq_status ptq_fisher_run(ptq_grad *g, const ptq_model_info *info,
                          ptq_direction_layer_row *rows, ptq_direction_row *row,
                          ptq_err *err);
/** Bytes that it takes beside the gradient. */
int64_t ptq_fisher_bytes(const ptq_model_info *info);
/** FLOPs of a layer's factors and gradients a token, all layers; and sums of
 * the cubes and squares of the factors' sizes, which eigenvalues take. */
void ptq_fisher_work(const ptq_model_info *info, double *a_token, double *cubes,
                     double *squares);

#endif /* PTQ_SWEEP_FISHER_H */
