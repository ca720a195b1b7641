/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file board.h
 * The coordinator's books, free of MPI: what is done, what waits, what a
 * failed or vanished task means. Also used inline, where there is one rank.
 */
#ifndef PTQ_DIST_BOARD_H
#define PTQ_DIST_BOARD_H

#include "queue.h"

#include "ptq/dist/run.h"

typedef struct ptq_board {
  const ptq_plan *plan;            /* borrowed */
  const ptq_dist_ops *ops;         /* borrowed */
  const ptq_dist_options *options; /* borrowed */
  bool excused; /* a stop is under way: who vanishes now was killed by it */
  ptq_queue queue;
  unsigned char *finished; /* owned; [plan->n_order] */
  int64_t points_done, points_failed, subjects_failed, items_done;
  int64_t n_dropped; /* tasks given back unfinished because of a stop */
  double predicted_s, measured_s; /* of finished tasks */
  ptq_err fatal;                  /* code PTQ_OK while the run is in order */
} ptq_board;

/** How a task ended. */
typedef struct ptq_task_end {
  ptq_status status; /* of work(); PTQ_E_STOPPED: dropped */
  bool sink_failed;  /* status is the sink's: the run cannot go on */
  double seconds;
  const char *text; /* message of a failed status; borrowed */
} ptq_task_end;

ptq_status ptq_board_init(ptq_board *b, const ptq_plan *plan,
                          const ptq_dist_ops *ops,
                          const ptq_dist_options *options, ptq_err *err);
void ptq_board_release(ptq_board *b);

/** The next task to run within budget_s seconds of wall time, false if there
 * is none. */
bool ptq_board_next(ptq_board *b, double budget_s, ptq_task *out);
/** A point has a result in the store; repeated and impossible reports are
 * ignored. */
void ptq_board_point(ptq_board *b, int64_t index, ptq_state state);
void ptq_board_subject(ptq_board *b, ptq_state state);
/** A task is over; its rank is free. */
void ptq_board_end(ptq_board *b, const ptq_task *task, const ptq_task_end *end);
/** The rank that had the task is gone: its unfinished points wait again,
 * singly. `who` names it in messages. */
void ptq_board_vanished(ptq_board *b, const ptq_task *task, const char *who);
/** The run cannot go on; the first reason counts. */
void ptq_board_fail(ptq_board *b, ptq_status status, const char *text);
/** One line to the human and to the store's log. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void ptq_board_log(const ptq_board *b, const char *fmt, ...);

/** Measured over predicted seconds of what is finished; 1 at first. */
double ptq_board_correction(const ptq_board *b);
/** The counts that every rank returns. */
void ptq_board_summary(const ptq_board *b, ptq_dist_summary *out);

#endif /* PTQ_DIST_BOARD_H */
