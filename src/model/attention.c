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
  int64_t kv;                 /* key-value head */
  int64_t group;              /* query heads that share it */
  int64_t t0, tokens;         /* the queries' positions */
  int64_t rows;               /* tokens * group; row = token, then head */
} tile;

static void rotate_keys(const ptq_model_info *info, int64_t n,
                        ptq_workspace *ws) {
  const int64_t d = info->d_head, half = d / 2;
  for (int64_t t = 0; t < n; t++)
    for (int64_t h = 0; h < info->n_kv_heads; h++) {
      float *k = ws->k + (t * info->n_kv_heads + h) * d;
      ptq_vec_rotate(k, ws->cosines + t * half, ws->sines + t * half, half, k);
    }
}

/* Queries of the tile into tile_q, rotated. Those of one token and group are
 * contiguous in q as well. */
static void gather_queries(const tile *t) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head, half = d / 2;
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t at = t->t0 + i;
    const float *from = ws->q + (at * t->info->n_heads + t->kv * t->group) * d;
    float *to = ws->tile_q + i * t->group * d;
    if (!t->info->rotary) {
      memcpy(to, from, (size_t)(t->group * d) * sizeof *to);
      continue;
    }
    for (int64_t g = 0; g < t->group; g++)
      ptq_vec_rotate(from + g * d, ws->cosines + at * half,
                     ws->sines + at * half, half, to + g * d);
  }
}

/* Scores of one row against keys k0 .. k0 + n - 1 become unnormalized
 * probabilities; what the row had so far is rescaled to the new maximum. */
static void soften_row(const tile *t, int64_t row, int64_t n, int64_t width) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head;
  float *s = ws->tile_s + row * width;
  memset(s + n, 0, (size_t)(width - n) * sizeof *s);
  if (n == 0) return;
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

/* Keys k0 .. k0 + width - 1, of which a token sees those up to its own. */
static void meet_keys(const tile *t, int64_t k0, int64_t width) {
  const ptq_workspace *ws = t->ws;
  const int64_t d = t->info->d_head, ld = t->info->n_kv_heads * d;
  const float scale = (float)(1.0 / sqrt((double)d));
  const int64_t at = k0 * ld + t->kv * d;
  ptq_sgemm_nt(t->rows, width, d, scale, ws->tile_q, d, ws->k + at, ld, 0.0F,
               ws->tile_s, width);
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t seen = clamp(t->t0 + i - k0 + 1, width);
    for (int64_t g = 0; g < t->group; g++)
      soften_row(t, i * t->group + g, seen, width);
  }
  ptq_sgemm_nn(t->rows, d, width, 1.0F, ws->tile_s, width, ws->v + at, ld,
               k0 > 0 ? 1.0F : 0.0F, ws->tile_o, d);
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

void ptq_attention(const ptq_model_info *info, int64_t n, ptq_workspace *ws) {
  const int64_t group = info->n_heads / info->n_kv_heads;
  if (info->rotary) rotate_keys(info, n, ws);
  for (int64_t kv = 0; kv < info->n_kv_heads; kv++)
    for (int64_t t0 = 0; t0 < n; t0 += ws->query_tile) {
      const int64_t rest = n - t0;
      tile t = {.info = info, .ws = ws, .kv = kv, .group = group, .t0 = t0};
      t.tokens = rest < ws->query_tile ? rest : ws->query_tile;
      t.rows = t.tokens * group;
      gather_queries(&t);
      for (int64_t r = 0; r < t.rows; r++) {
        ws->tile_max[r] = -INFINITY;
        ws->tile_sum[r] = 0.0;
      }
      const int64_t end = t0 + t.tokens;
      for (int64_t k0 = 0; k0 < end; k0 += PTQ_KEY_TILE) {
        const int64_t keys = end - k0;
        meet_keys(&t, k0, keys < PTQ_KEY_TILE ? keys : PTQ_KEY_TILE);
      }
      scatter_result(&t);
    }
}
