/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file coordinator.h
 * Rank 0: hands out tasks, hears results, notices who is gone. Sleeps
 * between messages and never computes, so it is never deaf.
 */
#ifndef PTQ_DIST_COORDINATOR_H
#define PTQ_DIST_COORDINATOR_H

#include "ending.h"

#include "ptq/dist/run.h"

/** Run the plan on ranks 1 and up of `comm`; fills out and *ending. The
 * status is the run's, the same that the workers return. */
ptq_status ptq_coordinator_run(MPI_Comm comm, const ptq_plan *plan,
                               const ptq_dist_ops *ops,
                               const ptq_dist_options *options,
                               ptq_dist_summary *out, ptq_dist_ending *ending,
                               ptq_err *err);

#endif /* PTQ_DIST_COORDINATOR_H */
