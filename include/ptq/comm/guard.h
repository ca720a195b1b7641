/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file guard.h
 * Small processes that end what others would wait for: a launcher that
 * outlives all its ranks, and ranks that were given up.
 *
 * Open MPI 4.1.4 with PMIx 4.2.2 can lock itself up when a rank is killed
 * while it connects: all ranks are dead, and mpirun waits in
 * PMIx_server_finalize for a mutex that nobody gives back ("PMIX ERROR:
 * UNREACHABLE in ptl_base_connection_hdlr.c"; 2 of 68 kills in the first
 * 0.1 s). Later, too, it can wait for ever after a rank was killed ("PMIX
 * ERROR: BAD-PARAM in pmix_event_notification.c"; 2 of 300 kills with
 * --enable-recovery on a loaded machine). No rank is left that could tell it to
 * go.
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
/** The ranks have found each other, and all are on this host: from now on the
 * guard leaves stopped ranks alone, looks less often, and a launcher whose
 * ranks have all gone has three times as long. It stays until the launcher has
 * gone, also when this process has. */
void ptq_guard_calm(const ptq_guard *g);
/** Send the guard away, and wait for it. */
void ptq_guard_end(ptq_guard *g);

/** Kill the launcher's ranks that are stopped: this rank leaves without saying
 * goodbye, and then nobody is left whom they could keep waiting but mpirun. */
void ptq_guard_end_stopped(pid_t launcher);

/** What a process that stays behind does. */
typedef struct ptq_guard_orders {
  const pid_t *pids; /* borrowed; [n] processes of this program to kill */
  int n;
  int kill_after_ms;
  pid_t launcher; /* nothing is left to do when it has gone; 0: unknown */
  int end_launcher_after_ms; /* 0: it is not ended */
} ptq_guard_orders;

/** Kill processes of this program: at once (kill_after_ms 0), or by a process
 * that stays behind until then, or until the launcher has gone. With
 * end_launcher_after_ms that process asks a launcher that is still there so
 * much later to end (SIGTERM), and kills it if it does not within ten
 * seconds. */
void ptq_guard_stay(const ptq_guard_orders *orders);

#endif /* PTQ_COMM_GUARD_H */
