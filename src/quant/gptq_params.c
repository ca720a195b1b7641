/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Parameters of groups: of weights as they are given, or as GPTQ's loop has
 * left them; in float64, but for formats that have no rounding there. */
#include <string.h>

#include "gptq_tile.h"

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* Parameters in float64 of given weights x[0..n). */
static ptq_status fit_floats(const ptq_dtype *dt, const float *x, int64_t n,
                             int64_t row, int64_t col, ptq_group_params64 *out,
                             ptq_err *err) {
  float lo = x[0], hi = x[0];
  for (int64_t i = 1; i < n; i++) {
    if (x[i] < lo) lo = x[i];
    if (x[i] > hi) hi = x[i];
  }
  const ptq_group64 group = {.f = x,
                             .n = n,
                             .inc = 1,
                             .lo = (double)lo,
                             .hi = (double)hi,
                             .given = true};
  return ptq_dtype_fit64(dt, &group, row, col, out, err);
}

/* Parameter k of the tile, as used and as it leaves the loop. */
static void put_params(ptq_gptq_tile *t, int64_t k, ptq_group_params64 p) {
  t->scale[k] = p.scale;
  t->zero[k] = p.zero;
  t->params[k] =
      (ptq_group_params){.scale = (float)p.scale, .zero = (float)p.zero};
}

/* Parameters of group g of the tile's r-th row from given weights x[0..n),
 * which start at column col. */
static ptq_status fit_given(ptq_gptq_tile *t, int64_t g, int64_t r,
                            const float *x, int64_t n, int64_t col,
                            ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  const int64_t k = g * t->lanes + r;
  if (!ptq_gptq_in_float64(job))
    return ptq_dtype_fit(job->dtype, x, n, 1, t->row + r, col, &t->params[k],
                         err);
  ptq_group_params64 p;
  const ptq_status rc = fit_floats(job->dtype, x, n, t->row + r, col, &p, err);
  if (rc == PTQ_OK) put_params(t, k, p);
  return rc;
}

static ptq_status fit_group64(ptq_gptq_tile *t, int64_t g, int64_t first,
                              int64_t n, ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  for (int64_t r0 = 0; r0 < t->rows; r0 += PTQ_GPTQ_LANES) {
    double lo[PTQ_GPTQ_LANES], hi[PTQ_GPTQ_LANES];
    const double *w = t->w + first * t->lanes + r0;
    memcpy(lo, w, sizeof lo);
    memcpy(hi, w, sizeof hi);
    for (int64_t i = 1; i < n; i++) {
      w += t->lanes;
      for (int j = 0; j < PTQ_GPTQ_LANES; j++) {
        lo[j] = w[j] < lo[j] ? w[j] : lo[j];
        hi[j] = w[j] > hi[j] ? w[j] : hi[j];
      }
    }
    for (int64_t r = r0; r < r0 + PTQ_GPTQ_LANES && r < t->rows; r++) {
      ptq_group_params64 p;
      const ptq_group64 group = {.x = t->w + first * t->lanes + r,
                                 .n = n,
                                 .inc = t->lanes,
                                 .lo = lo[r - r0],
                                 .hi = hi[r - r0],
                                 .given = first < job->block};
      const ptq_status rc = ptq_dtype_fit64(job->dtype, &group, t->row + r,
                                            g * t->width, &p, err);
      if (rc != PTQ_OK) return rc;
      put_params(t, g * t->lanes + r, p);
    }
  }
  return PTQ_OK;
}

/* The same in float32, PTQ_GPTQ_LANES rows at a time through a transposed copy.
 */
static ptq_status fit_group32(ptq_gptq_tile *t, int64_t g, int64_t first,
                              int64_t n, ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  for (int64_t r0 = 0; r0 < t->rows; r0 += PTQ_GPTQ_LANES) {
    for (int64_t i = 0; i < n; i++)
      for (int64_t r = 0; r < PTQ_GPTQ_LANES; r++)
        t->group[r * n + i] = (float)t->w[(first + i) * t->lanes + r0 + r];
    for (int64_t r = r0; r < r0 + PTQ_GPTQ_LANES && r < t->rows; r++) {
      const ptq_status rc =
          ptq_dtype_fit(job->dtype, t->group + (r - r0) * n, n, 1, t->row + r,
                        g * t->width, &t->params[g * t->lanes + r], err);
      if (rc != PTQ_OK) return rc;
    }
  }
  return PTQ_OK;
}

ptq_status ptq_gptq_fit_group(ptq_gptq_tile *t, int64_t g, int64_t first,
                              int64_t n, ptq_err *err) {
  return ptq_gptq_in_float64(t->job) ? fit_group64(t, g, first, n, err)
                                     : fit_group32(t, g, first, n, err);
}

/* The job's parameters. */
static void take_params(ptq_gptq_tile *t) {
  const bool whole = t->job->group == PTQ_GROUP_TENSOR;
  for (int64_t r = 0; r < t->rows; r++)
    for (int64_t g = 0; g < t->n_groups; g++) {
      const ptq_group_params p =
          t->job->params[whole ? 0 : (t->row + r) * t->n_groups + g];
      put_params(t, g * t->lanes + r,
                 (ptq_group_params64){.scale = (double)p.scale,
                                      .zero = (double)p.zero});
    }
}

ptq_status ptq_gptq_fit_static(ptq_gptq_tile *t, const ptq_gptq_shared *s,
                               ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  const int64_t cols = job->cols;
  ptq_status rc = PTQ_OK;
  if (job->given_params) {
    take_params(t);
    return PTQ_OK;
  }
  for (int64_t r = 0; r < t->rows && rc == PTQ_OK; r++) {
    const float *row = job->w + (t->row + r) * cols;
    if (job->group == PTQ_GROUP_TENSOR) {
      if (ptq_gptq_in_float64(job)) put_params(t, r, s->tensor64);
      t->params[r] = s->tensor;
      continue;
    }
    if (job->group == PTQ_GROUP_ROW) {
      rc = fit_given(t, 0, r, row, cols, 0, err);
      continue;
    }
    for (int64_t c = 0; c < cols; c++)
      t->group[c] = job->factor->dead[c] ? 0.0F : row[c];
    for (int64_t g = 0; g < t->n_groups && rc == PTQ_OK; g++) {
      const int64_t c = g * t->width;
      rc = fit_given(t, g, r, t->group + c, least(t->width, cols - c), c, err);
    }
  }
  return rc;
}

ptq_status ptq_gptq_fit_tensor(ptq_gptq_shared *s, ptq_err *err) {
  const ptq_gptq_job *job = s->job;
  const int64_t n = job->rows * job->cols;
  ptq_status rc = PTQ_OK;
  if (!ptq_gptq_in_float64(job)) {
    rc = ptq_dtype_fit(job->dtype, job->w, n, 1, 0, 0, &s->tensor, err);
  } else {
    rc = fit_floats(job->dtype, job->w, n, 0, 0, &s->tensor64, err);
    s->tensor = (ptq_group_params){.scale = (float)s->tensor64.scale,
                                   .zero = (float)s->tensor64.zero};
  }
  *job->params = s->tensor;
  return rc;
}
