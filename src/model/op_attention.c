/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Exact causal attention in tiles: a tile of queries of all heads that share
 * keys meets the keys before it tile by tile, and the softmax is carried
 * along with a running maximum and sum (Milakov and Gimelshein 2018; Dao et
 * al. 2022). Only tiles on or below the diagonal are multiplied.
 *
 * The derivatives know each row's maximum and sum, so they have probabilities
 * from scores at once. With scores s, p = exp(s - top), share = 1 / sum p and
 * probabilities share p, a tangent sd of the scores has the mean
 * r = share sum p sd, and
 *
 *   o  = share sum p v           od  = share sum p (sd v + vd) - r o
 *   dv = share p do              dvd = share p ((sd - r) do + dod)
 *   dp = do' v, D = do' o        dpd = dod' v + do' vd, Dd = dod' o + do' od
 *   t  = dp - D                  td  = dpd - Dd
 *   ds = share p t               dsd = share p ((sd - r) t + td)
 *
 * where share is put into do and dod beforehand. Scores are s = cap(scale q'
 * k) + bias; q and k follow from ds and dsd by products alone.
 */
#include <math.h>
#include <string.h>

#include "attention_tile.h"
#include "backspace.h"
#include "op_bf16.h"
#include "ptq/num/kernels.h"

/* Scores of one row against keys k0 + low .. k0 + high - 1 of a tile of
 * `width` keys become unnormalized probabilities, the others zero; what the
 * row had so far is rescaled to the new maximum. */
static void soften_row(const ptq_tile *t, const ptq_workspace *ws, int64_t row,
                       int64_t k0, int64_t low, int64_t high, int64_t width) {
  const int64_t d = t->info->d_head, n = high - low;
  ptq_real *s = ws->tile_s + row * width;
  if (n <= 0) low = high = 0;
  if (PTQ_BF16(ws->mul != NULL)) {
    ptq_bf16_hide(ws, row, low, high, width);
  } else {
    memset(s, 0, (size_t)low * sizeof *s);
    memset(s + high, 0, (size_t)(width - high) * sizeof *s);
  }
  if (n <= 0) return;
  s += low;
  if (t->info->attn_cap > 0.0)
    PTQ_VEC(soft_cap, (ptq_real)t->info->attn_cap, n, s);
  const ptq_real *alibi = ptq_tile_alibi(t, ws, row);
  if (alibi != NULL) PTQ_VEC(add, alibi + k0 + low, n, s);
  const ptq_real top = PTQ_VEC(max, s, n, NULL), before = ws->tile_max[row];
  const ptq_real now = top > before ? top : before;
  if (now > before && ws->tile_sum[row] > 0.0) {
    ptq_real shrink = before;
    PTQ_VEC(exp, &shrink, 1, now, &shrink);
    PTQ_VEC(scale, shrink, d, ws->tile_o + row * d);
    ws->tile_sum[row] *= (double)shrink;
  }
  ws->tile_max[row] = now;
  ws->tile_sum[row] += PTQ_BF16(ws->mul != NULL)
                           ? ptq_bf16_exp(ws, s, n, now, row * width + low)
                           : PTQ_VEC(exp, s, n, now, s);
}

/* tile_s = scores of the tile's queries and keys k0 .. k0 + width - 1 */
static ptq_status score_keys(const ptq_tile *t, const ptq_heads *k,
                             const ptq_workspace *ws, int64_t k0, int64_t width,
                             ptq_err *err) {
  const int64_t d = t->info->d_head, row = ptq_branch_row(&t->branch, k0);
  if (PTQ_BF16(ws->mul != NULL)) return ptq_bf16_score(t, ws, k0, width, err);
  PTQ_GEMM(nt, t->rows, width, d, (ptq_real)t->info->attn_scale, ws->tile_q, d,
           k->p + row * k->row + t->kv * k->step, k->row, 0.0F, ws->tile_s,
           width);
  return PTQ_OK;
}

/* tile_o += probabilities times the values at k0 .. k0 + width - 1 */
static ptq_status gather_values(const ptq_tile *t, const ptq_heads *v,
                                const ptq_workspace *ws, int64_t k0,
                                int64_t width, ptq_err *err) {
  const int64_t d = t->info->d_head, row = ptq_branch_row(&t->branch, k0);
  if (PTQ_BF16(ws->mul != NULL)) return ptq_bf16_gather(t, ws, k0, width, err);
  PTQ_GEMM(nn, t->rows, d, width, 1.0F, ws->tile_s, width,
           v->p + row * v->row + t->kv * v->step, v->row,
           k0 > t->first ? 1.0F : 0.0F, ws->tile_o, d);
  return PTQ_OK;
}

/* Keys k0 .. k0 + width - 1, of which a token sees those up to its own, or
 * the last `window` of them. */
static ptq_status meet_keys(const ptq_tile *t, const ptq_qkv *x,
                            const ptq_workspace *ws, int64_t k0, int64_t width,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(score_keys(t, &x->k, ws, k0, width, err));
  for (int64_t i = 0; i < t->tokens; i++) {
    int64_t low = 0, high = 0;
    ptq_tile_seen(t, i, k0, width, &low, &high);
    for (int64_t g = 0; g < t->group; g++)
      soften_row(t, ws, i * t->group + g, k0, low, high, width);
  }
  PTQ_TRY(gather_values(t, &x->v, ws, k0, width, err));
done:
  return rc;
}

static void scatter_result(const ptq_tile *t, const ptq_workspace *ws,
                           ptq_real *mix, ptq_soft soft) {
  const int64_t d = t->info->d_head;
  const ptq_heads heads = ptq_mix_heads(t->info, mix);
  for (int64_t r = 0; r < t->rows; r++) {
    const int64_t at = ptq_branch_row(&t->branch, t->t0 + r / t->group);
    const int64_t g = r % t->group;
    ptq_real *to = heads.p + at * heads.row + t->kv * heads.step + g * d;
    const ptq_real share = (ptq_real)(1.0 / ws->tile_sum[r]);
    memcpy(to, ws->tile_o + r * d, (size_t)d * sizeof *to);
    PTQ_VEC(scale, share, d, to);
    if (soft.top != NULL) soft.top[ptq_tile_soft(t, r)] = ws->tile_max[r];
    if (soft.share != NULL) soft.share[ptq_tile_soft(t, r)] = share;
  }
}

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static ptq_status attend(const ptq_tile *t, const ptq_qkv *x,
                         const ptq_workspace *ws, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t k0 = t->first, width = 0; k0 < t->end; k0 += width) {
    width = least(t->end - k0, PTQ_KEY_TILE);
    /* Shared rows are not beside the branch's own, but where rounded. */
    if (!PTQ_BF16(ws->mul != NULL) && k0 < t->branch.shared)
      width = least(width, t->branch.shared - k0);
    PTQ_TRY(meet_keys(t, x, ws, k0, width, err));
  }
done:
  return rc;
}

static ptq_status attend_branch(const ptq_model_info *info, unsigned flags,
                                const ptq_branch *b, const ptq_qkv *x,
                                const ptq_workspace *ws, ptq_real *mix,
                                ptq_soft soft, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t count = ptq_tile_count(info, b, ws);
  for (int64_t i = 0; i < count; i++) {
    const ptq_tile t = ptq_tile_at(info, flags, b, ws, i);
    ptq_tile_gather(&t, t.turns, &x->q, ws->tile_q);
    if (PTQ_BF16(ws->mul != NULL)) ptq_bf16_round_tile(&t, x, ws);
    for (int64_t r = 0; r < t.rows; r++) {
      ws->tile_max[r] = -INFINITY;
      ws->tile_sum[r] = 0.0;
    }
    PTQ_TRY(attend(&t, x, ws, err));
    scatter_result(&t, ws, mix, soft);
  }
done:
  return rc;
}

ptq_status ptq_attention(const ptq_model_info *info, unsigned flags, int64_t n,
                         const ptq_qkv *x, ptq_workspace *ws, ptq_real *mix,
                         ptq_soft soft, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_branch whole = {.n = n};
  if (ws->branches == NULL)
    return attend_branch(info, flags, &whole, x, ws, mix, soft, err);
  for (int64_t i = 0; i < ws->n_branches; i++)
    PTQ_TRY(
        attend_branch(info, flags, &ws->branches[i], x, ws, mix, soft, err));
done:
  return rc;
}

/* A tile on its way through derivatives. */
typedef struct pass {
  ptq_tile t;
  ptq_backspace *bs;     /* borrowed */
  const ptq_attended *a; /* borrowed */
  int64_t k0, width;     /* the keys at hand */
} pass;

/* Where the tile's part of k, v begins, for the keys at hand. */
static ptq_real *keys(const pass *c, const ptq_heads *h) {
  return h->p + c->k0 * h->row + c->t.kv * h->step;
}

/* Scores [rows, width] = scale q k', added to what is there if `more`. */
static void multiply_keys(const pass *c, const ptq_real *q, const ptq_heads *k,
                          ptq_real scale, bool more, ptq_real *s) {
  const int64_t d = c->t.info->d_head;
  PTQ_GEMM(nt, c->t.rows, c->width, d, scale, q, d, keys(c, k), k->row,
           more ? 1.0F : 0.0F, s, c->width);
}

/* rows[rows, d] += scale s k. */
static void gather_keys(const pass *c, const ptq_real *s, const ptq_heads *k,
                        ptq_real scale, ptq_real *rows) {
  const int64_t d = c->t.info->d_head;
  PTQ_GEMM(nn, c->t.rows, d, c->width, scale, s, c->width, keys(c, k), k->row,
           1.0F, rows, d);
}

/* k += scale s' rows. */
static void spread_keys(const pass *c, const ptq_real *s, const ptq_real *rows,
                        ptq_real scale, const ptq_heads *k) {
  const int64_t d = c->t.info->d_head;
  PTQ_GEMM(tn, c->width, d, c->t.rows, scale, s, c->width, rows, d, 1.0F,
           keys(c, k), k->row);
}

/* One row of scores to p. */
static void know_row(const pass *c, int64_t row) {
  const ptq_model_info *info = c->t.info;
  int64_t low = 0, high = 0;
  ptq_tile_seen(&c->t, row / c->t.group, c->k0, c->width, &low, &high);
  ptq_real *s = c->bs->tile_p + row * c->width;
  if (high <= low) low = high = 0;
  memset(s, 0, (size_t)low * sizeof *s);
  memset(s + high, 0, (size_t)(c->width - high) * sizeof *s);
  const int64_t n = high - low;
  s += low;
  if (info->attn_cap > 0.0) {
    PTQ_VEC(soft_cap, (ptq_real)info->attn_cap, n, s);
    memcpy(c->bs->tile_cap + row * c->width + low, s, (size_t)n * sizeof *s);
  }
  const ptq_real *alibi = ptq_tile_alibi(&c->t, c->bs->ws, row);
  if (alibi != NULL) PTQ_VEC(add, alibi + c->k0 + low, n, s);
  PTQ_VEC(exp, s, n, c->a->soft.top[ptq_tile_soft(&c->t, row)], s);
}

/* p of the keys at hand. */
static void know_keys(const pass *c) {
  multiply_keys(c, c->bs->lanes[0].tile_q, &c->a->x.k,
                (ptq_real)c->t.info->attn_scale, false, c->bs->tile_p);
  for (int64_t r = 0; r < c->t.rows; r++) know_row(c, r);
}

/* sd of a tangent, in tile_sd (and in tile_capd, where that is asked for). */
static void score_tangents(const pass *c, const ptq_lane *lane,
                           const ptq_attended *d) {
  const ptq_model_info *info = c->t.info;
  const ptq_real scale = (ptq_real)info->attn_scale;
  const int64_t size = c->t.rows * c->width;
  multiply_keys(c, lane->tile_q, &c->a->x.k, scale, false, c->bs->tile_sd);
  multiply_keys(c, c->bs->lanes[0].tile_q, &d->x.k, scale, true,
                c->bs->tile_sd);
  if (!(info->attn_cap > 0.0)) return;
  PTQ_DIFF(cap, c->bs->tile_cap, (ptq_real)info->attn_cap, size,
           c->bs->tile_sd);
  memcpy(c->bs->tile_capd, c->bs->tile_sd, (size_t)size * sizeof(ptq_real));
}

static void jvp_keys(const pass *c, int64_t k, const ptq_attended *tangents) {
  know_keys(c);
  for (int64_t j = 0; j < k; j++) {
    const ptq_lane *lane = &c->bs->lanes[1 + j];
    ptq_real *sd = c->bs->tile_sd;
    score_tangents(c, lane, &tangents[j]);
    for (int64_t r = 0; r < c->t.rows; r++)
      lane->tile_sum[r] += PTQ_DIFF(soft_jvp, c->bs->tile_p + r * c->width,
                                    c->width, sd + r * c->width);
    gather_keys(c, sd, &c->a->x.v, 1.0F, lane->tile_out);
    gather_keys(c, c->bs->tile_p, &tangents[j].x.v, 1.0F, lane->tile_out);
  }
}

/* od = share sum p (sd v + vd) - r o */
static void jvp_result(const pass *c, const ptq_lane *lane,
                       const ptq_attended *d) {
  const int64_t width = c->t.info->d_head;
  for (int64_t r = 0; r < c->t.rows; r++) {
    const int64_t at = ptq_tile_soft(&c->t, r);
    const ptq_real share = c->a->soft.share[at];
    const ptq_real drift = (ptq_real)((double)share * lane->tile_sum[r]);
    const ptq_real *sum = lane->tile_out + r * width;
    const ptq_real *o = c->a->mix + at * width;
    for (int64_t i = 0; i < width; i++)
      d->mix[at * width + i] = share * sum[i] - drift * o[i];
    d->soft.top[at] = drift;
  }
}

void ptq_attention_jvp(const ptq_model_info *info, unsigned flags, int64_t n,
                       ptq_backspace *bs, const ptq_attended *a, int64_t k,
                       const ptq_attended *tangents) {
  const ptq_branch whole = {.n = n};
  const int64_t count = ptq_tile_count(info, &whole, bs->ws);
  for (int64_t i = 0; i < count; i++) {
    pass c = {
        .t = ptq_tile_at(info, flags, &whole, bs->ws, i), .bs = bs, .a = a};
    const size_t bytes = (size_t)(c.t.rows * info->d_head) * sizeof(ptq_real);
    ptq_tile_gather(&c.t, c.t.turns, &a->x.q, bs->lanes[0].tile_q);
    for (int64_t j = 0; j < k; j++) {
      const ptq_lane *lane = &bs->lanes[1 + j];
      ptq_tile_gather(&c.t, c.t.turns, &tangents[j].x.q, lane->tile_q);
      memset(lane->tile_out, 0, bytes);
      memset(lane->tile_sum, 0, (size_t)c.t.rows * sizeof(double));
    }
    for (c.k0 = c.t.first; c.k0 < c.t.end; c.k0 += PTQ_BACK_KEYS) {
      c.width = least(c.t.end - c.k0, PTQ_BACK_KEYS);
      jvp_keys(&c, k, tangents);
    }
    for (int64_t j = 0; j < k; j++)
      jvp_result(&c, &bs->lanes[1 + j], &tangents[j]);
  }
}

/* Rows of queries and of share do of one lane; no derivatives yet. */
static void vjp_begin(const pass *c, const ptq_lane *lane,
                      const ptq_attended *a) {
  const int64_t width = c->t.info->d_head;
  const ptq_heads dmix = ptq_mix_heads(c->t.info, a->dmix);
  ptq_tile_gather(&c->t, c->t.turns, &a->x.q, lane->tile_q);
  ptq_tile_gather(&c->t, NULL, &dmix, lane->tile_out);
  for (int64_t r = 0; r < c->t.rows; r++) {
    const int64_t at = ptq_tile_soft(&c->t, r);
    ptq_real *row = lane->tile_out + r * width;
    PTQ_VEC(scale, c->a->soft.share[at], width, row);
    lane->tile_sum[r] = PTQ_VEC(dot, row, c->a->mix + at * width, width);
    if (a == c->a) continue;
    lane->tile_sum[r] += PTQ_VEC(dot, c->bs->lanes[0].tile_out + r * width,
                                 a->mix + at * width, width);
  }
  memset(lane->tile_dq, 0, (size_t)(c->t.rows * width) * sizeof *lane->tile_dq);
}

/* ds of the keys at hand, behind the cap in tile_dcap; dv. */
static void vjp_scores(const pass *c, bool keep) {
  const ptq_model_info *info = c->t.info;
  const ptq_backspace *bs = c->bs;
  const ptq_lane *own = &bs->lanes[0];
  know_keys(c);
  multiply_keys(c, own->tile_out, &c->a->x.v, 1.0F, false, bs->tile_ds);
  for (int64_t r = 0; r < c->t.rows; r++) {
    const int64_t at = r * c->width;
    PTQ_DIFF(soft, bs->tile_p + at, bs->tile_ds + at, c->width,
             (ptq_real)own->tile_sum[r], keep ? bs->tile_t + at : NULL,
             bs->tile_ds + at);
  }
  spread_keys(c, bs->tile_p, own->tile_out, 1.0F, &c->a->dx.v);
  if (!(info->attn_cap > 0.0)) return;
  const int64_t size = c->t.rows * c->width;
  memcpy(bs->tile_dcap, bs->tile_ds, (size_t)size * sizeof(ptq_real));
  PTQ_DIFF(cap, bs->tile_cap, (ptq_real)info->attn_cap, size, bs->tile_ds);
}

/* One tangent with the keys at hand. */
static void vjp_tangent(const pass *c, const ptq_lane *lane,
                        const ptq_attended *d) {
  const ptq_model_info *info = c->t.info;
  const ptq_backspace *bs = c->bs;
  const ptq_lane *own = &bs->lanes[0];
  const ptq_real scale = (ptq_real)info->attn_scale;
  score_tangents(c, lane, d);
  multiply_keys(c, lane->tile_out, &c->a->x.v, 1.0F, false, bs->tile_dsd);
  multiply_keys(c, own->tile_out, &d->x.v, 1.0F, true, bs->tile_dsd);
  for (int64_t r = 0; r < c->t.rows; r++) {
    const int64_t at = r * c->width;
    PTQ_DIFF(soft_tangent, bs->tile_p + at, bs->tile_t + at, c->width,
             d->soft.top[ptq_tile_soft(&c->t, r)], (ptq_real)lane->tile_sum[r],
             bs->tile_sd + at, bs->tile_dsd + at);
  }
  spread_keys(c, bs->tile_sd, own->tile_out, 1.0F, &d->dx.v);
  spread_keys(c, bs->tile_p, lane->tile_out, 1.0F, &d->dx.v);
  if (info->attn_cap > 0.0)
    PTQ_DIFF(cap_tangent, bs->tile_cap, bs->tile_capd, bs->tile_dcap,
             (ptq_real)info->attn_cap, c->t.rows * c->width, bs->tile_dsd);
  gather_keys(c, bs->tile_dsd, &c->a->x.k, scale, lane->tile_dq);
  gather_keys(c, bs->tile_ds, &d->x.k, scale, lane->tile_dq);
  spread_keys(c, bs->tile_dsd, own->tile_q, scale, &d->dx.k);
  spread_keys(c, bs->tile_ds, lane->tile_q, scale, &d->dx.k);
}

static void vjp_tile(pass *c, int64_t k, const ptq_attended *tangents) {
  const ptq_lane *own = &c->bs->lanes[0];
  const ptq_real scale = (ptq_real)c->t.info->attn_scale;
  vjp_begin(c, own, c->a);
  for (int64_t j = 0; j < k; j++)
    vjp_begin(c, &c->bs->lanes[1 + j], &tangents[j]);
  for (c->k0 = c->t.first; c->k0 < c->t.end; c->k0 += PTQ_BACK_KEYS) {
    c->width = least(c->t.end - c->k0, PTQ_BACK_KEYS);
    vjp_scores(c, k > 0);
    for (int64_t j = 0; j < k; j++)
      vjp_tangent(c, &c->bs->lanes[1 + j], &tangents[j]);
    gather_keys(c, c->bs->tile_ds, &c->a->x.k, scale, own->tile_dq);
    spread_keys(c, c->bs->tile_ds, own->tile_q, scale, &c->a->dx.k);
  }
  ptq_tile_scatter_vjp(&c->t, own->tile_dq, &c->a->dx.q);
  for (int64_t j = 0; j < k; j++)
    ptq_tile_scatter_vjp(&c->t, c->bs->lanes[1 + j].tile_dq, &tangents[j].dx.q);
}

void ptq_attention_vjp(const ptq_model_info *info, unsigned flags, int64_t n,
                       ptq_backspace *bs, const ptq_attended *a, int64_t k,
                       const ptq_attended *tangents) {
  const ptq_branch whole = {.n = n};
  const int64_t count = ptq_tile_count(info, &whole, bs->ws);
  const ptq_turns *turns = ptq_turns_of(info, flags, n, bs->ws);
  const size_t bytes = (size_t)ptq_qkv_size(info, n) * sizeof(ptq_real);
  memset(a->dx.q.p, 0, bytes);
  for (int64_t j = 0; j < k; j++) memset(tangents[j].dx.q.p, 0, bytes);
  for (int64_t i = 0; i < count; i++) {
    pass c = {
        .t = ptq_tile_at(info, flags, &whole, bs->ws, i), .bs = bs, .a = a};
    vjp_tile(&c, k, tangents);
  }
  ptq_rotate_keys_vjp(info, turns, n, &a->dx.k);
  for (int64_t j = 0; j < k; j++)
    ptq_rotate_keys_vjp(info, turns, n, &tangents[j].dx.k);
}
