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
  int64_t kv;                 /* key-value head */
  int64_t group;              /* query heads that share it */
  int64_t t0, tokens;         /* the queries' positions */
  int64_t first;              /* key that the first of them sees first */
  int64_t rows;               /* tokens * group; row = token, then head */
} tile;

/* One head at position `at`: its leading rotary_width elements turned. */
static void rotate(const ptq_model_info *info, const ptq_turns *turns,
                   int64_t at, const float *x, float *y) {
  const int64_t width = info->rotary_width, half = width / 2;
  ptq_vec_rotate(x, turns->cosines + at * half, turns->sines + at * half, half,
                 y);
  if (y != x && width < info->d_head)
    memcpy(y + width, x + width, (size_t)(info->d_head - width) * sizeof *y);
}

static void rotate_keys(const ptq_model_info *info, const ptq_turns *turns,
                        int64_t n, ptq_workspace *ws) {
  for (int64_t t = 0; t < n; t++)
    for (int64_t h = 0; h < info->n_kv_heads; h++) {
      float *k = ws->k.p + t * ws->k.row + h * ws->k.step;
      rotate(info, turns, t, k, k);
    }
}

/* A head's rows out of a wider matrix, rounded. */
static void round_head(const ptq_heads *from, int64_t kv, int64_t n, int64_t d,
                       ptq_bf16 *to) {
  for (int64_t t = 0; t < n; t++)
    ptq_vec_to_bf16(from->p + t * from->row + kv * from->step, d, to + t * d);
}

/* Queries of the tile into tile_q, rotated. Those of one token and group are
 * contiguous in q as well. */
static void gather_queries(const tile *t) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t at = t->t0 + i;
    const float *from = ws->q.p + at * ws->q.row + t->kv * ws->q.step;
    float *to = ws->tile_q + i * t->group * d;
    if (t->turns == NULL) {
      memcpy(to, from, (size_t)(t->group * d) * sizeof *to);
      continue;
    }
    for (int64_t g = 0; g < t->group; g++)
      rotate(t->info, t->turns, at, from + g * d, to + g * d);
  }
}

/* Probabilities 0 of one row outside [low, high): in tile_p16 where products
 * take bfloat16, else in tile_s. */
static void clear_outside(const ptq_workspace *ws, int64_t row, int64_t low,
                          int64_t high, int64_t width) {
  if (ws->mul != NULL) {
    ptq_bf16 *p = ws->tile_p16 + row * width;
    memset(p, 0, (size_t)low * sizeof *p);
    memset(p + high, 0, (size_t)(width - high) * sizeof *p);
  } else {
    float *p = ws->tile_s + row * width;
    memset(p, 0, (size_t)low * sizeof *p);
    memset(p + high, 0, (size_t)(width - high) * sizeof *p);
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
  clear_outside(ws, row, low, high, width);
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
  ws->tile_sum[row] +=
      ws->mul != NULL
          ? ptq_vec_exp_bf16(s, n, now, ws->tile_p16 + row * width + low)
          : ptq_vec_exp(s, n, now, s);
}

static int64_t clamp(int64_t v, int64_t high) {
  return v < 0 ? 0 : v < high ? v : high;
}

/* tile_s = scores of the tile's queries and keys k0 .. k0 + width - 1 */
static ptq_status score(const tile *t, int64_t k0, int64_t width,
                        ptq_err *err) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  const float scale = (float)t->info->attn_scale;
  if (ws->mul != NULL)
    return ptq_bf16_nt(ws->mul, t->rows, width, d, scale, ws->tile_q16,
                       ws->k16 + k0 * d, ws->tile_s, err);
  ptq_sgemm_nt(t->rows, width, d, scale, ws->tile_q, d,
               ws->k.p + k0 * ws->k.row + t->kv * ws->k.step, ws->k.row, 0.0F,
               ws->tile_s, width);
  return PTQ_OK;
}

/* tile_o += probabilities times the values at k0 .. k0 + width - 1 */
static ptq_status gather_values(const tile *t, int64_t k0, int64_t width,
                                ptq_err *err) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  const bool first = k0 == t->first;
  if (ws->mul != NULL) {
    return ptq_bf16_nn(ws->mul, t->rows, d, width, ws->tile_p16,
                       ws->v16 + k0 * d, !first, ws->tile_o, err);
  }
  ptq_sgemm_nn(t->rows, d, width, 1.0F, ws->tile_s, width,
               ws->v.p + k0 * ws->v.row + t->kv * ws->v.step, ws->v.row,
               first ? 0.0F : 1.0F, ws->tile_o, d);
  return PTQ_OK;
}

/* Keys k0 .. k0 + width - 1, of which a token sees those up to its own, or
 * the last `window` of them. */
static ptq_status meet_keys(const tile *t, int64_t k0, int64_t width,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(score(t, k0, width, err));
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t high = clamp(t->t0 + i - k0 + 1, width);
    const int64_t low =
        t->window > 0 ? clamp(t->t0 + i - k0 + 1 - t->window, width) : 0;
    for (int64_t g = 0; g < t->group; g++)
      soften_row(t, i * t->group + g, k0, low, high, width);
  }
  PTQ_TRY(gather_values(t, k0, width, err));
done:
  return rc;
}

static void scatter_result(const tile *t) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  for (int64_t i = 0; i < t->tokens; i++) {
    float *to =
        ws->mix + ((t->t0 + i) * t->info->n_heads + t->kv * t->group) * d;
    memcpy(to, ws->tile_o + i * t->group * d,
           (size_t)(t->group * d) * sizeof *to);
    for (int64_t g = 0; g < t->group; g++)
      ptq_vec_scale((float)(1.0 / ws->tile_sum[i * t->group + g]), d,
                    to + g * d);
  }
}

/* The angles of a block in a window of n tokens, NULL for none. */
static const ptq_turns *pick_turns(const ptq_model_info *info, unsigned flags,
                                   int64_t n, const ptq_workspace *ws) {
  if (info->positions != PTQ_POSITIONS_ROTARY || flags & PTQ_BLOCK_NO_ROPE)
    return NULL;
  if (flags & PTQ_BLOCK_LOCAL_ROPE) return &ws->turns[PTQ_ROPE_LOCAL];
  const bool is_long = info->rope_long_from > 0 && n > info->rope_long_from;
  return &ws->turns[is_long ? PTQ_ROPE_LONG : PTQ_ROPE_MAIN];
}

static ptq_status attend_tile(tile *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_workspace *ws = t->ws;
  gather_queries(t);
  if (ws->mul != NULL)
    ptq_vec_to_bf16(ws->tile_q, t->rows * t->info->d_head, ws->tile_q16);
  for (int64_t r = 0; r < t->rows; r++) {
    ws->tile_max[r] = -INFINITY;
    ws->tile_sum[r] = 0.0;
  }
  const int64_t end = t->t0 + t->tokens;
  for (int64_t k0 = t->first; k0 < end; k0 += PTQ_KEY_TILE) {
    const int64_t keys = end - k0;
    PTQ_TRY(meet_keys(t, k0, keys < PTQ_KEY_TILE ? keys : PTQ_KEY_TILE, err));
  }
  scatter_result(t);
done:
  return rc;
}

ptq_status ptq_attention(const ptq_model_info *info, unsigned flags, int64_t n,
                         ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t group = info->n_heads / info->n_kv_heads;
  const int64_t window = flags & PTQ_BLOCK_WINDOW ? info->window : 0;
  const ptq_turns *turns = pick_turns(info, flags, n, ws);
  if (turns != NULL) rotate_keys(info, turns, n, ws);
  for (int64_t kv = 0; kv < info->n_kv_heads; kv++) {
    if (ws->mul != NULL) {
      round_head(&ws->k, kv, n, info->d_head, ws->k16);
      round_head(&ws->v, kv, n, info->d_head, ws->v16);
    }
    for (int64_t t0 = 0; t0 < n; t0 += ws->query_tile) {
      const int64_t rest = n - t0;
      tile t = {.info = info,
                .ws = ws,
                .turns = turns,
                .window = window,
                .kv = kv,
                .group = group,
                .t0 = t0};
      t.tokens = rest < ws->query_tile ? rest : ws->query_tile;
      t.rows = t.tokens * group;
      t.first = window > 0 && t0 >= window ? t0 + 1 - window : 0;
      PTQ_TRY(attend_tile(&t, err));
    }
  }
done:
  return rc;
}
