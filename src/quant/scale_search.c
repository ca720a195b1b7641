/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "scale_search.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "tiles.h"

enum { TILE = 32 /* rows */ };

static const double fine[] = {1.0,  0.96, 0.92, 0.88, 0.84, 0.8,  0.76, 0.72,
                              0.68, 0.64, 0.6,  0.56, 0.52, 0.48, 0.44, 0.4};
static const double coarse[] = {1.0, 0.5, 2.0, 0.25};

bool ptq_scale_has_sign(const ptq_dtype *dt) {
  const ptq_dtype_family *f = dt->family;
  const unsigned storage = dt->options & PTQ_OPTION_STORE;
  return !f->signed_codes && !f->encodes_by_zero && f->snap == NULL &&
         f->value == NULL &&
         (storage == PTQ_KEEP_F32 || storage == PTQ_KEEP_F16 ||
          storage == PTQ_KEEP_BF16);
}

ptq_group_params ptq_scale_times(const ptq_dtype *dt, int64_t row, int64_t col,
                                 ptq_group_params p, double by) {
  const double scale = (double)p.scale * by;
  ptq_group_params to = {.scale = (float)fabs(scale), .zero = p.zero};
  if (!(to.scale > 0.0F) || !isfinite(to.scale)) return p;
  ptq_dtype_snap(dt, row, col, &to);
  if (scale < 0.0) to.scale = -to.scale;
  return to;
}

bool ptq_scale_is_coarse(const ptq_dtype *dt) {
  const float one = 1.0F;
  ptq_group_params p = dt->family->fit(dt, &one, 1, 1);
  p = ptq_scale_times(dt, 0, 0, p, 1.0);
  return ptq_scale_times(dt, 0, 0, p, 1.3).scale == p.scale;
}

/* One group while it is searched. */
typedef struct group {
  const ptq_dtype *dtype; /* borrowed */
  int64_t row, col, n;
  const float *x;       /* borrowed; [n] */
  const double *weight; /* borrowed; [n] */
  float *y;             /* borrowed; [n] */
  ptq_group_params best;
  double least; /* weighted error of best */
} group;

/* The group rounded with p; returns the least-squares factor of the scale, 0
 * if there is none. */
static double try_params(group *g, ptq_group_params p) {
  double error = 0.0, num = 0.0, den = 0.0;
  g->dtype->family->round(g->dtype, g->x, g->n, &p, 0, g->y, NULL);
  for (int64_t i = 0; i < g->n; i++) {
    const double x = (double)g->x[i], y = (double)g->y[i];
    const double wy = g->weight[i] * y;
    error += g->weight[i] * (x - y) * (x - y);
    num += wy * x;
    den += wy * y;
  }
  if (error < g->least) {
    g->least = error;
    g->best = p;
  }
  return den > 0.0 ? num / den : 0.0;
}

/* The candidate and what its codes make of it. */
static void try_scale(group *g, ptq_group_params fitted, double by) {
  const ptq_dtype *dt = g->dtype;
  const ptq_group_params p = ptq_scale_times(dt, g->row, g->col, fitted, by);
  const double refit = try_params(g, p);
  if (!(refit > 0.0)) return;
  const ptq_group_params again = ptq_scale_times(dt, g->row, g->col, p, refit);
  if (again.scale != p.scale) (void)try_params(g, again);
}

static void search(group *g, ptq_group_params fitted, bool is_coarse,
                   bool has_sign) {
  const double *by = is_coarse ? coarse : fine;
  const size_t n =
      is_coarse ? sizeof coarse / sizeof *coarse : sizeof fine / sizeof *fine;
  g->best = fitted;
  g->least = (double)INFINITY;
  (void)try_params(g, fitted);
  if (g->least == 0.0) return;
  for (size_t i = 0; i < n; i++) {
    try_scale(g, fitted, by[i]);
    if (has_sign) try_scale(g, fitted, -by[i]);
  }
}

static ptq_status search_row(const ptq_scale_search *s, int64_t row, float *x,
                             float *y, ptq_err *err) {
  const bool is_coarse = ptq_scale_is_coarse(s->dtype);
  const bool has_sign = ptq_scale_has_sign(s->dtype);
  const int64_t cols = s->cols, groups = ptq_dtype_groups(cols, s->group);
  const int64_t width = s->group > 0 ? s->group : cols;
  for (int64_t c = 0; c < cols; c++)
    x[c] = s->dead[c] ? 0.0F : s->w[row * cols + c];
  for (int64_t k = 0; k < groups; k++) {
    const int64_t c = k * width;
    group g = {.dtype = s->dtype,
               .row = row,
               .col = c,
               .n = cols - c < width ? cols - c : width,
               .x = x + c,
               .weight = s->weight + c,
               .y = y};
    ptq_group_params *to = &s->params[row * groups + k];
    const ptq_status rc = ptq_dtype_fit(s->dtype, g.x, g.n, 1, row, c, to, err);
    if (rc != PTQ_OK) return rc;
    if (!s->search) continue;
    search(&g, *to, is_coarse, has_sign);
    *to = g.best;
  }
  return PTQ_OK;
}

static ptq_status search_tile(void *ctx, int64_t index, ptq_err *err) {
  const ptq_scale_search *s = ctx;
  ptq_status rc = PTQ_OK;
  float *x = NULL, *y = NULL;
  PTQ_TRY(ptq_alloc(&x, s->cols, sizeof *x, "a row of weights", err));
  PTQ_TRY(ptq_alloc(&y, s->cols, sizeof *y, "a row of weights", err));
  for (int64_t r = index * TILE; r < (index + 1) * TILE && r < s->rows; r++)
    PTQ_TRY(search_row(s, r, x, y, err));
done:
  ptq_free(x);
  ptq_free(y);
  return rc;
}

ptq_status ptq_scale_search_run(const ptq_scale_search *s, ptq_err *err) {
  if (s->group == PTQ_GROUP_TENSOR)
    return ptq_dtype_fit(s->dtype, s->w, s->rows * s->cols, 1, 0, 0, s->params,
                         err);
  ptq_scale_search job = *s;
  const size_t groups = (size_t)ptq_dtype_groups(s->cols, s->group);
  const ptq_tile_split split = {
      .team = s->team,
      .threads = s->threads,
      .rows = s->rows,
      .tile = TILE,
      .out = {{s->params, groups * sizeof *s->params}}};
  return ptq_tiles_split(&split, search_tile, &job, err);
}
