/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "row_errors.h"

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "tiles.h"

enum { TILE = 128 /* rows */ };

typedef struct job {
  const float *w, *y; /* borrowed, as all */
  int64_t rows, cols;
  const double *h;
  const unsigned char *dead;
  double *out;
} job;

static ptq_status run_tile(void *ctx, int64_t index, ptq_err *err) {
  const job *j = ctx;
  ptq_status rc = PTQ_OK;
  double *e = NULL, *he = NULL;
  const int64_t cols = j->cols, first = index * TILE, left = j->rows - first;
  const int64_t rows = left < TILE ? left : TILE;
  PTQ_TRY(ptq_alloc(&e, rows * cols, sizeof *e, "errors of rows", err));
  PTQ_TRY(ptq_alloc(&he, rows * cols, sizeof *he, "errors of rows", err));
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) {
      const int64_t from = (first + r) * cols + c;
      const double w = j->dead[c] ? 0.0 : (double)j->w[from];
      e[r * cols + c] = w - (double)j->y[from];
    }
  ptq_dgemm_nn(rows, cols, cols, 1.0, e, cols, j->h, cols, 0.0, he, cols);
  for (int64_t r = 0; r < rows; r++) {
    double sum = 0.0;
    for (int64_t c = 0; c < cols; c++)
      sum += e[r * cols + c] * he[r * cols + c];
    j->out[first + r] = sum;
  }
done:
  ptq_free(e);
  ptq_free(he);
  return rc;
}

ptq_status ptq_row_errors(const float *w, const float *y, int64_t rows,
                          int64_t cols, const double *h,
                          const unsigned char *dead, int threads,
                          ptq_team *team, double *out, ptq_err *err) {
  job j = {.w = w,
           .y = y,
           .rows = rows,
           .cols = cols,
           .h = h,
           .dead = dead,
           .out = out};
  const ptq_tile_split split = {.team = team,
                                .threads = threads,
                                .rows = rows,
                                .tile = TILE,
                                .out = {{out, sizeof *out}}};
  return ptq_tiles_split(&split, run_tile, &j, err);
}
