/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file roster.h
 * What rank 0 knows of each worker: what it does, when it was last heard,
 * and what is on its way to it.
 */
#ifndef PTQ_DIST_ROSTER_H
#define PTQ_DIST_ROSTER_H

#include "peer.h"
#include "protocol.h"
#include "queue.h"

typedef enum ptq_rank_state {
  PTQ_RANK_NEW, /* has not said hello */
  PTQ_RANK_IDLE,
  PTQ_RANK_BUSY,
  PTQ_RANK_LOST /* given up; may come back */
} ptq_rank_state;

/** One worker. */
typedef struct ptq_rank {
  ptq_rank_state state;
  bool watchable; /* its process is of this host */
  bool gone;      /* its process has ended */
  bool has_task;  /* `task` is its to finish; false when it was taken away */
  bool cancelled; /* told to drop it */
  bool dismissed; /* one of its team was lost: it gets no work any more */
  ptq_task task;
  int64_t task_id;
  double heard_s, task_start_s;
  double longest_s; /* between two signs of life during the task */
  int64_t *work;    /* owned; the message WORK */
  int64_t work_cap; /* in int64_t */
  MPI_Request work_request, cancel_request, pong_request;
  ptq_wire_head cancel; /* the message CANCEL */
} ptq_rank;

typedef struct ptq_roster {
  MPI_Comm comm; /* borrowed */
  int size;
  ptq_rank *ranks;       /* owned; [size]; [0] is not used */
  const ptq_peer *peers; /* borrowed; [size] where each rank lives */
  const int *leader;  /* borrowed; [size] of each rank's team, 0: in none; NULL:
                         each leads itself. A task is its leader's */
  ptq_wire_head pong; /* the message PONG */
  int64_t n_live, n_busy; /* not lost; live and busy */
  int64_t last_task_id;
  double heartbeat_s, silence_factor, silence_min_s;
  double gap_share; /* largest share of a task between signs of life that was
                       seen; 1 while nothing was */
  bool gap_seen;
} ptq_roster;

ptq_status ptq_roster_init(ptq_roster *r, MPI_Comm comm, const ptq_peer *peers,
                           const ptq_dist_options *options, double now_s,
                           ptq_err *err);
void ptq_roster_release(ptq_roster *r);

/** A rank's leader; 0: none. */
int ptq_roster_leader(const ptq_roster *r, int rank);
/** Are two ranks of one team? */
bool ptq_roster_mates(const ptq_roster *r, int a, int b);
/** Does the rank lead a team whose ranks all live and wait for work? */
bool ptq_roster_is_free(const ptq_roster *r, int rank);
/** Teams that work or could, those whose ranks are on their way included. */
int64_t ptq_roster_teams(const ptq_roster *r);
/** No more work for the team of a rank that was lost. */
void ptq_roster_dismiss(ptq_roster *r, int rank);

/** Send a task to a leader and its team; points are
 * plan->order[task->first..]. */
ptq_status ptq_roster_give(ptq_roster *r, int rank, const ptq_task *task,
                           const int64_t *points, double now_s, ptq_err *err);
/** The rank has no task any more. */
void ptq_roster_idle(ptq_roster *r, int rank);
/** Tell a busy rank to drop its task. */
ptq_status ptq_roster_cancel(ptq_roster *r, int rank, ptq_err *err);
ptq_status ptq_roster_pong(ptq_roster *r, int rank, ptq_err *err);
/** A sign of life. Returns true when the rank had been given up: it is back,
 * busy with `task_id` (0: idle), which is no longer its own. */
bool ptq_roster_heard(ptq_roster *r, int rank, int64_t task_id, double now_s);
/** A task took seconds_s, the longest time between its blocks was gap_s. */
void ptq_roster_learn(ptq_roster *r, double seconds_s, double gap_s);
/** Give a rank up. One whose process has ended (`gone`) does not come back. */
void ptq_roster_lose(ptq_roster *r, int rank);
/** How long a rank may be silent, with `correction` measured over predicted
 * seconds. */
double ptq_roster_limit(const ptq_roster *r, int rank, double correction);
/** This process did not run for a while: nobody else is to blame. */
void ptq_roster_excuse(ptq_roster *r, double seconds);

#endif /* PTQ_DIST_ROSTER_H */
