/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file workspace.h
 * Scratch of the forward pass, and the attention that works in it.
 */
#ifndef PTQ_MODEL_WORKSPACE_H
#define PTQ_MODEL_WORKSPACE_H

#include "ptq/model/forward.h"

/** Keys and values that a query tile meets at once. */
enum { PTQ_KEY_TILE = 512 };

struct ptq_workspace {
  int64_t max_tokens;
  int64_t query_tile; /* tokens of one tile of queries */
  float *memory;      /* owned; what the pointers below point into */
  float *x;           /* [max_tokens, d_model] normed input of a half block */
  float *y;           /* [max_tokens, d_model] what a half block adds */
  float *q;           /* [max_tokens, n_heads * d_head] */
  float *k, *v;       /* [max_tokens, n_kv_heads * d_head] */
  float *mix;         /* [max_tokens, n_heads * d_head] attention's result */
  float *gate, *up;   /* [max_tokens, d_ff]; gate NULL without one */
  float *cosines;     /* [max_tokens, d_head / 2]; NULL unless rotary */
  float *sines;
  /* One tile of queries of all heads that share keys: rows = tile * heads. */
  float *tile_q;    /* [rows, d_head] */
  float *tile_s;    /* [rows, PTQ_KEY_TILE] scores, then probabilities */
  float *tile_o;    /* [rows, d_head] */
  float *tile_max;  /* [rows] largest score so far */
  double *tile_sum; /* owned; [rows] sum of exp(score - largest) so far */
};

/**
 * Causal attention of one window: mix[n, n_heads * d_head] from ws->q, ws->k
 * and ws->v, which are rotated on the way (k in place).
 */
void ptq_attention(const ptq_model_info *info, int64_t n, ptq_workspace *ws);

#endif /* PTQ_MODEL_WORKSPACE_H */
