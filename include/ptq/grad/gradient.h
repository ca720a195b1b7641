/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gradient.h
 * Derivatives of a text's NLL by the weights of all linear layers: gradients,
 * and along displacements of the weights (directions) directional derivatives
 * and Hessian-vector products, exact, forward over reverse.
 *
 * Windows go through the model in chunks of PTQ_GRAD_CHUNK: forward block by
 * block, then backwards. A block's weights are read when they are needed,
 * twice a chunk; between lies what a memory budget allows to keep of each
 * window (ptq_keep), and the rest is computed again. Everything handed out is
 * a chunk's sum: windows are added in order, and no bits depend on the budget,
 * on other chunks or on other directions. So ranks may share chunks out as
 * they like, as long as sums over chunks are taken in their order.
 *
 * All is of the sum of NLL over scored tokens: divide by ptq_grad_tokens for
 * the mean.
 */
#ifndef PTQ_GRAD_GRADIENT_H
#define PTQ_GRAD_GRADIENT_H

#include "ptq/model/backward.h"
#include "ptq/model/loss.h"

enum { PTQ_GRAD_CHUNK = 4 };

/** What is differentiated, and with how much memory. */
typedef struct ptq_grad_setup {
  ptq_model *model;          /* borrowed */
  const ptq_block *blocks;   /* borrowed; [n_blocks], in these weights the
                                derivatives are taken; NULL: the model's, read
                                when they are needed */
  const uint32_t *ids;       /* borrowed; [n_windows, length] */
  const uint32_t *labels;    /* borrowed; likewise: the tokens to predict in
                                their places (drawn from the model's own
                                distribution, second moments of gradients are a
                                Fisher matrix); NULL: ids */
  int64_t n_windows, length; /* length >= 2 */
  int64_t first;             /* token scored first in each window; 0: 1 */
  int64_t max_tangents;      /* directions at once */
  void *ctx;                 /* borrowed; of */
  /** Called before each block, forth and back, of each chunk; NULL: nobody. A
   * failure ends the run with it. */
  ptq_status (*alive)(void *ctx, ptq_err *err);
  int threads;          /* windows at once; 0: 1. No bits depend on it */
  int64_t budget_bytes; /* for what is kept between forward and backward;
                           the least is always taken */
} ptq_grad_setup;

typedef struct ptq_grad ptq_grad;

/** Reads embedding and head. PTQ_E_ARG: a window too short or too long for the
 * model, no windows, an id beyond the vocabulary. */
ptq_status ptq_grad_create(const ptq_grad_setup *setup, ptq_grad **out,
                           ptq_err *err);
void ptq_grad_free(ptq_grad *g);
/** Bytes that it takes with this setup, model and blocks aside. */
int64_t ptq_grad_bytes(const ptq_model_info *info, const ptq_grad_setup *setup);
/** Windows of a chunk, counted by how much of them is kept. */
void ptq_grad_kept(const ptq_grad *g, int64_t windows[PTQ_KEEP_COUNT]);
const ptq_model_info *ptq_grad_info(const ptq_grad *g); /* borrowed */
int64_t ptq_grad_max_tangents(const ptq_grad *g);
int64_t ptq_grad_chunks(const ptq_grad *g);
/** Scored tokens of all windows; of one chunk. */
int64_t ptq_grad_tokens(const ptq_grad *g);
int64_t ptq_grad_chunk_tokens(const ptq_grad *g, int64_t chunk);

/** Displacements of the weights, given block by block: twice a chunk, with the
 * same result. */
typedef struct ptq_directions {
  int64_t k; /* <= max_tangents */
  void *ctx; /* borrowed */
  /** Displacement j of a block's layers: fill e[layer], [out, in], of the
   * layers that are present (others are NULL). */
  ptq_status (*load)(void *ctx, int64_t block, int64_t j, ptq_real *const *e,
                     ptq_err *err);
} ptq_directions;

/** What became of one layer in one chunk. */
typedef struct ptq_grad_layer {
  int64_t chunk, block;
  int layer; /* ptq_layer_of */
  int64_t out, in, k;
  const ptq_real *g;         /* [out, in] gradient; NULL: not asked for */
  const ptq_real *const *e;  /* [k] displacements [out, in] */
  const ptq_real *const *he; /* [k] Hessian (or Gauss-Newton matrix) times all
                                of direction j, this layer's part; NULL: not
                                asked for */
} ptq_grad_layer;

/** One layer's way back through one window. */
typedef struct ptq_grad_window {
  int64_t window, block;
  int layer;          /* ptq_layer_of */
  int64_t n;          /* tokens that the layer saw */
  const ptq_real *x;  /* [n, in] its inputs */
  const ptq_real *dy; /* [n, out] derivatives of the window's NLL by its
                         outputs: the window's gradient is dy' x */
  int64_t k;
  const ptq_real *const *e; /* [k] displacements [out, in] */
} ptq_grad_window;

/** Takes results. Members may be NULL; a failure ends the run. */
typedef struct ptq_grad_sink {
  void *ctx;               /* borrowed */
  bool gradient, products; /* what `layer` is to be given */
  ptq_curvature curvature; /* of the products; along the Gauss-Newton matrix
                              there are products alone: no gradient, no
                              `window` */
  /** By chunk, then block from the last to the first, then layer. Without it
   * nothing goes backwards: NLL and directional derivatives only. */
  ptq_status (*layer)(void *ctx, const ptq_grad_layer *l, ptq_err *err);
  /** For second moments of inputs, of derivatives by outputs and of windows'
   * gradients; window after window, and so on one thread. */
  ptq_status (*window)(void *ctx, const ptq_grad_window *w, ptq_err *err);
} ptq_grad_sink;

/**
 * Chunks c0 .. c1 - 1.
 * @param d    nullable: no directions
 * @param[out] nll [c1 - c0] sums of NLL; NaN where a logit is not finite
 * @param[out] nlld [c1 - c0, k] their derivatives along the directions; may
 *             be NULL without directions
 * @return what the sink, the directions or reading the model return
 */
ptq_status ptq_grad_run(ptq_grad *g, int64_t c0, int64_t c1,
                        const ptq_directions *d, const ptq_grad_sink *sink,
                        double *nll, double *nlld, ptq_err *err);

#endif /* PTQ_GRAD_GRADIENT_H */
