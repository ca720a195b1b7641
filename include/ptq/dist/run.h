/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file run.h
 * A sweep over the ranks of a communicator: rank 0 hands out items, the
 * others work; with one rank, inline through the same code.
 */
#ifndef PTQ_DIST_RUN_H
#define PTQ_DIST_RUN_H

#include <mpi.h>
#include <stdbool.h>

#include "ptq/sweep/cost.h"
#include "ptq/record/result.h"

/** How items are done and what the coordinator records; the tests replace
 * them by fakes. */
typedef struct ptq_dist_ops {
  void *ctx; /* borrowed */
  /** Work on an item: the points (n > 0) or the subject's own item. */
  ptq_status (*work)(void *ctx, int64_t subject, const int64_t *points,
                     int64_t n, const ptq_sink *sink, ptq_err *err);
  /** Worker-side writer of results and attempts. */
  ptq_sink sink;
  /** Rank 0: a point is given up (rank vanished), with the reason. */
  ptq_status (*give_up)(void *ctx, int64_t point, const char *why,
                        ptq_err *err);
  /** Rank 0: one line for the log. */
  void (*log)(void *ctx, const char *line);
} ptq_dist_ops;

typedef struct ptq_dist_options {
  double heartbeat_s;    /* workers report at least this often */
  double silence_factor; /* given up after max(silence_min_s, factor x the
                            predicted time between heartbeats) */
  double silence_min_s;
  int max_attempts;    /* deaths held against a single point */
  double time_limit_s; /* 0: none */
  bool progress;       /* progress line on standard error */
} ptq_dist_options;

typedef struct ptq_dist_summary {
  int64_t points_done, points_failed, items_done, ranks_lost;
  bool stopped; /* signal or time limit: go on later */
  double seconds;
} ptq_dist_summary;

/**
 * Do the plan. Collective on comm; returns on every surviving rank. When
 * ranks were lost, the caller must not call MPI_Finalize (summary.ranks_lost).
 */
ptq_status ptq_dist_run(MPI_Comm comm, const ptq_plan *plan,
                        const ptq_dist_ops *ops,
                        const ptq_dist_options *options, ptq_dist_summary *out,
                        ptq_err *err);

#endif /* PTQ_DIST_RUN_H */
