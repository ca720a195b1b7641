/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/model/forward.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"
#include "workspace.h"

static void norm_rows(const ptq_model_info *info, const float *w,
                      const float *b, const float *x, int64_t n, float *y) {
  const int64_t d = info->d_model;
  for (int64_t i = 0; i < n; i++) {
    const double square = ptq_vec_sum_sq(x + i * d, d) / (double)d;
    double mean = 0.0, variance = square;
    if (info->norm == PTQ_NORM_LAYER) {
      mean = ptq_vec_sum(x + i * d, d) / (double)d;
      variance = square - mean * mean;
    }
    const double scale = 1.0 / sqrt(variance + info->norm_eps);
    ptq_vec_normalize(x + i * d, d, (float)mean, (float)scale, w, b, y + i * d);
  }
}

static void add_rows(const float *bias, int64_t n, int64_t width, float *y) {
  if (bias == NULL) return;
  for (int64_t i = 0; i < n; i++) ptq_vec_add(bias, width, y + i * width);
}

/* y = x W' + bias, shown to the hook before the bias. */
static ptq_status apply(const ptq_block *b, ptq_role role, const float *x,
                        int64_t n, const ptq_forward_hook *hook, float *y,
                        ptq_err *err) {
  const ptq_linear *l = &b->linear[role];
  ptq_sgemm_nt(n, l->out, l->in, 1.0F, x, l->in, l->weight, l->in, 0.0F, y,
               l->out);
  if (hook != NULL && hook->output != NULL) {
    const ptq_status rc = hook->output(hook->ctx, role, y, n, l->out, err);
    if (rc != PTQ_OK) return rc;
  }
  add_rows(l->bias, n, l->out, y);
  return PTQ_OK;
}

static ptq_status show(const ptq_model_info *info, ptq_site site,
                       const float *x, int64_t n, const ptq_forward_hook *hook,
                       ptq_err *err) {
  if (hook == NULL || hook->input == NULL) return PTQ_OK;
  return hook->input(hook->ctx, site, x, n, ptq_site_width(info, site), err);
}

/* ws->y = attention(ws->x) */
static ptq_status attend(const ptq_model_info *info, const ptq_block *b,
                         int64_t n, ptq_workspace *ws,
                         const ptq_forward_hook *hook, ptq_site stop,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(show(info, PTQ_SITE_ATTN_IN, ws->x, n, hook, err));
  if (stop == PTQ_SITE_ATTN_IN) return PTQ_OK;
  PTQ_TRY(apply(b, PTQ_ROLE_Q, ws->x, n, hook, ws->q, err));
  PTQ_TRY(apply(b, PTQ_ROLE_K, ws->x, n, hook, ws->k, err));
  PTQ_TRY(apply(b, PTQ_ROLE_V, ws->x, n, hook, ws->v, err));
  ptq_attention(info, n, ws);
  PTQ_TRY(show(info, PTQ_SITE_ATTN_OUT, ws->mix, n, hook, err));
  if (stop == PTQ_SITE_ATTN_OUT) return PTQ_OK;
  PTQ_TRY(apply(b, PTQ_ROLE_O, ws->mix, n, hook, ws->y, err));
done:
  return rc;
}

/* ws->y = MLP(ws->x) */
static ptq_status think(const ptq_model_info *info, const ptq_block *b,
                        int64_t n, ptq_workspace *ws,
                        const ptq_forward_hook *hook, ptq_site stop,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  float *inner = info->has_gate ? ws->gate : ws->up;
  PTQ_TRY(show(info, PTQ_SITE_MLP_IN, ws->x, n, hook, err));
  if (stop == PTQ_SITE_MLP_IN) return PTQ_OK;
  if (info->has_gate)
    PTQ_TRY(apply(b, PTQ_ROLE_GATE, ws->x, n, hook, ws->gate, err));
  PTQ_TRY(apply(b, PTQ_ROLE_UP, ws->x, n, hook, ws->up, err));
  if (info->has_gate)
    ptq_vec_silu_mul(ws->up, n * info->d_ff, inner);
  else
    ptq_vec_relu(n * info->d_ff, inner);
  PTQ_TRY(show(info, PTQ_SITE_MLP_OUT, inner, n, hook, err));
  if (stop == PTQ_SITE_MLP_OUT) return PTQ_OK;
  PTQ_TRY(apply(b, PTQ_ROLE_DOWN, inner, n, hook, ws->y, err));
done:
  return rc;
}

ptq_status ptq_block_forward(const ptq_model_info *info, const ptq_block *b,
                             float *h, int64_t n, ptq_workspace *ws,
                             const ptq_forward_hook *hook, ptq_site stop,
                             ptq_err *err) {
  /* The activations a table row may name: a gate goes with SiLU, ReLU with
   * none. */
  PTQ_ASSERT(info->has_gate == (info->act == PTQ_ACT_SILU));
  PTQ_ASSERT(n <= ws->max_tokens);
  if (n == 0) return PTQ_OK;
  norm_rows(info, b->norm1_w, b->norm1_b, h, n, ws->x);
  ptq_status rc = attend(info, b, n, ws, hook, stop, err);
  if (rc != PTQ_OK || stop == PTQ_SITE_ATTN_IN || stop == PTQ_SITE_ATTN_OUT)
    return rc;
  ptq_vec_add(ws->y, n * info->d_model, h);
  norm_rows(info, b->norm2_w, b->norm2_b, h, n, ws->x);
  rc = think(info, b, n, ws, hook, stop, err);
  if (rc != PTQ_OK || stop == PTQ_SITE_MLP_IN || stop == PTQ_SITE_MLP_OUT)
    return rc;
  ptq_vec_add(ws->y, n * info->d_model, h);
  return PTQ_OK;
}

ptq_status ptq_module_forward(const ptq_model_info *info, const ptq_block *b,
                              ptq_site site, const float *x, int64_t n,
                              ptq_workspace *ws, const ptq_forward_hook *hook,
                              ptq_err *err) {
  PTQ_ASSERT(site == PTQ_SITE_ATTN_IN || site == PTQ_SITE_MLP_IN);
  PTQ_ASSERT(n <= ws->max_tokens);
  if (n == 0) return PTQ_OK;
  memcpy(ws->x, x, (size_t)(n * info->d_model) * sizeof *x);
  return site == PTQ_SITE_ATTN_IN
             ? attend(info, b, n, ws, hook, PTQ_SITE_COUNT, err)
             : think(info, b, n, ws, hook, PTQ_SITE_COUNT, err);
}

void ptq_head_norm(const ptq_model_info *info, const ptq_head *head, float *h,
                   int64_t n) {
  norm_rows(info, head->norm_w, head->norm_b, h, n, h);
}

void ptq_head_logits(const ptq_model_info *info, const ptq_head *head,
                     const float *hn, int64_t n, int64_t v0, int64_t v1,
                     float *logits) {
  const int64_t d = info->d_model;
  ptq_sgemm_nt(n, v1 - v0, d, 1.0F, hn, d, head->weight + v0 * d, d, 0.0F,
               logits, v1 - v0);
}

double ptq_forward_flops(const ptq_model_info *info, int64_t n,
                         bool with_head) {
  double linear = 0.0;
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    if (ptq_role_present(info, (ptq_role)r))
      linear += 2.0 * (double)ptq_role_outputs(info, (ptq_role)r) *
                (double)ptq_role_inputs(info, (ptq_role)r);
  /* Scores and their product with values, each token with itself and those
   * before it. */
  const double pairs = 0.5 * (double)n * ((double)n + 1.0);
  const double attention = 4.0 * pairs * (double)(info->n_heads * info->d_head);
  double total = (double)info->n_blocks * ((double)n * linear + attention);
  if (with_head)
    total += 2.0 * (double)n * (double)info->d_model * (double)info->vocab;
  return total;
}
