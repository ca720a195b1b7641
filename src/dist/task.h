/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file task.h
 * Running one task on this rank: the sink in between, so that results are
 * heard of, and failures of the sink told from failures of the work.
 */
#ifndef PTQ_DIST_TASK_H
#define PTQ_DIST_TASK_H

#include "board.h"

/** Who hears of a running task: a worker's messages, or the books inline. */
typedef struct ptq_task_listener {
  void *ctx; /* borrowed */
  /** The point at place `index` of the plan's order has a result. */
  ptq_status (*point)(void *ctx, int64_t index, ptq_state state, ptq_err *err);
  /** A model's own item has one. */
  ptq_status (*subject)(void *ctx, ptq_state state, ptq_err *err);
  /** Between blocks; PTQ_E_STOPPED drops the task. */
  ptq_status (*alive)(void *ctx, double done, ptq_err *err);
} ptq_task_listener;

/**
 * Run a task through ops->work.
 * @param points [task->n] rows of its points
 * @param[out] end how it ended; end->text points into *err
 */
void ptq_task_run(const ptq_dist_ops *ops, const ptq_task *task,
                  const int64_t *points, const ptq_task_listener *listener,
                  ptq_task_end *end, ptq_err *err);

#endif /* PTQ_DIST_TASK_H */
