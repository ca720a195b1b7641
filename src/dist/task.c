/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "task.h"

#include "ptq/comm/nap.h"

/** The sink that work() sees: the user's, then the listener. */
typedef struct relay {
  const ptq_sink *user;              /* borrowed */
  const ptq_task *task;              /* borrowed */
  const int64_t *points;             /* borrowed; [task->n] */
  int64_t cursor;                    /* where the next point probably is */
  const ptq_task_listener *listener; /* borrowed */
  bool sink_failed;
} relay;

static ptq_status relay_begin(void *ctx, const int64_t *points, int64_t n,
                              ptq_err *err) {
  relay *r = ctx;
  if (r->user->begin == NULL) return PTQ_OK;
  const ptq_status rc = r->user->begin(r->user->ctx, points, n, err);
  if (rc != PTQ_OK) r->sink_failed = true;
  return rc;
}

/** Place of a point in the task, -1 if it is not one of its points. */
static int64_t find_point(relay *r, int64_t point) {
  for (int64_t step = 0; step < r->task->n; step++) {
    const int64_t i = (r->cursor + step) % r->task->n;
    if (r->points[i] != point) continue;
    r->cursor = (i + 1) % r->task->n;
    return i;
  }
  return -1;
}

static ptq_status relay_point(void *ctx, const ptq_point_result *result,
                              ptq_err *err) {
  relay *r = ctx;
  const int64_t i = find_point(r, result->point);
  if (i < 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "result of point %lld in a batch without it",
                    (long long)result->point);
  if (r->user->point != NULL) {
    const ptq_status rc = r->user->point(r->user->ctx, result, err);
    if (rc != PTQ_OK) {
      r->sink_failed = true;
      return rc;
    }
  }
  return r->listener->point(r->listener->ctx, r->task->first + i, result->state,
                            err);
}

static ptq_status relay_subject(void *ctx, const ptq_subject_result *result,
                                ptq_err *err) {
  relay *r = ctx;
  if (r->user->subject != NULL) {
    const ptq_status rc = r->user->subject(r->user->ctx, result, err);
    if (rc != PTQ_OK) {
      r->sink_failed = true;
      return rc;
    }
  }
  return r->listener->subject(r->listener->ctx, result->state, err);
}

static ptq_status relay_direction(void *ctx, const ptq_direction_result *result,
                                  ptq_err *err) {
  relay *r = ctx;
  if (r->user->direction != NULL) {
    const ptq_status rc = r->user->direction(r->user->ctx, result, err);
    if (rc != PTQ_OK) {
      r->sink_failed = true;
      return rc;
    }
  }
  return r->listener->subject(r->listener->ctx, result->state, err);
}

static ptq_status relay_steps(void *ctx, const ptq_steps *s, ptq_err *err) {
  relay *r = ctx;
  if (r->user->steps == NULL) return PTQ_OK;
  const ptq_status rc = r->user->steps(r->user->ctx, s, err);
  if (rc != PTQ_OK) r->sink_failed = true;
  return rc;
}

static ptq_status relay_left(void *ctx, const ptq_steps *s, bool *there,
                             ptq_err *err) {
  relay *r = ctx;
  if (r->user->left == NULL) return PTQ_OK;
  const ptq_status rc = r->user->left(r->user->ctx, s, there, err);
  if (rc != PTQ_OK) r->sink_failed = true;
  return rc;
}

static ptq_status relay_alive(void *ctx, double done, ptq_err *err) {
  relay *r = ctx;
  if (r->user->alive != NULL) {
    const ptq_status rc = r->user->alive(r->user->ctx, done, err);
    if (rc != PTQ_OK) {
      r->sink_failed = rc != PTQ_E_STOPPED;
      return rc;
    }
  }
  return r->listener->alive(r->listener->ctx, done, err);
}

void ptq_task_run(const ptq_dist_ops *ops, const ptq_task *task,
                  const int64_t *points, const ptq_task_listener *listener,
                  ptq_task_end *end, ptq_err *err) {
  relay r = {
      .user = &ops->sink, .task = task, .points = points, .listener = listener};
  const ptq_sink sink = {.ctx = &r,
                         .begin = relay_begin,
                         .point = relay_point,
                         .subject = relay_subject,
                         .direction = relay_direction,
                         .steps = relay_steps,
                         .left = relay_left,
                         .alive = relay_alive};
  const double start = ptq_nap_clock();
  *err = (ptq_err){0};
  end->status = ops->work(ops->ctx, task->subject, points, task->n, &sink, err);
  if (end->status != PTQ_OK && err->code == PTQ_OK)
    (void)PTQ_FAIL(err, end->status, "%s", ptq_status_str(end->status));
  end->sink_failed = end->status != PTQ_OK && r.sink_failed;
  end->seconds = ptq_nap_clock() - start;
  end->text = err->msg;
}
