/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file worker.h
 * Ranks 1 and up: ask rank 0 for work, do it, say so.
 */
#ifndef PTQ_DIST_WORKER_H
#define PTQ_DIST_WORKER_H

#include "ending.h"

#include "ptq/dist/run.h"

/** Work until rank 0 says stop or is gone (PTQ_E_PEER). Returns the run's
 * status and summary as rank 0 sent them. */
ptq_status ptq_worker_run(MPI_Comm comm, const ptq_dist_ops *ops,
                          const ptq_dist_options *options,
                          ptq_dist_summary *out, ptq_dist_ending *ending,
                          ptq_err *err);

#endif /* PTQ_DIST_WORKER_H */
