/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "queue.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"

ptq_status ptq_queue_init(ptq_queue *q, int64_t cap, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *q = (ptq_queue){.cap = cap};
  PTQ_TRY(ptq_alloc(&q->tasks, cap, sizeof *q->tasks, "task queue", err));
  PTQ_TRY(ptq_alloc(&q->taken, cap, sizeof *q->taken, "task queue", err));
done:
  if (rc != PTQ_OK) ptq_queue_release(q);
  return rc;
}

void ptq_queue_release(ptq_queue *q) {
  ptq_free(q->tasks);
  ptq_free(q->taken);
  *q = (ptq_queue){0};
}

/** First place from head on whose task is of a later turn, or of this one and
 * shorter than `seconds` (`ties`: or as long). */
static int64_t place_of(const ptq_queue *q, ptq_turn turn, double seconds,
                        bool ties) {
  int64_t low = q->head, high = q->n;
  while (low < high) {
    const int64_t mid = low + (high - low) / 2;
    const double at = q->tasks[mid].seconds;
    const ptq_turn its = q->tasks[mid].turn;
    if (its < turn ||
        (its == turn && (at > seconds || (!ties && at == seconds))))
      low = mid + 1;
    else
      high = mid;
  }
  return low;
}

static ptq_status make_room(ptq_queue *q, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (q->n < q->cap) return PTQ_OK;
  const int64_t cap = 2 * q->cap + 16;
  PTQ_TRY(
      ptq_grow(&q->tasks, q->cap, cap, sizeof *q->tasks, "task queue", err));
  PTQ_TRY(
      ptq_grow(&q->taken, q->cap, cap, sizeof *q->taken, "task queue", err));
  q->cap = cap;
done:
  return rc;
}

ptq_status ptq_queue_add(ptq_queue *q, const ptq_task *task, ptq_err *err) {
  const ptq_status rc = make_room(q, err);
  if (rc != PTQ_OK) return rc;
  const int64_t at = place_of(q, task->turn, task->seconds, false);
  const size_t tail = (size_t)(q->n - at);
  memmove(q->tasks + at + 1, q->tasks + at, tail * sizeof *q->tasks);
  memmove(q->taken + at + 1, q->taken + at, tail * sizeof *q->taken);
  q->tasks[at] = *task;
  q->taken[at] = false;
  q->n++;
  q->n_waiting++;
  q->seconds_waiting += task->seconds;
  return PTQ_OK;
}

/** The longest waiting task of a turn that fits; -1: none. */
static int64_t find(const ptq_queue *q, ptq_turn turn, double budget_s) {
  int64_t at = place_of(q, turn, budget_s, true);
  while (at < q->n && q->taken[at]) at++;
  return at < q->n && q->tasks[at].turn == turn ? at : -1;
}

bool ptq_queue_take(ptq_queue *q, double budget_s, ptq_task *out) {
  int64_t at = -1;
  for (int turn = 0; at < 0 && turn < PTQ_TURN_COUNT; turn++)
    at = find(q, (ptq_turn)turn, budget_s);
  if (at < 0) return false;
  *out = q->tasks[at];
  q->taken[at] = true;
  while (q->head < q->n && q->taken[q->head]) q->head++;
  q->n_waiting--;
  q->seconds_waiting -= out->seconds;
  if (q->n_waiting == 0) q->seconds_waiting = 0.0; /* no rounding left over */
  return true;
}

double ptq_queue_shortest(const ptq_queue *q) {
  double shortest = (double)INFINITY;
  int64_t at = q->n - 1;
  for (int turn = PTQ_TURN_COUNT - 1; turn >= 0; turn--) {
    while (at >= q->head && q->tasks[at].turn == (ptq_turn)turn && q->taken[at])
      at--;
    if (at >= q->head && q->tasks[at].turn == (ptq_turn)turn)
      shortest = fmin(shortest, q->tasks[at].seconds);
    /* To the end of the turn before. */
    at = place_of(q, (ptq_turn)turn, (double)INFINITY, false) - 1;
  }
  return shortest;
}
