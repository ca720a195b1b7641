/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "profile.h"

#include <math.h>
#include <string.h>

#include "directions.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/statistics.h"
#include "stream_score.h"

int64_t ptq_profile_lanes(int64_t steps) {
  return steps < PTQ_PROFILE_LANES ? steps : PTQ_PROFILE_LANES;
}

int64_t ptq_profile_waves(int64_t steps) {
  return (steps + PTQ_PROFILE_LANES - 1) / PTQ_PROFILE_LANES;
}

/* What blocks are walked with. */
static void release_walk(ptq_profile *p) {
  ptq_block_release(&p->block);
  ptq_displacer_close(&p->displacer);
  ptq_hands_close(&p->hands);
}

static void release_streams(ptq_profile *p) {
  for (int64_t i = 0; i < PTQ_PROFILE_LANES; i++) {
    ptq_stream_release(&p->lanes[i].eval);
    ptq_stream_release(&p->lanes[i].calib);
  }
}

void ptq_profile_close(ptq_profile *p) {
  release_walk(p);
  release_streams(p);
  for (int64_t i = 0; i < PTQ_PROFILE_LANES; i++) ptq_free(p->lanes[i].nll);
  ptq_free(p->base);
  ptq_free(p->rows);
  ptq_free(p->there);
  ptq_free(p->todo);
  ptq_free(p->x);
  ptq_free(p->w);
  ptq_setup_close(&p->setup);
  *p = (ptq_profile){0};
}

static ptq_status open_displacer(ptq_profile *p, ptq_err *err) {
  return ptq_displacer_open(&p->displacer, p->grid, p->direction,
                            p->setup.model, p->from, err);
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
  if (!ptq_direction_displaces(p->direction->kind)) return PTQ_OK;
  PTQ_TRY(open_displacer(p, err));
  for (int64_t i = 0; i < p->setup.info->n_blocks; i++) {
    PTQ_TRY(load_block(p, i, err));
    ptq_displacer_add_energies(&p->displacer, &p->block, &direction, &weights);
  }
  p->size = weights > 0.0 ? sqrt(direction / weights) : 0.0;
done:
  release_walk(p); /* makes room */
  return rc;
}

static void place(ptq_profile *p, int64_t *at, double factor, double radius) {
  ptq_profile_row *r = &p->rows[*at];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), r);
  r->direction = p->direction - p->grid->directions;
  r->step = *at;
  r->factor = factor;
  r->radius = radius;
  ++*at;
}

/* Radii from 0 in order, the rounded model among them. A format that loses
 * nothing goes nowhere. */
static void set_factors(ptq_profile *p) {
  const ptq_landscape_spec *l = &p->grid->spec->landscape;
  bool placed = !ptq_direction_displaces(p->direction->kind);
  int64_t at = 0;
  for (int64_t i = 0; i <= l->radii; i++) {
    const double radius = ptq_landscape_radius(l, i);
    if (!placed && i > 0 && radius > p->size) {
      place(p, &at, 1.0, p->size);
      placed = true;
    }
    place(p, &at, p->size > 0.0 ? radius / p->size : 0.0,
          p->size > 0.0 ? radius : 0.0);
  }
  if (!placed) place(p, &at, 1.0, p->size);
}

/* What is missing. Differences are to radius 0, and its loss on the calibration
 * text stands in no row of the profile. */
static ptq_status set_todo(ptq_profile *p, const ptq_sink *sink, ptq_err *err) {
  const ptq_steps all = {.direction = p->direction - p->grid->directions,
                         .key = p->direction->key,
                         .rows = p->rows,
                         .n = p->n};
  bool any = p->with_calib;
  if (sink->left != NULL) {
    const ptq_status rc = sink->left(sink->ctx, &all, p->there, err);
    if (rc != PTQ_OK) return rc;
  }
  for (int64_t k = 0; k < p->n; k++) any = any || !p->there[k];
  for (int64_t k = 0; k < p->n; k++)
    if (k == 0 ? any : !p->there[k]) p->todo[p->n_todo++] = k;
  return PTQ_OK;
}

static ptq_status profile_open(ptq_profile *p, const ptq_grid *g,
                               int64_t direction, ptq_displaced *from,
                               const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_direction *d = &g->directions[direction];
  *p =
      (ptq_profile){.grid = g,
                    .direction = d,
                    .from = from,
                    .with_calib = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL,
                    .n = ptq_direction_steps(g, d)};
  PTQ_TRY(ptq_setup_open(&p->setup, g, d->subject, err));
  const int64_t windows = p->setup.eval.n;
  for (int64_t i = 0; i < PTQ_PROFILE_LANES; i++)
    PTQ_TRY(
        ptq_alloc(&p->lanes[i].nll, windows, sizeof(double), "a profile", err));
  PTQ_TRY(ptq_alloc(&p->rows, p->n, sizeof *p->rows, "a profile", err));
  PTQ_TRY(ptq_alloc(&p->there, p->n, sizeof *p->there, "a profile", err));
  PTQ_TRY(ptq_alloc(&p->todo, p->n, sizeof *p->todo, "a profile", err));
  PTQ_TRY(ptq_alloc(&p->base, windows, sizeof *p->base, "a profile", err));
  PTQ_TRY(ptq_alloc(&p->x, windows, sizeof *p->x, "a profile", err));
  PTQ_TRY(ptq_alloc(&p->w, windows, sizeof *p->w, "a profile", err));
  for (int64_t i = 0; i < windows; i++)
    p->w[i] = (double)ptq_windows_scored(&p->setup.eval, i);
  PTQ_TRY(measure_size(p, err));
  set_factors(p);
  PTQ_TRY(set_todo(p, sink, err));
done:
  return rc;
}

static ptq_status embed(ptq_profile *p, int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_embedding e = {0};
  const ptq_setup *s = &p->setup;
  PTQ_TRY(ptq_model_load_embedding(s->model, &e, err));
  for (int64_t i = 0; i < n; i++) {
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

/* A lane has a block, or the head, behind it. */
static ptq_status tell(ptq_profile *p, const ptq_sink *sink, ptq_err *err) {
  const int64_t all = p->n_todo * (p->setup.info->n_blocks + 1) + 1;
  return sink->alive(sink->ctx, (double)++p->moves / (double)all, err);
}

static ptq_status walk(ptq_profile *p, int64_t n, const ptq_sink *sink,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_setup *s = &p->setup;
  PTQ_TRY(open_displacer(p, err));
  PTQ_TRY(ptq_hands_open(&p->hands, s->info, s->room.hands,
                         ptq_setup_max_length(s), err));
  for (int64_t i = 0; i < s->info->n_blocks; i++) {
    PTQ_TRY(load_block(p, i, err));
    for (int64_t k = 0; k < n; k++) {
      ptq_profile_lane *l = &p->lanes[k];
      const ptq_block *b =
          ptq_displacer_move(&p->displacer, &p->block, p->rows[l->step].factor);
      PTQ_TRY(ptq_stream_advance(&l->eval, &p->hands, b, err));
      if (p->with_calib)
        PTQ_TRY(ptq_stream_advance(&l->calib, &p->hands, b, err));
      PTQ_TRY(tell(p, sink, err));
    }
  }
done:
  release_walk(p); /* makes room */
  return rc;
}

static ptq_status score_lane(ptq_profile *p, ptq_stream_score *s, double *all,
                             ptq_profile_lane *l, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  l->nll_calib = 0.0;
  PTQ_TRY(ptq_stream_score_run(s, &l->eval, &p->setup.eval, l->nll, err));
  if (!p->with_calib) return PTQ_OK;
  PTQ_TRY(ptq_stream_score_run(s, &l->calib, &p->setup.calib, all, err));
  for (int64_t i = 0; i < p->setup.calib.n; i++) l->nll_calib += all[i];
done:
  return rc;
}

static ptq_status score(ptq_profile *p, int64_t n, const ptq_sink *sink,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_stream_score s = {0};
  double *all = NULL;
  PTQ_TRY(ptq_stream_score_open(&s, &p->setup, err));
  PTQ_TRY(ptq_alloc(&all, p->setup.calib.n, sizeof *all, "scores", err));
  for (int64_t k = 0; k < n; k++) {
    PTQ_TRY(score_lane(p, &s, all, &p->lanes[k], err));
    PTQ_TRY(tell(p, sink, err));
  }
done:
  ptq_free(all);
  ptq_stream_score_close(&s);
  return rc;
}

/* What a lane's step comes to; derivatives, where row has them, were measured
 * before. The seed of resampling is the hash of the key, as of points. */
static void fill_row(ptq_profile *p, const ptq_profile_lane *l,
                     const ptq_direction_row *row) {
  const int64_t n = p->setup.eval.n;
  const uint64_t seed = ptq_hash64(row->key, strlen(row->key));
  ptq_profile_row *r = &p->rows[l->step];
  if (l->step == 0) {
    memcpy(p->base, l->nll, (size_t)n * sizeof *p->base);
    p->base_calib = l->nll_calib;
  }
  r->nll = ptq_score_mean(l->nll, p->w, n);
  r->nll_se = ptq_window_se(l->nll, p->w, n);
  for (int64_t i = 0; i < n; i++) p->x[i] = l->nll[i] - p->base[i];
  r->dnll = ptq_score_mean(p->x, p->w, n);
  r->dnll_se = ptq_block_bootstrap_se(p->x, p->w, n, seed);
  if (p->with_calib)
    r->dnll_calib =
        (l->nll_calib - p->base_calib) / ptq_score_tokens(&p->setup.calib);
  r->dnll_quadratic =
      r->factor * row->slope + r->factor * r->factor * row->curvature / 2.0;
}

/* The rows of a wave that were not there before. */
static ptq_status hand_over(ptq_profile *p, int64_t n, const ptq_sink *sink,
                            ptq_err *err) {
  ptq_profile_row fresh[PTQ_PROFILE_LANES];
  ptq_steps s = {.direction = p->direction - p->grid->directions,
                 .key = p->direction->key,
                 .rows = fresh};
  for (int64_t i = 0; i < n; i++)
    if (!p->there[p->lanes[i].step]) fresh[s.n++] = p->rows[p->lanes[i].step];
  if (s.n == 0 || sink->steps == NULL) return PTQ_OK;
  return sink->steps(sink->ctx, &s, err);
}

/* Some steps through all blocks and the head. */
static ptq_status run_wave(ptq_profile *p, const int64_t *steps, int64_t n,
                           const ptq_sink *sink, const ptq_direction_row *row,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < n; i++) p->lanes[i].step = steps[i];
  PTQ_TRY(embed(p, n, err));
  PTQ_TRY(walk(p, n, sink, err));
  PTQ_TRY(score(p, n, sink, err));
  for (int64_t i = 0; i < n; i++) fill_row(p, &p->lanes[i], row);
  PTQ_TRY(hand_over(p, n, sink, err));
done:
  release_streams(p);
  return rc;
}

/* The prediction of a parabola holds within a tenth, or a hundredth of a nat.
 */
static bool holds(const ptq_profile_row *r) {
  return fabs(r->dnll_quadratic - r->dnll_calib) <=
         fmax(0.01, 0.1 * fabs(r->dnll_calib));
}

/* What the steps say of the direction. */
static void summarize(ptq_profile *p, ptq_direction_row *row) {
  const bool displaces = ptq_direction_displaces(p->direction->kind);
  double radius = 0.0;
  bool good = isfinite(row->curvature);
  for (int64_t k = 0; k < p->n; k++) {
    const ptq_profile_row *r = &p->rows[k];
    good = good && holds(r);
    if (good) radius = r->radius;
    if (!displaces || r->factor != 1.0) continue;
    row->dnll = r->dnll;
    row->dnll_se = r->dnll_se;
    row->dnll_calib = r->dnll_calib;
    row->dnll_quadratic = r->dnll_quadratic;
  }
  if (isfinite(row->curvature)) row->quadratic_radius = radius;
  row->size = p->size;
  row->nll = p->rows[0].nll;
  if (p->with_calib)
    row->nll_calib = p->base_calib / ptq_score_tokens(&p->setup.calib);
}

ptq_status ptq_profile_run(ptq_profile *p, const ptq_grid *g, int64_t direction,
                           ptq_displaced *from, const ptq_sink *sink,
                           ptq_direction_row *row, ptq_err *err) {
  ptq_status rc = profile_open(p, g, direction, from, sink, err);
  for (int64_t at = 0; rc == PTQ_OK && at < p->n_todo; at += PTQ_PROFILE_LANES)
    rc = run_wave(p, p->todo + at, ptq_profile_lanes(p->n_todo - at), sink, row,
                  err);
  if (rc == PTQ_OK) summarize(p, row);
  return rc;
}
