/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "board.h"

#include <stdarg.h>
#include <stdio.h>

#include "ptq/base/log.h"
#include "ptq/base/mem.h"

enum { TEXT_MAX = 400 };

/** Ranks that died in earlier runs while running a point alone. */
static int64_t point_deaths(const ptq_board *b, int64_t index) {
  const int64_t *past = b->options->deaths;
  return past != NULL ? past[b->plan->order[index]] : 0;
}

static int64_t past_deaths(const ptq_board *b, const ptq_item *item) {
  const int64_t *past = b->options->subject_deaths;
  if (item->n > 1) return 0;
  if (item->n == 1) return point_deaths(b, item->first);
  return past != NULL ? past[item->subject] : 0;
}

ptq_status ptq_board_init(ptq_board *b, const ptq_plan *plan,
                          const ptq_dist_ops *ops,
                          const ptq_dist_options *options, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *b = (ptq_board){.plan = plan, .ops = ops, .options = options};
  PTQ_TRY(ptq_queue_init(&b->queue, plan->n_items, err));
  PTQ_TRY(ptq_alloc(&b->finished, plan->n_order, 1, "finished points", err));
  for (int64_t i = 0; i < plan->n_items; i++) {
    const ptq_item *item = &plan->items[i];
    if (item->n < 0 || item->first < 0 ||
        item->first + item->n > plan->n_order) {
      rc = PTQ_FAIL(
          err, PTQ_E_ARG, "item %lld of the plan: points %lld to %lld of %lld",
          (long long)i, (long long)item->first,
          (long long)(item->first + item->n), (long long)plan->n_order);
      goto done;
    }
    const ptq_task task = {.subject = item->subject,
                           .first = item->first,
                           .n = item->n,
                           .seconds = item->seconds,
                           .deaths = past_deaths(b, item),
                           .turn = item->turn};
    PTQ_TRY(ptq_queue_add(&b->queue, &task, err));
  }
done:
  if (rc != PTQ_OK) ptq_board_release(b);
  return rc;
}

void ptq_board_release(ptq_board *b) {
  ptq_queue_release(&b->queue);
  ptq_free(b->finished);
  b->finished = NULL;
}

void ptq_board_log(const ptq_board *b, const char *fmt, ...) {
  char line[TEXT_MAX];
  va_list args;
  va_start(args, fmt);
  vsnprintf(line, sizeof line, fmt, args);
  va_end(args);
  ptq_log(PTQ_LOG_WARN, "%s", line);
  if (b->ops->log != NULL) b->ops->log(b->ops->ctx, line);
}

void ptq_board_fail(ptq_board *b, ptq_status status, const char *text) {
  (void)PTQ_FAIL(&b->fatal, status, "%s", text);
}

double ptq_board_correction(const ptq_board *b) {
  if (!(b->predicted_s > 0.0) || !(b->measured_s > 0.0)) return 1.0;
  return b->measured_s / b->predicted_s;
}

bool ptq_board_next(ptq_board *b, double budget_s, ptq_task *out) {
  const double predicted = budget_s / ptq_board_correction(b);
  while (ptq_queue_take(&b->queue, predicted, out)) {
    /* A rank thought lost may have finished it after all. */
    if (out->n != 1 || !b->finished[out->first]) return true;
  }
  return false;
}

void ptq_board_point(ptq_board *b, int64_t index, ptq_state state) {
  if (index < 0 || index >= b->plan->n_order || b->finished[index]) return;
  b->finished[index] = 1;
  if (state == PTQ_STATE_DONE)
    b->points_done++;
  else
    b->points_failed++;
}

void ptq_board_subject(ptq_board *b, ptq_state state) {
  if (state == PTQ_STATE_FAILED) b->subjects_failed++;
}

static void give_up_point(ptq_board *b, int64_t index, const char *why) {
  ptq_err err = {0};
  if (b->finished[index]) return;
  ptq_board_point(b, index, PTQ_STATE_FAILED);
  if (b->ops->give_up != NULL &&
      b->ops->give_up(b->ops->ctx, b->plan->order[index], why, &err) != PTQ_OK)
    ptq_board_fail(b, err.code, err.msg);
}

/** Fail what is unfinished of a task, for good. */
static void give_up_task(ptq_board *b, const ptq_task *task, const char *why) {
  ptq_err err = {0};
  ptq_board_log(b, "given up: %s", why);
  for (int64_t i = 0; i < task->n; i++) give_up_point(b, task->first + i, why);
  if (task->n > 0) return;
  b->subjects_failed++;
  if (b->ops->give_up_subject != NULL &&
      b->ops->give_up_subject(b->ops->ctx, task->subject, why, &err) != PTQ_OK)
    ptq_board_fail(b, err.code, err.msg);
}

static void wait_again(ptq_board *b, const ptq_task *task) {
  ptq_err err = {0};
  if (ptq_queue_add(&b->queue, task, &err) != PTQ_OK)
    ptq_board_fail(b, err.code, err.msg);
}

/** A point alone still pays what its batch shared, so the batch's time stays
 * the prediction: an upper bound. */
static void wait_singly(ptq_board *b, const ptq_task *task) {
  for (int64_t i = 0; i < task->n; i++) {
    if (b->finished[task->first + i]) continue;
    const ptq_task single = {.subject = task->subject,
                             .first = task->first + i,
                             .n = 1,
                             .seconds = task->seconds,
                             .deaths = point_deaths(b, task->first + i),
                             .turn = task->turn};
    wait_again(b, &single);
  }
}

static void drop_points(ptq_board *b, const ptq_task *task) {
  ptq_err err = {0};
  for (int64_t i = 0; i < task->n && b->ops->dropped != NULL; i++)
    if (!b->finished[task->first + i] &&
        b->ops->dropped(b->ops->ctx, b->plan->order[task->first + i], &err) !=
            PTQ_OK)
      ptq_board_fail(b, err.code, err.msg);
}

void ptq_board_end(ptq_board *b, const ptq_task *task,
                   const ptq_task_end *end) {
  if (end->sink_failed) {
    ptq_board_fail(b, end->status, end->text);
  } else if (end->status == PTQ_E_STOPPED) {
    b->n_dropped++;
    drop_points(b, task);
  } else if (end->status == PTQ_E_NOMEM && task->n > 1) {
    ptq_board_log(b, "%lld points are tried singly: %s", (long long)task->n,
                  end->text);
    wait_singly(b, task);
  } else if (end->status != PTQ_OK) {
    give_up_task(b, task, end->text);
    b->items_done++;
  } else {
    b->items_done++;
    b->predicted_s += task->seconds;
    b->measured_s += end->seconds;
    for (int64_t i = 0; i < task->n; i++)
      give_up_point(b, task->first + i, "the work ended without a result");
  }
}

/** Let the books of later runs know. */
static void note_death(ptq_board *b, const ptq_task *task, const char *who) {
  ptq_err err = {0};
  if (b->ops->died == NULL) return;
  for (int64_t i = 0; i < (task->n > 0 ? task->n : 1); i++) {
    if (task->n > 0 && b->finished[task->first + i]) continue;
    const int64_t point = task->n > 0 ? b->plan->order[task->first + i] : -1;
    const int64_t deaths = task->n > 1 ? 0 : task->deaths;
    if (b->ops->died(b->ops->ctx, task->subject, point, deaths, who, &err) !=
        PTQ_OK)
      ptq_board_fail(b, err.code, err.msg);
  }
}

void ptq_board_vanished(ptq_board *b, const ptq_task *task, const char *who) {
  int64_t left = 0;
  for (int64_t i = 0; i < task->n; i++) left += !b->finished[task->first + i];
  if (task->n > 0 && left == 0) {
    b->items_done++; /* it vanished between the last point and the report */
    return;
  }
  if (b->excused) {
    ptq_board_log(b, "%s while the run was stopping", who);
    b->n_dropped++;
    return;
  }
  if (task->n > 1) {
    note_death(b, task, who);
    ptq_board_log(b, "%s: %lld of its %lld points are tried again singly", who,
                  (long long)left, (long long)task->n);
    wait_singly(b, task);
    return;
  }
  ptq_task again = *task;
  again.deaths++;
  note_death(b, &again, who);
  if (again.deaths < b->options->max_attempts) {
    ptq_board_log(b, "%s: its work is tried again", who);
    wait_again(b, &again);
    return;
  }
  char why[TEXT_MAX];
  snprintf(why, sizeof why,
           "rank vanished %lld time%s while running this alone (last: %s)",
           (long long)again.deaths, again.deaths == 1 ? "" : "s", who);
  give_up_task(b, &again, why);
}

void ptq_board_summary(const ptq_board *b, ptq_dist_summary *out) {
  out->points_done = b->points_done;
  out->points_failed = b->points_failed;
  out->subjects_failed = b->subjects_failed;
  out->items_done = b->items_done;
  out->stopped = b->n_dropped > 0 || b->queue.n_waiting > 0;
}
