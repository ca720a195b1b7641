/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The tangents of a block's forward pass, composed of the operations of op.h:
 * the same steps as in forward.c, each with its jvp. */
#include <string.h>

#include "backspace.h"
#include "ptq/base/check.h"
#include "ptq/num/kernels.h"

/* The tangent of a layer's output, its weight displaced, for n rows. */
static void apply(const ptq_crossing *c, const ptq_lane *lane, int layer,
                  ptq_place from, int64_t n, ptq_real *to) {
  const ptq_real *e = lane->e != NULL ? lane->e[layer] : NULL;
  ptq_linear_jvp(&c->b->linear[layer], e, c->bs->lanes[0].at[from],
                 lane->at[from], n, to);
}

static void project(const ptq_crossing *c, const ptq_lane *lane) {
  const ptq_model_info *info = c->info;
  ptq_real *raw = lane->at[PTQ_AT_RAW];
  const ptq_qkv to = ptq_qkv_at(info, c->n, raw);
  if (info->qkv == PTQ_QKV_SEPARATE) {
    apply(c, lane, PTQ_ROLE_Q, PTQ_AT_IN, c->n, to.q.p);
    apply(c, lane, PTQ_ROLE_K, PTQ_AT_IN, c->n, to.k.p);
    apply(c, lane, PTQ_ROLE_V, PTQ_AT_IN, c->n, to.v.p);
  } else {
    apply(c, lane, PTQ_ROLE_QKV, PTQ_AT_IN, c->n, raw);
  }
}

static void widen(const ptq_crossing *c, const ptq_lane *lane, const ptq_mlp *m,
                  ptq_place from) {
  const ptq_inner to = ptq_cross_inner(lane, m);
  const int e = m->expert;
  if (c->info->fused_gate_up) {
    apply(c, lane, ptq_layer_of(PTQ_ROLE_GATE_UP, e), from, m->rows, to.gate);
    return;
  }
  if (c->info->has_gate)
    apply(c, lane, ptq_layer_of(PTQ_ROLE_GATE, e), from, m->rows, to.gate);
  apply(c, lane, ptq_layer_of(PTQ_ROLE_UP, e), from, m->rows, to.up);
}

/* x = the tangent of norm(x) where the block has such a norm; the tangent
 * before it goes on the tape, where the window's stands. */
static void norm_in_place(const ptq_crossing *c, const ptq_lane *lane,
                          ptq_norm_place place, ptq_place kept, ptq_real *x) {
  const int64_t width = c->info->d_model;
  if (lane->at[kept] != NULL)
    memcpy(lane->at[kept], x, (size_t)(c->n * width) * sizeof *x);
  if (c->info->has_norm[place])
    ptq_norm_jvp(c->info, &c->b->norm[place], c->bs->lanes[0].at[kept], x, c->n,
                 width, x);
}

static void attend(const ptq_crossing *c) {
  const int64_t size = c->n * c->info->d_model;
  const unsigned flags = c->info->block_flags[c->b->index];
  ptq_cross_attention_input(c);
  for (int64_t j = 1; j <= c->k; j++) project(c, &c->bs->lanes[j]);
  ptq_cross_ready(c);
  ptq_cross_attended(c);
  ptq_attention_jvp(c->info, flags, c->n, c->bs, c->bs->attended, c->k,
                    c->bs->attended + 1);
  for (int64_t j = 1; j <= c->k; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    ptq_real *y = lane->at[PTQ_AT_ADD];
    apply(c, lane, PTQ_ROLE_O, PTQ_AT_MIX, c->n, y);
    norm_in_place(c, lane, PTQ_NORM_ATTN_ADD, PTQ_AT_ATTN_ADD, y);
    PTQ_VEC(add, lane->at[PTQ_AT_H], size, y);
    memcpy(lane->at[PTQ_AT_MID], y, (size_t)size * sizeof *y);
  }
}

/* The tangents of what experts give, and of their sum in ADD: of share o, it
 * is share od + shared o. */
static void run_experts(const ptq_crossing *c) {
  const int64_t d = c->info->d_model, experts = c->info->n_experts;
  const ptq_workspace *ws = c->bs->ws;
  const ptq_real *const *own = (const ptq_real *const *)c->bs->lanes[0].at;
  ptq_mlp m = {.expert = -1};
  ptq_cross_route(c);
  for (int64_t j = 1; j <= c->k; j++)
    memset(c->bs->lanes[j].at[PTQ_AT_ADD], 0,
           (size_t)(c->n * d) * sizeof(ptq_real));
  for (int e = 0; e < (int)experts; e++) {
    ptq_cross_expert(c, e, &m);
    if (m.rows == 0) continue;
    for (int64_t j = 1; j <= c->k; j++)
      widen(c, &c->bs->lanes[j], &m, PTQ_AT_MEMBER_IN);
    ptq_cross_activation(c, &m);
    for (int64_t j = 1; j <= c->k; j++) {
      const ptq_lane *lane = &c->bs->lanes[j];
      ptq_real *given = lane->at[PTQ_AT_MEMBER_GIVEN];
      apply(c, lane, ptq_layer_of(PTQ_ROLE_DOWN, e), PTQ_AT_WIDE, m.rows,
            given);
      for (int64_t i = 0; i < m.rows; i++) {
        const int64_t t = ws->members[i];
        const ptq_real shared = lane->at[PTQ_AT_ODDS][t * experts + e];
        const ptq_real *o = own[PTQ_AT_MEMBER_GIVEN] + i * d;
        ptq_real *y = lane->at[PTQ_AT_ADD] + t * d;
        for (int64_t l = 0; l < d; l++)
          y[l] += ws->member_share[i] * given[i * d + l] + shared * o[l];
      }
    }
  }
}

/* The tangents of the only MLP, in ADD if `whole`. */
static void run_mlp(const ptq_crossing *c, bool whole) {
  const ptq_mlp m = {.rows = c->n};
  for (int64_t j = 1; j <= c->k; j++) widen(c, &c->bs->lanes[j], &m, PTQ_AT_IN);
  if (!whole) return;
  ptq_cross_activation(c, &m);
  for (int64_t j = 1; j <= c->k; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    apply(c, lane, PTQ_ROLE_DOWN, PTQ_AT_WIDE, c->n, lane->at[PTQ_AT_ADD]);
  }
}

static void think(const ptq_crossing *c, ptq_real *const *out) {
  const int64_t size = c->n * c->info->d_model;
  const ptq_real *const *own = (const ptq_real *const *)c->bs->lanes[0].at;
  const bool whole =
      out != NULL || own[PTQ_AT_MLP_ADD] != NULL || own[PTQ_AT_END] != NULL;
  ptq_cross_mlp_input(c);
  if (c->info->n_experts > 0)
    run_experts(c);
  else
    run_mlp(c, whole);
  for (int64_t j = 1; j <= c->k && whole; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    ptq_real *y = lane->at[PTQ_AT_ADD];
    norm_in_place(c, lane, PTQ_NORM_MLP_ADD, PTQ_AT_MLP_ADD, y);
    PTQ_VEC(add, lane->at[PTQ_AT_STREAM], size, y);
    norm_in_place(c, lane, PTQ_NORM_MLP_SUM, PTQ_AT_END, y);
    if (out != NULL) memcpy(out[j - 1], y, (size_t)size * sizeof *y);
  }
}

void ptq_cross_tangents(const ptq_crossing *c, ptq_real *const *out) {
  attend(c);
  think(c, out);
}

ptq_status ptq_block_record_tangents(const ptq_model_info *info,
                                     const ptq_block *b, ptq_real *h, int64_t n,
                                     ptq_backspace *bs, const ptq_tape *t,
                                     int64_t k, ptq_tangent *tangents,
                                     ptq_err *err) {
  PTQ_ASSERT(n <= bs->max_tokens && k <= bs->max_tangents);
  if (n == 0) return PTQ_OK;
  const ptq_crossing c = {.info = info, .b = b, .n = n, .k = k, .bs = bs};
  const ptq_tape all = ptq_tape_completed(t, &bs->lanes[0].spare);
  const size_t bytes = (size_t)(n * info->d_model) * sizeof *h;
  const ptq_status rc =
      ptq_block_record(info, b, h, n, bs->ws, &all, NULL, err);
  if (rc != PTQ_OK || k == 0) return rc;
  for (int64_t j = 0; j < k; j++) {
    bs->out[j] = tangents[j].hd;
    memcpy(tangents[j].tape.h, tangents[j].hd, bytes);
  }
  ptq_cross_begin(&c, &all, tangents);
  ptq_cross_tangents(&c, bs->out);
  return PTQ_OK;
}
