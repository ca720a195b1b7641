/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file guard.h
 * A small process that ends a launcher which outlives all its ranks.
 *
 * Open MPI 4.1.4 with PMIx 4.2.2 can lock itself up when a rank is killed
 * while it connects: all ranks are dead, and mpirun waits in
 * PMIx_server_finalize for a mutex that nobody gives back ("PMIX ERROR:
 * UNREACHABLE in ptl_base_connection_hdlr.c"; 2 of 68 kills in the first
 * 0.1 s). No rank is left that could tell it to go.
 */
#ifndef PTQ_COMM_GUARD_H
#define PTQ_COMM_GUARD_H

#include <sys/types.h>

typedef struct ptq_guard {
  pid_t pid; /* 0: none */
  int leash; /* the guard's way to hear of this process */
} ptq_guard;

/** Fork a guard over `launcher`, before MPI_Init and before any thread. It has
 * no descriptor of this process's, sleeps, and goes when released or when the
 * launcher has gone. A launcher none of whose children lives has `patience_ms`
 * to go by itself before it is killed. Where a guard is not to be had, `g` is
 * empty. */
void ptq_guard_begin(ptq_guard *g, pid_t launcher, int patience_ms);
/** The ranks have found each other: send the guard away, and wait for it. */
void ptq_guard_end(ptq_guard *g);

#endif /* PTQ_COMM_GUARD_H */
