/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file workspace.h
 * Scratch of the forward pass, and what works in it: norms and attention.
 */
#ifndef PTQ_MODEL_WORKSPACE_H
#define PTQ_MODEL_WORKSPACE_H

#include "ptq/model/forward.h"

/** Keys and values that a query tile meets at once. */
enum { PTQ_KEY_TILE = 512 };

/** Heads within rows of a wider matrix: the d_head elements of key head kv
 * (queries: of the first of its n_heads / n_kv_heads heads, which are
 * contiguous) at token t begin at p + t * row + kv * step. */
typedef struct ptq_heads {
  float *p; /* borrowed from the workspace */
  int64_t row, step;
} ptq_heads;

/** Cosines and sines of one set of angles, times its amplitude. */
typedef struct ptq_turns {
  float *cosines, *sines; /* [max_tokens, rotary_width / 2] */
} ptq_turns;

struct ptq_workspace {
  int64_t max_tokens;
  int64_t query_tile; /* tokens of one tile of queries */
  float *memory;      /* owned; what the pointers below point into */
  float *x;           /* [max_tokens, d_model] normed input of a half block */
  float *y;           /* [max_tokens, d_model] what a half block adds */
  float *qkv;         /* [max_tokens, outputs] of q, k and v together, one
                         after the other or in the rows of one tensor */
  ptq_heads q, k, v;  /* set for a window's length */
  float *mix;         /* [max_tokens, n_heads * d_head] attention's result */
  float *gate, *up;   /* [max_tokens, d_ff]; gate NULL without one */
  float *gate_up;     /* [max_tokens, 2 d_ff] where fused; then up is NULL */
  ptq_turns turns[PTQ_ROPE_SETS]; /* NULL where the set is not used */
  float *alibi; /* [n_heads, max_tokens] bias by position; NULL without */
  /* One tile of queries of all heads that share keys: rows = tile * heads. */
  float *tile_q;    /* [rows, d_head] */
  float *tile_s;    /* [rows, PTQ_KEY_TILE] scores, then probabilities */
  float *tile_o;    /* [rows, d_head] */
  float *tile_max;  /* [rows] largest score so far */
  double *tile_sum; /* owned; [rows] sum of exp(score - largest) so far */
  /* Where products take bfloat16; else NULL. */
  ptq_multiplier *mul; /* owned */
  float *seen;         /* [max_tokens, widest site] what hooks see */
  ptq_bf16 *k16, *v16; /* [max_tokens, d_head] keys and values of one head */
  ptq_bf16 *tile_q16;  /* [rows, d_head] */
  ptq_bf16 *tile_p16;  /* [rows, PTQ_KEY_TILE] probabilities */
};

/** Where queries, keys and values of a window of n tokens stand in ws->qkv. */
void ptq_workspace_heads(const ptq_model_info *info, int64_t n,
                         ptq_workspace *ws);

/** y = norm(x), rows of `width`; y may be x. */
void ptq_norm_rows(const ptq_model_info *info, const ptq_norm *norm,
                   const float *x, int64_t rows, int64_t width, float *y);

/**
 * Causal attention of one window: mix[n, n_heads * d_head] from ws->q, ws->k
 * and ws->v, which are rotated on the way (k in place). `flags` are the
 * block's.
 */
ptq_status ptq_attention(const ptq_model_info *info, unsigned flags, int64_t n,
                         ptq_workspace *ws, ptq_err *err);

#endif /* PTQ_MODEL_WORKSPACE_H */
