/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The scale search of the GPTQ reference (quant.py, mse=True, grid 100,
 * maxshrink 0.8, norm 2.4): p = 1, 0.99, ... 0.21, strictly less error wins, so
 * the first of equals. Values are rounded in the group's own precision; errors
 * are summed in float64, where the reference sums in the precision at hand. */
#include <math.h>
#include <string.h>

#include "dtype_core.h"
#include "dtype_lanes.h"
#include "round_table.h"

enum { STEPS = 80, GRID = 100, CHUNK = 256 };

/* Sum of |value - x|^2.4 over a group rounded with p. */
static double error_of(const ptq_dtype *dt, const float *x, int64_t n,
                       int64_t inc, const ptq_group_params *p) {
  float from[CHUNK], y[CHUNK];
  double d[CHUNK], sum = 0.0;
  for (int64_t i = 0; i < n; i += CHUNK) {
    const int64_t m = n - i < CHUNK ? n - i : CHUNK;
    for (int64_t j = 0; j < m; j++) from[j] = x[(i + j) * inc];
    dt->family->round(dt, from, m, p, 0, y, NULL);
    for (int64_t j = 0; j < m; j++) d[j] = (double)(y[j] - from[j]);
    sum += ptq_rounding()->sum_2_4(d, m);
  }
  return sum;
}

static double error_of64(const ptq_dtype *dt, const ptq_group64 *g,
                         const ptq_group_params64 *p) {
  double from[CHUNK], scale[CHUNK], zero[CHUNK], y[CHUNK], sum = 0.0;
  int16_t q[CHUNK];
  for (int j = 0; j < CHUNK && j < g->n; j++) {
    scale[j] = p->scale;
    zero[j] = p->zero;
  }
  for (int64_t i = 0; i < g->n; i += CHUNK) {
    const int64_t m = g->n - i < CHUNK ? g->n - i : CHUNK;
    for (int64_t j = 0; j < m; j++) {
      const int64_t at = (i + j) * g->inc;
      from[j] = g->x != NULL ? g->x[at] : (double)g->f[at];
    }
    dt->family->round64(dt, from, m, scale, zero, y, q);
    for (int64_t j = 0; j < m; j++) y[j] -= from[j];
    sum += ptq_rounding()->sum_2_4(y, m);
  }
  return sum;
}

static double share(int i) {
  return 1.0 - (double)i / GRID;
}

/* Candidate i of a group from lo to hi with fitted parameters. */
static ptq_group_params candidate(const ptq_dtype *dt, int64_t row, int64_t col,
                                  float lo, float hi, ptq_group_params fitted,
                                  int i) {
  const ptq_dtype_family *f = dt->family;
  const float by = (float)share(i);
  ptq_group_params p = fitted;
  if (i > 0 && f->shrink == NULL) {
    p.scale *= by;
    ptq_dtype_snap(dt, row, col, &p);
    return p;
  }
  if (i > 0) p = f->shrink(dt, lo, hi, by);
  ptq_dtype_store(dt, ptq_dtype_index(dt, row, col), (double)(by * lo),
                  (double)(by * hi), &p);
  return p;
}

ptq_status ptq_dtype_search(const ptq_dtype *dt, const float *x, int64_t n,
                            int64_t inc, int64_t row, int64_t col,
                            ptq_group_params *out, ptq_err *err) {
  float lo, hi;
  double least = (double)INFINITY;
  const ptq_group_params fitted = dt->family->fit(dt, x, n, inc);
  ptq_lanes_range(x, n, inc, &lo, &hi);
  *out = candidate(dt, row, col, lo, hi, fitted, 0);
  if (!isfinite(out->scale))
    return ptq_dtype_overflow(dt, (double)lo, (double)hi, n, row, col, err);
  ptq_group_params last = {0.0F, 0.0F};
  for (int i = 0; i < STEPS; i++) {
    const ptq_group_params p = candidate(dt, row, col, lo, hi, fitted, i);
    if (p.scale == 0.0F || memcmp(&p, &last, sizeof p) == 0) continue;
    last = p;
    const double e = error_of(dt, x, n, inc, &p);
    if (!(e < least)) continue;
    least = e;
    *out = p;
  }
  return PTQ_OK;
}

ptq_status ptq_dtype_search64(const ptq_dtype *dt, const ptq_group64 *g,
                              int64_t row, int64_t col, ptq_group_params64 *out,
                              ptq_err *err) {
  const int64_t index = ptq_dtype_index(dt, row, col);
  double least = (double)INFINITY;
  for (int i = 0; i < STEPS; i++) {
    const double by = share(i);
    ptq_group_params64 p = i == 0
                               ? dt->family->fit64(dt, g->lo, g->hi, g->given)
                               : dt->family->shrink64(dt, g->lo, g->hi, by);
    ptq_dtype_store64(dt, index, by * g->lo, by * g->hi, &p);
    if (i == 0) *out = p;
    if (!isfinite(out->scale))
      return ptq_dtype_overflow(dt, g->lo, g->hi, g->n, row, col, err);
    if ((float)p.scale == 0.0F) continue;
    const double e = error_of64(dt, g, &p);
    if (!(e < least)) continue;
    least = e;
    *out = p;
  }
  return PTQ_OK;
}
