/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "directions.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/sweep/landscape.h"

static void add(ptq_grid *g, int64_t subject, int kind, int64_t number,
                int64_t point) {
  g->directions[g->n_directions++] = (ptq_direction){
      .subject = subject, .kind = kind, .number = number, .point = point};
}

/* One a dtype: that of its first point. */
static void add_displacements(ptq_grid *g, int64_t subject) {
  for (int64_t dtype = 0; dtype < g->spec->n_dtypes; dtype++)
    for (int64_t i = 0; i < g->n_points; i++) {
      if (g->points[i].subject != subject || g->points[i].dtype != dtype)
        continue;
      add(g, subject, PTQ_DIRECTION_RTN, 0, i);
      break;
    }
}

ptq_status ptq_grid_add_directions(ptq_grid *g, ptq_err *err) {
  const ptq_landscape_spec *l = &g->spec->landscape;
  if (l->mode == PTQ_LANDSCAPE_OFF) return PTQ_OK;
  const int64_t most = 1 + PTQ_RANDOM_KINDS * l->directions + g->spec->n_dtypes;
  const ptq_status rc = ptq_alloc(&g->directions, g->n_subjects * most,
                                  sizeof *g->directions, "directions", err);
  if (rc != PTQ_OK) return rc;
  for (int64_t s = 0; s < g->n_subjects; s++) {
    if (l->mode == PTQ_LANDSCAPE_FULL) add(g, s, PTQ_DIRECTION_HESSIAN, 0, -1);
    for (int kind = 0; kind < PTQ_RANDOM_KINDS; kind++)
      for (int64_t i = 0; l->random[kind] && i < l->directions; i++)
        add(g, s, kind, i, -1);
    if (l->rtn) add_displacements(g, s);
  }
  return PTQ_OK;
}

int64_t ptq_grid_own(const ptq_grid *g) {
  return g->n_subjects + g->n_directions;
}

int64_t ptq_grid_own_subject(const ptq_grid *g, int64_t own) {
  return own < g->n_subjects ? own : g->directions[own - g->n_subjects].subject;
}

int64_t ptq_direction_steps(const ptq_grid *g, const ptq_direction *d) {
  if (d->kind == PTQ_DIRECTION_HESSIAN) return 0;
  return g->spec->landscape.radii + 1 + (d->kind == PTQ_DIRECTION_RTN);
}

double ptq_landscape_radius(const ptq_landscape_spec *l, int64_t i) {
  if (i == 0) return 0.0;
  if (i == 1) return l->smallest;
  if (i == l->radii) return l->largest;
  const double share = (double)(i - 1) / (double)(l->radii - 1);
  return exp((1.0 - share) * log(l->smallest) + share * log(l->largest));
}

void ptq_direction_rows(const ptq_grid *g, int64_t direction,
                        ptq_direction_size *out) {
  const ptq_landscape_spec *l = &g->spec->landscape;
  const ptq_direction *d = &g->directions[direction];
  const bool hessian = d->kind == PTQ_DIRECTION_HESSIAN;
  *out = (ptq_direction_size){.steps = ptq_direction_steps(g, d)};
  if (l->mode != PTQ_LANDSCAPE_FULL) return;
  out->layers = ptq_subject_layers(&g->subjects[d->subject]);
  if (hessian) out->ritz = l->starts * l->lanczos;
}
