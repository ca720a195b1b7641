/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file workspace.h
 * Scratch of the forward pass.
 */
#ifndef PTQ_MODEL_WORKSPACE_H
#define PTQ_MODEL_WORKSPACE_H

#include "ptq/model/bundle.h"

/** Keys and values that a query tile meets at once. */
enum { PTQ_KEY_TILE = 512 };

/** Heads within rows of a wider matrix: the d_head elements of key head kv
 * (queries: of the first of its n_heads / n_kv_heads heads, which are
 * contiguous) at token t begin at p + t * row + kv * step. */
typedef struct ptq_heads {
  ptq_real *p; /* borrowed */
  int64_t row, step;
} ptq_heads;

/** Queries, keys and values of a window, or what belongs to them. */
typedef struct ptq_qkv {
  ptq_heads q, k, v;
} ptq_qkv;

/** Reals of the queries, keys and values of n tokens, one matrix after the
 * other or in the rows of one. */
int64_t ptq_qkv_size(const ptq_model_info *info, int64_t n);
/** Where they stand in memory of that size. */
ptq_qkv ptq_qkv_at(const ptq_model_info *info, int64_t n, ptq_real *memory);

/** Cosines and sines of one set of angles, times its amplitude. */
typedef struct ptq_turns {
  ptq_real *cosines, *sines; /* [max_tokens, rotary_width / 2] */
} ptq_turns;

struct ptq_workspace {
  int64_t max_tokens;
  int64_t query_tile;  /* tokens of one tile of queries */
  ptq_real *memory;    /* owned; what the pointers below point into */
  ptq_real *x;         /* [max_tokens, d_model] normed input of a half block */
  ptq_real *y;         /* [max_tokens, d_model] what a half block adds */
  ptq_real *qkv;       /* [ptq_qkv_size] */
  ptq_real *mix;       /* [max_tokens, n_heads * d_head] attention's result */
  ptq_real *gate, *up; /* [max_tokens, d_ff]; gate NULL without one */
  ptq_real *gate_up;   /* [max_tokens, 2 d_ff] where fused; then up is NULL */
  /* Of a mixture of experts, else NULL. */
  ptq_real *odds;   /* [max_tokens, n_experts] probabilities of experts; where
                       the chosen share one, theirs alone */
  ptq_real *share;  /* [max_tokens, experts_used] weights of the chosen */
  int32_t *chosen;  /* [max_tokens, experts_used] the likeliest first */
  int32_t *members; /* [max_tokens] tokens of the expert at hand */
  ptq_real *member_share;         /* [max_tokens] its weight for each */
  ptq_real *member_x;             /* [max_tokens, d_model] what it takes */
  ptq_real *member_y;             /* [max_tokens, d_model] what it gives */
  ptq_turns turns[PTQ_ROPE_SETS]; /* NULL where the set is not used */
  ptq_real *alibi; /* [n_heads, max_tokens] bias by position; NULL without */
  /* One tile of queries of all heads that share keys: rows = tile * heads. */
  ptq_real *tile_q;   /* [rows, d_head] */
  ptq_real *tile_s;   /* [rows, PTQ_KEY_TILE] scores, then probabilities */
  ptq_real *tile_o;   /* [rows, d_head] */
  ptq_real *tile_max; /* [rows] largest score so far */
  double *tile_sum;   /* owned; [rows] sum of exp(score - largest) so far */
  /* Where products take bfloat16; else NULL. */
  ptq_multiplier *mul; /* owned */
  ptq_real *seen;      /* [max_tokens, widest site] what hooks see */
  ptq_bf16 *k16, *v16; /* [max_tokens, d_head] keys and values of one head */
  ptq_bf16 *tile_q16;  /* [rows, d_head] */
  ptq_bf16 *tile_p16;  /* [rows, PTQ_KEY_TILE] probabilities */
  const ptq_branch *branches; /* borrowed; of the bundle at hand, NULL where the
                                 rows are one sequence */
  int64_t n_branches;
};

/** Reals rounded up to whole cache lines. */
int64_t ptq_padded(int64_t n);
/** Takes n reals, rounded up to cache lines, from *at; only counts them where
 * base is NULL. */
ptq_real *ptq_take(ptq_real *base, int64_t *at, int64_t n);
/** Rows of a tile of queries. */
int64_t ptq_tile_rows(const ptq_model_info *info);

#endif /* PTQ_MODEL_WORKSPACE_H */
