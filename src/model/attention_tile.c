/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "attention_tile.h"

#include <string.h>

static int64_t tiles_of_head(int64_t n, const ptq_workspace *ws) {
  return (n + ws->query_tile - 1) / ws->query_tile;
}

int64_t ptq_branch_row(const ptq_branch *b, int64_t position) {
  return position < b->shared ? b->trunk + position
                              : b->start + position - b->shared;
}

int64_t ptq_tile_count(const ptq_model_info *info, const ptq_branch *b,
                       const ptq_workspace *ws) {
  return info->n_kv_heads * tiles_of_head(b->n, ws);
}

ptq_tile ptq_tile_at(const ptq_model_info *info, unsigned flags,
                     const ptq_branch *b, const ptq_workspace *ws, int64_t i) {
  const int64_t tiles = tiles_of_head(b->n, ws);
  const int64_t end = b->shared + b->n;
  ptq_tile t = {.info = info,
                .turns = ptq_turns_of(info, flags, end, ws),
                .branch = *b,
                .window = flags & PTQ_BLOCK_WINDOW ? info->window : 0,
                .kv = i / tiles,
                .group = info->n_heads / info->n_kv_heads,
                .t0 = b->shared + i % tiles * ws->query_tile};
  const int64_t rest = end - t.t0;
  t.tokens = rest < ws->query_tile ? rest : ws->query_tile;
  t.rows = t.tokens * t.group;
  t.first = t.window > 0 && t.t0 >= t.window ? t.t0 + 1 - t.window : 0;
  t.end = t.t0 + t.tokens;
  return t;
}

static int64_t clamp(int64_t v, int64_t high) {
  return v < 0 ? 0 : v < high ? v : high;
}

void ptq_tile_seen(const ptq_tile *t, int64_t i, int64_t k0, int64_t width,
                   int64_t *low, int64_t *high) {
  const int64_t own = t->t0 + i - k0 + 1;
  *high = clamp(own, width);
  *low = t->window > 0 ? clamp(own - t->window, width) : 0;
}

/* The queries of one token and key head are contiguous. */
void ptq_tile_gather(const ptq_tile *t, const ptq_turns *turns,
                     const ptq_heads *heads, ptq_real *rows) {
  const int64_t d = t->info->d_head;
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t at = t->t0 + i, row = ptq_branch_row(&t->branch, at);
    const ptq_real *from = heads->p + row * heads->row + t->kv * heads->step;
    ptq_real *to = rows + i * t->group * d;
    if (turns == NULL) {
      memcpy(to, from, (size_t)(t->group * d) * sizeof *to);
      continue;
    }
    for (int64_t g = 0; g < t->group; g++)
      ptq_rotate(t->info, turns, at, from + g * d, to + g * d);
  }
}

void ptq_tile_scatter_vjp(const ptq_tile *t, const ptq_real *rows,
                          const ptq_heads *heads) {
  const int64_t d = t->info->d_head;
  for (int64_t i = 0; i < t->tokens; i++) {
    const int64_t at = t->t0 + i;
    const ptq_real *from = rows + i * t->group * d;
    ptq_real *to = heads->p + ptq_branch_row(&t->branch, at) * heads->row +
                   t->kv * heads->step;
    if (t->turns == NULL) {
      memcpy(to, from, (size_t)(t->group * d) * sizeof *to);
      continue;
    }
    for (int64_t g = 0; g < t->group; g++)
      ptq_rotate_vjp(t->info, t->turns, at, from + g * d, to + g * d);
  }
}

ptq_heads ptq_mix_heads(const ptq_model_info *info, ptq_real *mix) {
  const int64_t group = info->n_heads / info->n_kv_heads;
  return (ptq_heads){mix, info->n_heads * info->d_head, group * info->d_head};
}

int64_t ptq_tile_soft(const ptq_tile *t, int64_t row) {
  return ptq_branch_row(&t->branch, t->t0 + row / t->group) * t->info->n_heads +
         t->kv * t->group + row % t->group;
}

const ptq_real *ptq_tile_alibi(const ptq_tile *t, const ptq_workspace *ws,
                               int64_t row) {
  if (ws->alibi == NULL) return NULL;
  return ws->alibi + (t->kv * t->group + row % t->group) * ws->max_tokens;
}
