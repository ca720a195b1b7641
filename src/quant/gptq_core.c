/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rows do not see each other, so the matrix is cut into tiles of rows, and a
 * tile is worked on transposed: a column is contiguous, and rounding and
 * feedback vectorize over its rows.
 *
 * Everything in the loop is float64; parameters and weights are rounded to
 * float32 where they leave it. A format without rounding in float64 sees
 * working weights rounded to float32.
 *
 * With U the factor (H^-1 = U' U), w the current column i and e = (w - y) /
 * U_ii, every later column j loses e U_ij. That is done at three distances:
 * within a strip of STRIP columns when the column comes up (in the order of
 * the reference, so that the bits of a strip are its bits), to the rest of
 * the block after each strip, and to everything behind the block once a
 * block; the last two are products of matrices.
 */
#include "gptq_core.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "gptq_tile.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "tiles.h"

enum {
  TILE = 256, /* rows of a tile: fixed, since it shapes the products */
  STRIP = 32,
  LANES = PTQ_GPTQ_LANES
};

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* The group of a position: groups that are whole go by original column. */
static int64_t group_at(const ptq_gptq_tile *t, int64_t position) {
  if (t->job->group <= 0) return 0;
  const bool original = ptq_gptq_by_column(t->job) || t->job->whole_groups;
  const int64_t at = original ? ptq_gptq_column(t->job, position) : position;
  return at / t->width;
}

static ptq_status tile_init(ptq_gptq_tile *t, const ptq_gptq_job *job,
                            int64_t index, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *t = (ptq_gptq_tile){.job = job, .row = index * TILE};
  t->rows = least(TILE, job->rows - t->row);
  t->lanes = (t->rows + LANES - 1) / LANES * LANES;
  t->width = job->group > 0 ? least(job->group, job->cols) : job->cols;
  t->n_groups = ptq_dtype_groups(job->cols, job->group);
  const int64_t block = least(job->block, job->cols) * t->lanes;
  const int64_t n_params = t->n_groups * t->lanes;
  const char *what = "GPTQ's working rows";
  PTQ_TRY(ptq_alloc(&t->w, job->cols * t->lanes, sizeof *t->w, what, err));
  PTQ_TRY(ptq_alloc(&t->e, block, sizeof *t->e, what, err));
  PTQ_TRY(ptq_alloc(&t->y64, t->lanes, sizeof *t->y64, what, err));
  PTQ_TRY(ptq_alloc(&t->y, block, sizeof *t->y, what, err));
  PTQ_TRY(ptq_alloc(&t->q, block, sizeof *t->q, what, err));
  PTQ_TRY(ptq_alloc(&t->scale, n_params, sizeof *t->scale, what, err));
  PTQ_TRY(ptq_alloc(&t->zero, n_params, sizeof *t->zero, what, err));
  PTQ_TRY(ptq_alloc(&t->params, n_params, sizeof *t->params, what, err));
  PTQ_TRY(ptq_alloc(&t->group, LANES * job->cols, sizeof *t->group, what, err));
  for (int64_t i = 0; i < n_params; i++) { /* also of lanes without a row */
    t->scale[i] = 1.0;
    t->params[i] = (ptq_group_params){.scale = 1.0F, .zero = 0.0F};
  }
done:
  return rc;
}

static void tile_release(ptq_gptq_tile *t) {
  ptq_free(t->w);
  ptq_free(t->e);
  ptq_free(t->y64);
  ptq_free(t->y);
  ptq_free(t->q);
  ptq_free(t->scale);
  ptq_free(t->zero);
  ptq_free(t->params);
  ptq_free(t->group);
}

/* The tile's rows of w, transposed, in the factor's order, dead columns 0. */
static void load(ptq_gptq_tile *t) {
  const ptq_gptq_job *job = t->job;
  for (int64_t i0 = 0; i0 < job->cols; i0 += LANES)
    for (int64_t r0 = 0; r0 < t->rows; r0 += LANES)
      for (int64_t i = i0; i < i0 + LANES && i < job->cols; i++) {
        const int64_t c = ptq_gptq_column(job, i);
        if (job->factor->dead[c]) continue; /* already 0 */
        const float *from = job->w + t->row * job->cols + c;
        for (int64_t r = r0; r < r0 + LANES && r < t->rows; r++)
          t->w[i * t->lanes + r] = (double)from[r * job->cols];
      }
}

/* Columns [first, first + n) of the block at hand to the outputs. */
static void store(const ptq_gptq_tile *t, int64_t first, int64_t n) {
  const ptq_gptq_job *job = t->job;
  for (int64_t i0 = 0; i0 < n; i0 += LANES)
    for (int64_t r = 0; r < t->rows; r++)
      for (int64_t i = i0; i < i0 + LANES && i < n; i++) {
        const int64_t at =
            (t->row + r) * job->cols + ptq_gptq_column(job, first + i);
        job->y[at] = t->y[i * t->lanes + r];
        job->q[at] = t->q[i * t->lanes + r];
      }
}

/* w -= sum over k < n of e_k u_k, one after the other; u_k is `ld` apart. */
static void feed_back(double *w, const double *e, const double *u, int64_t ld,
                      int64_t n, int64_t lanes) {
  enum { CHUNK = 8 }; /* which the compiler keeps in registers */
  for (int64_t r = 0; r < lanes; r += CHUNK) {
    double sum[CHUNK];
    memcpy(sum, w + r, sizeof sum);
    for (int64_t k = 0; k < n; k++) {
      const double *from = e + k * lanes + r;
      const double by = u[k * ld];
      for (int j = 0; j < CHUNK; j++) sum[j] -= from[j] * by;
    }
    memcpy(w + r, sum, sizeof sum);
  }
}

/* e = (w - y) / d. */
static void error_of(const double *w, const double *y, double d, double *e,
                     int64_t lanes) {
  for (int64_t r = 0; r < lanes; r += LANES) {
    double chunk[LANES]; /* so that e may not seem to overlap w and y */
    for (int j = 0; j < LANES; j++) chunk[j] = (w[r + j] - y[r + j]) / d;
    memcpy(e + r, chunk, sizeof chunk);
  }
}

/* What the codes of a column stand for, in float32. */
static void restore(const ptq_dtype *dt, const ptq_group_params *params,
                    const int16_t *q, float *y, int64_t lanes) {
  if (dt->family->value != NULL)
    for (int64_t r = 0; r < lanes; r++)
      y[r] = ptq_dtype_value(dt, &params[r], q[r]);
  else
    for (int64_t r = 0; r < lanes; r++)
      y[r] = params[r].scale * ((float)q[r] - params[r].zero);
}

/* Column w of group g: codes q, weights y, and y64 for the error. */
static void round_column(ptq_gptq_tile *t, int64_t g, const double *w, float *y,
                         int16_t *q) {
  const ptq_dtype *dt = t->job->dtype;
  const int64_t lanes = t->lanes, at = g * lanes;
  if (ptq_gptq_in_float64(t->job)) {
    dt->family->round64(dt, w, lanes, t->scale + at, t->zero + at, t->y64, q);
    restore(dt, t->params + at, q, y, lanes);
    return;
  }
  for (int64_t r = 0; r < lanes; r++) y[r] = (float)w[r];
  dt->family->round(dt, y, lanes, t->params + at, 1, y, q);
  for (int64_t r = 0; r < lanes; r++) t->y64[r] = (double)y[r];
}

/* Columns [first, last) of a group are rounded as they are; what is left of
 * them is the error that they have to spread. */
static ptq_status cast_jointly(ptq_gptq_tile *t, int64_t block, int64_t first,
                               int64_t last, ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  const int64_t lanes = t->lanes, g = group_at(t, first);
  if (job->group > 0) {
    const ptq_status rc = ptq_gptq_fit_group(t, g, first, last - first, err);
    if (rc != PTQ_OK) return rc;
  }
  for (int64_t i = first; i < last; i++) {
    const int64_t at = (i - block) * lanes;
    double *w = t->w + i * lanes;
    round_column(t, g, w, t->y + at, t->q + at);
    for (int64_t r = 0; r < lanes; r++) w[r] -= t->y64[r];
  }
  memset(t->y64, 0, (size_t)lanes * sizeof *t->y64);
  return PTQ_OK;
}

/* Columns [first, last) of the block that starts at `block`. */
static void quantize_strip(ptq_gptq_tile *t, int64_t block, int64_t first,
                           int64_t last) {
  const ptq_gptq_job *job = t->job;
  const int64_t lanes = t->lanes, ld = job->cols;
  const double *u = job->factor->u;
  for (int64_t i = first; i < last; i++) {
    const int64_t at = (i - block) * lanes;
    double *w = t->w + i * lanes;
    feed_back(w, t->e + (first - block) * lanes, u + first * ld + i, ld,
              i - first, lanes);
    if (job->drift != NULL)
      feed_back(w, t->w + first * lanes, job->drift + first * ld + i, ld,
                i - first, lanes);
    if (!job->joint) round_column(t, group_at(t, i), w, t->y + at, t->q + at);
    error_of(w, t->y64, u[i * ld + i], t->e + at, lanes);
  }
}

/* Columns [from, to) lose the errors of columns [first, last). */
static void update(ptq_gptq_tile *t, int64_t block, int64_t first, int64_t last,
                   int64_t from, int64_t to) {
  if (from >= to) return;
  const int64_t lanes = t->lanes, ld = t->job->cols;
  ptq_dgemm_tn(to - from, lanes, last - first, -1.0,
               t->job->factor->u + first * ld + from, ld,
               t->e + (first - block) * lanes, lanes, 1.0, t->w + from * lanes,
               lanes);
  if (t->job->drift != NULL)
    ptq_dgemm_tn(to - from, lanes, last - first, -1.0,
                 t->job->drift + first * ld + from, ld, t->w + first * lanes,
                 lanes, 1.0, t->w + from * lanes, lanes);
}

/* Behind a block GPTAQ's reference takes the quantized columns, as its own
 * arithmetic has them: w - e U_ii. */
static void settle(ptq_gptq_tile *t, int64_t block, int64_t end) {
  const int64_t lanes = t->lanes, ld = t->job->cols;
  for (int64_t i = block; i < end; i++) {
    const double d = t->job->factor->u[i * ld + i];
    const double *e = t->e + (i - block) * lanes;
    for (int64_t r = 0; r < lanes; r++) t->w[i * lanes + r] -= e[r] * d;
  }
}

/* NaN does not fit either. */
static bool fit_float32(const double *e, int64_t n) {
  int64_t bad = 0;
  for (int64_t i = 0; i < n; i++) bad += !(fabs(e[i]) <= FLT_MAX);
  return bad == 0;
}

static ptq_status diverged(const ptq_gptq_tile *t, int64_t block, int64_t n,
                           ptq_err *err) {
  int64_t k = 0;
  while (k < n * t->lanes && fabs(t->e[k]) <= FLT_MAX) k++;
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "GPTQ's feedback overflows float32 at row %lld, column "
                  "%lld; more damping helps",
                  (long long)(t->row + k % t->lanes),
                  (long long)ptq_gptq_column(t->job, block + k / t->lanes));
}

/* Groups that begin within the block, from weights as they are now. */
static ptq_status fit_groups(ptq_gptq_tile *t, int64_t block, int64_t end,
                             ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  const int64_t width = t->width;
  ptq_status rc = PTQ_OK;
  int64_t first = (block + width - 1) / width * width;
  for (; first < end && rc == PTQ_OK; first += width) {
    const int64_t n = least(width, job->cols - first);
    rc = ptq_gptq_fit_group(t, group_at(t, first), first, n, err);
  }
  return rc;
}

static ptq_status quantize_block(ptq_gptq_tile *t, int64_t block,
                                 ptq_err *err) {
  const ptq_gptq_job *job = t->job;
  const int64_t end = least(block + job->block, job->cols);
  const int64_t span = job->joint ? t->width : end - block;
  ptq_status rc = PTQ_OK;
  if (job->group > 0 && !ptq_gptq_by_column(job) && !job->joint)
    rc = fit_groups(t, block, end, err);
  for (int64_t start = block; start < end && rc == PTQ_OK; start += span) {
    const int64_t stop = least(start + span, end);
    if (job->joint) rc = cast_jointly(t, block, start, stop, err);
    for (int64_t first = start; first < stop && rc == PTQ_OK; first += STRIP) {
      const int64_t last = least(first + STRIP, stop);
      quantize_strip(t, block, first, last);
      update(t, block, first, last, last, end);
    }
  }
  if (rc != PTQ_OK) return rc;
  if (!fit_float32(t->e, (end - block) * t->lanes))
    return diverged(t, block, end - block, err);
  store(t, block, end - block);
  if (job->drift != NULL) settle(t, block, end);
  update(t, block, block, end, end, job->cols);
  return PTQ_OK;
}

static void store_params(const ptq_gptq_tile *t) {
  if (t->job->group == PTQ_GROUP_TENSOR) return;
  for (int64_t r = 0; r < t->rows; r++)
    for (int64_t g = 0; g < t->n_groups; g++)
      t->job->params[(t->row + r) * t->n_groups + g] =
          t->params[g * t->lanes + r];
}

static ptq_status run_tile(void *ctx, int64_t index, ptq_err *err) {
  const ptq_gptq_shared *s = ctx;
  const ptq_gptq_job *job = s->job;
  ptq_status rc = PTQ_OK;
  ptq_gptq_tile t;
  PTQ_TRY(tile_init(&t, job, index, err));
  load(&t);
  if (job->group <= 0 || ptq_gptq_by_column(job))
    PTQ_TRY(ptq_gptq_fit_static(&t, s, err));
  for (int64_t block = 0; block < job->cols; block += job->block)
    PTQ_TRY(quantize_block(&t, block, err));
  store_params(&t);
done:
  tile_release(&t);
  return rc;
}

ptq_status ptq_gptq_run(const ptq_gptq_job *job, ptq_err *err) {
  ptq_gptq_shared s = {.job = job};
  if (job->group == PTQ_GROUP_TENSOR && !job->given_params) {
    const ptq_status rc = ptq_gptq_fit_tensor(&s, err);
    if (rc != PTQ_OK) return rc;
  }
  const int64_t n_params = job->group == PTQ_GROUP_TENSOR || job->given_params
                               ? 0
                               : ptq_dtype_groups(job->cols, job->group);
  const size_t cols = (size_t)job->cols;
  const ptq_tile_split split = {
      .team = job->team,
      .threads = job->threads,
      .rows = job->rows,
      .tile = TILE,
      .out = {{job->y, cols * sizeof *job->y},
              {job->q, cols * sizeof *job->q},
              {n_params > 0 ? job->params : NULL,
               (size_t)n_params * sizeof *job->params}}};
  return ptq_tiles_split(&split, run_tile, &s, err);
}

/* The working rows, a block's errors and codes, parameters of groups of 16. */
double ptq_gptq_tile_bytes(int64_t rows, int64_t cols) {
  const double lanes = (double)least(TILE, rows), c = (double)cols;
  return lanes * (8.0 * c + 128.0 * 14.0 + 24.0 * c / 16.0) + 64.0 * c;
}
