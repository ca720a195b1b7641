/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The backward pass of a block, composed of the operations of op.h: the steps
 * of forward.c from the last to the first, each with its vjp for the window
 * and its tangent for each direction. A tangent needs the window's derivative
 * from before a step in place, so it goes first there. */
#include "ptq/model/backward.h"

#include <string.h>

#include "backspace.h"
#include "ptq/base/check.h"
#include "ptq/num/kernels.h"

typedef struct pass {
  ptq_crossing c;
  const ptq_backward_hook *hook; /* borrowed */
} pass;

static ptq_real *at(const pass *p, int64_t lane, ptq_place place) {
  return p->c.bs->lanes[lane].at[place];
}

static void copy(const pass *p, ptq_place from, ptq_place to) {
  const int64_t size = p->c.n * p->c.info->d_model;
  for (int64_t j = 0; j <= p->c.k; j++)
    memcpy(at(p, j, to), at(p, j, from), (size_t)size * sizeof(ptq_real));
}

static void add(const pass *p, ptq_place from, ptq_place to) {
  const int64_t size = p->c.n * p->c.info->d_model;
  for (int64_t j = 0; j <= p->c.k; j++)
    PTQ_VEC(add, at(p, j, from), size, at(p, j, to));
}

/* Through a norm of what x holds, in place; nothing without a norm. */
static void norm_back(const pass *p, const ptq_norm *norm, ptq_place x,
                      ptq_place d) {
  const ptq_crossing *c = &p->c;
  const int64_t width = c->info->d_model;
  if (norm == NULL) return;
  for (int64_t j = 1; j <= c->k; j++)
    ptq_norm_tangent(c->info, norm, at(p, 0, x), at(p, j, x), at(p, 0, d),
                     at(p, j, d), c->n, width, at(p, j, d));
  ptq_norm_vjp(c->info, norm, at(p, 0, x), at(p, 0, d), c->n, width,
               at(p, 0, d));
}

static const ptq_norm *norm_of(const pass *p, ptq_norm_place place) {
  return p->c.info->has_norm[place] ? &p->c.b->norm[place] : NULL;
}

/* What a linear layer adds to the derivatives by its weights. */
static ptq_status weights_back(const pass *p, int layer, int64_t n, ptq_place x,
                               ptq_place dy, ptq_err *err) {
  const ptq_crossing *c = &p->c;
  const ptq_linear *l = &c->b->linear[layer];
  const ptq_backward_hook *hook = p->hook;
  if (hook != NULL) {
    const ptq_status rc = ptq_order_wait(hook->order, layer, hook->index, err);
    if (rc != PTQ_OK) return rc;
  }
  for (int64_t j = 0; j <= c->k; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    ptq_real *g = lane->g != NULL ? lane->g[layer] : NULL;
    if (g == NULL) continue;
    if (j == 0)
      ptq_linear_vjp_weight(l, at(p, 0, x), at(p, 0, dy), n, g);
    else
      ptq_linear_tangent_weight(l, at(p, 0, x), at(p, j, x), at(p, 0, dy),
                                at(p, j, dy), n, g);
  }
  if (hook != NULL) ptq_order_pass(hook->order, layer, hook->index);
  return PTQ_OK;
}

/* Through a linear layer of n rows: dx = dy W, or added to dx. */
static ptq_status linear_back(const pass *p, int layer, int64_t n, ptq_place x,
                              ptq_place dy, ptq_place dx, bool more,
                              ptq_err *err) {
  const ptq_crossing *c = &p->c;
  const ptq_linear *l = &c->b->linear[layer];
  const ptq_real beta = more ? 1.0F : 0.0F;
  if (p->hook != NULL && p->hook->layer != NULL) {
    const ptq_status rc =
        p->hook->layer(p->hook->ctx, layer, at(p, 0, x), at(p, 0, dy), n, err);
    if (rc != PTQ_OK) return rc;
  }
  ptq_linear_vjp(l, at(p, 0, dy), n, beta, at(p, 0, dx));
  for (int64_t j = 1; j <= c->k; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    ptq_linear_tangent(l, lane->e != NULL ? lane->e[layer] : NULL, at(p, 0, dy),
                       at(p, j, dy), n, beta, at(p, j, dx));
  }
  return weights_back(p, layer, n, x, dy, err);
}

static void activation_back(const pass *p, const ptq_mlp *m) {
  const ptq_crossing *c = &p->c;
  const ptq_lane *own = &c->bs->lanes[0];
  const ptq_inner x = ptq_cross_inner(own, m);
  for (int64_t j = 1; j <= c->k; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    const ptq_inner xd = ptq_cross_inner(lane, m);
    ptq_activate_tangent(c->info, m->rows, &x, &xd, own->at[PTQ_AT_DWIDE],
                         lane->at[PTQ_AT_DWIDE], &lane->dinner);
  }
  ptq_activate_vjp(c->info, m->rows, &x, own->at[PTQ_AT_DWIDE], &own->dinner);
}

/* From dy, the derivative by what an MLP gives, to dx, that by its input x. */
static ptq_status mlp_back(const pass *p, const ptq_mlp *m, ptq_place x,
                           ptq_place dy, ptq_place dx, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = p->c.info;
  const int gate_up = ptq_layer_of(PTQ_ROLE_GATE_UP, m->expert);
  const int gate = ptq_layer_of(PTQ_ROLE_GATE, m->expert);
  const int up = ptq_layer_of(PTQ_ROLE_UP, m->expert);
  const int down = ptq_layer_of(PTQ_ROLE_DOWN, m->expert);
  const int64_t n = m->rows;
  ptq_cross_activation(&p->c, m);
  PTQ_TRY(linear_back(p, down, n, PTQ_AT_WIDE, dy, PTQ_AT_DWIDE, false, err));
  activation_back(p, m);
  if (info->fused_gate_up) {
    PTQ_TRY(linear_back(p, gate_up, n, x, PTQ_AT_DGATE, dx, false, err));
    goto done;
  }
  if (info->has_gate)
    PTQ_TRY(linear_back(p, gate, n, x, PTQ_AT_DGATE, dx, false, err));
  PTQ_TRY(linear_back(p, up, n, x, PTQ_AT_DUP, dx, info->has_gate, err));
done:
  return rc;
}

static void clear(const pass *p, ptq_place place, int64_t width) {
  for (int64_t j = 0; j <= p->c.k; j++)
    memset(at(p, j, place), 0, (size_t)(p->c.n * width) * sizeof(ptq_real));
}

/* For an expert's tokens: of y = sum share o, the derivatives by o and by
 * share, with their tangents. */
static void share_back(const pass *p, const ptq_mlp *m) {
  const ptq_crossing *c = &p->c;
  const ptq_workspace *ws = c->bs->ws;
  const int64_t d = c->info->d_model, experts = c->info->n_experts;
  for (int64_t i = 0; i < m->rows; i++) {
    const int64_t t = ws->members[i], odd = t * experts + m->expert;
    const ptq_real share = ws->member_share[i];
    const ptq_real *o = at(p, 0, PTQ_AT_MEMBER_GIVEN) + i * d;
    const ptq_real *dy = at(p, 0, PTQ_AT_DADD) + t * d;
    ptq_real *to = at(p, 0, PTQ_AT_MEMBER_DGIVEN) + i * d;
    at(p, 0, PTQ_AT_DODDS)[odd] = (ptq_real)PTQ_VEC(dot, dy, o, d);
    for (int64_t l = 0; l < d; l++) to[l] = share * dy[l];
    for (int64_t j = 1; j <= c->k; j++) {
      const ptq_real shared = at(p, j, PTQ_AT_ODDS)[odd];
      const ptq_real *od = at(p, j, PTQ_AT_MEMBER_GIVEN) + i * d;
      const ptq_real *dyd = at(p, j, PTQ_AT_DADD) + t * d;
      to = at(p, j, PTQ_AT_MEMBER_DGIVEN) + i * d;
      at(p, j, PTQ_AT_DODDS)[odd] =
          (ptq_real)(PTQ_VEC(dot, dyd, o, d) + PTQ_VEC(dot, dy, od, d));
      for (int64_t l = 0; l < d; l++) to[l] = share * dyd[l] + shared * dy[l];
    }
  }
}

/* From DADD to DX through all experts and the router. */
static ptq_status experts_back(const pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_crossing *c = &p->c;
  const ptq_linear *router = &c->b->router;
  const ptq_workspace *ws = c->bs->ws;
  ptq_mlp m = {.expert = -1};
  ptq_cross_route(c);
  clear(p, PTQ_AT_DX, c->info->d_model);
  clear(p, PTQ_AT_DODDS, c->info->n_experts);
  for (int e = 0; e < (int)c->info->n_experts; e++) {
    ptq_cross_expert(c, e, &m);
    if (m.rows == 0) continue;
    share_back(p, &m);
    PTQ_TRY(mlp_back(p, &m, PTQ_AT_MEMBER_IN, PTQ_AT_MEMBER_DGIVEN,
                     PTQ_AT_MEMBER_DX, err));
    for (int64_t j = 0; j <= c->k; j++)
      ptq_rows_add(at(p, j, PTQ_AT_MEMBER_DX), c->info->d_model, ws->members,
                   m.rows, at(p, j, PTQ_AT_DX));
  }
  for (int64_t j = 1; j <= c->k; j++)
    ptq_route_tangent(router, at(p, 0, PTQ_AT_ODDS), at(p, j, PTQ_AT_ODDS),
                      at(p, j, PTQ_AT_IN), at(p, 0, PTQ_AT_DODDS), c->n,
                      at(p, j, PTQ_AT_DODDS), c->bs->route,
                      at(p, j, PTQ_AT_DX));
  ptq_route_vjp(router, at(p, 0, PTQ_AT_ODDS), c->n, at(p, 0, PTQ_AT_DODDS),
                at(p, 0, PTQ_AT_DX));
done:
  return rc;
}

/* From DH, the derivative by the block's output, to DX, that by the MLP's
 * input behind its norm; DH becomes the derivative by the end of the stream
 * before its norm. */
static ptq_status think_back(const pass *p, ptq_err *err) {
  const ptq_mlp m = {.rows = p->c.n};
  ptq_cross_mlp_input(&p->c);
  norm_back(p, norm_of(p, PTQ_NORM_MLP_SUM), PTQ_AT_END, PTQ_AT_DH);
  copy(p, PTQ_AT_DH, PTQ_AT_DADD);
  norm_back(p, norm_of(p, PTQ_NORM_MLP_ADD), PTQ_AT_MLP_ADD, PTQ_AT_DADD);
  if (p->c.info->n_experts > 0) return experts_back(p, err);
  return mlp_back(p, &m, PTQ_AT_IN, PTQ_AT_DADD, PTQ_AT_DX, err);
}

/* From DREADY to the derivatives by what the linear layers gave, in place. */
static void ready_back(const pass *p) {
  const ptq_crossing *c = &p->c;
  const ptq_model_info *info = c->info;
  const ptq_qkv x = ptq_qkv_at(info, c->n, at(p, 0, PTQ_AT_RAW));
  const ptq_qkv d = ptq_qkv_at(info, c->n, at(p, 0, PTQ_AT_DREADY));
  if (info->qkv_clip > 0.0) ptq_cross_normed(c);
  for (int64_t j = 0; j <= c->k; j++)
    ptq_clip_vjp(info, c->n, at(p, 0, PTQ_AT_READY), at(p, j, PTQ_AT_DREADY));
  for (int64_t j = 1; j <= c->k; j++) {
    const ptq_qkv xd = ptq_qkv_at(info, c->n, at(p, j, PTQ_AT_RAW));
    const ptq_qkv dd = ptq_qkv_at(info, c->n, at(p, j, PTQ_AT_DREADY));
    ptq_norm_heads_tangent(info, c->b, PTQ_NORM_Q, c->n, &x.q, &xd.q, &d.q,
                           &dd.q);
    ptq_norm_heads_tangent(info, c->b, PTQ_NORM_K, c->n, &x.k, &xd.k, &d.k,
                           &dd.k);
  }
  ptq_norm_heads_vjp(info, c->b, PTQ_NORM_Q, c->n, &x.q, &d.q);
  ptq_norm_heads_vjp(info, c->b, PTQ_NORM_K, c->n, &x.k, &d.k);
}

static ptq_status project_back(const pass *p, bool more, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (p->c.info->qkv != PTQ_QKV_SEPARATE)
    return linear_back(p, PTQ_ROLE_QKV, p->c.n, PTQ_AT_IN, PTQ_AT_DREADY,
                       PTQ_AT_DX, more, err);
  for (int64_t j = 0; j <= p->c.k; j++) {
    ptq_real **lane = p->c.bs->lanes[j].at;
    const ptq_qkv d = ptq_qkv_at(p->c.info, p->c.n, lane[PTQ_AT_DREADY]);
    lane[PTQ_AT_DQ] = d.q.p;
    lane[PTQ_AT_DK] = d.k.p;
    lane[PTQ_AT_DV] = d.v.p;
  }
  PTQ_TRY(linear_back(p, PTQ_ROLE_Q, p->c.n, PTQ_AT_IN, PTQ_AT_DQ, PTQ_AT_DX,
                      more, err));
  PTQ_TRY(linear_back(p, PTQ_ROLE_K, p->c.n, PTQ_AT_IN, PTQ_AT_DK, PTQ_AT_DX,
                      true, err));
  PTQ_TRY(linear_back(p, PTQ_ROLE_V, p->c.n, PTQ_AT_IN, PTQ_AT_DV, PTQ_AT_DX,
                      true, err));
done:
  return rc;
}

/* From DADD, the derivative by what attention adds, to DX, that by its input
 * behind its norm, added to what is there if `more`. */
static ptq_status attention_back(const pass *p, bool more, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_crossing *c = &p->c;
  const unsigned flags = c->info->block_flags[c->b->index];
  norm_back(p, norm_of(p, PTQ_NORM_ATTN_ADD), PTQ_AT_ATTN_ADD, PTQ_AT_DADD);
  PTQ_TRY(linear_back(p, PTQ_ROLE_O, c->n, PTQ_AT_MIX, PTQ_AT_DADD, PTQ_AT_DMIX,
                      false, err));
  ptq_cross_ready(c);
  ptq_cross_attended(c);
  ptq_attention_vjp(c->info, flags, c->n, c->bs, c->bs->attended, c->k,
                    c->bs->attended + 1);
  ready_back(p);
  ptq_cross_attention_input(c);
  PTQ_TRY(project_back(p, more, err));
done:
  return rc;
}

static ptq_status walk(const pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = p->c.info;
  PTQ_TRY(think_back(p, err));
  if (!info->parallel) {
    norm_back(p, norm_of(p, PTQ_NORM_MLP_IN), PTQ_AT_STREAM, PTQ_AT_DX);
    add(p, PTQ_AT_DX, PTQ_AT_DH);
  }
  norm_back(p, norm_of(p, PTQ_NORM_ATTN_SUM), PTQ_AT_MID, PTQ_AT_DH);
  copy(p, PTQ_AT_DH, PTQ_AT_DADD);
  /* A parallel MLP took the block's input, behind a norm of its own or, as
   * attention, behind attention's. */
  const bool shared = info->parallel && !info->has_norm[PTQ_NORM_MLP_IN];
  if (info->parallel && !shared) {
    norm_back(p, norm_of(p, PTQ_NORM_MLP_IN), PTQ_AT_H, PTQ_AT_DX);
    add(p, PTQ_AT_DX, PTQ_AT_DH);
  }
  PTQ_TRY(attention_back(p, shared, err));
  norm_back(p, norm_of(p, PTQ_NORM_ATTN_IN), PTQ_AT_H, PTQ_AT_DX);
  add(p, PTQ_AT_DX, PTQ_AT_DH);
done:
  return rc;
}

/* Do the tapes of tangents hold everything? */
static bool complete(const ptq_tangent *tangents, int64_t k) {
  for (int64_t j = 0; j < k; j++)
    if (tangents[j].tape.gate == NULL && tangents[j].tape.up == NULL)
      return false;
  return true;
}

ptq_status ptq_block_backward(const ptq_model_info *info, const ptq_block *b,
                              int64_t n, ptq_backspace *bs, const ptq_tape *t,
                              ptq_real *dh, ptq_real *const *g, int64_t k,
                              ptq_tangent *tangents,
                              const ptq_backward_hook *hook, ptq_err *err) {
  PTQ_ASSERT(n <= bs->max_tokens && k <= bs->max_tangents);
  if (n == 0) return PTQ_OK;
  const pass p = {.c = {.info = info, .b = b, .n = n, .k = k, .bs = bs},
                  .hook = hook};
  const ptq_tape all = ptq_block_replay(
      info, b, n, bs->ws, t, &bs->lanes[0].spare, bs->lanes[0].at[PTQ_AT_X]);
  ptq_cross_begin(&p.c, &all, tangents);
  bs->lanes[0].at[PTQ_AT_DH] = dh;
  bs->lanes[0].g = g;
  if (!complete(tangents, k)) ptq_cross_tangents(&p.c, NULL);
  return walk(&p, err);
}
