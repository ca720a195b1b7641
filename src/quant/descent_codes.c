/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Coordinate descent on codes. With all else fixed, a row's error is
 * h_cc (t - y_c)^2 and what does not depend on y_c, t = y_c + g_c / h_cc, so
 * the best code is the one nearest to t. Columns go in blocks: within a block
 * the gradient follows column by column, behind it by one product. */
#include <math.h>
#include <string.h>

#include "descent_tile.h"

/* Column c moves to the values nearest to t->column, which is t above; its
 * change goes to d. */
static bool move_column(ptq_descent_tile *t, int64_t c, double *d) {
  const ptq_dtype *dt = t->job->dtype;
  const int64_t lanes = t->lanes;
  double *y = t->y + c * lanes;
  int16_t *q = t->q + c * lanes;
  bool moved = false;
  for (int64_t r = 0; r < lanes; r++) t->x[r] = (float)t->column[r];
  dt->family->round(dt, t->x, lanes, t->params + c / t->width * lanes, 1,
                    t->rounded, t->code);
  for (int64_t r = 0; r < lanes; r++) {
    const double to = (double)t->rounded[r];
    d[r] = 0.0;
    if (!(fabs(t->column[r] - to) < fabs(t->column[r] - y[r]))) continue;
    d[r] = to - y[r];
    y[r] = to;
    q[r] = t->code[r];
    moved = true;
  }
  return moved;
}

static bool move_block(ptq_descent_tile *t, int64_t first, int64_t n) {
  const int64_t lanes = t->lanes, cols = t->job->cols;
  const double *h = t->job->h;
  bool moved = false;
  for (int64_t i = 0; i < n; i++) {
    const int64_t c = first + i;
    const double diagonal = h[c * cols + c];
    memcpy(t->column, t->g + c * lanes, (size_t)lanes * sizeof *t->column);
    ptq_descent_feed(t->column, t->d, h + first * cols + c, cols, i, lanes);
    for (int64_t r = 0; r < lanes; r++)
      t->column[r] = t->y[c * lanes + r] + t->column[r] / diagonal;
    moved = move_column(t, c, t->d + i * lanes) || moved;
  }
  if (moved) ptq_descent_moved(t, first, n);
  return moved;
}

bool ptq_descent_codes(ptq_descent_tile *t) {
  const int64_t cols = t->job->cols;
  bool moved = false;
  for (int64_t first = 0; first < cols; first += PTQ_DESCENT_BLOCK) {
    const int64_t left = cols - first;
    moved = move_block(t, first,
                       left < PTQ_DESCENT_BLOCK ? left : PTQ_DESCENT_BLOCK) ||
            moved;
  }
  return moved;
}
