/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "joint_descent.h"

#include <math.h>

#include "descent_tile.h"
#include "ptq/base/mem.h"
#include "tiles.h"

typedef struct shared {
  const ptq_joint_descent_job *job; /* borrowed */
  int64_t n_groups, width;          /* groups to step over, 0: none */
  ptq_group_plan *plans;            /* owned; [n_groups] */
} shared;

static void release(shared *s) {
  for (int64_t k = 0; s->plans != NULL && k < s->n_groups; k++) {
    ptq_free(s->plans[k].h);
    ptq_gptq_factor_free(s->plans[k].factor);
  }
  ptq_free(s->plans);
}

static double unit_of(const double *h, int64_t n, int64_t ld) {
  double sum = 0.0;
  int exponent = 0;
  for (int64_t i = 0; i < n; i++) sum += h[i * ld + i];
  (void)frexp(sum / (double)n, &exponent);
  return ldexp(1.0, 1 - exponent);
}

/* The block of H of columns [first, first + n), its factor with columns by
 * descending diagonal, and the block in that order. */
static ptq_status plan_group(const ptq_joint_descent_job *job, int64_t first,
                             int64_t n, ptq_group_plan *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *block = NULL;
  const char *what = "a group's block of the second moment";
  const double *h = job->h + first * job->cols + first;
  p->first = first;
  p->n = n;
  PTQ_TRY(ptq_alloc(&block, n * n, sizeof *block, what, err));
  PTQ_TRY(ptq_alloc(&p->h, n * n, sizeof *p->h, what, err));
  p->unit = unit_of(h, n, job->cols);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      block[i * n + j] = h[i * job->cols + j] * p->unit;
  PTQ_TRY(ptq_gptq_factor_create(block, n, 0.0, true, job->threads, &p->factor,
                                 err));
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      p->h[i * n + j] = block[p->factor->order[i] * n + p->factor->order[j]];
done:
  ptq_free(block);
  return rc;
}

static ptq_status plan_groups(shared *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_joint_descent_job *job = s->job;
  if (job->sweeps == 0 || job->group == PTQ_GROUP_TENSOR) return PTQ_OK;
  const int64_t n = ptq_dtype_groups(job->cols, job->group);
  s->width = job->group > 0 && job->group < job->cols ? job->group : job->cols;
  PTQ_TRY(ptq_alloc(&s->plans, n, sizeof *s->plans, "groups", err));
  s->n_groups = n;
  for (int64_t k = 0; k < n; k++) {
    const int64_t first = k * s->width, left = job->cols - first;
    PTQ_TRY(plan_group(job, first, left < s->width ? left : s->width,
                       &s->plans[k], err));
  }
done:
  return rc;
}

static void pass_codes(ptq_descent_tile *t) {
  for (int64_t i = 0; i < t->job->passes && ptq_descent_codes(t); i++) continue;
}

static ptq_status run_tile(void *ctx, int64_t index, ptq_err *err) {
  const shared *s = ctx;
  ptq_status rc = PTQ_OK;
  ptq_group_step *step = NULL;
  ptq_descent_tile t;
  PTQ_TRY(ptq_descent_tile_init(&t, s->job, index, err));
  pass_codes(&t);
  if (s->n_groups > 0) PTQ_TRY(ptq_group_step_create(&t, s->width, &step, err));
  for (int64_t i = 0; i < s->job->sweeps && s->n_groups > 0; i++) {
    for (int64_t k = 0; k < s->n_groups; k++)
      ptq_descent_group(&t, step, &s->plans[k], k);
    pass_codes(&t);
  }
  ptq_descent_tile_store(&t);
done:
  ptq_group_step_free(step);
  ptq_descent_tile_release(&t);
  return rc;
}

ptq_status ptq_joint_descent_run(const ptq_joint_descent_job *job,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  shared s = {.job = job};
  PTQ_TRY(plan_groups(&s, err));
  const bool whole = job->group == PTQ_GROUP_TENSOR;
  const size_t cols = (size_t)job->cols;
  const size_t groups = (size_t)ptq_dtype_groups(job->cols, job->group);
  const ptq_tile_split split = {
      .team = job->team,
      .threads = job->threads,
      .rows = job->rows,
      .tile = PTQ_DESCENT_ROWS,
      .out = {{job->y, cols * sizeof *job->y},
              {job->q, cols * sizeof *job->q},
              {whole ? NULL : job->params, groups * sizeof *job->params}}};
  PTQ_TRY(ptq_tiles_split(&split, run_tile, &s, err));
done:
  release(&s);
  return rc;
}
