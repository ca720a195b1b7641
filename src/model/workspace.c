/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "workspace.h"

#include <math.h>
#include <string.h>

#include "op_bf16.h"
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

int64_t ptq_tile_rows(const ptq_model_info *info) {
  return query_tile(info) * (info->n_heads / info->n_kv_heads);
}

int64_t ptq_padded(int64_t n) {
  return (n + 15) / 16 * 16;
}

ptq_real *ptq_take(ptq_real *base, int64_t *at, int64_t n) {
  ptq_real *p = base != NULL ? base + *at : NULL;
  *at += ptq_padded(n);
  return p;
}

static void lay_out_mlp(const ptq_model_info *info, int64_t n, ptq_real *base,
                        int64_t *at, ptq_workspace *ws) {
  if (info->fused_gate_up)
    ws->gate_up = ptq_take(base, at, n * 2 * info->d_ff);
  else
    ws->up = ptq_take(base, at, n * info->d_ff);
  if (info->has_gate) ws->gate = ptq_take(base, at, n * info->d_ff);
}

/* Tokens are counted in the place of reals. */
static int32_t *take_tokens(ptq_real *base, int64_t *at, int64_t n) {
  _Static_assert(sizeof(int32_t) <= sizeof(ptq_real),
                 "a token in a real's place");
  void *p = ptq_take(base, at, n);
  return p;
}

static void lay_out_experts(const ptq_model_info *info, int64_t n,
                            ptq_real *base, int64_t *at, ptq_workspace *ws) {
  if (info->n_experts == 0) return;
  ws->odds = ptq_take(base, at, n * info->n_experts);
  ws->share = ptq_take(base, at, n * info->experts_used);
  ws->chosen = take_tokens(base, at, n * info->experts_used);
  ws->members = take_tokens(base, at, n);
  ws->member_share = ptq_take(base, at, n);
  ws->member_x = ptq_take(base, at, n * info->d_model);
  ws->member_y = ptq_take(base, at, n * info->d_model);
}

static int64_t lay_out(const ptq_model_info *info, int64_t n, ptq_real *base,
                       ptq_workspace *ws) {
  const int64_t heads = info->n_heads * info->d_head;
  const int64_t rows = ptq_tile_rows(info);
  int64_t at = 0;
  ws->x = ptq_take(base, &at, n * info->d_model);
  ws->y = ptq_take(base, &at, n * info->d_model);
  ws->qkv = ptq_take(base, &at, ptq_qkv_size(info, n));
  ws->mix = ptq_take(base, &at, n * heads);
  lay_out_mlp(info, n, base, &at, ws);
  lay_out_experts(info, n, base, &at, ws);
  for (int s = 0; s < PTQ_ROPE_SETS; s++) {
    if (info->rope[s].amplitude == 0.0) continue;
    ws->turns[s].cosines = ptq_take(base, &at, n * (info->rotary_width / 2));
    ws->turns[s].sines = ptq_take(base, &at, n * (info->rotary_width / 2));
  }
  if (info->positions == PTQ_POSITIONS_ALIBI)
    ws->alibi = ptq_take(base, &at, n * info->n_heads);
  ws->tile_q = ptq_take(base, &at, rows * info->d_head);
  ws->tile_s = ptq_take(base, &at, rows * PTQ_KEY_TILE);
  ws->tile_o = ptq_take(base, &at, rows * info->d_head);
  ws->tile_max = ptq_take(base, &at, rows);
  if (PTQ_BF16(info->compute == PTQ_COMPUTE_BF16))
    ptq_bf16_lay_out(info, n, base, &at, ws);
  return at;
}

/* Angles as transformers has them: products of frequencies and positions,
 * sines and cosines, each rounded to the model's type. */
static void fill_turns(const ptq_model_info *info, const ptq_rope *rope,
                       int64_t n, ptq_turns *turns) {
  const int64_t half = info->rotary_width / 2;
  for (int64_t i = 0; i < half; i++)
    for (int64_t t = 0; t < n; t++) {
      const ptq_real angle = (ptq_real)t * (ptq_real)rope->frequency[i];
      const ptq_real c = (ptq_real)cos((double)angle);
      const ptq_real s = (ptq_real)sin((double)angle);
      turns->cosines[t * half + i] = c * (ptq_real)rope->amplitude;
      turns->sines[t * half + i] = s * (ptq_real)rope->amplitude;
    }
}

/* To the nearest bfloat16, ties to even. */
static ptq_real to_bf16(ptq_real value) {
  float x = (float)value;
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

static void fill_alibi(const ptq_model_info *info, int64_t n, ptq_real *alibi) {
  for (int64_t h = 0; h < info->n_heads; h++) {
    ptq_real slope = (ptq_real)alibi_slope(info->n_heads, h);
    if (info->alibi_bf16) slope = to_bf16(slope);
    for (int64_t t = 0; t < n; t++) {
      const ptq_real at = (ptq_real)t;
      ptq_real bias = slope * (info->alibi_bf16 ? to_bf16(at) : at);
      if (info->alibi_bf16) bias = to_bf16(bias);
      alibi[h * n + t] = bias * (ptq_real)info->alibi_scale;
    }
  }
}

int64_t ptq_qkv_size(const ptq_model_info *info, int64_t n) {
  return ptq_padded(n * info->n_heads * info->d_head) +
         2 * ptq_padded(n * info->n_kv_heads * info->d_head);
}

ptq_qkv ptq_qkv_at(const ptq_model_info *info, int64_t n, ptq_real *p) {
  const int64_t d = info->d_head, group = info->n_heads / info->n_kv_heads;
  const int64_t q = info->n_heads * d, kv = info->n_kv_heads * d;
  ptq_real *k = NULL;
  switch (info->qkv) {
    case PTQ_QKV_CONCAT:
      return (ptq_qkv){{p, q + 2 * kv, group * d},
                       {p + q, q + 2 * kv, d},
                       {p + q + kv, q + 2 * kv, d}};
    case PTQ_QKV_GROUPED:
      return (ptq_qkv){{p, q + 2 * kv, (group + 2) * d},
                       {p + group * d, q + 2 * kv, (group + 2) * d},
                       {p + (group + 1) * d, q + 2 * kv, (group + 2) * d}};
    case PTQ_QKV_SEPARATE:
      break;
  }
  k = p + ptq_padded(n * q);
  return (ptq_qkv){
      {p, q, group * d}, {k, kv, d}, {k + ptq_padded(n * kv), kv, d}};
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
                    sizeof(ptq_real), "forward pass of a window", err));
  PTQ_TRY(ptq_alloc(&ws->tile_sum, ptq_tile_rows(info), sizeof(double),
                    "attention sums", err));
  (void)lay_out(info, max_tokens, ws->memory, ws);
  if (PTQ_BF16(info->compute == PTQ_COMPUTE_BF16))
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

int64_t ptq_workspace_bytes(const ptq_model_info *info, int64_t max_tokens) {
  ptq_workspace ws;
  const int64_t mul = PTQ_BF16(info->compute == PTQ_COMPUTE_BF16)
                          ? ptq_bf16_multiplier_bytes(info, max_tokens)
                          : 0;
  return lay_out(info, max_tokens, NULL, &ws) * (int64_t)sizeof(ptq_real) +
         mul + ptq_tile_rows(info) * (int64_t)sizeof(double) +
         (int64_t)sizeof ws;
}
