/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The forward pass of a block, composed of the operations of op.h. */
#include "ptq/model/forward.h"

#include <string.h>

#include "op_bf16.h"
#include "ptq/base/check.h"
#include "ptq/num/kernels.h"
#include "tape.h"

/* One window on its way through a block. */
typedef struct pass {
  const ptq_model_info *info; /* borrowed, as all */
  const ptq_block *b;
  int64_t n;
  ptq_workspace *ws;
  ptq_tape t; /* what is to be kept; NULL members: nothing */
  const ptq_forward_hook *hook;
  ptq_site stop;
} pass;

/* y = x W' + bias of n rows, shown to the hook before the bias. */
static ptq_status apply(const pass *p, int layer, const ptq_real *x, int64_t n,
                        ptq_real *y, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_linear *l = &p->b->linear[layer];
  PTQ_TRY(ptq_linear_product(l, x, n, p->ws, y, err));
  if (p->hook != NULL && p->hook->output != NULL)
    PTQ_TRY(p->hook->output(p->hook->ctx, layer, y, n, l->out, err));
  ptq_linear_bias(l, n, y);
done:
  return rc;
}

/* Shows the hook what the products of a site take. */
static ptq_status show(const pass *p, int site, const ptq_real *x, int64_t n,
                       ptq_err *err) {
  if (p->hook == NULL || p->hook->input == NULL) return PTQ_OK;
  const int64_t width = ptq_site_width(p->info, site);
  if (PTQ_BF16(p->ws->mul != NULL)) x = ptq_bf16_seen(x, n * width, p->ws);
  return p->hook->input(p->hook->ctx, site, x, n, width, err);
}

/* norm(h) in ws->x, or h itself where the block has no such norm. */
static const ptq_real *normed(const pass *p, ptq_norm_place place,
                              const ptq_real *h) {
  if (!p->info->has_norm[place]) return h;
  ptq_norm_rows(p->info, &p->b->norm[place], h, p->n, p->info->d_model,
                p->ws->x);
  return p->ws->x;
}

/* x = norm(x) where the block has such a norm; x goes on the tape before. */
static void norm_in_place(const pass *p, ptq_norm_place place, ptq_real *kept,
                          ptq_real *x) {
  const int64_t size = p->n * p->info->d_model;
  if (kept != NULL) memcpy(kept, x, (size_t)size * sizeof *x);
  if (p->info->has_norm[place])
    ptq_norm_rows(p->info, &p->b->norm[place], x, p->n, p->info->d_model, x);
}

/* Queries, keys and values in ws->qkv, ready to meet. */
static ptq_status project(const pass *p, const ptq_real *x, ptq_qkv *out,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = p->info;
  ptq_real *raw = p->t.qkv != NULL ? p->t.qkv : p->ws->qkv;
  const ptq_qkv to = ptq_qkv_at(info, p->n, raw);
  if (info->qkv == PTQ_QKV_SEPARATE) {
    PTQ_TRY(apply(p, PTQ_ROLE_Q, x, p->n, to.q.p, err));
    PTQ_TRY(apply(p, PTQ_ROLE_K, x, p->n, to.k.p, err));
    PTQ_TRY(apply(p, PTQ_ROLE_V, x, p->n, to.v.p, err));
  } else {
    PTQ_TRY(apply(p, PTQ_ROLE_QKV, x, p->n, raw, err));
  }
  if (raw != p->ws->qkv)
    memcpy(p->ws->qkv, raw, (size_t)ptq_qkv_size(info, p->n) * sizeof *raw);
  *out = ptq_qkv_at(info, p->n, p->ws->qkv);
  ptq_ready(info, p->b, p->n, p->ws, out);
done:
  return rc;
}

/* ws->y = attention(x) */
static ptq_status attend(const pass *p, const ptq_real *x, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_soft soft = {p->t.top, p->t.share};
  ptq_real *mix = p->t.mix != NULL ? p->t.mix : p->ws->mix;
  ptq_qkv qkv;
  PTQ_TRY(show(p, PTQ_SITE_ATTN_IN, x, p->n, err));
  if (p->stop == PTQ_SITE_ATTN_IN) return PTQ_OK;
  PTQ_TRY(project(p, x, &qkv, err));
  PTQ_TRY(ptq_attention(p->info, p->info->block_flags[p->b->index], p->n, &qkv,
                        p->ws, mix, soft, err));
  PTQ_TRY(show(p, PTQ_SITE_ATTN_OUT, mix, p->n, err));
  if (p->stop == PTQ_SITE_ATTN_OUT) return PTQ_OK;
  PTQ_TRY(apply(p, PTQ_ROLE_O, mix, p->n, p->ws->y, err));
done:
  return rc;
}

/* The inner activations [n, d_ff] of an MLP from its input: of expert `expert`,
 * whose tokens stand on the tape from row `first` on. */
static ptq_status widen(const pass *p, int expert, int64_t first,
                        const ptq_real *x, int64_t n, ptq_real **inner,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = p->info;
  const ptq_workspace *ws = p->ws;
  const bool kept = p->t.gate != NULL || p->t.up != NULL;
  const ptq_tape scratch = {
      .gate = info->fused_gate_up ? ws->gate_up : ws->gate, .up = ws->up};
  const ptq_inner in = kept ? ptq_tape_inner(info, &p->t, first)
                            : ptq_tape_inner(info, &scratch, 0);
  if (info->fused_gate_up) {
    PTQ_TRY(
        apply(p, ptq_layer_of(PTQ_ROLE_GATE_UP, expert), x, n, in.gate, err));
  } else {
    if (info->has_gate)
      PTQ_TRY(
          apply(p, ptq_layer_of(PTQ_ROLE_GATE, expert), x, n, in.gate, err));
    PTQ_TRY(apply(p, ptq_layer_of(PTQ_ROLE_UP, expert), x, n, in.up, err));
  }
  *inner = info->has_gate ? ws->gate : ws->up;
  ptq_activate(info, n, &in, *inner);
done:
  return rc;
}

/* y = MLP(x), or an expert's. */
static ptq_status run_mlp(const pass *p, int expert, int64_t first,
                          const ptq_real *x, int64_t n, ptq_real *y,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_real *inner = NULL;
  PTQ_TRY(show(p, ptq_site_of(PTQ_SITE_MLP_IN, expert), x, n, err));
  if (p->stop == PTQ_SITE_MLP_IN) return PTQ_OK;
  PTQ_TRY(widen(p, expert, first, x, n, &inner, err));
  PTQ_TRY(show(p, ptq_site_of(PTQ_SITE_MLP_OUT, expert), inner, n, err));
  if (p->stop == PTQ_SITE_MLP_OUT) return PTQ_OK;
  PTQ_TRY(apply(p, ptq_layer_of(PTQ_ROLE_DOWN, expert), inner, n, y, err));
done:
  return rc;
}

/* ws->y += what an expert gave its m tokens in ws->member_y, in their share. */
static void give(const pass *p, int64_t first, int64_t m) {
  const ptq_workspace *ws = p->ws;
  const int64_t d = p->info->d_model;
  if (p->t.given != NULL)
    memcpy(p->t.given + first * d, ws->member_y,
           (size_t)(m * d) * sizeof *ws->member_y);
  for (int64_t i = 0; i < m; i++)
    PTQ_VEC(scale, ws->member_share[i], d, ws->member_y + i * d);
  ptq_rows_add(ws->member_y, d, ws->members, m, ws->y);
}

/* ws->y = the sum of what each token's experts give, in their order. */
static ptq_status run_experts(const pass *p, const ptq_real *x, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = p->info;
  ptq_workspace *ws = p->ws;
  int64_t first = 0;
  if (p->hook != NULL && p->hook->router != NULL)
    PTQ_TRY(p->hook->router(p->hook->ctx, x, p->n, err));
  PTQ_TRY(ptq_route(info, &p->b->router, x, p->n, ws, err));
  memset(ws->y, 0, (size_t)(p->n * info->d_model) * sizeof *ws->y);
  for (int e = 0; e < (int)info->n_experts; e++) {
    const int64_t m = ptq_route_members(info, e, p->n, ws);
    if (m == 0) continue;
    ptq_rows_gather(x, info->d_model, ws->members, m, ws->member_x);
    if (p->hook != NULL && p->hook->routed != NULL)
      PTQ_TRY(p->hook->routed(p->hook->ctx, e, ws->members, m, err));
    PTQ_TRY(run_mlp(p, e, first, ws->member_x, m, ws->member_y, err));
    if (p->stop == PTQ_SITE_COUNT) give(p, first, m);
    first += m;
  }
done:
  return rc;
}

/* ws->y = MLP(x) */
static ptq_status think(const pass *p, const ptq_real *x, ptq_err *err) {
  if (p->info->n_experts > 0) return run_experts(p, x, err);
  return run_mlp(p, 0, 0, x, p->n, p->ws->y, err);
}

static ptq_status walk(const pass *p, ptq_real *h, ptq_err *err) {
  const ptq_model_info *info = p->info;
  const int64_t size = p->n * info->d_model;
  const ptq_real *x = normed(p, PTQ_NORM_ATTN_IN, h);
  ptq_status rc = attend(p, x, err);
  if (rc != PTQ_OK || p->stop == PTQ_SITE_ATTN_IN ||
      p->stop == PTQ_SITE_ATTN_OUT)
    return rc;
  norm_in_place(p, PTQ_NORM_ATTN_ADD, p->t.attn_add, p->ws->y);
  /* A parallel MLP takes the stream from before attention was added. */
  if (info->parallel && info->has_norm[PTQ_NORM_MLP_IN])
    x = normed(p, PTQ_NORM_MLP_IN, h);
  PTQ_VEC(add, p->ws->y, size, h);
  norm_in_place(p, PTQ_NORM_ATTN_SUM, p->t.mid, h);
  if (!info->parallel) x = normed(p, PTQ_NORM_MLP_IN, h);
  rc = think(p, x, err);
  if (rc != PTQ_OK || p->stop == PTQ_SITE_MLP_IN || p->stop == PTQ_SITE_MLP_OUT)
    return rc;
  norm_in_place(p, PTQ_NORM_MLP_ADD, p->t.mlp_add, p->ws->y);
  PTQ_VEC(add, p->ws->y, size, h);
  norm_in_place(p, PTQ_NORM_MLP_SUM, p->t.end, h);
  return PTQ_OK;
}

ptq_status ptq_block_forward(const ptq_model_info *info, const ptq_block *b,
                             ptq_real *h, int64_t n, ptq_workspace *ws,
                             const ptq_forward_hook *hook, ptq_site stop,
                             ptq_err *err) {
  PTQ_ASSERT(n <= ws->max_tokens);
  if (n == 0) return PTQ_OK;
  const pass p = {
      .info = info, .b = b, .n = n, .ws = ws, .hook = hook, .stop = stop};
  return walk(&p, h, err);
}

ptq_status ptq_block_record(const ptq_model_info *info, const ptq_block *b,
                            ptq_real *h, int64_t n, ptq_workspace *ws,
                            const ptq_tape *t, const ptq_forward_hook *hook,
                            ptq_err *err) {
  PTQ_ASSERT(n <= ws->max_tokens);
  if (n == 0) return PTQ_OK;
  const pass p = {.info = info,
                  .b = b,
                  .n = n,
                  .ws = ws,
                  .t = *t,
                  .hook = hook,
                  .stop = PTQ_SITE_COUNT};
  memcpy(t->h, h, (size_t)(n * info->d_model) * sizeof *h);
  return walk(&p, h, err);
}

bool ptq_bundle_may_share(const ptq_model_info *info, int64_t n) {
  return info->rope_long_from == 0 || n <= info->rope_long_from;
}

ptq_status ptq_bundle_forward(const ptq_model_info *info, const ptq_block *b,
                              ptq_real *h, int64_t n,
                              const ptq_branch *branches, int64_t n_branches,
                              ptq_workspace *ws, ptq_err *err) {
  ws->branches = branches;
  ws->n_branches = n_branches;
  const ptq_status rc =
      ptq_block_forward(info, b, h, n, ws, NULL, PTQ_SITE_COUNT, err);
  ws->branches = NULL;
  ws->n_branches = 0;
  return rc;
}

ptq_status ptq_module_forward(const ptq_model_info *info, const ptq_block *b,
                              ptq_site site, const ptq_real *x, int64_t n,
                              ptq_workspace *ws, const ptq_forward_hook *hook,
                              ptq_err *err) {
  PTQ_ASSERT(site == PTQ_SITE_ATTN_IN || site == PTQ_SITE_MLP_IN);
  PTQ_ASSERT(n <= ws->max_tokens);
  if (n == 0) return PTQ_OK;
  const pass p = {.info = info,
                  .b = b,
                  .n = n,
                  .ws = ws,
                  .hook = hook,
                  .stop = PTQ_SITE_COUNT};
  return site == PTQ_SITE_ATTN_IN ? attend(&p, x, err) : think(&p, x, err);
}

/* The attention half again, from t.h to t.mid. */
static void replay_attention(const pass *p) {
  const int64_t size = p->n * p->info->d_model;
  ptq_err err = {0};
  const ptq_real *x = normed(p, PTQ_NORM_ATTN_IN, p->t.h);
  const ptq_status rc = attend(p, x, &err);
  PTQ_ASSERT(rc == PTQ_OK); /* float32, no hook */
  norm_in_place(p, PTQ_NORM_ATTN_ADD, p->t.attn_add, p->ws->y);
  memcpy(p->t.mid, p->t.h, (size_t)size * sizeof *p->t.mid);
  PTQ_VEC(add, p->ws->y, size, p->t.mid);
}

/* The MLP half again, from t.mid on; h[n, d_model] is scratch. */
static void replay_mlp(const pass *p, ptq_real *h) {
  const ptq_model_info *info = p->info;
  const int64_t size = p->n * info->d_model;
  ptq_err err = {0};
  ptq_real *inner = NULL;
  memcpy(h, p->t.mid, (size_t)size * sizeof *h);
  norm_in_place(p, PTQ_NORM_ATTN_SUM, NULL, h);
  const ptq_norm *norm = ptq_site_norm(info, p->b, PTQ_SITE_MLP_IN);
  const ptq_real *x = info->parallel ? p->t.h : h;
  if (norm != NULL) {
    ptq_norm_rows(info, norm, x, p->n, info->d_model, p->ws->x);
    x = p->ws->x;
  }
  const bool whole =
      p->t.mlp_add != NULL || p->t.end != NULL || p->t.given != NULL;
  const ptq_status rc =
      whole ? think(p, x, &err) : widen(p, 0, 0, x, p->n, &inner, &err);
  PTQ_ASSERT(rc == PTQ_OK); /* float32, no hook */
  if (!whole) return;
  norm_in_place(p, PTQ_NORM_MLP_ADD, p->t.mlp_add, p->ws->y);
  PTQ_VEC(add, p->ws->y, size, h);
  norm_in_place(p, PTQ_NORM_MLP_SUM, p->t.end, h);
}

ptq_tape ptq_block_replay(const ptq_model_info *info, const ptq_block *b,
                          int64_t n, ptq_workspace *ws, const ptq_tape *kept,
                          const ptq_tape *spare, ptq_real *scratch) {
  const pass p = {.info = info,
                  .b = b,
                  .n = n,
                  .ws = ws,
                  .t = ptq_tape_completed(kept, spare),
                  .stop = PTQ_SITE_COUNT};
  if (kept->qkv == NULL) replay_attention(&p);
  if (kept->gate == NULL && kept->up == NULL) replay_mlp(&p, scratch);
  return p.t;
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
  double linear = 2.0 * (double)(info->n_experts * info->d_model);
  for (int r = 0; r < PTQ_ROLE_COUNT; r++) {
    if (!ptq_role_present(info, (ptq_role)r)) continue;
    const bool chosen = r >= PTQ_ROLE_GATE && info->n_experts > 0;
    linear += (chosen ? (double)info->experts_used : 1.0) * 2.0 *
              (double)ptq_role_outputs(info, (ptq_role)r) *
              (double)ptq_role_inputs(info, (ptq_role)r);
  }
  double total = (double)info->n_blocks * (double)n * linear;
  for (int64_t b = 0; b < info->n_blocks; b++)
    total += 4.0 * seen_pairs(info, info->block_flags[b], n) *
             (double)(info->n_heads * info->d_head);
  if (with_head)
    total += 2.0 * (double)n * (double)info->d_model * (double)info->vocab;
  return total;
}
