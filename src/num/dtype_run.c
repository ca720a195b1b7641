/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rounding to nearest, a few thousand values at a time: their ranges,
 * parameters and values are worked on while they are in the first cache. */
#include <float.h>
#include <math.h>

#include "dtype_core.h"
#include "dtype_lanes.h"
#include "round_table.h"

enum { VALUES = PTQ_ROUND_AHEAD, GROUPS = VALUES / 16 };

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* Groups before the first whose scale is not finite. */
static int64_t finite_scales(const ptq_group_params *p, int64_t groups) {
  int bad = 0;
  for (int64_t g = 0; g < groups; g++) bad |= !(fabsf(p[g].scale) <= FLT_MAX);
  if (!bad) return groups;
  int64_t g = 0;
  while (fabsf(p[g].scale) <= FLT_MAX) g++;
  return g;
}

/* Fitted parameters, as they are stored. */
static int64_t store_fitted(const ptq_dtype *dt, int64_t index,
                            const ptq_range *r, int64_t groups,
                            ptq_group_params *p) {
  if (ptq_dtype_stores(dt)) ptq_dtype_store_all(dt, index, r, groups, p);
  return finite_scales(p, groups);
}

/* The same, each from its values. */
static int64_t fit_by_values(const ptq_dtype *dt, int64_t index, const float *x,
                             int64_t n, int64_t width, int64_t groups,
                             ptq_group_params *p) {
  const ptq_dtype_matrix *m = dt->matrix;
  for (int64_t g = 0; g < groups; g++) {
    const int64_t row = m != NULL ? (index + g) / m->groups : 0;
    const int64_t col = m != NULL ? (index + g) % m->groups * m->width : 0;
    if (ptq_dtype_fit(dt, x + g * width, least(width, n - g * width), 1, row,
                      col, &p[g], NULL) != PTQ_OK)
      return g;
  }
  return groups;
}

/* Parameters of at most GROUPS groups; how many before the first that has
 * none. */
static int64_t fit_chunk(const ptq_dtype *dt, int64_t index, const float *x,
                         int64_t n, int64_t width, ptq_group_params *p) {
  ptq_range r[GROUPS];
  const ptq_dtype_family *f = dt->family;
  const bool searches = (dt->options & PTQ_OPTION_SEARCH) != 0;
  const bool by_ranges = f->fit_ranges != NULL && !searches;
  const int64_t groups = by_ranges && !f->fits_peaks
                             ? ptq_rounding()->ranges(x, n, width, r)
                             : ptq_rounding()->peaks(x, n, width, r);
  if (by_ranges) {
    f->fit_ranges(dt, r, groups, p);
    return store_fitted(dt, index, r, groups, p);
  }
  if (f->fit_run != NULL && !searches) {
    f->fit_run(dt, x, least(n, groups * width), width, p);
    return store_fitted(dt, index, r, groups, p);
  }
  return fit_by_values(dt, index, x, n, width, groups, p);
}

static void round_groups(const ptq_dtype *dt, const float *x, int64_t n,
                         int64_t width, const ptq_group_params *p, float *y,
                         int16_t *q, bool stream) {
  if (dt->family->round_run != NULL) {
    dt->family->round_run(dt, x, n, width, p, y, q, stream);
    return;
  }
  for (int64_t i = 0; i < n; i += width, p++)
    dt->family->round(dt, x + i, least(width, n - i), p, 0,
                      y != NULL ? y + i : NULL, q != NULL ? q + i : NULL);
}

/* Values of as many whole groups as are worked on at once. */
static int64_t chunk_of(int64_t width) {
  const int64_t at_once = VALUES / width > 0 ? VALUES / width : 1;
  return least(at_once, GROUPS) * width;
}

int64_t ptq_dtype_round_run(const ptq_dtype *dt, int64_t index, const float *x,
                            int64_t n, int64_t width, float *y, int16_t *q,
                            ptq_group_params *params, bool stream) {
  const int64_t chunk = chunk_of(width);
  int64_t done = 0;
  for (int64_t i = 0; i < n; i += chunk) {
    const int64_t m = least(chunk, n - i);
    const int64_t groups = m / width + (m % width != 0);
    ptq_group_params p[GROUPS];
    const int64_t good = fit_chunk(dt, index + done, x + i, m, width, p);
    if (good < groups) return done + good;
    round_groups(dt, x + i, m, width, p, y != NULL ? y + i : NULL,
                 q != NULL ? q + i : NULL, stream);
    if (params != NULL)
      for (int64_t g = 0; g < groups; g++) params[done + g] = p[g];
    done += groups;
  }
  return done;
}

int64_t ptq_dtype_fit_run(const ptq_dtype *dt, int64_t index, const float *x,
                          int64_t n, int64_t width, ptq_group_params *params) {
  const int64_t chunk = chunk_of(width);
  int64_t done = 0;
  for (int64_t i = 0; i < n; i += chunk) {
    const int64_t m = least(chunk, n - i);
    const int64_t groups = m / width + (m % width != 0);
    const int64_t good =
        fit_chunk(dt, index + done, x + i, m, width, params + done);
    done += good;
    if (good < groups) break;
  }
  return done;
}
