/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Exact causal attention in tiles: a tile of queries of all heads that share
 * keys meets the keys before it tile by tile, and the softmax is carried
 * along with a running maximum and sum (Milakov and Gimelshein 2018; Dao et
 * al. 2022). Only tiles on or below the diagonal are multiplied.
 */
#include <math.h>
#include <string.h>

#include "ptq/num/blas.h"
#include "ptq/num/vec.h"
#include "workspace.h"

typedef struct tile {
  const ptq_model_info *info; /* borrowed */
  ptq_workspace *ws;          /* borrowed */
  const ptq_turns *turns;     /* borrowed; NULL: queries are not rotated */
  int64_t window;             /* tokens that a token sees; 0: all */
  ptq_branch branch;          /* the queries' sequence */
  int64_t kv;                 /* key-value head */
  int64_t group;              /* query heads that share it */
  int64_t t0, tokens;         /* the queries' positions */
  int64_t first;              /* key that the first of them sees first */
  int64_t rows;               /* tokens * group; row = token, then head */
} tile;

/* The row that holds a position of a sequence. */
static int64_t row_of(const ptq_branch *b, int64_t position) {
  return position < b->shared ? b->trunk + position
                              : b->start + position - b->shared;
}

/* One head at position `at`: its leading rotary_width elements turned. */
static void rotate(const ptq_model_info *info, const ptq_turns *turns,
                   int64_t at, const float *x, float *y) {
  const int64_t width = info->rotary_width, half = width / 2;
  ptq_vec_rotate(x, turns->cosines + at * half, turns->sines + at * half, half,
                 y);
  if (y != x && width < info->d_head)
    memcpy(y + width, x + width, (size_t)(info->d_head - width) * sizeof *y);
}

/* Shared keys are rotated already: with the branch that holds them. */
static void rotate_keys(const ptq_model_info *info, const ptq_turns *turns,
                        const ptq_branch *b, ptq_workspace *ws) {
  for (int64_t t = 0; t < b->n; t++)
    for (int64_t h = 0; h < info->n_kv_heads; h++) {
      float *k = ws->k.p + (b->start + t) * ws->k.row + h * ws->k.step;
      rotate(info, turns, b->shared + t, k, k);
    }
}

/* Queries of the tile into tile_q, rotated. Those of one token and group are
 * contiguous in q as well. */
static void gather_queries(const tile *t) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t at = t->t0 + i, row = row_of(&t->branch, at);
    const float *from = ws->q.p + row * ws->q.row + t->kv * ws->q.step;
    float *to = ws->tile_q + i * t->group * d;
    if (t->turns == NULL) {
      memcpy(to, from, (size_t)(t->group * d) * sizeof *to);
      continue;
    }
    for (int64_t g = 0; g < t->group; g++)
      rotate(t->info, t->turns, at, from + g * d, to + g * d);
  }
}

/* Scores of one row against keys k0 + low .. k0 + high - 1 of a tile of
 * `width` keys become unnormalized probabilities, the others zero; what the
 * row had so far is rescaled to the new maximum. */
static void soften_row(const tile *t, int64_t row, int64_t k0, int64_t low,
                       int64_t high, int64_t width) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head, n = high - low;
  float *s = ws->tile_s + row * width;
  if (n <= 0) low = high = 0;
  memset(s, 0, (size_t)low * sizeof *s);
  memset(s + high, 0, (size_t)(width - high) * sizeof *s);
  if (n <= 0) return;
  s += low;
  if (t->info->attn_cap > 0.0) ptq_vec_soft_cap((float)t->info->attn_cap, n, s);
  if (ws->alibi != NULL) {
    const int64_t head = t->kv * t->group + row % t->group;
    ptq_vec_add(ws->alibi + head * ws->max_tokens + k0 + low, n, s);
  }
  const float top = ptq_vec_max(s, n, NULL), before = ws->tile_max[row];
  const float now = top > before ? top : before;
  if (now > before && ws->tile_sum[row] > 0.0) {
    float shrink = before;
    ptq_vec_exp(&shrink, 1, now, &shrink);
    ptq_vec_scale(shrink, d, ws->tile_o + row * d);
    ws->tile_sum[row] *= (double)shrink;
  }
  ws->tile_max[row] = now;
  ws->tile_sum[row] += ptq_vec_exp(s, n, now, s);
}

static int64_t clamp(int64_t v, int64_t high) {
  return v < 0 ? 0 : v < high ? v : high;
}

/* Keys k0 .. k0 + width - 1, of which a token sees those up to its own, or
 * the last `window` of them. */
static void meet_keys(const tile *t, int64_t k0, int64_t width) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  const int64_t row = row_of(&t->branch, k0);
  const float *k = ws->k.p + row * ws->k.row + t->kv * ws->k.step;
  const float *v = ws->v.p + row * ws->v.row + t->kv * ws->v.step;
  ptq_sgemm_nt(t->rows, width, d, (float)t->info->attn_scale, ws->tile_q, d, k,
               ws->k.row, 0.0F, ws->tile_s, width);
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t high = clamp(t->t0 + i - k0 + 1, width);
    const int64_t low =
        t->window > 0 ? clamp(t->t0 + i - k0 + 1 - t->window, width) : 0;
    for (int64_t g = 0; g < t->group; g++)
      soften_row(t, i * t->group + g, k0, low, high, width);
  }
  ptq_sgemm_nn(t->rows, d, width, 1.0F, ws->tile_s, width, v, ws->v.row,
               k0 > t->first ? 1.0F : 0.0F, ws->tile_o, d);
}

static void scatter_result(const tile *t) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t row = row_of(&t->branch, t->t0 + i);
    float *to = ws->mix + (row * t->info->n_heads + t->kv * t->group) * d;
    memcpy(to, ws->tile_o + i * t->group * d,
           (size_t)(t->group * d) * sizeof *to);
    for (int64_t g = 0; g < t->group; g++)
      ptq_vec_scale((float)(1.0 / ws->tile_sum[i * t->group + g]), d,
                    to + g * d);
  }
}

/* The angles of a block in a sequence of n tokens, NULL for none. */
static const ptq_turns *pick_turns(const ptq_model_info *info, unsigned flags,
                                   int64_t n, const ptq_workspace *ws) {
  if (info->positions != PTQ_POSITIONS_ROTARY || flags & PTQ_BLOCK_NO_ROPE)
    return NULL;
  if (flags & PTQ_BLOCK_LOCAL_ROPE) return &ws->turns[PTQ_ROPE_LOCAL];
  const bool is_long = info->rope_long_from > 0 && n > info->rope_long_from;
  return &ws->turns[is_long ? PTQ_ROPE_LONG : PTQ_ROPE_MAIN];
}

static void attend_tile(tile *t) {
  const ptq_workspace *ws = t->ws;
  gather_queries(t);
  for (int64_t r = 0; r < t->rows; r++) {
    ws->tile_max[r] = -INFINITY;
    ws->tile_sum[r] = 0.0;
  }
  const int64_t end = t->t0 + t->tokens;
  for (int64_t k0 = t->first, width = 0; k0 < end; k0 += width) {
    width = end - k0 < PTQ_KEY_TILE ? end - k0 : PTQ_KEY_TILE;
    /* Shared rows are not beside the branch's own. */
    if (k0 < t->branch.shared && k0 + width > t->branch.shared)
      width = t->branch.shared - k0;
    meet_keys(t, k0, width);
  }
  scatter_result(t);
}

static void attend_branch(const ptq_model_info *info, unsigned flags,
                          const ptq_branch *b, ptq_workspace *ws) {
  const int64_t group = info->n_heads / info->n_kv_heads;
  const int64_t window = flags & PTQ_BLOCK_WINDOW ? info->window : 0;
  const int64_t end = b->shared + b->n;
  const ptq_turns *turns = pick_turns(info, flags, end, ws);
  if (turns != NULL) rotate_keys(info, turns, b, ws);
  for (int64_t kv = 0; kv < info->n_kv_heads; kv++)
    for (int64_t t0 = b->shared; t0 < end; t0 += ws->query_tile) {
      const int64_t rest = end - t0;
      tile t = {.info = info,
                .ws = ws,
                .turns = turns,
                .window = window,
                .branch = *b,
                .kv = kv,
                .group = group,
                .t0 = t0};
      t.tokens = rest < ws->query_tile ? rest : ws->query_tile;
      t.rows = t.tokens * group;
      t.first = window > 0 && t0 >= window ? t0 + 1 - window : 0;
      attend_tile(&t);
    }
}

void ptq_attention(const ptq_model_info *info, unsigned flags, int64_t n,
                   ptq_workspace *ws) {
  const ptq_branch whole = {.n = n};
  if (ws->branches == NULL) attend_branch(info, flags, &whole, ws);
  for (int64_t i = 0; i < ws->n_branches; i++)
    attend_branch(info, flags, &ws->branches[i], ws);
}
