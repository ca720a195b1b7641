/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file peers.h
 * The processes around a rank, as Linux' /proc tells of them.
 */
#ifndef PTQ_COMM_PEERS_H
#define PTQ_COMM_PEERS_H

#include <stdbool.h>
#include <sys/types.h>

/** Children of `parent` that live, zombies not counted: those that run this
 * program, or all. Writes at most `max` ids to `out` (NULL with max 0: only
 * whether there is one); returns their number, 1 for "at least one" with
 * max 0, or -1 where /proc does not tell. */
int ptq_peers_find(pid_t parent, bool all, pid_t *out, int max);

/** Does the process run this program? */
bool ptq_peers_is_rank(pid_t pid);

/** Is the process stopped by a signal (not held by a debugger)? */
bool ptq_peers_is_stopped(pid_t pid);

/** Is `parent` Open MPI's launcher itself, so that every rank of this host is
 * its child? Not where a script stands in between. */
bool ptq_peers_is_launcher(pid_t parent);

#endif /* PTQ_COMM_PEERS_H */
