/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rows do not see each other: a tile of rows is worked on transposed. With E
 * the transposed error [cols, lanes], the gradient of a block of columns is
 * G = H[block, :] E, one product of matrices; within the block G follows each
 * change, G_j -= H_jk (y_k new - y_k old).
 */
#include "tune.h"

#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "tiles.h"

enum { TILE = 256, BLOCK = 64 };

typedef struct tile {
  const ptq_tune_job *job; /* borrowed */
  int64_t row, rows;
  int64_t width, n_groups;
  double *e;                /* owned; [cols, rows]: w - y */
  double *g;                /* owned; [BLOCK, rows] */
  float *y;                 /* owned; [cols, rows] */
  int16_t *q;               /* owned; [cols, rows] */
  float *next;              /* owned; [rows] */
  ptq_group_params *params; /* owned; [n_groups, rows] */
} tile;

static int64_t least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

static ptq_status tile_init(tile *t, const ptq_tune_job *job, int64_t index,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *t = (tile){.job = job, .row = index * TILE};
  t->rows = least(TILE, job->rows - t->row);
  t->width = job->group > 0 ? least(job->group, job->cols) : job->cols;
  t->n_groups = ptq_dtype_groups(job->cols, job->group);
  const int64_t n = job->cols * t->rows;
  const char *what = "rows to tune";
  PTQ_TRY(ptq_alloc(&t->e, n, sizeof *t->e, what, err));
  PTQ_TRY(ptq_alloc(&t->g, BLOCK * t->rows, sizeof *t->g, what, err));
  PTQ_TRY(ptq_alloc(&t->y, n, sizeof *t->y, what, err));
  PTQ_TRY(ptq_alloc(&t->q, n, sizeof *t->q, what, err));
  PTQ_TRY(ptq_alloc(&t->next, t->rows, sizeof *t->next, what, err));
  PTQ_TRY(ptq_alloc(&t->params, t->n_groups * t->rows, sizeof *t->params, what,
                    err));
done:
  return rc;
}

static void tile_release(tile *t) {
  ptq_free(t->e);
  ptq_free(t->g);
  ptq_free(t->y);
  ptq_free(t->q);
  ptq_free(t->next);
  ptq_free(t->params);
}

static void load(tile *t) {
  const ptq_tune_job *job = t->job;
  for (int64_t r = 0; r < t->rows; r++) {
    for (int64_t c = 0; c < job->cols; c++) {
      const int64_t at = (t->row + r) * job->cols + c, to = c * t->rows + r;
      t->y[to] = job->y[at];
      t->q[to] = job->q[at];
      t->e[to] = (double)job->w[at] - (double)job->y[at];
    }
    for (int64_t g = 0; g < t->n_groups; g++)
      t->params[g * t->rows + r] =
          job->group == PTQ_GROUP_TENSOR
              ? *job->params
              : job->params[(t->row + r) * t->n_groups + g];
  }
}

static void store(const tile *t) {
  const ptq_tune_job *job = t->job;
  for (int64_t r = 0; r < t->rows; r++)
    for (int64_t c = 0; c < job->cols; c++) {
      const int64_t at = (t->row + r) * job->cols + c;
      job->y[at] = t->y[c * t->rows + r];
      job->q[at] = t->q[c * t->rows + r];
    }
}

/* Column k anew; columns [first, k) of the block follow in t->g. */
static void improve_column(tile *t, int64_t first, int64_t k) {
  const ptq_tune_job *job = t->job;
  const int64_t n = t->rows, at = k * n;
  const double *h = job->h + k * job->cols;
  double *g = t->g + (k - first) * n;
  if (!(h[k] > 0.0)) return;
  for (int64_t r = 0; r < n; r++)
    t->next[r] = (float)((double)t->y[at + r] + g[r] / h[k]);
  job->dtype->family->round(job->dtype, t->next, n,
                            t->params + k / t->width * n, 1, t->next,
                            t->q + at);
  for (int64_t r = 0; r < n; r++) {
    const double change = (double)t->next[r] - (double)t->y[at + r];
    t->y[at + r] = t->next[r];
    t->e[at + r] -= change;
    g[r] = change;
  }
  for (int64_t j = first; j < k; j++) {
    double *to = t->g + (j - first) * n;
    for (int64_t r = 0; r < n; r++) to[r] -= h[j] * g[r];
  }
}

static ptq_status run_tile(void *ctx, int64_t index, ptq_err *err) {
  const ptq_tune_job *job = ctx;
  const int64_t cols = job->cols, last = (cols - 1) / BLOCK * BLOCK;
  tile t;
  ptq_status rc = PTQ_OK;
  PTQ_TRY(tile_init(&t, job, index, err));
  load(&t);
  for (int64_t pass = 0; pass < job->passes; pass++)
    for (int64_t first = last; first >= 0; first -= BLOCK) {
      const int64_t n = least(BLOCK, cols - first);
      ptq_dgemm_nn(n, t.rows, cols, 1.0, job->h + first * cols, cols, t.e,
                   t.rows, 0.0, t.g, t.rows);
      for (int64_t k = first + n - 1; k >= first; k--)
        improve_column(&t, first, k);
    }
  store(&t);
done:
  tile_release(&t);
  return rc;
}

ptq_status ptq_tune(const ptq_tune_job *job, ptq_err *err) {
  if (job->passes == 0) return PTQ_OK;
  ptq_tune_job copy = *job;
  const size_t cols = (size_t)job->cols;
  const ptq_tile_split split = {.team = job->team,
                                .threads = job->threads,
                                .rows = job->rows,
                                .tile = TILE,
                                .out = {{job->y, cols * sizeof *job->y},
                                        {job->q, cols * sizeof *job->q}}};
  return ptq_tiles_split(&split, run_tile, &copy, err);
}
