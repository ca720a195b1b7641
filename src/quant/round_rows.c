/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "round_rows.h"

#include "tiles.h"

enum { TILE = 64 };

typedef struct job {
  const ptq_dtype *dt;
  const ptq_quant_input *in;
  const float *w;
  float *y;
  int16_t *q; /* may be NULL */
  ptq_group_params *params;
} job;

static ptq_status round_tile(void *ctx, int64_t index, ptq_err *err) {
  const job *j = ctx;
  const int64_t first = index * TILE, cols = j->in->cols, at = first * cols;
  const int64_t left = j->in->rows - first;
  return ptq_dtype_round_matrix(
      j->dt, j->w + at, left < TILE ? left : TILE, cols, j->in->group,
      j->y + at, j->q != NULL ? j->q + at : NULL,
      j->params + first * ptq_dtype_groups(cols, j->in->group), err);
}

ptq_status ptq_round_rows(const ptq_dtype *dt, const ptq_quant_input *in,
                          const float *w, float *y, int16_t *q,
                          ptq_group_params *params, ptq_err *err) {
  job j = {.dt = dt, .in = in, .w = w, .y = y, .q = q, .params = params};
  const bool apart = in->group != PTQ_GROUP_TENSOR && dt->matrix == NULL &&
                     !ptq_dtype_shares(dt) && y != w;
  const size_t cols = (size_t)in->cols;
  const ptq_tile_split split = {
      .team = in->team,
      .threads = in->threads,
      .rows = in->rows,
      .tile = TILE,
      .out = {{y, cols * sizeof *y},
              {q, cols * sizeof *q},
              {params, (size_t)ptq_dtype_groups(in->cols, in->group) *
                           sizeof *params}}};
  if (apart && (in->threads > 1 || in->team != NULL)) {
    ptq_err own = {0};
    const ptq_status rc = ptq_tiles_split(&split, round_tile, &j, &own);
    if (rc == PTQ_OK) return rc;
    if (rc == PTQ_E_PEER) return PTQ_FAIL(err, rc, "%s", own.msg);
  }
  /* A failure is told with its place in the whole matrix. */
  return ptq_dtype_round_matrix(dt, w, in->rows, in->cols, in->group, y, q,
                                params, err);
}
