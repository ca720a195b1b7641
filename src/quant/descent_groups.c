/* SPDX-License-Identifier: GPL-3.0-or-later */
/* One group's scale and codes anew while all others stay.
 *
 * With B the group's block of H and g the gradient H (w - y) in it, a row's
 * error is (t - y)' B (t - y) and what does not depend on the group, where
 * t = y + B^-1 g: what the group's weights would have to be to make up for the
 * errors of all others. For several scales, GPTQ with the factor U of B (B^-1 =
 * U' U) rounds t; the sum of its squared e is the error. Then the scale that is
 * best for the codes found, f = y'Bt / y'By times the one at hand, is taken if
 * the format can store one near it that is better. */
#include <math.h>
#include <string.h>

#include "descent_tile.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "scale_search.h"

static const double fine[] = {1.0, 0.94, 1.06, 0.88, 1.12};
static const double coarse[] = {1.0, 0.5, 2.0};

struct ptq_group_step {
  const double *by; /* static; factors of scales to try */
  size_t n_by;
  double *g;              /* owned; [n, lanes] */
  double *z;              /* owned; [n + 1, lanes] */
  double *target;         /* owned; [n, lanes] */
  double *x, *y;          /* owned; [n, lanes]: a candidate */
  double *hy;             /* owned; [n, lanes] */
  int16_t *q, *best_q;    /* owned; [n, lanes] */
  double *error, *least;  /* owned; [lanes] */
  ptq_group_params *p;    /* owned; [lanes] */
  ptq_group_params *best; /* owned; [lanes] */
  bool *won;              /* owned; [lanes]: best is not what was there */
};

ptq_status ptq_group_step_create(const ptq_descent_tile *t, int64_t widest,
                                 ptq_group_step **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *what = "a group to descend on";
  const int64_t lanes = t->lanes, n = widest * lanes;
  const bool is_coarse = ptq_scale_is_coarse(t->job->dtype);
  ptq_group_step *s = NULL;
  PTQ_TRY(ptq_alloc(&s, 1, sizeof *s, what, err));
  s->by = is_coarse ? coarse : fine;
  s->n_by =
      is_coarse ? sizeof coarse / sizeof *coarse : sizeof fine / sizeof *fine;
  PTQ_TRY(ptq_alloc(&s->g, n, sizeof *s->g, what, err));
  PTQ_TRY(ptq_alloc(&s->z, n + lanes, sizeof *s->z, what, err));
  PTQ_TRY(ptq_alloc(&s->target, n, sizeof *s->target, what, err));
  PTQ_TRY(ptq_alloc(&s->x, n, sizeof *s->x, what, err));
  PTQ_TRY(ptq_alloc(&s->y, n, sizeof *s->y, what, err));
  PTQ_TRY(ptq_alloc(&s->hy, n, sizeof *s->hy, what, err));
  PTQ_TRY(ptq_alloc(&s->q, n, sizeof *s->q, what, err));
  PTQ_TRY(ptq_alloc(&s->best_q, n, sizeof *s->best_q, what, err));
  PTQ_TRY(ptq_alloc(&s->error, lanes, sizeof *s->error, what, err));
  PTQ_TRY(ptq_alloc(&s->least, lanes, sizeof *s->least, what, err));
  PTQ_TRY(ptq_alloc(&s->p, lanes, sizeof *s->p, what, err));
  PTQ_TRY(ptq_alloc(&s->best, lanes, sizeof *s->best, what, err));
  PTQ_TRY(ptq_alloc(&s->won, lanes, sizeof *s->won, what, err));
done:
  *out = s;
  if (rc != PTQ_OK) {
    ptq_group_step_free(s);
    *out = NULL;
  }
  return rc;
}

void ptq_group_step_free(ptq_group_step *s) {
  if (s == NULL) return;
  ptq_free(s->g);
  ptq_free(s->z);
  ptq_free(s->target);
  ptq_free(s->x);
  ptq_free(s->y);
  ptq_free(s->hy);
  ptq_free(s->q);
  ptq_free(s->best_q);
  ptq_free(s->error);
  ptq_free(s->least);
  ptq_free(s->p);
  ptq_free(s->best);
  ptq_free(s->won);
  ptq_free(s);
}

static int64_t column_of(const ptq_group_plan *plan, int64_t i) {
  return plan->first + plan->factor->order[i];
}

/* s->target = y + U' (U g), and what is there as the one to beat: with z = U g
 * its error is z'z. */
static void aim(const ptq_descent_tile *t, ptq_group_step *s,
                const ptq_group_plan *plan) {
  const int64_t n = plan->n, lanes = t->lanes;
  const size_t column = (size_t)lanes * sizeof *s->g;
  for (int64_t i = 0; i < n; i++) {
    const int64_t c = column_of(plan, i);
    for (int64_t r = 0; r < lanes; r++)
      s->g[i * lanes + r] = t->g[c * lanes + r] * plan->unit;
    memcpy(s->target + i * lanes, t->y + c * lanes, column);
  }
  ptq_dgemm_nn(n, lanes, n, 1.0, plan->factor->u, n, s->g, lanes, 0.0, s->z,
               lanes);
  ptq_dgemm_tn(n, lanes, n, 1.0, plan->factor->u, n, s->z, lanes, 1.0,
               s->target, lanes);
  memset(s->least, 0, (size_t)lanes * sizeof *s->least);
  for (int64_t i = 0; i < n; i++)
    for (int64_t r = 0; r < lanes; r++)
      s->least[r] += s->z[i * lanes + r] * s->z[i * lanes + r];
  memset(s->won, 0, (size_t)lanes * sizeof *s->won);
}

/* s->q, s->y and s->error: the target rounded by GPTQ with s->p. */
static void round_group(ptq_descent_tile *t, ptq_group_step *s,
                        const ptq_group_plan *plan) {
  const ptq_dtype *dt = t->job->dtype;
  const int64_t n = plan->n, lanes = t->lanes;
  const double *u = plan->factor->u;
  double *e = s->x; /* scaled errors, column by column */
  memset(s->error, 0, (size_t)lanes * sizeof *s->error);
  for (int64_t i = 0; i < n; i++) {
    memcpy(t->column, s->target + i * lanes, (size_t)lanes * sizeof *t->column);
    ptq_descent_feed(t->column, e, u + i, n, i, lanes);
    for (int64_t r = 0; r < lanes; r++) t->x[r] = (float)t->column[r];
    dt->family->round(dt, t->x, lanes, s->p, 1, t->rounded, s->q + i * lanes);
    for (int64_t r = 0; r < lanes; r++) {
      const double y = (double)t->rounded[r];
      const double scaled = (t->column[r] - y) / u[i * n + i];
      s->y[i * lanes + r] = y;
      e[i * lanes + r] = scaled;
      s->error[r] += scaled * scaled;
    }
  }
}

/* Refits the scales of s->p to the codes where that is better; s->error
 * follows. */
static void refit(const ptq_descent_tile *t, ptq_group_step *s,
                  const ptq_group_plan *plan) {
  const int64_t n = plan->n, lanes = t->lanes;
  double *num = s->z, *den = s->z + lanes; /* free by now */
  ptq_dgemm_nn(n, lanes, n, 1.0, plan->h, n, s->y, lanes, 0.0, s->hy, lanes);
  memset(num, 0, 2 * (size_t)lanes * sizeof *num);
  for (int64_t i = 0; i < n; i++)
    for (int64_t r = 0; r < lanes; r++) {
      num[r] += s->hy[i * lanes + r] * s->target[i * lanes + r];
      den[r] += s->hy[i * lanes + r] * s->y[i * lanes + r];
    }
  for (int64_t r = 0; r < t->rows; r++) {
    if (!(den[r] > 0.0 && num[r] > 0.0)) continue;
    const ptq_group_params p = ptq_scale_times(
        t->job->dtype, t->row + r, plan->first, s->p[r], num[r] / den[r]);
    const double by = (double)p.scale / (double)s->p[r].scale - 1.0;
    const double gain = by * (2.0 * (num[r] - den[r]) - by * den[r]);
    if (!(gain > 0.0)) continue;
    s->p[r] = p;
    s->error[r] -= gain;
  }
}

/* Candidates that are clearly better become the best. */
static void judge(const ptq_descent_tile *t, ptq_group_step *s, int64_t n) {
  const int64_t lanes = t->lanes;
  for (int64_t r = 0; r < t->rows; r++) {
    if (!(s->error[r] < s->least[r] * (1.0 - 1e-6))) continue;
    s->least[r] = s->error[r];
    s->best[r] = s->p[r];
    s->won[r] = true;
    for (int64_t i = 0; i < n; i++)
      s->best_q[i * lanes + r] = s->q[i * lanes + r];
  }
}

/* The best of rows where one was found goes to the tile. */
static void settle(ptq_descent_tile *t, const ptq_group_step *s,
                   const ptq_group_plan *plan, int64_t k) {
  const ptq_dtype *dt = t->job->dtype;
  const int64_t n = plan->n, lanes = t->lanes;
  bool any = false;
  memset(t->d, 0, (size_t)(n * lanes) * sizeof *t->d);
  for (int64_t r = 0; r < t->rows; r++) {
    if (!s->won[r]) continue;
    any = true;
    t->params[k * lanes + r] = s->best[r];
    for (int64_t i = 0; i < n; i++) {
      const int64_t c = column_of(plan, i), at = c * lanes + r;
      const int16_t code = s->best_q[i * lanes + r];
      const double y = (double)ptq_dtype_value(dt, &s->best[r], code);
      t->d[(c - plan->first) * lanes + r] = y - t->y[at];
      t->y[at] = y;
      t->q[at] = code;
    }
  }
  if (any) ptq_descent_moved(t, plan->first, n);
}

/* s->p = the group's scales times `by`; true where one is another. */
static bool propose(const ptq_descent_tile *t, ptq_group_step *s, int64_t first,
                    int64_t k, double by) {
  bool other = by == 1.0;
  for (int64_t r = 0; r < t->lanes; r++) {
    const ptq_group_params now = t->params[k * t->lanes + r];
    s->p[r] = now;
    if (by == 1.0 || r >= t->rows) continue;
    s->p[r] = ptq_scale_times(t->job->dtype, t->row + r, first, now, by);
    other = other || s->p[r].scale != now.scale;
  }
  return other;
}

void ptq_descent_group(ptq_descent_tile *t, ptq_group_step *s,
                       const ptq_group_plan *plan, int64_t k) {
  aim(t, s, plan);
  for (size_t i = 0; i < s->n_by; i++) {
    if (!propose(t, s, plan->first, k, s->by[i])) continue;
    round_group(t, s, plan);
    refit(t, s, plan);
    judge(t, s, plan->n);
  }
  settle(t, s, plan, k);
}
