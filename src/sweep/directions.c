/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "directions.h"

#include <math.h>

#include "displace.h"
#include "ptq/base/mem.h"
#include "ptq/sweep/landscape.h"

static void add(ptq_grid *g, int64_t subject, int kind, int64_t number,
                int64_t point) {
  g->directions[g->n_directions++] = (ptq_direction){
      .subject = subject, .kind = kind, .number = number, .point = point};
}

bool ptq_direction_displaces(int kind) {
  return kind == PTQ_DIRECTION_RTN || kind == PTQ_DIRECTION_GPTQ;
}

/* A dtype's first point of a subject; -1: none. */
static int64_t first_point(const ptq_grid *g, int64_t subject, int64_t dtype) {
  for (int64_t i = 0; i < g->n_points; i++)
    if (g->points[i].subject == subject && g->points[i].dtype == dtype)
      return i;
  return -1;
}

/* GPTQ refuses some formats; a mixture's are seen when it runs. */
static ptq_status check_gptq(const ptq_grid *g, int64_t point, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_method gptq;
  ptq_err why = {0};
  const ptq_point *p = &g->points[point];
  PTQ_TRY(ptq_displacer_method(PTQ_DIRECTION_GPTQ, &gptq, err));
  if (ptq_spec_mixture(g->spec, p->dtype) != NULL) return PTQ_OK;
  if (gptq.family->accepts(&gptq, &g->spec->dtypes[p->dtype], p->group, &why) !=
      PTQ_OK)
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "%s: landscape: GPTQ displaces nothing to '%s': %s; leave "
                  "'gptq' out of 'methods'",
                  g->spec->path, g->spec->dtypes[p->dtype].name, why.msg);
done:
  return rc;
}

/* One a method and dtype: that of its first point. */
static ptq_status add_displacements(ptq_grid *g, int64_t subject,
                                    ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_landscape_spec *l = &g->spec->landscape;
  for (int64_t dtype = 0; dtype < g->spec->n_dtypes; dtype++) {
    const int64_t i = first_point(g, subject, dtype);
    if (i >= 0 && l->rtn) add(g, subject, PTQ_DIRECTION_RTN, 0, i);
  }
  for (int64_t dtype = 0; dtype < g->spec->n_dtypes; dtype++) {
    const int64_t i = first_point(g, subject, dtype);
    if (i < 0 || !l->gptq) continue;
    PTQ_TRY(check_gptq(g, i, err));
    add(g, subject, PTQ_DIRECTION_GPTQ, 0, i);
  }
done:
  return rc;
}

/* One a dtype and block. */
static void add_sensitivities(ptq_grid *g, int64_t subject) {
  const bool *wanted = g->spec->landscape.sensitivity;
  for (int64_t dtype = 0; dtype < g->spec->n_dtypes; dtype++) {
    const int64_t i = first_point(g, subject, dtype);
    if (i < 0 || wanted == NULL || !wanted[dtype]) continue;
    for (int64_t b = 0; b < g->subjects[subject].info.n_blocks; b++)
      add(g, subject, PTQ_DIRECTION_SENSITIVITY, b, i);
  }
}

static int64_t most_blocks(const ptq_grid *g) {
  int64_t most = 0;
  for (int64_t s = 0; s < g->n_subjects; s++)
    if (g->subjects[s].info.n_blocks > most)
      most = g->subjects[s].info.n_blocks;
  return most;
}

ptq_status ptq_grid_add_directions(ptq_grid *g, ptq_err *err) {
  const ptq_landscape_spec *l = &g->spec->landscape;
  if (l->mode == PTQ_LANDSCAPE_OFF) return PTQ_OK;
  ptq_status rc = PTQ_OK;
  const int64_t most = 1 + PTQ_RANDOM_KINDS * l->directions +
                       (2 + most_blocks(g)) * g->spec->n_dtypes;
  PTQ_TRY(ptq_alloc(&g->directions, g->n_subjects * most, sizeof *g->directions,
                    "directions", err));
  for (int64_t s = 0; s < g->n_subjects; s++) {
    if (l->mode == PTQ_LANDSCAPE_FULL) add(g, s, PTQ_DIRECTION_HESSIAN, 0, -1);
    for (int kind = 0; kind < PTQ_RANDOM_KINDS; kind++)
      for (int64_t i = 0; l->random[kind] && i < l->directions; i++)
        add(g, s, kind, i, -1);
    PTQ_TRY(add_displacements(g, s, err));
    add_sensitivities(g, s);
  }
done:
  return rc;
}

int64_t ptq_grid_own(const ptq_grid *g) {
  return g->n_subjects + g->n_directions;
}

int64_t ptq_grid_own_subject(const ptq_grid *g, int64_t own) {
  return own < g->n_subjects ? own : g->directions[own - g->n_subjects].subject;
}

int64_t ptq_direction_steps(const ptq_grid *g, const ptq_direction *d) {
  if (d->kind == PTQ_DIRECTION_HESSIAN || d->kind == PTQ_DIRECTION_SENSITIVITY)
    return 0;
  return g->spec->landscape.radii + 1 + ptq_direction_displaces(d->kind);
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
  const ptq_subject *s = &g->subjects[d->subject];
  *out = (ptq_direction_size){.steps = ptq_direction_steps(g, d)};
  if (d->kind == PTQ_DIRECTION_SENSITIVITY)
    out->layers = ptq_subject_layers(s) / s->info.n_blocks;
  if (d->kind == PTQ_DIRECTION_SENSITIVITY || l->mode != PTQ_LANDSCAPE_FULL)
    return;
  out->layers = ptq_subject_layers(s);
  if (hessian) out->ritz = l->starts * l->lanczos;
}
