/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Norms: the root mean square's, or LayerNorm. Their formulas are in
 * src/num/diff_kernels.h. */
#include <math.h>

#include "op.h"
#include "ptq/num/kernels.h"

typedef struct moments {
  ptq_real mean, scale;
} moments;

static moments measure(const ptq_model_info *info, const ptq_real *row,
                       int64_t width) {
  const double square = PTQ_VEC(sum_sq, row, width) / (double)width;
  double mean = 0.0, variance = square;
  if (info->norm == PTQ_NORM_LAYER) {
    mean = PTQ_VEC(sum, row, width) / (double)width;
    variance = square - mean * mean;
  }
  const double scale = 1.0 / sqrt(variance + info->norm_eps);
  return (moments){(ptq_real)mean, (ptq_real)scale};
}

void ptq_norm_rows(const ptq_model_info *info, const ptq_norm *norm,
                   const ptq_real *x, int64_t rows, int64_t width,
                   ptq_real *y) {
  for (int64_t i = 0; i < rows; i++) {
    const ptq_real *row = x + i * width;
    const moments m = measure(info, row, width);
    PTQ_VEC(normalize, row, width, m.mean, m.scale, norm->w, norm->b,
            y + i * width);
  }
}

void ptq_norm_jvp(const ptq_model_info *info, const ptq_norm *norm,
                  const ptq_real *x, const ptq_real *xd, int64_t rows,
                  int64_t width, ptq_real *yd) {
  const bool centred = info->norm == PTQ_NORM_LAYER;
  for (int64_t at = 0; at < rows * width; at += width) {
    const moments m = measure(info, x + at, width);
    PTQ_DIFF(norm_jvp, x + at, norm->w, width, m.mean, m.scale, centred,
             xd + at, yd + at);
  }
}

void ptq_norm_vjp(const ptq_model_info *info, const ptq_norm *norm,
                  const ptq_real *x, const ptq_real *dy, int64_t rows,
                  int64_t width, ptq_real *dx) {
  const bool centred = info->norm == PTQ_NORM_LAYER;
  for (int64_t at = 0; at < rows * width; at += width) {
    const moments m = measure(info, x + at, width);
    PTQ_DIFF(norm, x + at, norm->w, width, m.mean, m.scale, centred, dy + at,
             dx + at);
  }
}

void ptq_norm_tangent(const ptq_model_info *info, const ptq_norm *norm,
                      const ptq_real *x, const ptq_real *xd, const ptq_real *dy,
                      const ptq_real *dyd, int64_t rows, int64_t width,
                      ptq_real *dxd) {
  const bool centred = info->norm == PTQ_NORM_LAYER;
  for (int64_t at = 0; at < rows * width; at += width) {
    const moments m = measure(info, x + at, width);
    PTQ_DIFF(norm_tangent, x + at, norm->w, width, m.mean, m.scale, centred,
             xd + at, dy + at, dyd + at, dxd + at);
  }
}

/* How the vectors that are normed stand in queries or keys: `rows` of `width`
 * one after the other, at `steps` places of each token. */
typedef struct layout {
  int64_t steps, rows, width;
} layout;

static layout lay_out(const ptq_model_info *info, ptq_norm_place place) {
  const int64_t width = ptq_norm_width(info, place);
  if (info->qk_norm_wide) return (layout){1, 1, width};
  const int64_t group = info->n_heads / info->n_kv_heads;
  return (layout){info->n_kv_heads, place == PTQ_NORM_Q ? group : 1, width};
}

/* Place i of the n * steps places. */
static ptq_real *at(const layout *l, const ptq_heads *h, int64_t i) {
  return h->p + i / l->steps * h->row + i % l->steps * h->step;
}

void ptq_norm_heads(const ptq_model_info *info, const ptq_block *b,
                    ptq_norm_place place, int64_t n, const ptq_heads *x) {
  if (!info->has_norm[place]) return;
  const layout l = lay_out(info, place);
  for (int64_t i = 0; i < n * l.steps; i++)
    ptq_norm_rows(info, &b->norm[place], at(&l, x, i), l.rows, l.width,
                  at(&l, x, i));
}

void ptq_norm_heads_jvp(const ptq_model_info *info, const ptq_block *b,
                        ptq_norm_place place, int64_t n, const ptq_heads *x,
                        const ptq_heads *xd) {
  if (!info->has_norm[place]) return;
  const layout l = lay_out(info, place);
  for (int64_t i = 0; i < n * l.steps; i++)
    ptq_norm_jvp(info, &b->norm[place], at(&l, x, i), at(&l, xd, i), l.rows,
                 l.width, at(&l, xd, i));
}

void ptq_norm_heads_vjp(const ptq_model_info *info, const ptq_block *b,
                        ptq_norm_place place, int64_t n, const ptq_heads *x,
                        const ptq_heads *dy) {
  if (!info->has_norm[place]) return;
  const layout l = lay_out(info, place);
  for (int64_t i = 0; i < n * l.steps; i++)
    ptq_norm_vjp(info, &b->norm[place], at(&l, x, i), at(&l, dy, i), l.rows,
                 l.width, at(&l, dy, i));
}

void ptq_norm_heads_tangent(const ptq_model_info *info, const ptq_block *b,
                            ptq_norm_place place, int64_t n, const ptq_heads *x,
                            const ptq_heads *xd, const ptq_heads *dy,
                            const ptq_heads *dyd) {
  if (!info->has_norm[place]) return;
  const layout l = lay_out(info, place);
  for (int64_t i = 0; i < n * l.steps; i++)
    ptq_norm_tangent(info, &b->norm[place], at(&l, x, i), at(&l, xd, i),
                     at(&l, dy, i), at(&l, dyd, i), l.rows, l.width,
                     at(&l, dyd, i));
}
