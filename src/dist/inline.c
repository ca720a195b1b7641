/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "inline.h"

#include <math.h>

#include "board.h"
#include "progress.h"
#include "signals.h"
#include "task.h"

#include "ptq/comm/nap.h"

typedef struct inline_run {
  ptq_board board;
  ptq_progress progress;
  const ptq_dist_options *options; /* borrowed */
  double deadline_s, cancel_at_s;  /* of the clock, or infinity */
  double task_s;                   /* predicted seconds of the running task */
  double task_start_s;
  int signals;
  bool stopping;
} inline_run;

static void show_progress(inline_run *r, double now, bool last) {
  const ptq_board *b = &r->board;
  const double correction = ptq_board_correction(b);
  const double running =
      fmax(0.0, r->task_s * correction - (now - r->task_start_s));
  const ptq_progress_state state = {
      .points = b->plan->n_order,
      .points_done = b->points_done,
      .points_failed = b->points_failed,
      .items = b->plan->n_items,
      .items_done = b->items_done,
      .items_failed = b->subjects_failed,
      .ranks = 1,
      .left_s = b->queue.seconds_waiting * correction + running};
  if (last)
    ptq_progress_end(&r->progress, &state, now);
  else
    ptq_progress_show(&r->progress, &state, now);
}

static void ask_to_stop(inline_run *r, double now, const char *why,
                        double grace_s) {
  r->cancel_at_s = fmin(r->cancel_at_s, now + grace_s);
  if (r->stopping) return;
  r->stopping = true;
  ptq_progress_clear(&r->progress);
  ptq_board_log(&r->board, "stopping: %s; the same command goes on", why);
}

static void watch_stops(inline_run *r, double now) {
  const int signals = ptq_signals_seen();
  if (signals > r->signals) {
    const bool first = r->signals == 0 && signals == 1;
    ask_to_stop(r, now, "signal", first ? r->options->grace_s : 0.0);
    r->signals = signals;
  }
  if (now >= r->deadline_s) ask_to_stop(r, now, "time limit", 0.0);
}

static ptq_status task_point(void *ctx, int64_t index, ptq_state state,
                             ptq_err *err) {
  inline_run *r = ctx;
  (void)err;
  ptq_board_point(&r->board, index, state);
  return PTQ_OK;
}

static ptq_status task_subject(void *ctx, ptq_state state, ptq_err *err) {
  inline_run *r = ctx;
  (void)err;
  ptq_board_subject(&r->board, state);
  return PTQ_OK;
}

static ptq_status task_alive(void *ctx, double done, ptq_err *err) {
  inline_run *r = ctx;
  const double now = ptq_nap_clock();
  (void)done;
  watch_stops(r, now);
  if (ptq_progress_due(&r->progress, now)) show_progress(r, now, false);
  if (now >= r->cancel_at_s) return PTQ_FAIL(err, PTQ_E_STOPPED, "stopped");
  return PTQ_OK;
}

static void loop(inline_run *r) {
  const ptq_task_listener listener = {.ctx = r,
                                      .point = task_point,
                                      .subject = task_subject,
                                      .alive = task_alive};
  ptq_board *b = &r->board;
  while (b->fatal.code == PTQ_OK) {
    ptq_task task;
    ptq_task_end end;
    ptq_err err = {0};
    const double now = ptq_nap_clock();
    watch_stops(r, now);
    if (r->stopping) break;
    if (!ptq_board_next(b, r->deadline_s - now, &task)) {
      if (b->queue.n_waiting > 0)
        ask_to_stop(r, now, "nothing more fits into the time limit", 0.0);
      break;
    }
    r->task_s = task.seconds;
    r->task_start_s = now;
    ptq_task_run(b->ops, &task, b->plan->order + task.first, &listener, &end,
                 &err);
    if (end.status != PTQ_OK) ptq_progress_clear(&r->progress);
    ptq_board_end(b, &task, &end);
    r->task_s = 0.0;
    const double after = ptq_nap_clock();
    if (ptq_progress_due(&r->progress, after)) show_progress(r, after, false);
  }
}

ptq_status ptq_inline_run(const ptq_plan *plan, const ptq_dist_ops *ops,
                          const ptq_dist_options *options,
                          ptq_dist_summary *out, ptq_err *err) {
  const double start = ptq_nap_clock();
  inline_run r = {.options = options,
                  .deadline_s = options->time_limit_s > 0.0
                                    ? start + options->time_limit_s
                                    : INFINITY,
                  .cancel_at_s = INFINITY};
  const ptq_status rc = ptq_board_init(&r.board, plan, ops, options, err);
  if (rc != PTQ_OK) return rc;
  ptq_progress_init(&r.progress, options->progress, start);
  loop(&r);
  show_progress(&r, ptq_nap_clock(), true);
  ptq_board_summary(&r.board, out);
  out->seconds = ptq_nap_clock() - start;
  const ptq_err fatal = r.board.fatal;
  ptq_board_release(&r.board);
  if (fatal.code != PTQ_OK) (void)PTQ_FAIL(err, fatal.code, "%s", fatal.msg);
  return fatal.code;
}
