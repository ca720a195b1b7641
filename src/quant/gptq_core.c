/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rows do not see each other, so the matrix is cut into tiles of rows, and a
 * tile is worked on transposed: a column is contiguous, and rounding and
 * feedback vectorize over its rows.
 *
 * With U the factor (H^-1 = U' U), w the current column i and e = (w - y) /
 * U_ii, every later column j loses e U_ij. That is done at three distances:
 * within a strip of STRIP columns when the column comes up (in the order of
 * the reference, so that the bits of a strip are its bits), to the rest of
 * the block after each strip, and to everything behind the block once a
 * block; the last two are products of matrices.
 */
#include "gptq_core.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"
#include "tiles.h"

enum {
  TILE = 256, /* rows of a tile: fixed, since it shapes the products */
  STRIP = 32,
  LANES = 16 /* rows are padded to a multiple, with zeros */
};

typedef struct tile {
  const ptq_gptq_job *job;  /* borrowed */
  int64_t row, rows;        /* first row and their number */
  int64_t lanes;            /* rows padded */
  int64_t width, n_groups;  /* columns of a group */
  float *w;                 /* owned; [cols, lanes], by position */
  float *e, *y;             /* owned; [block, lanes] */
  int16_t *q;               /* owned; [block, lanes] */
  ptq_group_params *params; /* owned; [n_groups, lanes] */
  float *group;             /* owned; [LANES, cols]: rows of a group */
} tile;

typedef struct shared {
  const ptq_gptq_job *job; /* borrowed */
  ptq_group_params tensor; /* parameters of PTQ_GROUP_TENSOR */
} shared;

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static int64_t column_at(const ptq_gptq_job *job, int64_t position) {
  const int64_t *order = job->factor->order;
  return order != NULL ? order[position] : position;
}

/* The group of a position: static groups go by original column. */
static int64_t group_at(const tile *t, int64_t position) {
  if (t->job->group <= 0) return 0;
  const int64_t at =
      t->job->static_groups ? column_at(t->job, position) : position;
  return at / t->width;
}

static ptq_status tile_init(tile *t, const ptq_gptq_job *job, int64_t index,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *t = (tile){.job = job, .row = index * TILE};
  t->rows = least(TILE, job->rows - t->row);
  t->lanes = (t->rows + LANES - 1) / LANES * LANES;
  t->width = job->group > 0 ? least(job->group, job->cols) : job->cols;
  t->n_groups = ptq_dtype_groups(job->cols, job->group);
  const int64_t block = least(job->block, job->cols) * t->lanes;
  const char *what = "GPTQ's working rows";
  PTQ_TRY(ptq_alloc(&t->w, job->cols * t->lanes, sizeof *t->w, what, err));
  PTQ_TRY(ptq_alloc(&t->e, block, sizeof *t->e, what, err));
  PTQ_TRY(ptq_alloc(&t->y, block, sizeof *t->y, what, err));
  PTQ_TRY(ptq_alloc(&t->q, block, sizeof *t->q, what, err));
  PTQ_TRY(ptq_alloc(&t->params, t->n_groups * t->lanes, sizeof *t->params, what,
                    err));
  PTQ_TRY(ptq_alloc(&t->group, LANES * job->cols, sizeof *t->group, what, err));
  for (int64_t i = 0; i < t->n_groups * t->lanes; i++)
    t->params[i] = (ptq_group_params){.scale = 1.0F, .zero = 0.0F};
done:
  return rc;
}

static void tile_release(tile *t) {
  ptq_free(t->w);
  ptq_free(t->e);
  ptq_free(t->y);
  ptq_free(t->q);
  ptq_free(t->params);
  ptq_free(t->group);
}

/* The tile's rows of w, transposed, in the factor's order, dead columns 0. */
static void load(tile *t) {
  const ptq_gptq_job *job = t->job;
  for (int64_t i0 = 0; i0 < job->cols; i0 += LANES)
    for (int64_t r0 = 0; r0 < t->rows; r0 += LANES)
      for (int64_t i = i0; i < i0 + LANES && i < job->cols; i++) {
        const int64_t c = column_at(job, i);
        if (job->factor->dead[c]) continue; /* already 0 */
        const float *from = job->w + t->row * job->cols + c;
        for (int64_t r = r0; r < r0 + LANES && r < t->rows; r++)
          t->w[i * t->lanes + r] = from[r * job->cols];
      }
}

/* Columns [first, first + n) of the block at hand to the outputs. */
static void store(const tile *t, int64_t first, int64_t n) {
  const ptq_gptq_job *job = t->job;
  for (int64_t i0 = 0; i0 < n; i0 += LANES)
    for (int64_t r = 0; r < t->rows; r++)
      for (int64_t i = i0; i < i0 + LANES && i < n; i++) {
        const int64_t at = (t->row + r) * job->cols + column_at(job, first + i);
        job->y[at] = t->y[i * t->lanes + r];
        job->q[at] = t->q[i * t->lanes + r];
      }
}

/* Parameters of one row's group x[0..n) that starts at column col. Where
 * errors are fed back, one code decides over all that follow in its row, and
 * a column that no feedback reached since its group was fitted may be exactly
 * the tie between two: it gets the code that it gets in float64. */
static ptq_status fit(const ptq_gptq_job *job, const float *x, int64_t n,
                      bool untouched, int64_t row, int64_t col,
                      ptq_group_params *out, ptq_err *err) {
  const ptq_dtype_family *family = job->dtype->family;
  const ptq_status rc = ptq_dtype_fit(job->dtype, x, n, 1, row, col, out, err);
  if (rc == PTQ_OK && family->settle_tie != NULL && job->factor->coupled)
    *out = family->settle_tie(job->dtype, x, n, 1, untouched, *out);
  return rc;
}

/* Parameters of group g at positions [first, first + n) from the working
 * weights, LANES rows at a time through a transposed copy. */
static ptq_status fit_group(tile *t, int64_t g, int64_t first, int64_t n,
                            ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  for (int64_t r0 = 0; r0 < t->rows; r0 += LANES) {
    for (int64_t i = 0; i < n; i++)
      for (int64_t r = 0; r < LANES; r++)
        t->group[r * n + i] = t->w[(first + i) * t->lanes + r0 + r];
    for (int64_t r = r0; r < r0 + LANES && r < t->rows; r++) {
      const ptq_status rc =
          fit(job, t->group + (r - r0) * n, n, first < job->block, t->row + r,
              column_at(job, first), &t->params[g * t->lanes + r], err);
      if (rc != PTQ_OK) return rc;
    }
  }
  return PTQ_OK;
}

/* Parameters that are known before the first column. */
static ptq_status fit_static(tile *t, const shared *s, ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  const int64_t cols = job->cols;
  ptq_status rc = PTQ_OK;
  for (int64_t r = 0; r < t->rows && rc == PTQ_OK; r++) {
    const float *row = job->w + (t->row + r) * cols;
    if (job->group == PTQ_GROUP_TENSOR) {
      t->params[r] = s->tensor;
      continue;
    }
    if (job->group == PTQ_GROUP_ROW) {
      rc = fit(job, row, cols, true, t->row + r, 0, &t->params[r], err);
      continue;
    }
    for (int64_t c = 0; c < cols; c++)
      t->group[c] = job->factor->dead[c] ? 0.0F : row[c];
    for (int64_t g = 0; g < t->n_groups && rc == PTQ_OK; g++) {
      const int64_t c = g * t->width;
      rc = fit(job, t->group + c, least(t->width, cols - c), true, t->row + r,
               c, &t->params[g * t->lanes + r], err);
    }
  }
  return rc;
}

/* w -= sum over k < n of e_k u_k, one after the other; u_k is `ld` apart. */
static void feed_back(float *w, const float *e, const float *u, int64_t ld,
                      int64_t n, int64_t lanes) {
  for (int64_t r = 0; r < lanes; r += LANES) {
    float sum[LANES];
    memcpy(sum, w + r, sizeof sum);
    for (int64_t k = 0; k < n; k++) {
      const float *from = e + k * lanes + r;
      const float by = u[k * ld];
      for (int j = 0; j < LANES; j++) sum[j] -= from[j] * by;
    }
    memcpy(w + r, sum, sizeof sum);
  }
}

/* e = (w - y) / d. */
static void error_of(const float *w, const float *y, float d, float *e,
                     int64_t lanes) {
  for (int64_t r = 0; r < lanes; r += LANES) {
    float chunk[LANES]; /* so that e may not seem to overlap w and y */
    for (int j = 0; j < LANES; j++) chunk[j] = (w[r + j] - y[r + j]) / d;
    memcpy(e + r, chunk, sizeof chunk);
  }
}

/* Columns [first, last) of the block that starts at `block`. */
static void quantize_strip(tile *t, int64_t block, int64_t first,
                           int64_t last) {
  const ptq_gptq_job *job = t->job;
  const int64_t lanes = t->lanes, ld = job->cols;
  const float *u = job->factor->u;
  for (int64_t i = first; i < last; i++) {
    float *w = t->w + i * lanes, *e = t->e + (i - block) * lanes;
    float *y = t->y + (i - block) * lanes;
    feed_back(w, t->e + (first - block) * lanes, u + first * ld + i, ld,
              i - first, lanes);
    job->dtype->family->round(job->dtype, w, lanes,
                              t->params + group_at(t, i) * lanes, 1, y,
                              t->q + (i - block) * lanes);
    error_of(w, y, u[i * ld + i], e, lanes);
  }
}

/* Columns [from, to) lose the errors of columns [first, last). */
static void update(tile *t, int64_t block, int64_t first, int64_t last,
                   int64_t from, int64_t to) {
  if (from >= to) return;
  const int64_t lanes = t->lanes, ld = t->job->cols;
  ptq_sgemm_tn(to - from, lanes, last - first, -1.0F,
               t->job->factor->u + first * ld + from, ld,
               t->e + (first - block) * lanes, lanes, 1.0F, t->w + from * lanes,
               lanes);
}

static ptq_status diverged(const tile *t, int64_t block, int64_t n,
                           ptq_err *err) {
  int64_t k = 0;
  while (k < n * t->lanes && isfinite(t->e[k])) k++;
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "GPTQ's feedback overflows float32 at row %lld, column "
                  "%lld; more damping helps",
                  (long long)(t->row + k % t->lanes),
                  (long long)column_at(t->job, block + k / t->lanes));
}

static ptq_status quantize_block(tile *t, int64_t block, ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  const int64_t end = least(block + job->block, job->cols);
  if (job->group > 0 && !job->static_groups) {
    const int64_t width = t->width;
    int64_t first = (block + width - 1) / width * width;
    for (; first < end; first += width) {
      const int64_t n = least(width, job->cols - first);
      const ptq_status rc = fit_group(t, first / width, first, n, err);
      if (rc != PTQ_OK) return rc;
    }
  }
  for (int64_t first = block; first < end; first += STRIP) {
    const int64_t last = least(first + STRIP, end);
    quantize_strip(t, block, first, last);
    update(t, block, first, last, last, end);
  }
  if (!ptq_vec_all_finite(t->e, (end - block) * t->lanes))
    return diverged(t, block, end - block, err);
  store(t, block, end - block);
  update(t, block, block, end, end, job->cols);
  return PTQ_OK;
}

static void store_params(const tile *t) {
  if (t->job->group == PTQ_GROUP_TENSOR) return;
  for (int64_t r = 0; r < t->rows; r++)
    for (int64_t g = 0; g < t->n_groups; g++)
      t->job->params[(t->row + r) * t->n_groups + g] =
          t->params[g * t->lanes + r];
}

static ptq_status run_tile(void *ctx, int64_t index, ptq_err *err) {
  const shared *s = ctx;
  const ptq_gptq_job *job = s->job;
  ptq_status rc = PTQ_OK;
  tile t;
  PTQ_TRY(tile_init(&t, job, index, err));
  load(&t);
  if (job->group <= 0 || job->static_groups) PTQ_TRY(fit_static(&t, s, err));
  for (int64_t block = 0; block < job->cols; block += job->block)
    PTQ_TRY(quantize_block(&t, block, err));
  store_params(&t);
done:
  tile_release(&t);
  return rc;
}

ptq_status ptq_gptq_run(const ptq_gptq_job *job, ptq_err *err) {
  shared s = {.job = job};
  if (job->group == PTQ_GROUP_TENSOR) {
    const ptq_status rc =
        fit(job, job->w, job->rows * job->cols, true, 0, 0, &s.tensor, err);
    if (rc != PTQ_OK) return rc;
    *job->params = s.tensor;
  }
  return ptq_tiles_run((job->rows + TILE - 1) / TILE, job->threads, run_tile,
                       &s, err);
}
