/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "workspace.h"

#include <math.h>

#include "ptq/base/mem.h"

/*
 * Tokens of a query tile. Scores are computed for whole tiles, so a tile
 * wastes half its tokens' worth of keys a row behind the diagonal; but a
 * product of fewer than some 200 rows runs slower, and all heads of a group
 * are rows of one product. A function of the model alone.
 */
static int64_t query_tile(const ptq_model_info *info) {
  const int64_t tile = 192 / (info->n_heads / info->n_kv_heads);
  return tile < 32 ? 32 : tile > 96 ? 96 : tile / 16 * 16;
}

static int64_t tile_rows(const ptq_model_info *info) {
  return query_tile(info) * (info->n_heads / info->n_kv_heads);
}

/* Takes n floats, rounded up to cache lines, from *at; only counts them where
 * base is NULL. */
static float *take(float *base, int64_t *at, int64_t n) {
  float *p = base != NULL ? base + *at : NULL;
  *at += (n + 15) / 16 * 16;
  return p;
}

static int64_t lay_out(const ptq_model_info *info, int64_t n, float *base,
                       ptq_workspace *ws) {
  const int64_t heads = info->n_heads * info->d_head;
  const int64_t kv_heads = info->n_kv_heads * info->d_head;
  const int64_t rows = tile_rows(info);
  int64_t at = 0;
  ws->x = take(base, &at, n * info->d_model);
  ws->y = take(base, &at, n * info->d_model);
  ws->q = take(base, &at, n * heads);
  ws->k = take(base, &at, n * kv_heads);
  ws->v = take(base, &at, n * kv_heads);
  ws->mix = take(base, &at, n * heads);
  ws->up = take(base, &at, n * info->d_ff);
  if (info->has_gate) ws->gate = take(base, &at, n * info->d_ff);
  if (info->rotary) {
    ws->cosines = take(base, &at, n * (info->d_head / 2));
    ws->sines = take(base, &at, n * (info->d_head / 2));
  }
  ws->tile_q = take(base, &at, rows * info->d_head);
  ws->tile_s = take(base, &at, rows * PTQ_KEY_TILE);
  ws->tile_o = take(base, &at, rows * info->d_head);
  ws->tile_max = take(base, &at, rows);
  return at;
}

/* Angles as transformers has them: inverse frequencies, their products with
 * positions, sines and cosines, each rounded to float32. */
static void fill_rotary(const ptq_model_info *info, int64_t n,
                        ptq_workspace *ws) {
  const int64_t half = info->d_head / 2;
  for (int64_t i = 0; i < half; i++) {
    const float exponent = (float)(2 * i) / (float)info->d_head;
    const float base = (float)info->rope_theta;
    const float power = (float)pow((double)base, (double)exponent);
    const float inverse = 1.0F / power;
    for (int64_t t = 0; t < n; t++) {
      const float angle = (float)t * inverse;
      ws->cosines[t * half + i] = (float)cos((double)angle);
      ws->sines[t * half + i] = (float)sin((double)angle);
    }
  }
}

ptq_status ptq_workspace_create(const ptq_model_info *info, int64_t max_tokens,
                                ptq_workspace **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_workspace *ws = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&ws, 1, sizeof *ws, "a workspace", err));
  ws->max_tokens = max_tokens;
  ws->query_tile = query_tile(info);
  PTQ_TRY(ptq_alloc(&ws->memory, lay_out(info, max_tokens, NULL, ws),
                    sizeof(float), "forward pass of a window", err));
  PTQ_TRY(ptq_alloc(&ws->tile_sum, tile_rows(info), sizeof(double),
                    "attention sums", err));
  (void)lay_out(info, max_tokens, ws->memory, ws);
  if (info->rotary) fill_rotary(info, max_tokens, ws);
  *out = ws;
  ws = NULL;
done:
  ptq_workspace_free(ws);
  return rc;
}

void ptq_workspace_free(ptq_workspace *ws) {
  if (ws == NULL) return;
  ptq_free(ws->memory);
  ptq_free(ws->tile_sum);
  ptq_free(ws);
}

int64_t ptq_workspace_bytes(const ptq_model_info *info, int64_t max_tokens) {
  ptq_workspace ws;
  return lay_out(info, max_tokens, NULL, &ws) * (int64_t)sizeof(float) +
         tile_rows(info) * (int64_t)sizeof(double) + (int64_t)sizeof ws;
}
