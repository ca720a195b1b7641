/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file finish.h
 * MPI_Finalize waits for every rank, also for one that dies or is stopped in
 * its last moment: a thread sees to it that it returns.
 */
#ifndef PTQ_COMM_FINISH_H
#define PTQ_COMM_FINISH_H

#include <mpi.h>

/** Before MPI_Finalize, when all files are closed and the status is told. A
 * rank of this host that is stopped for longer than `silence_s` is killed; and
 * when MPI_Finalize has not returned that long after, or half a minute after a
 * rank of this host has gone, this process leaves with `exit_code`. */
void ptq_finish_begin(double silence_s, int exit_code);
/** MPI_Finalize has returned. */
void ptq_finish_end(void);

/** MPI_Abort, which asks the launcher and may wait for its answer for ever:
 * this process ends within ten seconds all the same. */
_Noreturn void ptq_finish_abort(MPI_Comm comm, int exit_code);

#endif /* PTQ_COMM_FINISH_H */
