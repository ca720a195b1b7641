/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file startup.h
 * Nobody waits for the dead: from before MPI_Init until the ranks no longer
 * need each other, a thread of every rank watches the other ranks of its host.
 *
 * With mpirun --enable-recovery a rank that dies while MPI starts, or between
 * two collective calls, leaves the others waiting for ever.
 */
#ifndef PTQ_COMM_STARTUP_H
#define PTQ_COMM_STARTUP_H

/** Start to watch, before MPI_Init; ptq_dist_run ends it. Alone does nothing.
 * When a rank of this host is gone, this process prints so and ends with
 * status 1, and in the calls of meet.h so do those of other hosts. A rank that
 * is stopped for longer than `silence_s` is killed; MPI_Init may take five
 * times as long. */
void ptq_startup_begin(double silence_s);
/** MPI_Init has returned. */
void ptq_startup_mpi_runs(void);
/** In a call that waits for all: does not return when one is known to have
 * died. Main thread only. */
void ptq_startup_look(void);
/** From here on this rank does not wait for another without end. Waits for the
 * thread; more than one call is allowed. */
void ptq_startup_end(void);

#endif /* PTQ_COMM_STARTUP_H */
