/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "descent_tile.h"

#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static ptq_status allocate(ptq_descent_tile *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *what = "rows to descend on";
  const int64_t cols = t->job->cols, n = cols * t->lanes;
  const int64_t most = larger(PTQ_DESCENT_BLOCK, t->width);
  PTQ_TRY(ptq_alloc(&t->y, n, sizeof *t->y, what, err));
  PTQ_TRY(ptq_alloc(&t->q, n, sizeof *t->q, what, err));
  PTQ_TRY(ptq_alloc(&t->g, n, sizeof *t->g, what, err));
  PTQ_TRY(ptq_alloc(&t->d, most * t->lanes, sizeof *t->d, what, err));
  PTQ_TRY(ptq_alloc(&t->params, t->n_groups * t->lanes, sizeof *t->params, what,
                    err));
  PTQ_TRY(ptq_alloc(&t->x, t->lanes, sizeof *t->x, what, err));
  PTQ_TRY(ptq_alloc(&t->rounded, t->lanes, sizeof *t->rounded, what, err));
  PTQ_TRY(ptq_alloc(&t->code, t->lanes, sizeof *t->code, what, err));
  PTQ_TRY(ptq_alloc(&t->column, t->lanes, sizeof *t->column, what, err));
done:
  return rc;
}

/* Lanes without a row have weights and values 0 and the last row's
 * parameters. */
static void load(ptq_descent_tile *t, double *e) {
  const ptq_joint_descent_job *job = t->job;
  const int64_t cols = job->cols, lanes = t->lanes;
  for (int64_t r = 0; r < t->rows; r++)
    for (int64_t c = 0; c < cols; c++) {
      const int64_t from = (t->row + r) * cols + c, to = c * lanes + r;
      const double w = job->dead[c] ? 0.0 : (double)job->w[from];
      t->y[to] = (double)job->y[from];
      t->q[to] = job->q[from];
      e[to] = w - t->y[to];
    }
  for (int64_t r = 0; r < lanes; r++) {
    const int64_t row = t->row + (r < t->rows ? r : t->rows - 1);
    for (int64_t k = 0; k < t->n_groups; k++)
      t->params[k * lanes + r] = job->group == PTQ_GROUP_TENSOR
                                     ? job->params[0]
                                     : job->params[row * t->n_groups + k];
  }
}

ptq_status ptq_descent_tile_init(ptq_descent_tile *t,
                                 const ptq_joint_descent_job *job,
                                 int64_t index, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *e = NULL;
  const int64_t row = index * PTQ_DESCENT_ROWS, left = job->rows - row;
  const int64_t rows = left < PTQ_DESCENT_ROWS ? left : PTQ_DESCENT_ROWS;
  const int64_t width =
      job->group > 0 && job->group < job->cols ? job->group : job->cols;
  *t = (ptq_descent_tile){.job = job,
                          .row = row,
                          .rows = rows,
                          .lanes = (rows + PTQ_DESCENT_LANES - 1) /
                                   PTQ_DESCENT_LANES * PTQ_DESCENT_LANES,
                          .width = width,
                          .n_groups = ptq_dtype_groups(job->cols, job->group)};
  PTQ_TRY(allocate(t, err));
  PTQ_TRY(
      ptq_alloc(&e, job->cols * t->lanes, sizeof *e, "errors of rows", err));
  load(t, e);
  ptq_dgemm_nn(job->cols, t->lanes, job->cols, 1.0, job->h, job->cols, e,
               t->lanes, 0.0, t->g, t->lanes);
done:
  ptq_free(e);
  return rc;
}

void ptq_descent_tile_release(ptq_descent_tile *t) {
  ptq_free(t->y);
  ptq_free(t->q);
  ptq_free(t->g);
  ptq_free(t->d);
  ptq_free(t->params);
  ptq_free(t->x);
  ptq_free(t->rounded);
  ptq_free(t->code);
  ptq_free(t->column);
}

void ptq_descent_tile_store(const ptq_descent_tile *t) {
  const ptq_joint_descent_job *job = t->job;
  for (int64_t r = 0; r < t->rows; r++) {
    const int64_t row = t->row + r;
    for (int64_t c = 0; c < job->cols; c++) {
      job->y[row * job->cols + c] = (float)t->y[c * t->lanes + r];
      job->q[row * job->cols + c] = t->q[c * t->lanes + r];
    }
    if (job->group == PTQ_GROUP_TENSOR) continue;
    for (int64_t k = 0; k < t->n_groups; k++)
      job->params[row * t->n_groups + k] = t->params[k * t->lanes + r];
  }
}

void ptq_descent_moved(ptq_descent_tile *t, int64_t first, int64_t n) {
  const int64_t cols = t->job->cols;
  ptq_dgemm_tn(cols, t->lanes, n, -1.0, t->job->h + first * cols, cols, t->d,
               t->lanes, 1.0, t->g, t->lanes);
}

void ptq_descent_feed(double *x, const double *d, const double *by, int64_t ld,
                      int64_t n, int64_t lanes) {
  for (int64_t r = 0; r < lanes; r += PTQ_DESCENT_LANES) {
    double sum[PTQ_DESCENT_LANES];
    memcpy(sum, x + r, sizeof sum);
    for (int64_t k = 0; k < n; k++) {
      const double *from = d + k * lanes + r;
      const double factor = by[k * ld];
      for (int j = 0; j < PTQ_DESCENT_LANES; j++) sum[j] -= from[j] * factor;
    }
    memcpy(x + r, sum, sizeof sum);
  }
}
