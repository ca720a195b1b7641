/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/model/forward.h"

#include <string.h>

#include "ptq/base/check.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"
#include "workspace.h"

static void add_rows(const float *bias, int64_t n, int64_t width, float *y) {
  if (bias == NULL) return;
  for (int64_t i = 0; i < n; i++) ptq_vec_add(bias, width, y + i * width);
}

/* y = x W' */
static ptq_status multiply(const ptq_linear *l, const float *x, int64_t n,
                           ptq_workspace *ws, float *y, ptq_err *err) {
  PTQ_ASSERT((l->packed != NULL) == (ws->mul != NULL));
  if (ws->mul != NULL) return ptq_bf16_apply(ws->mul, n, x, l->packed, y, err);
  ptq_sgemm_nt(n, l->out, l->in, 1.0F, x, l->in, l->weight, l->in, 0.0F, y,
               l->out);
  return PTQ_OK;
}

ptq_status ptq_linear_replace(ptq_linear *l, float *weight, ptq_packed *packed,
                              ptq_workspace *ws, ptq_err *err) {
  PTQ_ASSERT((packed != NULL) == (ws->mul != NULL));
  l->weight = weight;
  l->packed = packed;
  return packed != NULL ? ptq_packed_set(packed, ws->mul, weight, err) : PTQ_OK;
}

/* y = x W' + bias, shown to the hook before the bias. */
static ptq_status apply(const ptq_block *b, ptq_role role, const float *x,
                        int64_t n, ptq_workspace *ws,
                        const ptq_forward_hook *hook, float *y, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_linear *l = &b->linear[role];
  PTQ_TRY(multiply(l, x, n, ws, y, err));
  if (hook != NULL && hook->output != NULL)
    PTQ_TRY(hook->output(hook->ctx, role, y, n, l->out, err));
  add_rows(l->bias, n, l->out, y);
done:
  return rc;
}

/* Shows the hook what the products of a site take. */
static ptq_status show(const ptq_model_info *info, ptq_site site,
                       const float *x, int64_t n, ptq_workspace *ws,
                       const ptq_forward_hook *hook, ptq_err *err) {
  if (hook == NULL || hook->input == NULL) return PTQ_OK;
  const int64_t width = ptq_site_width(info, site);
  if (ws->mul != NULL) {
    ptq_vec_round_bf16(x, n * width, ws->seen);
    x = ws->seen;
  }
  return hook->input(hook->ctx, site, x, n, width, err);
}

/* norm(h) in ws->x, or h itself where the block has no such norm. */
static const float *normed(const ptq_model_info *info, const ptq_block *b,
                           ptq_norm_place place, const float *h, int64_t n,
                           ptq_workspace *ws) {
  if (!info->has_norm[place]) return h;
  ptq_norm_rows(info, &b->norm[place], h, n, info->d_model, ws->x);
  return ws->x;
}

/* x = norm(x) where the block has such a norm. */
static void norm_in_place(const ptq_model_info *info, const ptq_block *b,
                          ptq_norm_place place, int64_t n, float *x) {
  if (info->has_norm[place])
    ptq_norm_rows(info, &b->norm[place], x, n, info->d_model, x);
}

/* Norms of `per_kv` heads beside one another for each key head, or of all of
 * a token's at once. */
static void norm_heads(const ptq_model_info *info, const ptq_block *b,
                       ptq_norm_place place, const ptq_heads *heads,
                       int64_t per_kv, int64_t n) {
  if (!info->has_norm[place]) return;
  const int64_t width = ptq_norm_width(info, place);
  for (int64_t t = 0; t < n; t++) {
    float *row = heads->p + t * heads->row;
    if (info->qk_norm_wide) {
      ptq_norm_rows(info, &b->norm[place], row, 1, width, row);
      continue;
    }
    for (int64_t kv = 0; kv < info->n_kv_heads; kv++) {
      float *x = row + kv * heads->step;
      ptq_norm_rows(info, &b->norm[place], x, per_kv, width, x);
    }
  }
}

static void clip(float limit, int64_t n, float *x) {
  for (int64_t i = 0; i < n; i++)
    x[i] = x[i] > limit ? limit : x[i] < -limit ? -limit : x[i];
}

static void clip_heads(const ptq_model_info *info, int64_t n,
                       ptq_workspace *ws) {
  const float limit = (float)info->qkv_clip;
  PTQ_ASSERT(info->qkv == PTQ_QKV_SEPARATE);
  clip(limit, n * ws->q.row, ws->q.p);
  clip(limit, n * ws->k.row, ws->k.p);
  clip(limit, n * ws->v.row, ws->v.p);
}

static ptq_status project(const ptq_model_info *info, const ptq_block *b,
                          const float *x, int64_t n, ptq_workspace *ws,
                          const ptq_forward_hook *hook, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_workspace_heads(info, n, ws);
  if (info->qkv == PTQ_QKV_SEPARATE) {
    PTQ_TRY(apply(b, PTQ_ROLE_Q, x, n, ws, hook, ws->q.p, err));
    PTQ_TRY(apply(b, PTQ_ROLE_K, x, n, ws, hook, ws->k.p, err));
    PTQ_TRY(apply(b, PTQ_ROLE_V, x, n, ws, hook, ws->v.p, err));
  } else {
    PTQ_TRY(apply(b, PTQ_ROLE_QKV, x, n, ws, hook, ws->qkv, err));
  }
  if (info->qkv_clip > 0.0) clip_heads(info, n, ws);
  const int64_t group = info->n_heads / info->n_kv_heads;
  norm_heads(info, b, PTQ_NORM_Q, &ws->q, group, n);
  norm_heads(info, b, PTQ_NORM_K, &ws->k, 1, n);
done:
  return rc;
}

/* ws->y = attention(x) */
static ptq_status attend(const ptq_model_info *info, const ptq_block *b,
                         const float *x, int64_t n, ptq_workspace *ws,
                         const ptq_forward_hook *hook, ptq_site stop,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(show(info, PTQ_SITE_ATTN_IN, x, n, ws, hook, err));
  if (stop == PTQ_SITE_ATTN_IN) return PTQ_OK;
  PTQ_TRY(project(info, b, x, n, ws, hook, err));
  PTQ_TRY(ptq_attention(info, info->block_flags[b->index], n, ws, err));
  PTQ_TRY(show(info, PTQ_SITE_ATTN_OUT, ws->mix, n, ws, hook, err));
  if (stop == PTQ_SITE_ATTN_OUT) return PTQ_OK;
  PTQ_TRY(apply(b, PTQ_ROLE_O, ws->mix, n, ws, hook, ws->y, err));
done:
  return rc;
}

static void activate(ptq_act_kind act, int64_t n, float *x) {
  switch (act) {
    case PTQ_ACT_SILU:
      ptq_vec_silu(n, x);
      return;
    case PTQ_ACT_RELU:
      ptq_vec_relu(n, x);
      return;
    case PTQ_ACT_GELU:
      ptq_vec_gelu(n, x);
      return;
    case PTQ_ACT_GELU_TANH:
      ptq_vec_gelu_tanh(n, x);
      return;
    case PTQ_ACT_COUNT:
      break;
  }
  ptq_check_failed("an activation without a kernel", __FILE__, __LINE__);
}

/* gate = act(gate) * up */
static void open_gate(ptq_act_kind act, const float *up, int64_t n,
                      float *gate) {
  if (act == PTQ_ACT_SILU) {
    ptq_vec_silu_mul(up, n, gate);
    return;
  }
  activate(act, n, gate);
  ptq_vec_multiply(up, n, gate);
}

/* The MLP's inner activations [n, d_ff] from its input. */
static ptq_status widen(const ptq_model_info *info, const ptq_block *b,
                        const float *x, int64_t n, ptq_workspace *ws,
                        const ptq_forward_hook *hook, float **inner,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t ff = info->d_ff;
  *inner = info->has_gate ? ws->gate : ws->up;
  if (info->fused_gate_up) {
    PTQ_TRY(apply(b, PTQ_ROLE_GATE_UP, x, n, ws, hook, ws->gate_up, err));
    for (int64_t i = 0; i < n; i++) {
      const float *row = ws->gate_up + i * 2 * ff;
      memcpy(ws->gate + i * ff, row, (size_t)ff * sizeof *row);
      open_gate(info->act, row + ff, ff, ws->gate + i * ff);
    }
    return PTQ_OK;
  }
  if (info->has_gate)
    PTQ_TRY(apply(b, PTQ_ROLE_GATE, x, n, ws, hook, ws->gate, err));
  PTQ_TRY(apply(b, PTQ_ROLE_UP, x, n, ws, hook, ws->up, err));
  if (info->has_gate)
    open_gate(info->act, ws->up, n * ff, ws->gate);
  else
    activate(info->act, n * ff, ws->up);
done:
  return rc;
}

/* ws->y = MLP(x) */
static ptq_status think(const ptq_model_info *info, const ptq_block *b,
                        const float *x, int64_t n, ptq_workspace *ws,
                        const ptq_forward_hook *hook, ptq_site stop,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  float *inner = NULL;
  PTQ_TRY(show(info, PTQ_SITE_MLP_IN, x, n, ws, hook, err));
  if (stop == PTQ_SITE_MLP_IN) return PTQ_OK;
  PTQ_TRY(widen(info, b, x, n, ws, hook, &inner, err));
  PTQ_TRY(show(info, PTQ_SITE_MLP_OUT, inner, n, ws, hook, err));
  if (stop == PTQ_SITE_MLP_OUT) return PTQ_OK;
  PTQ_TRY(apply(b, PTQ_ROLE_DOWN, inner, n, ws, hook, ws->y, err));
done:
  return rc;
}

ptq_status ptq_block_forward(const ptq_model_info *info, const ptq_block *b,
                             float *h, int64_t n, ptq_workspace *ws,
                             const ptq_forward_hook *hook, ptq_site stop,
                             ptq_err *err) {
  PTQ_ASSERT(n <= ws->max_tokens);
  if (n == 0) return PTQ_OK;
  const float *x = normed(info, b, PTQ_NORM_ATTN_IN, h, n, ws);
  ptq_status rc = attend(info, b, x, n, ws, hook, stop, err);
  if (rc != PTQ_OK || stop == PTQ_SITE_ATTN_IN || stop == PTQ_SITE_ATTN_OUT)
    return rc;
  norm_in_place(info, b, PTQ_NORM_ATTN_ADD, n, ws->y);
  /* A parallel MLP takes the stream from before attention was added. */
  if (info->parallel && info->has_norm[PTQ_NORM_MLP_IN])
    x = normed(info, b, PTQ_NORM_MLP_IN, h, n, ws);
  ptq_vec_add(ws->y, n * info->d_model, h);
  norm_in_place(info, b, PTQ_NORM_ATTN_SUM, n, h);
  if (!info->parallel) x = normed(info, b, PTQ_NORM_MLP_IN, h, n, ws);
  rc = think(info, b, x, n, ws, hook, stop, err);
  if (rc != PTQ_OK || stop == PTQ_SITE_MLP_IN || stop == PTQ_SITE_MLP_OUT)
    return rc;
  norm_in_place(info, b, PTQ_NORM_MLP_ADD, n, ws->y);
  ptq_vec_add(ws->y, n * info->d_model, h);
  norm_in_place(info, b, PTQ_NORM_MLP_SUM, n, h);
  return PTQ_OK;
}

ptq_status ptq_module_forward(const ptq_model_info *info, const ptq_block *b,
                              ptq_site site, const float *x, int64_t n,
                              ptq_workspace *ws, const ptq_forward_hook *hook,
                              ptq_err *err) {
  PTQ_ASSERT(site == PTQ_SITE_ATTN_IN || site == PTQ_SITE_MLP_IN);
  PTQ_ASSERT(n <= ws->max_tokens);
  if (n == 0) return PTQ_OK;
  return site == PTQ_SITE_ATTN_IN
             ? attend(info, b, x, n, ws, hook, PTQ_SITE_COUNT, err)
             : think(info, b, x, n, ws, hook, PTQ_SITE_COUNT, err);
}

void ptq_head_norm(const ptq_model_info *info, const ptq_head *head, float *h,
                   int64_t n) {
  if (head->norm.w != NULL)
    ptq_norm_rows(info, &head->norm, h, n, info->d_model, h);
}

ptq_status ptq_head_logits(const ptq_model_info *info, const ptq_head *head,
                           ptq_multiplier *mul, const float *hn, int64_t n,
                           int64_t v0, int64_t v1, float *logits,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t d = info->d_model;
  PTQ_ASSERT((head->slices != NULL) == (mul != NULL));
  if (mul != NULL) {
    const int64_t end = v0 + PTQ_HEAD_SLICE;
    PTQ_ASSERT(v0 % PTQ_HEAD_SLICE == 0);
    PTQ_ASSERT(v1 == (end < info->vocab ? end : info->vocab));
    PTQ_TRY(ptq_bf16_apply(mul, n, hn, head->slices[v0 / PTQ_HEAD_SLICE],
                           logits, err));
  } else {
    ptq_sgemm_nt(n, v1 - v0, d, 1.0F, hn, d, head->weight + v0 * d, d, 0.0F,
                 logits, v1 - v0);
  }
  if (head->bias != NULL) add_rows(head->bias + v0, n, v1 - v0, logits);
  if (info->logit_cap > 0.0)
    ptq_vec_soft_cap((float)info->logit_cap, n * (v1 - v0), logits);
done:
  return rc;
}

/* Pairs of a token and one that it sees: itself and those before it, or the
 * last of a window. */
static double seen_pairs(const ptq_model_info *info, unsigned flags,
                         int64_t n) {
  const double all = 0.5 * (double)n * ((double)n + 1.0);
  if ((flags & PTQ_BLOCK_WINDOW) == 0 || n <= info->window) return all;
  const double hidden = (double)(n - info->window);
  return all - 0.5 * hidden * (hidden + 1.0);
}

double ptq_forward_flops(const ptq_model_info *info, int64_t n,
                         bool with_head) {
  double linear = 0.0;
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    if (ptq_role_present(info, (ptq_role)r))
      linear += 2.0 * (double)ptq_role_outputs(info, (ptq_role)r) *
                (double)ptq_role_inputs(info, (ptq_role)r);
  double total = (double)info->n_blocks * (double)n * linear;
  for (int64_t b = 0; b < info->n_blocks; b++)
    total += 4.0 * seen_pairs(info, info->block_flags[b], n) *
             (double)(info->n_heads * info->d_head);
  if (with_head)
    total += 2.0 * (double)n * (double)info->d_model * (double)info->vocab;
  return total;
}
