/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file quarot.h
 * Layers quantized in the frame of a rotated residual stream.
 */
#ifndef PTQ_QUANT_QUAROT_H
#define PTQ_QUANT_QUAROT_H

#include "ptq/quant/method.h"
#include "rotation.h"

/** Where a model's layers are quantized. */
typedef struct ptq_stream_frame {
  const ptq_rotation *stream; /* borrowed; the stream x becomes R x */
  const ptq_rotation *inner;  /* borrowed, nullable; likewise the inputs of
                                 layers that write to the stream */
} ptq_stream_frame;

/**
 * Quantize the n layers of a site by `base` in the frame, and turn the weights
 * back to what an unrotated model computes the same with: see method_quarot.c.
 * The orders of the rotations are the widths of the layers' sides. Layers that
 * neither read nor write the stream are quantized as they are.
 * @return what the base returns; PTQ_E_NUMERIC, PTQ_E_NOMEM
 */
ptq_status ptq_stream_quantize(const ptq_method *base,
                               const ptq_stream_frame *frame,
                               const ptq_quant_input *in, ptq_quant_output *out,
                               int n, ptq_err *err);

#endif /* PTQ_QUANT_QUAROT_H */
