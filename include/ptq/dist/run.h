/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file run.h
 * A sweep over the ranks of a communicator: rank 0 hands out items, the
 * others work; with one rank, inline through the same code.
 *
 * Ranks may vanish while it goes on (mpirun --enable-recovery): their work is
 * done by the others. After that no collective call is safe any more, so the
 * program ends through ptq_dist_finalize().
 */
#ifndef PTQ_DIST_RUN_H
#define PTQ_DIST_RUN_H

#include <mpi.h>
#include <stdbool.h>

#include "ptq/dist/teams.h"
#include "ptq/record/result.h"
#include "ptq/sweep/cost.h"

/** How items are done and what the coordinator records; the tests replace
 * them by fakes. */
typedef struct ptq_dist_ops {
  void *ctx; /* borrowed */
  /** Work on an item: the points (n > 0) or the model's own item whose number
   * `subject` is (grid.h). It calls
   * the sink's alive() between blocks and hands every point of the item to
   * the sink's point(). An error that is not the sink's own fails the item's
   * unfinished points (give_up); PTQ_E_NOMEM is retried point by point
   * first. */
  ptq_status (*work)(void *ctx, int64_t subject, const int64_t *points,
                     int64_t n, const ptq_sink *sink, ptq_err *err);
  /** Worker-side writer of results and attempts; members may be NULL. An
   * error here (disk full) ends the whole run with that error. */
  ptq_sink sink;
  /** Rank 0: a point is given up (rank vanished, batch could not run), with
   * the reason. An error ends the run. NULL: only counted. */
  ptq_status (*give_up)(void *ctx, int64_t point, const char *why,
                        ptq_err *err);
  /** Rank 0: the same for a model's own item. */
  ptq_status (*give_up_subject)(void *ctx, int64_t subject, const char *why,
                                ptq_err *err);
  /** Rank 0: a rank vanished while running a point (-1: the model's own
   * item `subject`), alone `deaths` times so far. NULL: not recorded. */
  ptq_status (*died)(void *ctx, int64_t subject, int64_t point, int64_t deaths,
                     const char *who, ptq_err *err);
  /** Rank 0: a stop cut an attempt at a point short. NULL: not recorded. */
  ptq_status (*dropped)(void *ctx, int64_t point, ptq_err *err);
  /** Rank 0: one line for the log; may be NULL. */
  void (*log)(void *ctx, const char *line);
} ptq_dist_ops;

/** Default of silence_min_s. */
#define PTQ_DIST_SILENCE_S 60.0

typedef struct ptq_dist_options {
  double heartbeat_s;    /* workers report at least this often, where their
                            blocks are shorter; 0: 5 s */
  double silence_factor; /* given up after max(silence_min_s, factor x the
                            predicted time between heartbeats); 0: 10 */
  double silence_min_s;  /* 0: PTQ_DIST_SILENCE_S */
  int max_attempts;      /* deaths held against a single point; 0: 2 */
  /* Rank 0: deaths of earlier runs, borrowed; NULL: none. */
  const int64_t *deaths;         /* by row of points */
  const int64_t *subject_deaths; /* by number of the own item */
  double time_limit_s;    /* 0: none. No item starts that cannot finish, and
                             what still runs then is dropped at its next
                             block */
  double grace_s;         /* after a signal, running items have this long to
                             finish before they are dropped at the next
                             block; a second signal ends it */
  bool progress;          /* progress line on standard error */
  const ptq_teams *teams; /* borrowed, nullable: every rank works alone. All
                             ranks of a team run work() on its item; results
                             are the leader's to hand to the sink. Where one
                             of them dies the others get no work any more */
} ptq_dist_options;

/** What ptq_dist_finalize must know of the ranks. */
typedef struct ptq_dist_ending ptq_dist_ending;

/** The same on every surviving rank. */
typedef struct ptq_dist_summary {
  int64_t points_done, points_failed, items_done, ranks_lost;
  int64_t subjects_failed;
  bool stopped; /* signal or time limit left work undone: go on later */
  double seconds;
  ptq_dist_ending *ending; /* owned; consumed by ptq_dist_finalize */
} ptq_dist_summary;

/** Take note of SIGTERM, SIGUSR1 and SIGUSR2 from now on instead of dying of
 * them. ptq_dist_run does it itself; programs that prepare for long call it
 * early. The handlers stay: a rank that is closing its store must not be
 * killed by a second signal. */
void ptq_dist_catch_signals(void);
/** Empty the file that PTQSWEEP_EXIT_FILE names, so that an earlier run's
 * status is not read as this one's. Rank 0 of comm; others do nothing. */
void ptq_dist_clear_exit_file(MPI_Comm comm);
/** Has one of them come? */
bool ptq_dist_signalled(void);

/**
 * Do the plan. Collective on comm; returns on every surviving rank, with the
 * same status: a failure of the sink or of give_up on any rank, or
 * PTQ_E_PEER when rank 0 or every working rank vanished. Points that fail or
 * are given up, signals and the time limit are no errors (see *out).
 *
 * @param plan read on rank 0 only, items longest first; may be NULL elsewhere
 * @param out  also filled on failure; its `ending` goes to ptq_dist_finalize.
 *             After ranks_lost > 0 no collective call may follow, MPI_Finalize
 *             included.
 */
ptq_status ptq_dist_run(MPI_Comm comm, const ptq_plan *plan,
                        const ptq_dist_ops *ops,
                        const ptq_dist_options *options, ptq_dist_summary *out,
                        ptq_err *err);

/**
 * End MPI after ptq_dist_run, when this rank has closed its files (and
 * called H5close). Survivors say goodbye to rank 0 point to point. When all
 * ranks are there, calls MPI_Finalize and returns `exit_code`, which main
 * returns. When ranks were lost, does not return: survivors leave by _exit,
 * and where a lost rank may still live (stopped), which would keep mpirun
 * waiting, rank 0 ends the job by MPI_Abort(comm, exit_code). Also right when
 * ptq_dist_run was never reached (*summary zero).
 *
 * Open MPI 4.1's `mpirun --enable-recovery` exits 0 whatever its ranks
 * return. Where PTQSWEEP_EXIT_FILE is set, rank 0 writes `exit_code` and a
 * newline to that file; a file that stays empty means that rank 0 died.
 */
int ptq_dist_finalize(MPI_Comm comm, ptq_dist_summary *summary, int exit_code);

/**
 * The program ends with `exit_code`: where it did so before MPI_Init (wrong
 * arguments, --help), rank 0 as mpirun's environment counts writes the file
 * that PTQSWEEP_EXIT_FILE names. Does nothing without mpirun, whose caller
 * sees the status itself, and once MPI has started. Rank-local.
 */
void ptq_dist_ended_early(int exit_code);

#endif /* PTQ_DIST_RUN_H */
