/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file backward.h
 * Derivatives of one block on one window: by its linear layers' weights and
 * by its input, along displacements of the weights, and both together: exact
 * Hessian-vector products, forward over reverse.
 *
 * A tape holds what a block's forward pass went through. Its tangent along a
 * direction (a displacement e of the weights, and a displacement of the
 * block's input) is a tape of the same shape. The backward pass takes any
 * derivative of a scalar by the block's output: that of the blocks above it,
 * or of a loss on this output.
 *
 * Not differentiated: norms' gains and biases, biases, embeddings, head,
 * router. Kinks: ReLU's derivative at 0 is 0, that of a clip of queries, keys
 * and values is 0 at the limit, and the choice of experts is constant (what
 * moves are their weights in the mixture). As with the forward pass, bits
 * depend on the window alone: not on how much a tape keeps, nor on other
 * tangents.
 *
 * Layers are numbered by ptq_layer_of; arrays over them have ptq_layer_count
 * members, NULL for those that are absent.
 */
#ifndef PTQ_MODEL_BACKWARD_H
#define PTQ_MODEL_BACKWARD_H

#include "ptq/base/crew.h"
#include "ptq/model/forward.h"

/** How much of a block's forward pass is kept until its backward pass; the
 * rest is computed again. A gradient of a whole model then costs about 3.6,
 * 3.2 or 2.9 forward passes. */
typedef enum ptq_keep {
  PTQ_KEEP_INPUT,   /* what the block took */
  PTQ_KEEP_STREAMS, /* and attention, and the stream between the halves */
  PTQ_KEEP_ALL,     /* and the MLP's inner activations */
  PTQ_KEEP_COUNT
} ptq_keep;

/** One window's way through one block. Members are borrowed from the memory
 * that the tape was laid out in; NULL: not kept, or not in this model. */
typedef struct ptq_tape {
  ptq_real *h;           /* [n, d_model] input */
  ptq_real *qkv;         /* q, k and v behind biases and clip */
  ptq_real *mix;         /* [n, n_heads * d_head] */
  ptq_real *top, *share; /* [n, n_heads] of the softmax; op.h */
  ptq_real *attn_add;    /* [n, d_model] what attention adds, before a norm */
  ptq_real *mid;         /* [n, d_model] the stream with it, before a norm */
  ptq_real *gate, *up;   /* [n, d_ff], or [n, 2 d_ff] in gate where fused; in a
                            mixture a row for each token of each expert */
  ptq_real *given;       /* of a mixture: likewise [.., d_model] what the expert
                            gives, before its weight */
  ptq_real *mlp_add;     /* [n, d_model] what the MLP adds, before a norm */
  ptq_real *end;         /* [n, d_model] the stream with it, before a norm */
} ptq_tape;

/** Reals of memory that a tape of n tokens takes. */
int64_t ptq_tape_size(const ptq_model_info *info, int64_t n, ptq_keep keep);
/** Lay a tape out in memory of that size. */
void ptq_tape_at(const ptq_model_info *info, int64_t n, ptq_keep keep,
                 ptq_real *memory, ptq_tape *out);

/** Scratch for windows of up to max_tokens with up to max_tangents directions
 * at once; one a thread. PTQ_E_UNSUPPORTED where the model's products are not
 * float32. */
typedef struct ptq_backspace ptq_backspace;
ptq_status ptq_backspace_create(const ptq_model_info *info, int64_t max_tokens,
                                int64_t max_tangents, ptq_backspace **out,
                                ptq_err *err);
void ptq_backspace_free(ptq_backspace *bs);
int64_t ptq_backspace_bytes(const ptq_model_info *info, int64_t max_tokens,
                            int64_t max_tangents);
/** Its scratch of forward passes. */
ptq_workspace *ptq_backspace_workspace(ptq_backspace *bs);

/** ptq_block_forward, with `t` filled as far as it is laid out (t->h with h).
 * `hook` as there. */
ptq_status ptq_block_record(const ptq_model_info *info, const ptq_block *b,
                            ptq_real *h, int64_t n, ptq_workspace *ws,
                            const ptq_tape *t, const ptq_forward_hook *hook,
                            ptq_err *err);

/** A direction on its way through a block. */
typedef struct ptq_tangent {
  const ptq_real *const *e; /* borrowed; [layers] displacements [out, in] of
                               weights, NULL: not displaced */
  ptq_tape tape;            /* the tangent of the window's tape, laid out for
                               PTQ_KEEP_INPUT or PTQ_KEEP_ALL */
  ptq_real *hd;  /* [n, d_model] ptq_block_record_tangents: the tangent of h, in
                    and out */
  ptq_real *dhd; /* [n, d_model] ptq_block_backward: the tangent of dh, in and
                    out */
  ptq_real *const *g; /* [layers] [out, in] where the tangents of derivatives by
                         weights are added, NULL: nowhere; may be NULL as a
                         whole */
} ptq_tangent;

/** ptq_block_record with the tangents along k directions, whose tapes are
 * filled as far as they are laid out. */
ptq_status ptq_block_record_tangents(const ptq_model_info *info,
                                     const ptq_block *b, ptq_real *h, int64_t n,
                                     ptq_backspace *bs, const ptq_tape *t,
                                     int64_t k, ptq_tangent *tangents,
                                     ptq_err *err);

/** Watches a block's backward pass. Members may be NULL. */
typedef struct ptq_backward_hook {
  void *ctx; /* borrowed */
  /** Where several windows add to the same derivatives by weights: a place a
   * layer, and the window's turn. */
  ptq_order *order; /* borrowed */
  int64_t index;
  /** A layer's input x[n, in] and the derivative dy[n, out] by its output. */
  ptq_status (*layer)(void *ctx, int layer, const ptq_real *x,
                      const ptq_real *dy, int64_t n, ptq_err *err);
} ptq_backward_hook;

/**
 * The backward pass of one window, and its tangents along k directions.
 * @param t    the window's tape, at least with t->h
 * @param dh   [n, d_model]: in, the derivative by the block's output, out, by
 *             its input
 * @param g    [layers] [out, in] where derivatives by weights are added; NULL
 *             members, or NULL: nowhere
 * @param tangents k of them, with tapes that ptq_block_record_tangents filled
 * @param hook nullable; its first failure ends the pass
 */
ptq_status ptq_block_backward(const ptq_model_info *info, const ptq_block *b,
                              int64_t n, ptq_backspace *bs, const ptq_tape *t,
                              ptq_real *dh, ptq_real *const *g, int64_t k,
                              ptq_tangent *tangents,
                              const ptq_backward_hook *hook, ptq_err *err);

#endif /* PTQ_MODEL_BACKWARD_H */
