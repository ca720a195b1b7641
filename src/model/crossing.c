/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What tangent and backward passes have in common. */
#include <string.h>

#include "backspace.h"

/* Let the lane's places point to a tape that holds everything. */
static void set_tape(const ptq_crossing *c, ptq_lane *lane, const ptq_tape *t) {
  ptq_real **at = lane->at;
  at[PTQ_AT_H] = t->h;
  at[PTQ_AT_RAW] = t->qkv;
  at[PTQ_AT_MIX] = t->mix;
  at[PTQ_AT_ATTN_ADD] = t->attn_add;
  at[PTQ_AT_MID] = t->mid;
  at[PTQ_AT_GATE] = t->gate;
  at[PTQ_AT_UP] = t->up;
  at[PTQ_AT_GIVEN] = t->given;
  at[PTQ_AT_MLP_ADD] = t->mlp_add;
  at[PTQ_AT_END] = t->end;
  lane->top = t->top;
  lane->share = t->share;
  lane->inner = ptq_tape_inner(c->info, t, 0);
}

/* at[to] = norm(at[from]) of lane 0, and its tangent in the others; without a
 * norm at[to] becomes at[from] itself. */
static void norm_lanes(const ptq_crossing *c, const ptq_norm *norm,
                       ptq_place from, ptq_place scratch, ptq_place to) {
  const ptq_model_info *info = c->info;
  ptq_lane *own = &c->bs->lanes[0];
  for (int64_t j = 0; j <= c->k; j++) {
    ptq_lane *lane = &c->bs->lanes[j];
    lane->at[to] = lane->at[norm != NULL ? scratch : from];
    if (norm == NULL) continue;
    if (j == 0)
      ptq_norm_rows(info, norm, own->at[from], c->n, info->d_model,
                    own->at[to]);
    else
      ptq_norm_jvp(info, norm, own->at[from], lane->at[from], c->n,
                   info->d_model, lane->at[to]);
  }
}

static const ptq_norm *norm_of(const ptq_crossing *c, ptq_norm_place place) {
  return c->info->has_norm[place] ? &c->b->norm[place] : NULL;
}

void ptq_cross_attention_input(const ptq_crossing *c) {
  norm_lanes(c, norm_of(c, PTQ_NORM_ATTN_IN), PTQ_AT_H, PTQ_AT_X, PTQ_AT_IN);
}

void ptq_cross_mlp_input(const ptq_crossing *c) {
  const ptq_norm *norm = ptq_site_norm(c->info, c->b, PTQ_SITE_MLP_IN);
  norm_lanes(c, norm_of(c, PTQ_NORM_ATTN_SUM), PTQ_AT_MID, PTQ_AT_SUM,
             PTQ_AT_STREAM);
  norm_lanes(c, norm, c->info->parallel ? PTQ_AT_H : PTQ_AT_STREAM, PTQ_AT_X,
             PTQ_AT_IN);
}

void ptq_cross_ready(const ptq_crossing *c) {
  const ptq_model_info *info = c->info;
  const int64_t size = ptq_qkv_size(info, c->n);
  const ptq_branch whole = {.n = c->n};
  const ptq_turns *turns =
      ptq_turns_of(info, info->block_flags[c->b->index], c->n, c->bs->ws);
  const ptq_qkv raw = ptq_qkv_at(info, c->n, c->bs->lanes[0].at[PTQ_AT_RAW]);
  ptq_cross_normed(c);
  const ptq_real *cut = c->bs->lanes[0].at[PTQ_AT_READY];
  for (int64_t j = 1; j <= c->k; j++) {
    ptq_real *const *at = c->bs->lanes[j].at;
    memcpy(at[PTQ_AT_READY], at[PTQ_AT_RAW], (size_t)size * sizeof *cut);
    const ptq_qkv to = ptq_qkv_at(info, c->n, at[PTQ_AT_READY]);
    ptq_norm_heads_jvp(info, c->b, PTQ_NORM_Q, c->n, &raw.q, &to.q);
    ptq_norm_heads_jvp(info, c->b, PTQ_NORM_K, c->n, &raw.k, &to.k);
    ptq_clip_vjp(info, c->n, cut, to.q.p);
  }
  for (int64_t j = 0; j <= c->k; j++) {
    const ptq_qkv x = ptq_qkv_at(info, c->n, c->bs->lanes[j].at[PTQ_AT_READY]);
    ptq_rotate_keys(info, turns, &whole, &x.k);
  }
}

void ptq_cross_normed(const ptq_crossing *c) {
  const ptq_model_info *info = c->info;
  const int64_t size = ptq_qkv_size(info, c->n);
  ptq_real *const *at = c->bs->lanes[0].at;
  memcpy(at[PTQ_AT_READY], at[PTQ_AT_RAW], (size_t)size * sizeof(ptq_real));
  const ptq_qkv x = ptq_qkv_at(info, c->n, at[PTQ_AT_READY]);
  ptq_norm_heads(info, c->b, PTQ_NORM_Q, c->n, &x.q);
  ptq_norm_heads(info, c->b, PTQ_NORM_K, c->n, &x.k);
  ptq_clip(info, c->n, x.q.p);
}

ptq_inner ptq_cross_inner(const ptq_lane *lane, const ptq_mlp *m) {
  ptq_inner x = lane->inner;
  if (x.gate != NULL) x.gate += m->first * x.row;
  x.up += m->first * x.row;
  return x;
}

void ptq_cross_activation(const ptq_crossing *c, const ptq_mlp *m) {
  const ptq_lane *own = &c->bs->lanes[0];
  const ptq_inner x = ptq_cross_inner(own, m);
  ptq_activate(c->info, m->rows, &x, own->at[PTQ_AT_WIDE]);
  for (int64_t j = 1; j <= c->k; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    const ptq_inner xd = ptq_cross_inner(lane, m);
    ptq_activate_jvp(c->info, m->rows, &x, &xd, lane->at[PTQ_AT_WIDE]);
  }
}

void ptq_cross_route(const ptq_crossing *c) {
  const ptq_linear *router = &c->b->router;
  ptq_lane *own = &c->bs->lanes[0];
  ptq_linear_apply(router, own->at[PTQ_AT_IN], c->n, c->bs->ws->odds);
  ptq_route_scores(c->info, c->n, c->bs->ws);
  own->at[PTQ_AT_ODDS] = c->bs->ws->odds;
  for (int64_t j = 1; j <= c->k; j++) {
    ptq_real *const *at = c->bs->lanes[j].at;
    ptq_route_jvp(router, own->at[PTQ_AT_ODDS], at[PTQ_AT_IN], c->n,
                  at[PTQ_AT_ODDS]);
  }
}

void ptq_cross_expert(const ptq_crossing *c, int e, ptq_mlp *m) {
  const int64_t d = c->info->d_model;
  ptq_workspace *ws = c->bs->ws;
  m->first += m->rows;
  m->expert = e;
  m->rows = ptq_route_members(c->info, e, c->n, ws);
  for (int64_t j = 0; j <= c->k; j++) {
    ptq_real **at = c->bs->lanes[j].at;
    ptq_rows_gather(at[PTQ_AT_IN], d, ws->members, m->rows,
                    at[PTQ_AT_MEMBER_IN]);
    at[PTQ_AT_MEMBER_GIVEN] = at[PTQ_AT_GIVEN] + m->first * d;
  }
}

void ptq_cross_attended(const ptq_crossing *c) {
  for (int64_t j = 0; j <= c->k; j++) {
    const ptq_lane *lane = &c->bs->lanes[j];
    c->bs->attended[j] = (ptq_attended){
        .x = ptq_qkv_at(c->info, c->n, lane->at[PTQ_AT_READY]),
        .mix = lane->at[PTQ_AT_MIX],
        .soft = {lane->top, lane->share},
        .dmix = lane->at[PTQ_AT_DMIX],
        .dx = ptq_qkv_at(c->info, c->n, lane->at[PTQ_AT_DREADY])};
  }
}

void ptq_cross_begin(const ptq_crossing *c, const ptq_tape *t,
                     const ptq_tangent *tangents) {
  set_tape(c, &c->bs->lanes[0], t);
  for (int64_t j = 0; j < c->k; j++) {
    ptq_lane *lane = &c->bs->lanes[1 + j];
    const ptq_tape all = ptq_tape_completed(&tangents[j].tape, &lane->spare);
    set_tape(c, lane, &all);
    lane->at[PTQ_AT_DH] = tangents[j].dhd;
    lane->e = tangents[j].e;
    lane->g = tangents[j].g;
  }
}
