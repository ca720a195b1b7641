/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/landscape.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "step_fit.h"

const double ptq_basin_rise[PTQ_BASINS] = {0.1, 0.5, 1.0};

bool ptq_direction_is_rtn(const ptq_direction_row *d) {
  return strcmp(d->kind, "rtn") == 0;
}

bool ptq_direction_is_random(const ptq_direction_row *d) {
  return strcmp(d->kind, "gaussian") == 0 || strcmp(d->kind, "uniform") == 0;
}

bool ptq_direction_quantizes(const ptq_direction_row *d) {
  return ptq_direction_is_rtn(d) || strcmp(d->kind, "gptq") == 0;
}

/* Between the last step below `rise` and the first at it, on ln radius. */
static double basin_of(const ptq_profile_row *s, int64_t n, double rise) {
  for (int64_t i = 1; i < n; i++) {
    if (s[i].dnll < rise) continue;
    if (i == 1) return (double)NAN; /* below the smallest radius */
    if (!isfinite(s[i].dnll)) return s[i - 1].radius;
    const double low = s[i - 1].dnll, share = (rise - low) / (s[i].dnll - low);
    return exp((1.0 - share) * log(s[i - 1].radius) + share * log(s[i].radius));
  }
  return INFINITY;
}

/* dnll = a r + c r^2 / 2, weighted by the steps' errors. */
static void parabola(const ptq_profile_row *s, int64_t n,
                     ptq_direction_traits *out) {
  double rr = 0.0, rq = 0.0, qq = 0.0, ry = 0.0, qy = 0.0;
  int64_t used = 0;
  for (int64_t i = 1; i < n && s[i].radius < out->basin[0]; i++) {
    const double r = s[i].radius, q = r * r / 2.0;
    /* without an error (one window) relative to the radius, as errors are */
    const double e = s[i].dnll_se > 0.0 ? s[i].dnll_se : r;
    const double w = 1.0 / (e * e);
    if (!isfinite(s[i].dnll) || !(r > 0.0)) continue;
    rr += w * r * r;
    rq += w * r * q;
    qq += w * q * q;
    ry += w * r * s[i].dnll;
    qy += w * q * s[i].dnll;
    used++;
  }
  const double det = rr * qq - rq * rq;
  if (used < 3 || !(det > 1e-12 * rr * qq)) return;
  out->slope = (qq * ry - rq * qy) / det;
  out->curvature = (rr * qy - rq * ry) / det;
}

void ptq_profile_traits(const ptq_profile_row *steps, int64_t n,
                        ptq_direction_traits *out) {
  out->steps = steps;
  out->n = n;
  for (int i = 0; i < PTQ_BASINS; i++)
    out->basin[i] = basin_of(steps, n, ptq_basin_rise[i]);
  out->slope = out->curvature = NAN;
  parabola(steps, n, out);
  out->step = ptq_step_fit_of(steps, n);
}

static double quadratic_radius(const ptq_direction_traits *t) {
  double radius = 0.0;
  if (!isfinite(t->row->curvature)) return NAN;
  for (int64_t i = 1; i < t->n; i++) {
    const ptq_profile_row *s = &t->steps[i];
    const double miss =
        fabs(ptq_landscape_quadratic(t->row, s->radius) - s->dnll_calib);
    if (!(miss <= fmax(0.01, 0.1 * fabs(s->dnll_calib)))) break;
    radius = s->radius;
  }
  return radius;
}

static void direction_of(const ptq_direction_row *row,
                         const ptq_profile_row *steps, int64_t n,
                         ptq_direction_traits *out) {
  *out = (ptq_direction_traits){
      .row = row, .dnll_at_one = NAN, .calib_at_one = NAN};
  ptq_profile_traits(steps, n, out);
  out->quadratic_radius = quadratic_radius(out);
  if (!ptq_direction_quantizes(row)) return;
  for (int64_t i = 0; i < n; i++)
    if (steps[i].factor == 1.0) {
      out->dnll_at_one = steps[i].dnll;
      out->calib_at_one = steps[i].dnll_calib;
    }
  out->inside = row->size <= out->basin[1];
}

/* The same direction of the same model and texts? */
static bool is_same(const ptq_direction_row *a, const ptq_direction_row *b) {
  return a->subject == b->subject && a->number == b->number &&
         a->group == b->group && strcmp(a->kind, b->kind) == 0 &&
         strcmp(a->scaling, b->scaling) == 0 && strcmp(a->dtype, b->dtype) == 0;
}

/* Of two that are the same: derivatives count more than radii. */
static bool says_more(const ptq_direction_traits *a,
                      const ptq_direction_traits *b) {
  const bool x = isfinite(a->row->curvature), y = isfinite(b->row->curvature);
  return x != y ? x : a->n > b->n;
}

/* Joined stores may hold a direction twice, with derivatives and without: it
 * is one direction. */
static void add_direction(ptq_landscape *l, const ptq_direction_traits *d) {
  for (int64_t i = 0; i < l->n; i++) {
    ptq_direction_traits *old = &l->directions[i];
    if (!is_same(old->row, d->row)) continue;
    if (says_more(d, old)) *old = *d;
    return;
  }
  l->directions[l->n++] = *d;
}

/* A mean with its error over directions. */
typedef struct mean {
  double n, sum, square;
} mean;

static void take(mean *m, double v) {
  if (!isfinite(v)) return;
  m->n += 1.0;
  m->sum += v;
  m->square += v * v;
}

static double mean_of(const mean *m, double *se) {
  const double v = m->n > 0.0 ? m->sum / m->n : (double)NAN;
  const double spread = m->square - m->n * v * v;
  if (se != NULL)
    *se = m->n > 1.0 ? sqrt(fmax(0.0, spread) / (m->n - 1.0) / m->n)
                     : (double)NAN;
  return v;
}

static void random_of(const ptq_landscape *l, int64_t model,
                      ptq_landscape_traits *t) {
  mean basin[PTQ_BASINS] = {{0}}, curvature = {0}, height = {0}, width = {0};
  mean center = {0};
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_traits *d = &l->directions[i];
    if (d->row->subject != model || !ptq_direction_is_random(d->row)) continue;
    t->n_random++;
    for (int k = 0; k < PTQ_BASINS; k++) {
      take(&basin[k], log(d->basin[k]));
      t->n_below[k] += isnan(d->basin[k]);
      t->n_within[k] += isfinite(d->basin[k]);
    }
    t->n_steps += isfinite(d->step.height);
    take(&curvature, d->curvature);
    take(&height, d->step.height);
    take(&width, d->step.width);
    take(&center, d->step.center);
  }
  for (int k = 0; k < PTQ_BASINS; k++)
    t->log_basin[k] = mean_of(&basin[k], &t->log_basin_se[k]);
  t->curvature = mean_of(&curvature, &t->curvature_se);
  t->height = mean_of(&height, &t->height_se);
  t->width = mean_of(&width, &t->width_se);
  t->center = mean_of(&center, NULL);
}

static void model_of(const ptq_landscape *l, int64_t model,
                     ptq_landscape_traits *t) {
  const double none = (double)NAN;
  mean along = {0};
  *t = (ptq_landscape_traits){.gradient_norm = none,
                              .trace = none,
                              .trace_se = none,
                              .eigen_max = none,
                              .eigen_min = none,
                              .fisher = none,
                              .gauss_newton_trace = none,
                              .gauss_newton_max = none,
                              .output_trace = none};
  random_of(l, model, t);
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_row *d = l->directions[i].row;
    if (d->subject != model) continue;
    if (ptq_direction_is_rtn(d)) {
      t->n_rtn++;
      take(&along, log(l->directions[i].basin[1]) - t->log_basin[1]);
    } else if (strcmp(d->kind, "hessian") == 0) {
      t->gradient_norm = d->gradient_norm;
      t->trace = d->trace;
      t->trace_se = d->trace_se;
      t->eigen_max = d->eigen_max;
      t->eigen_min = d->eigen_min;
      t->fisher = d->fisher;
      t->gauss_newton_trace = d->gauss_newton_trace;
      t->gauss_newton_max = d->gauss_newton_max;
      t->output_trace = l->directions[i].output_trace;
    }
  }
  t->anisotropy = mean_of(&along, NULL);
}

/* NaN where a layer's was not measured. */
static double output_trace(const ptq_direction_layer_row *layers, int64_t n) {
  double sum = n > 0 ? 0.0 : (double)NAN;
  for (int64_t i = 0; i < n; i++) sum += layers[i].output_trace;
  return sum;
}

ptq_status ptq_landscape_read(ptq_view *v, int64_t n_models, ptq_landscape *out,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL, *steps = NULL, *ritz = NULL, *layers = NULL;
  int64_t n = 0, n_steps = 0, n_layers = 0;
  ptq_view_landscape index;
  *out = (ptq_landscape){0};
  ptq_view_directions(v, &index);
  if (index.n == 0) return PTQ_OK;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &n, err));
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_PROFILES, &steps, &n_steps, err));
  PTQ_TRY(
      ptq_view_table(v, PTQ_TABLE_DIRECTION_LAYERS, &layers, &n_layers, err));
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_RITZ, &ritz, &out->n_ritz, err));
  out->ritz = ritz;
  out->rows = rows;
  out->n_rows = n;
  PTQ_TRY(ptq_alloc(&out->directions, n, sizeof *out->directions, "directions",
                    err));
  PTQ_TRY(ptq_alloc(&out->models, n_models, sizeof *out->models, "landscapes",
                    err));
  for (int64_t i = 0; i < n; i++) {
    const ptq_direction_row *row = (const ptq_direction_row *)rows + i;
    const int64_t first = index.first_profile[i];
    if (index.state[i] != PTQ_STATE_DONE) continue;
    if (row->subject < 0 || row->subject >= n_models)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                       "'%s': direction %lld is of no model of the store",
                       ptq_view_path(v), (long long)i));
    ptq_direction_traits d;
    direction_of(row, (const ptq_profile_row *)steps + first,
                 index.first_profile[i + 1] - first, &d);
    d.output_trace = output_trace(
        (const ptq_direction_layer_row *)layers + index.first_layer[i],
        index.first_layer[i + 1] - index.first_layer[i]);
    add_direction(out, &d);
  }
  for (int64_t m = 0; m < n_models; m++) model_of(out, m, &out->models[m]);
done:
  if (rc != PTQ_OK) ptq_landscape_release(out);
  return rc;
}

void ptq_landscape_release(ptq_landscape *l) {
  ptq_free(l->directions);
  ptq_free(l->models);
  *l = (ptq_landscape){0};
}

const ptq_direction_traits *ptq_landscape_find(const ptq_landscape *l,
                                               int64_t subject,
                                               const char *dtype) {
  for (int64_t i = 0; i < l->n; i++) {
    const ptq_direction_row *d = l->directions[i].row;
    if (d->subject == subject && ptq_direction_is_rtn(d) &&
        strcmp(d->dtype, dtype) == 0)
      return &l->directions[i];
  }
  return NULL;
}

double ptq_landscape_quadratic(const ptq_direction_row *d, double size) {
  const double factor = size / d->size;
  return factor * d->slope + factor * factor * d->curvature / 2.0;
}
