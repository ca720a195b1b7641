/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file forward.h
 * The shared forward pass: one block on one window.
 *
 * A window is the unit: n tokens, h[n, d_model] the residual stream. Every
 * matrix product's shape depends on the model and n alone (within an expert, on
 * the window's tokens that it gets), so the bits of a window do not depend on
 * what else is computed.
 *
 * Where info->compute is bf16, the operands of every product are rounded to
 * bfloat16 and nothing else is: linear layers, routers and head take rounded
 * inputs and weights; attention rounded queries and keys (after norms and
 * rotation), rounded values, and exp(score - running maximum), whose sum is
 * taken before rounding.
 */
#ifndef PTQ_MODEL_FORWARD_H
#define PTQ_MODEL_FORWARD_H

#include "ptq/model/model.h"

/** Watches a block's forward pass. Members may be NULL. */
typedef struct ptq_forward_hook {
  void *ctx; /* borrowed */
  /** The common input x[n, width] of a site's linear layers, as their products
   * take it: rounded where info->compute is bf16. Sites of an expert see the
   * tokens that it gets, in order, and nothing without any. */
  ptq_status (*input)(void *ctx, int site, const ptq_real *x, int64_t n,
                      int64_t width, ptq_err *err);
  /** A linear layer's output y[n, out] before its bias is added. */
  ptq_status (*output)(void *ctx, int layer, const ptq_real *y, int64_t n,
                       int64_t out, ptq_err *err);
  /** A mixture's input x[n, d_model], before tokens go to experts. */
  ptq_status (*router)(void *ctx, const ptq_real *x, int64_t n, ptq_err *err);
  /** The n > 0 tokens (places in the window, ascending) that an expert gets;
   * called before its inputs and outputs. */
  ptq_status (*routed)(void *ctx, int expert, const int32_t *tokens, int64_t n,
                       ptq_err *err);
} ptq_forward_hook;

/** Scratch for windows up to a length; one a thread. */
typedef struct ptq_workspace ptq_workspace;
ptq_status ptq_workspace_create(const ptq_model_info *info, int64_t max_tokens,
                                ptq_workspace **out, ptq_err *err);
void ptq_workspace_free(ptq_workspace *ws);
/** Bytes a workspace takes. */
int64_t ptq_workspace_bytes(const ptq_model_info *info, int64_t max_tokens);

/**
 * h = block(h) for one window of n tokens at positions 0..n-1, causal.
 * @param h    [n, d_model], in and out
 * @param hook nullable; its first failure ends the pass (h undefined)
 * @param stop PTQ_SITE_COUNT for the whole block; else return right after the
 *             hook saw the inputs of all sites of that kind, leaving h
 *             undefined: callers that only collect inputs pass a copy
 */
ptq_status ptq_block_forward(const ptq_model_info *info, const ptq_block *b,
                             ptq_real *h, int64_t n, ptq_workspace *ws,
                             const ptq_forward_hook *hook, ptq_site stop,
                             ptq_err *err);

/** Give a layer other weights [out, in] (borrowed), which go into `packed`
 * where products take bfloat16; it is NULL in float32. The layer must be one
 * that does not own its own: of a block copied from another. */
ptq_status ptq_linear_replace(ptq_linear *l, ptq_real *weight,
                              ptq_packed *packed, ptq_workspace *ws,
                              ptq_err *err);

/**
 * What a block's half adds to the residual stream, from its normed input
 * x[n, d_model]: attention (site PTQ_SITE_ATTN_IN) or the MLP
 * (PTQ_SITE_MLP_IN). The result is what the hook sees as the output of
 * PTQ_ROLE_O or PTQ_ROLE_DOWN.
 */
ptq_status ptq_module_forward(const ptq_model_info *info, const ptq_block *b,
                              ptq_site site, const ptq_real *x, int64_t n,
                              ptq_workspace *ws, const ptq_forward_hook *hook,
                              ptq_err *err);

/** h = final norm(h), in place. */
void ptq_head_norm(const ptq_model_info *info, const ptq_head *head,
                   ptq_real *h, int64_t n);
/** Rows of vocabulary that are multiplied at once: logits come in slices
 * [n, <= PTQ_HEAD_SLICE]. */
enum { PTQ_HEAD_SLICE = 2048 };
/** logits[n, v1 - v0] = hn[n, d_model] * head rows v0..v1; hn is normed. `mul`
 * is NULL in float32; in bf16, v0..v1 is one slice: v0 a multiple of
 * PTQ_HEAD_SLICE, v1 the next or the vocabulary's end. */
ptq_status ptq_head_logits(const ptq_model_info *info, const ptq_head *head,
                           ptq_multiplier *mul, const ptq_real *hn, int64_t n,
                           int64_t v0, int64_t v1, ptq_real *logits,
                           ptq_err *err);

/** FLOPs of a forward pass over one window: linears, causal attention (half),
 * and the head where asked. For benchmarks and the cost model. */
double ptq_forward_flops(const ptq_model_info *info, int64_t n, bool with_head);

#endif /* PTQ_MODEL_FORWARD_H */
