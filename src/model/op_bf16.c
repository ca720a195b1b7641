/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Products of bfloat16 in place of float32's. This file is not part of the
 * library of float64. */
#include "op_bf16.h"

#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/model/forward.h"
#include "ptq/num/vec.h"

static ptq_bf16 *take16(ptq_real *base, int64_t *at, int64_t n) {
  return (ptq_bf16 *)(void *)ptq_take(base, at, (n + 1) / 2);
}

static int64_t widest_site(const ptq_model_info *info) {
  int64_t width = 0;
  for (int s = 0; s < PTQ_SITE_COUNT; s++)
    if (ptq_site_width(info, s) > width) width = ptq_site_width(info, s);
  return width;
}

void ptq_bf16_lay_out(const ptq_model_info *info, int64_t n, ptq_real *base,
                      int64_t *at, ptq_workspace *ws) {
  const int64_t rows = ptq_tile_rows(info);
  ws->seen = ptq_take(base, at, n * widest_site(info));
  ws->k16 = take16(base, at, n * info->d_head);
  ws->v16 = take16(base, at, n * info->d_head);
  ws->tile_q16 = take16(base, at, rows * info->d_head);
  ws->tile_p16 = take16(base, at, rows * PTQ_KEY_TILE);
}

/* A multiplier's operands: the rows of a product, or the weights at hand. */
int64_t ptq_bf16_multiplier_bytes(const ptq_model_info *info,
                                  int64_t max_tokens) {
  int64_t most = max_tokens * widest_site(info);
  for (int r = 0; r < PTQ_ROLE_COUNT; r++) {
    if (!ptq_role_present(info, (ptq_role)r)) continue;
    const int64_t size = ptq_role_outputs(info, (ptq_role)r) *
                         ptq_role_inputs(info, (ptq_role)r);
    if (size > most) most = size;
  }
  return ptq_multiplier_bytes(most);
}

ptq_status ptq_bf16_pack(ptq_linear *l, ptq_multiplier *mul, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (l->packed == NULL)
    PTQ_TRY(ptq_packed_create(mul, l->out, l->in, &l->packed, err));
  PTQ_TRY(ptq_packed_set(l->packed, mul, l->weight, err));
done:
  return rc;
}

static int64_t slice_count(const ptq_model_info *info) {
  return (info->vocab + PTQ_HEAD_SLICE - 1) / PTQ_HEAD_SLICE;
}

static int64_t slice_rows(const ptq_model_info *info, int64_t i) {
  const int64_t left = info->vocab - i * PTQ_HEAD_SLICE;
  return left < PTQ_HEAD_SLICE ? left : PTQ_HEAD_SLICE;
}

ptq_status ptq_bf16_pack_head(const ptq_model_info *info, ptq_multiplier *mul,
                              ptq_head *head, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = slice_count(info), d = info->d_model;
  PTQ_TRY(ptq_alloc(&head->slices, n, sizeof *head->slices, "head", err));
  head->n_slices = n;
  for (int64_t i = 0; i < n; i++) {
    PTQ_TRY(
        ptq_packed_create(mul, slice_rows(info, i), d, &head->slices[i], err));
    PTQ_TRY(ptq_packed_set(head->slices[i], mul,
                           head->weight + i * PTQ_HEAD_SLICE * d, err));
  }
  ptq_free(head->weight);
  head->weight = NULL;
done:
  return rc;
}

int64_t ptq_bf16_block_bytes(const ptq_model_info *info) {
  int64_t bytes = 0;
  for (int l = 0; l < ptq_layer_count(info); l++)
    if (ptq_layer_present(info, l))
      bytes += ptq_packed_bytes(ptq_role_outputs(info, ptq_layer_role(l)),
                                ptq_role_inputs(info, ptq_layer_role(l)));
  return bytes + ptq_packed_bytes(info->n_experts, info->d_model);
}

int64_t ptq_bf16_head_bytes(const ptq_model_info *info) {
  int64_t bytes = 0;
  for (int64_t i = 0; i < slice_count(info); i++)
    bytes += ptq_packed_bytes(slice_rows(info, i), info->d_model);
  return bytes;
}

ptq_status ptq_bf16_linear(const ptq_linear *l, const ptq_real *x, int64_t n,
                           ptq_workspace *ws, ptq_real *y, ptq_err *err) {
  PTQ_ASSERT(l->packed != NULL);
  return ptq_bf16_apply(ws->mul, n, x, l->packed, y, err);
}

ptq_status ptq_bf16_head(const ptq_model_info *info, const ptq_head *head,
                         ptq_multiplier *mul, const ptq_real *x, int64_t n,
                         int64_t v0, int64_t v1, ptq_real *y, ptq_err *err) {
  const int64_t i = v0 / PTQ_HEAD_SLICE;
  PTQ_ASSERT(v0 == i * PTQ_HEAD_SLICE && v1 == v0 + slice_rows(info, i));
  return ptq_bf16_apply(mul, n, x, head->slices[i], y, err);
}

const ptq_real *ptq_bf16_seen(const ptq_real *x, int64_t size,
                              ptq_workspace *ws) {
  ptq_vec_round_bf16(x, size, ws->seen);
  return ws->seen;
}

/* A key head's rows of a branch, by position. */
static void round_head(const ptq_tile *t, const ptq_heads *from, ptq_bf16 *to) {
  const int64_t d = t->info->d_head, end = t->branch.shared + t->branch.n;
  for (int64_t at = 0; at < end; at++)
    ptq_vec_to_bf16(from->p + ptq_branch_row(&t->branch, at) * from->row +
                        t->kv * from->step,
                    d, to + at * d);
}

void ptq_bf16_round_tile(const ptq_tile *t, const ptq_qkv *x,
                         const ptq_workspace *ws) {
  if (t->t0 == t->branch.shared) {
    round_head(t, &x->k, ws->k16);
    round_head(t, &x->v, ws->v16);
  }
  ptq_vec_to_bf16(ws->tile_q, t->rows * t->info->d_head, ws->tile_q16);
}

ptq_status ptq_bf16_score(const ptq_tile *t, const ptq_workspace *ws,
                          int64_t k0, int64_t width, ptq_err *err) {
  const int64_t d = t->info->d_head;
  return ptq_bf16_nt(ws->mul, t->rows, width, d, (float)t->info->attn_scale,
                     ws->tile_q16, ws->k16 + k0 * d, ws->tile_s, err);
}

void ptq_bf16_hide(const ptq_workspace *ws, int64_t row, int64_t low,
                   int64_t high, int64_t width) {
  ptq_bf16 *p = ws->tile_p16 + row * width;
  memset(p, 0, (size_t)low * sizeof *p);
  memset(p + high, 0, (size_t)(width - high) * sizeof *p);
}

double ptq_bf16_exp(const ptq_workspace *ws, const ptq_real *s, int64_t n,
                    ptq_real top, int64_t at) {
  return ptq_vec_exp_bf16(s, n, top, ws->tile_p16 + at);
}

ptq_status ptq_bf16_gather(const ptq_tile *t, const ptq_workspace *ws,
                           int64_t k0, int64_t width, ptq_err *err) {
  const int64_t d = t->info->d_head;
  return ptq_bf16_nn(ws->mul, t->rows, d, width, ws->tile_p16, ws->v16 + k0 * d,
                     k0 > t->first, ws->tile_o, err);
}
