/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "workspace.h"

#include <math.h>
#include <string.h>

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

static int64_t padded(int64_t n) {
  return (n + 15) / 16 * 16;
}

/* Takes n floats, rounded up to cache lines, from *at; only counts them where
 * base is NULL. */
static float *take(float *base, int64_t *at, int64_t n) {
  float *p = base != NULL ? base + *at : NULL;
  *at += padded(n);
  return p;
}

static ptq_bf16 *take16(float *base, int64_t *at, int64_t n) {
  return (ptq_bf16 *)take(base, at, (n + 1) / 2);
}

static int64_t widest_site(const ptq_model_info *info) {
  int64_t width = 0;
  for (int s = 0; s < PTQ_SITE_COUNT; s++)
    if (ptq_site_width(info, (ptq_site)s) > width)
      width = ptq_site_width(info, (ptq_site)s);
  return width;
}

static void lay_out_bf16(const ptq_model_info *info, int64_t n, float *base,
                         int64_t *at, ptq_workspace *ws) {
  const int64_t rows = tile_rows(info);
  ws->seen = take(base, at, n * widest_site(info));
  ws->k16 = take16(base, at, n * info->d_head);
  ws->v16 = take16(base, at, n * info->d_head);
  ws->tile_q16 = take16(base, at, rows * info->d_head);
  ws->tile_p16 = take16(base, at, rows * PTQ_KEY_TILE);
}

static void lay_out_mlp(const ptq_model_info *info, int64_t n, float *base,
                        int64_t *at, ptq_workspace *ws) {
  if (info->fused_gate_up)
    ws->gate_up = take(base, at, n * 2 * info->d_ff);
  else
    ws->up = take(base, at, n * info->d_ff);
  if (info->has_gate) ws->gate = take(base, at, n * info->d_ff);
}

static int64_t lay_out(const ptq_model_info *info, int64_t n, float *base,
                       ptq_workspace *ws) {
  const int64_t heads = info->n_heads * info->d_head;
  const int64_t kv_heads = info->n_kv_heads * info->d_head;
  const int64_t rows = tile_rows(info);
  int64_t at = 0;
  ws->x = take(base, &at, n * info->d_model);
  ws->y = take(base, &at, n * info->d_model);
  ws->qkv = take(base, &at, padded(n * heads) + 2 * padded(n * kv_heads));
  ws->mix = take(base, &at, n * heads);
  lay_out_mlp(info, n, base, &at, ws);
  for (int s = 0; s < PTQ_ROPE_SETS; s++) {
    if (info->rope[s].amplitude == 0.0F) continue;
    ws->turns[s].cosines = take(base, &at, n * (info->rotary_width / 2));
    ws->turns[s].sines = take(base, &at, n * (info->rotary_width / 2));
  }
  if (info->positions == PTQ_POSITIONS_ALIBI)
    ws->alibi = take(base, &at, n * info->n_heads);
  ws->tile_q = take(base, &at, rows * info->d_head);
  ws->tile_s = take(base, &at, rows * PTQ_KEY_TILE);
  ws->tile_o = take(base, &at, rows * info->d_head);
  ws->tile_max = take(base, &at, rows);
  if (info->compute == PTQ_COMPUTE_BF16) lay_out_bf16(info, n, base, &at, ws);
  return at;
}

/* Angles as transformers has them: products of frequencies and positions,
 * sines and cosines, each rounded to float32. */
static void fill_turns(const ptq_model_info *info, const ptq_rope *rope,
                       int64_t n, ptq_turns *turns) {
  const int64_t half = info->rotary_width / 2;
  for (int64_t i = 0; i < half; i++)
    for (int64_t t = 0; t < n; t++) {
      const float angle = (float)t * rope->frequency[i];
      const float c = (float)cos((double)angle);
      const float s = (float)sin((double)angle);
      turns->cosines[t * half + i] = c * rope->amplitude;
      turns->sines[t * half + i] = s * rope->amplitude;
    }
}

/* To the nearest bfloat16, ties to even. */
static float to_bf16(float x) {
  uint32_t bits = 0;
  memcpy(&bits, &x, sizeof bits);
  bits = (bits + 0x7fffU + (bits >> 16 & 1U)) & 0xffff0000U;
  memcpy(&x, &bits, sizeof bits);
  return x;
}

/* Slopes of Press, Smith and Lewis (2022): a geometric series from 2^(-8 / p)
 * for p heads, p a power of two; further heads take every other term of the
 * series for 2 p. */
static double alibi_slope(int64_t n_heads, int64_t head) {
  int64_t p = 1;
  while (2 * p <= n_heads) p *= 2;
  if (head < p) return exp2(-8.0 / (double)p * (double)(head + 1));
  return exp2(-4.0 / (double)p * (double)(2 * (head - p) + 1));
}

static void fill_alibi(const ptq_model_info *info, int64_t n, float *alibi) {
  for (int64_t h = 0; h < info->n_heads; h++) {
    float slope = (float)alibi_slope(info->n_heads, h);
    if (info->alibi_bf16) slope = to_bf16(slope);
    for (int64_t t = 0; t < n; t++) {
      float bias = slope * (info->alibi_bf16 ? to_bf16((float)t) : (float)t);
      if (info->alibi_bf16) bias = to_bf16(bias);
      alibi[h * n + t] = bias * (float)info->alibi_scale;
    }
  }
}

void ptq_workspace_heads(const ptq_model_info *info, int64_t n,
                         ptq_workspace *ws) {
  const int64_t d = info->d_head, group = info->n_heads / info->n_kv_heads;
  const int64_t q = info->n_heads * d, kv = info->n_kv_heads * d;
  float *p = ws->qkv;
  switch (info->qkv) {
    case PTQ_QKV_SEPARATE:
      ws->q = (ptq_heads){p, q, group * d};
      ws->k = (ptq_heads){p + padded(n * q), kv, d};
      ws->v = (ptq_heads){ws->k.p + padded(n * kv), kv, d};
      break;
    case PTQ_QKV_CONCAT:
      ws->q = (ptq_heads){p, q + 2 * kv, group * d};
      ws->k = (ptq_heads){p + q, q + 2 * kv, d};
      ws->v = (ptq_heads){p + q + kv, q + 2 * kv, d};
      break;
    case PTQ_QKV_GROUPED:
      ws->q = (ptq_heads){p, q + 2 * kv, (group + 2) * d};
      ws->k = (ptq_heads){p + group * d, q + 2 * kv, (group + 2) * d};
      ws->v = (ptq_heads){p + (group + 1) * d, q + 2 * kv, (group + 2) * d};
      break;
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
  if (info->compute == PTQ_COMPUTE_BF16)
    PTQ_TRY(ptq_multiplier_create(&ws->mul, err));
  for (int s = 0; s < PTQ_ROPE_SETS; s++)
    if (ws->turns[s].cosines != NULL)
      fill_turns(info, &info->rope[s], max_tokens, &ws->turns[s]);
  if (ws->alibi != NULL) fill_alibi(info, max_tokens, ws->alibi);
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
  ptq_multiplier_free(ws->mul);
  ptq_free(ws);
}

/* A multiplier's operands: the rows of a product, or the weights at hand. */
static int64_t multiplier_bytes(const ptq_model_info *info,
                                int64_t max_tokens) {
  int64_t most = max_tokens * widest_site(info);
  for (int r = 0; r < PTQ_ROLE_COUNT; r++) {
    const int64_t size = ptq_role_present(info, (ptq_role)r)
                             ? ptq_role_outputs(info, (ptq_role)r) *
                                   ptq_role_inputs(info, (ptq_role)r)
                             : 0;
    if (size > most) most = size;
  }
  return ptq_multiplier_bytes(most);
}

int64_t ptq_workspace_bytes(const ptq_model_info *info, int64_t max_tokens) {
  ptq_workspace ws;
  int64_t bytes = lay_out(info, max_tokens, NULL, &ws) * (int64_t)sizeof(float);
  if (info->compute == PTQ_COMPUTE_BF16)
    bytes += multiplier_bytes(info, max_tokens);
  return bytes + tile_rows(info) * (int64_t)sizeof(double) + (int64_t)sizeof ws;
}
