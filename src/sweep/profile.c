/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "profile.h"

#include <math.h>
#include <string.h>

#include "directions.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/statistics.h"
#include "stream_score.h"

void ptq_profile_close(ptq_profile *p) {
  for (int64_t i = 0; p->lanes != NULL && i < p->n; i++) {
    ptq_stream_release(&p->lanes[i].eval);
    ptq_stream_release(&p->lanes[i].calib);
    ptq_free(p->lanes[i].nll);
  }
  ptq_free(p->lanes);
  ptq_free(p->rows);
  ptq_free(p->x);
  ptq_free(p->w);
  ptq_block_release(&p->block);
  ptq_hands_close(&p->hands);
  ptq_displacer_close(&p->displacer);
  ptq_setup_close(&p->setup);
  *p = (ptq_profile){0};
}

static ptq_status load_block(ptq_profile *p, int64_t i, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_block_release(&p->block);
  PTQ_TRY(ptq_model_load_block(p->setup.model, i, &p->block, err));
  PTQ_TRY(ptq_displacer_block(&p->displacer, &p->block, err));
done:
  return rc;
}

/* A random direction is as long as the weights; a displacement is measured. */
static ptq_status measure_size(ptq_profile *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double direction = 0.0, weights = 0.0;
  p->size = 1.0;
  if (!ptq_direction_displaces(p->kind)) return PTQ_OK;
  for (int64_t i = 0; i < p->setup.info->n_blocks; i++) {
    PTQ_TRY(load_block(p, i, err));
    ptq_displacer_add_energies(&p->displacer, &p->block, &direction, &weights);
  }
  p->size = weights > 0.0 ? sqrt(direction / weights) : 0.0;
done:
  return rc;
}

/* Radii from 0 in order, the rounded model among them. A format that loses
 * nothing goes nowhere. */
static void set_factors(ptq_profile *p, const ptq_landscape_spec *l) {
  bool placed = !ptq_direction_displaces(p->kind);
  int64_t at = 0;
  for (int64_t i = 0; i <= l->radii; i++) {
    const double radius = ptq_landscape_radius(l, i);
    if (!placed && i > 0 && radius > p->size) {
      p->lanes[at].factor = 1.0;
      p->lanes[at++].radius = p->size;
      placed = true;
    }
    p->lanes[at].factor = p->size > 0.0 ? radius / p->size : 0.0;
    p->lanes[at++].radius = p->size > 0.0 ? radius : 0.0;
  }
  if (placed) return;
  p->lanes[at].factor = 1.0;
  p->lanes[at].radius = p->size;
}

static ptq_status embed(ptq_profile *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_embedding e = {0};
  const ptq_setup *s = &p->setup;
  PTQ_TRY(ptq_model_load_embedding(s->model, &e, err));
  for (int64_t i = 0; i < p->n; i++) {
    PTQ_TRY(ptq_stream_embed(&p->lanes[i].eval, s->room, s->info, &e, &s->eval,
                             err));
    if (p->with_calib)
      PTQ_TRY(ptq_stream_embed(&p->lanes[i].calib, s->room, s->info, &e,
                               &s->calib, err));
  }
done:
  ptq_embedding_release(&e);
  return rc;
}

static ptq_status profile_open(ptq_profile *p, const ptq_grid *g,
                               int64_t direction, ptq_displaced *from,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_direction *d = &g->directions[direction];
  *p = (ptq_profile){
      .kind = d->kind,
      .with_calib = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL};
  PTQ_TRY(ptq_setup_open(&p->setup, g, d->subject, err));
  const int64_t windows = p->setup.eval.n, steps = ptq_direction_steps(g, d);
  PTQ_TRY(ptq_displacer_open(&p->displacer, g, d, p->setup.model, from, err));
  PTQ_TRY(ptq_alloc(&p->lanes, steps, sizeof *p->lanes, "a profile", err));
  p->n = steps;
  for (int64_t i = 0; i < p->n; i++) {
    ptq_profile_lane *l = &p->lanes[i];
    l->eval.h.fd = l->calib.h.fd = -1;
    PTQ_TRY(ptq_alloc(&l->nll, windows, sizeof *l->nll, "a profile", err));
  }
  PTQ_TRY(ptq_alloc(&p->rows, p->n, sizeof *p->rows, "a profile", err));
  PTQ_TRY(ptq_alloc(&p->x, windows, sizeof *p->x, "a profile", err));
  PTQ_TRY(ptq_alloc(&p->w, windows, sizeof *p->w, "a profile", err));
  PTQ_TRY(measure_size(p, err));
  ptq_block_release(&p->block); /* makes room */
  set_factors(p, &g->spec->landscape);
  PTQ_TRY(embed(p, err));
  PTQ_TRY(ptq_hands_open(&p->hands, p->setup.info, p->setup.room.hands,
                         ptq_setup_max_length(&p->setup), err));
done:
  return rc;
}

static ptq_status walk(ptq_profile *p, const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = p->setup.info;
  const double all = (double)p->n * (double)(info->n_blocks + 1);
  for (int64_t i = 0; i < info->n_blocks; i++) {
    PTQ_TRY(load_block(p, i, err));
    for (int64_t k = 0; k < p->n; k++) {
      ptq_profile_lane *l = &p->lanes[k];
      const ptq_block *b =
          ptq_displacer_move(&p->displacer, &p->block, l->factor);
      PTQ_TRY(ptq_stream_advance(&l->eval, &p->hands, b, err));
      if (p->with_calib)
        PTQ_TRY(ptq_stream_advance(&l->calib, &p->hands, b, err));
      PTQ_TRY(sink->alive(sink->ctx, (double)(i * p->n + k + 1) / all, err));
    }
  }
done:
  return rc;
}

static ptq_status score_lane(ptq_profile *p, ptq_stream_score *s, double *all,
                             ptq_profile_lane *l, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_stream_score_run(s, &l->eval, &p->setup.eval, l->nll, err));
  if (!p->with_calib) return PTQ_OK;
  PTQ_TRY(ptq_stream_score_run(s, &l->calib, &p->setup.calib, all, err));
  for (int64_t i = 0; i < p->setup.calib.n; i++) l->nll_calib += all[i];
done:
  return rc;
}

static ptq_status score(ptq_profile *p, const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const double blocks = (double)p->setup.info->n_blocks;
  ptq_stream_score s = {0};
  double *all = NULL;
  ptq_block_release(&p->block); /* makes room */
  ptq_displacer_close(&p->displacer);
  ptq_hands_close(&p->hands);
  PTQ_TRY(ptq_stream_score_open(&s, &p->setup, err));
  PTQ_TRY(ptq_alloc(&all, p->setup.calib.n, sizeof *all, "scores", err));
  for (int64_t k = 0; k < p->n; k++) {
    const double share = (double)(k + 1) / (double)(p->n + 1);
    PTQ_TRY(score_lane(p, &s, all, &p->lanes[k], err));
    PTQ_TRY(sink->alive(sink->ctx, (blocks + share) / (blocks + 1.0), err));
  }
done:
  ptq_free(all);
  ptq_stream_score_close(&s);
  return rc;
}

/* The prediction of a parabola holds within a tenth, or a hundredth of a nat.
 */
static bool holds(const ptq_profile_row *r) {
  return fabs(r->dnll_quadratic - r->dnll_calib) <=
         fmax(0.01, 0.1 * fabs(r->dnll_calib));
}

/* What derivatives, where row has them, say of the steps. */
static void predict(ptq_profile *p, ptq_direction_row *row) {
  const bool displaces = ptq_direction_displaces(p->kind);
  double radius = 0.0;
  bool good = isfinite(row->curvature);
  for (int64_t k = 0; k < p->n; k++) {
    ptq_profile_row *r = &p->rows[k];
    r->dnll_quadratic =
        r->factor * row->slope + r->factor * r->factor * row->curvature / 2.0;
    good = good && holds(r);
    if (good) radius = r->radius;
    if (!displaces || r->factor != 1.0) continue;
    row->dnll = r->dnll;
    row->dnll_se = r->dnll_se;
    row->dnll_calib = r->dnll_calib;
    row->dnll_quadratic = r->dnll_quadratic;
  }
  if (isfinite(row->curvature)) row->quadratic_radius = radius;
}

/* The seed of resampling is the hash of the key, as of points. */
static void summarize(ptq_profile *p, int64_t direction,
                      ptq_direction_row *row) {
  const int64_t n = p->setup.eval.n;
  const uint64_t seed = ptq_hash64(row->key, strlen(row->key));
  const double tokens = ptq_score_tokens(&p->setup.calib);
  for (int64_t i = 0; i < n; i++)
    p->w[i] = (double)ptq_windows_scored(&p->setup.eval, i);
  for (int64_t k = 0; k < p->n; k++) {
    const ptq_profile_lane *l = &p->lanes[k];
    ptq_profile_row *r = &p->rows[k];
    ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), r);
    r->direction = direction;
    r->step = k;
    r->factor = l->factor;
    r->radius = l->radius;
    r->nll = ptq_score_mean(l->nll, p->w, n);
    r->nll_se = ptq_window_se(l->nll, p->w, n);
    for (int64_t i = 0; i < n; i++) p->x[i] = l->nll[i] - p->lanes[0].nll[i];
    r->dnll = ptq_score_mean(p->x, p->w, n);
    r->dnll_se = ptq_block_bootstrap_se(p->x, p->w, n, seed);
    if (p->with_calib)
      r->dnll_calib = (l->nll_calib - p->lanes[0].nll_calib) / tokens;
  }
  predict(p, row);
  row->size = p->size;
  row->nll = p->rows[0].nll;
  if (p->with_calib) row->nll_calib = p->lanes[0].nll_calib / tokens;
}

ptq_status ptq_profile_run(ptq_profile *p, const ptq_grid *g, int64_t direction,
                           ptq_displaced *from, const ptq_sink *sink,
                           ptq_direction_row *row, ptq_err *err) {
  ptq_status rc = profile_open(p, g, direction, from, err);
  if (rc == PTQ_OK) rc = walk(p, sink, err);
  if (rc == PTQ_OK) rc = score(p, sink, err);
  if (rc == PTQ_OK) summarize(p, direction, row);
  return rc;
}
