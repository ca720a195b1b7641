/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file turned.h
 * Layers quantized in rotated frames of their inputs and outputs.
 */
#ifndef PTQ_QUANT_TURNED_H
#define PTQ_QUANT_TURNED_H

#include "ptq/quant/method.h"
#include "rotation.h"

/** The frame of one layer: its inputs x become R x, its outputs likewise. */
typedef struct ptq_turn {
  const ptq_rotation *inputs, *outputs; /* borrowed, nullable */
  bool gains;  /* the gains of the norm before it are the layer's part */
  bool centre; /* the mean over its outputs has no effect */
} ptq_turn;

/** The frame of a model: QuaRot's. */
typedef struct ptq_stream_frame {
  const ptq_rotation *stream; /* borrowed; the residual stream x becomes R x */
  const ptq_rotation *inner;  /* borrowed, nullable; likewise the inputs of
                                 layers that write to the stream */
} ptq_stream_frame;

/** The layer's frame in the model's; nothing for one that neither reads nor
 * writes the stream. */
ptq_turn ptq_stream_turn(const ptq_stream_frame *frame,
                         const ptq_quant_input *in);

/**
 * Quantize the n layers of a site by `base`, each in its frame turn[i], and
 * turn the weights back to what computes the same between inputs and outputs
 * as they are (turned.c). All frames have the inputs and gains of the first.
 * The base is given w, H, names, and none of what is asked for by `needs`.
 * @return what the base returns; PTQ_E_NUMERIC, PTQ_E_NOMEM
 */
ptq_status ptq_turned_quantize(const ptq_method *base, const ptq_turn *turn,
                               const ptq_quant_input *in, ptq_quant_output *out,
                               int n, ptq_err *err);

/** FLOPs of the rotations of a rows x cols layer both ways and of H. */
double ptq_turned_flops(int64_t rows, int64_t cols);
/** As the family's member `bytes`, of the base in its frame. */
double ptq_turned_bytes(const ptq_method *base, int64_t rows, int64_t cols);

#endif /* PTQ_QUANT_TURNED_H */
