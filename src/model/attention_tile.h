/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file attention_tile.h
 * A tile of queries: those of all heads that share a key head, at some
 * neighbouring positions. Row = position, then head.
 */
#ifndef PTQ_MODEL_ATTENTION_TILE_H
#define PTQ_MODEL_ATTENTION_TILE_H

#include "op.h"

typedef struct ptq_tile {
  const ptq_model_info *info; /* borrowed */
  const ptq_turns *turns;     /* borrowed; NULL: queries are not rotated */
  int64_t window;             /* tokens that a token sees; 0: all */
  ptq_branch branch;          /* the queries' sequence */
  int64_t kv;                 /* key-value head */
  int64_t group;              /* query heads that share it */
  int64_t t0, tokens;         /* the queries' positions */
  int64_t first, end;         /* keys that they see together */
  int64_t rows;               /* tokens * group */
} ptq_tile;

/** The row that holds a position of a sequence. */
int64_t ptq_branch_row(const ptq_branch *b, int64_t position);

/** Tiles of a sequence's own tokens; a walk is for (i = 0; i < count; i++). A
 * window of n tokens is the branch {.n = n}. */
int64_t ptq_tile_count(const ptq_model_info *info, const ptq_branch *b,
                       const ptq_workspace *ws);
ptq_tile ptq_tile_at(const ptq_model_info *info, unsigned flags,
                     const ptq_branch *b, const ptq_workspace *ws, int64_t i);

/** What token i of the tile sees of keys k0 .. k0 + width - 1: low .. high - 1,
 * counted from k0. */
void ptq_tile_seen(const ptq_tile *t, int64_t i, int64_t k0, int64_t width,
                   int64_t *low, int64_t *high);
/** Rows [rows, d_head] from heads, rotated if `turns`. */
void ptq_tile_gather(const ptq_tile *t, const ptq_turns *turns,
                     const ptq_heads *from, ptq_real *to);
/** Rows into heads, rotated back. */
void ptq_tile_scatter_vjp(const ptq_tile *t, const ptq_real *from,
                          const ptq_heads *to);
/** The heads of attention's result [n, n_heads * d_head]. */
ptq_heads ptq_mix_heads(const ptq_model_info *info, ptq_real *mix);
/** Index of a row's softmax in ptq_soft. */
int64_t ptq_tile_soft(const ptq_tile *t, int64_t row);
/** ALiBi of a row's head by position of the key; NULL without. */
const ptq_real *ptq_tile_alibi(const ptq_tile *t, const ptq_workspace *ws,
                               int64_t row);

#endif /* PTQ_MODEL_ATTENTION_TILE_H */
