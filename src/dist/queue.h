/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file queue.h
 * What is still to hand out: by turn, and of a turn longest first.
 */
#ifndef PTQ_DIST_QUEUE_H
#define PTQ_DIST_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/sweep/cost.h"

/** A plan's item, or a part of one that is tried again. */
typedef struct ptq_task {
  int64_t subject;
  int64_t first, n; /* into the plan's order; n == 0: the subject's own item */
  double seconds;   /* predicted */
  int64_t deaths;   /* ranks that vanished while running this alone */
  ptq_turn turn;
} ptq_task;

/** Waiting tasks are tasks[head..n) without the taken ones, by turn and falling
 * predicted seconds; tasks[head] is not taken. */
typedef struct ptq_queue {
  ptq_task *tasks; /* owned */
  bool *taken;     /* owned */
  int64_t head, n, cap;
  int64_t n_waiting;
  double seconds_waiting; /* predicted */
} ptq_queue;

ptq_status ptq_queue_init(ptq_queue *q, int64_t cap, ptq_err *err);
void ptq_queue_release(ptq_queue *q);
/** Insert in order; behind tasks of equal turn and length. */
ptq_status ptq_queue_add(ptq_queue *q, const ptq_task *task, ptq_err *err);
/** Take the longest task of at most `budget_s` predicted seconds of the first
 * turn that has one; false if none has. */
bool ptq_queue_take(ptq_queue *q, double budget_s, ptq_task *out);
/** Predicted seconds of the shortest waiting task; some task waits. */
double ptq_queue_shortest(const ptq_queue *q);

#endif /* PTQ_DIST_QUEUE_H */
