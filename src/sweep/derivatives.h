/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file derivatives.h
 * Gradient and Hessian of the calibration text's mean NLL at a model's
 * weights, as numbers by layer: along a direction, or of the whole.
 */
#ifndef PTQ_SWEEP_DERIVATIVES_H
#define PTQ_SWEEP_DERIVATIVES_H

#include "displaced.h"
#include "ptq/record/result.h"
#include "ptq/sweep/grid.h"

typedef struct ptq_derivatives {
  ptq_direction_layer_row *layers; /* owned; [n_layers] */
  int64_t n_layers;
  ptq_ritz_row *ritz; /* owned; [n_ritz] */
  int64_t n_ritz;
} ptq_derivatives;

/** Slope and curvature along a direction: those of `row`, and by layer; of a
 * displacement also the gradient times its Hessian-vector product and, from
 * `from`, how errors lie to the inputs. */
ptq_status ptq_derivatives_along(ptq_derivatives *out, const ptq_grid *g,
                                 int64_t direction, ptq_displaced *from,
                                 const ptq_sink *sink, ptq_direction_row *row,
                                 ptq_err *err);
/** Gradient, trace and Ritz values, of kind hessian. */
ptq_status ptq_derivatives_whole(ptq_derivatives *out, const ptq_grid *g,
                                 int64_t direction, const ptq_sink *sink,
                                 ptq_direction_row *row, ptq_err *err);
void ptq_derivatives_release(ptq_derivatives *d);

/** Bytes that they take beside the setup, and their cost in gradients of the
 * calibration text. */
int64_t ptq_derivatives_bytes(const ptq_grid *g, int64_t direction);
double ptq_derivatives_gradients(const ptq_grid *g, int64_t direction);
/** Passes forth and back over the text. */
double ptq_derivatives_passes(const ptq_grid *g, int64_t direction);

#endif /* PTQ_SWEEP_DERIVATIVES_H */
