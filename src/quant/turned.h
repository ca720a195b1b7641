/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file turned.h
 * Layers quantized in rotated frames of their inputs and outputs.
 */
#ifndef PTQ_QUANT_TURNED_H
#define PTQ_QUANT_TURNED_H

#include "base_method.h"
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

/**
 * Methods that do so to a base: what they keep in m->own begins with it. As
 * ptq_base_parse; PTQ_E_ARG also where the base needs more than H.
 */
ptq_status ptq_turned_parse(ptq_method *m, const ptq_option_table *t,
                            const ptq_method_option *options, size_t n,
                            const char *fallback, const char *const *not_below,
                            void *own, size_t size, ptq_base_method *base,
                            ptq_err *err);
ptq_method ptq_turned_base(const ptq_method *m);

/** The family's members of these names. */
ptq_calibration_mode ptq_turned_mode(const ptq_method *m);
ptq_status ptq_turned_accepts(const ptq_method *m, const ptq_dtype *dt,
                              int64_t group, ptq_err *err);
double ptq_turned_flops(const ptq_method *m, int64_t rows, int64_t cols);
double ptq_turned_bytes(const ptq_method *m, int64_t rows, int64_t cols);

#endif /* PTQ_QUANT_TURNED_H */
