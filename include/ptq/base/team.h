/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file team.h
 * Ranks of one host that work on one item together, through shared memory.
 *
 * All members run the same program on the same item. Pieces of a computation
 * are dealt out by their numbers, piece i to member i mod size; what a member
 * makes of its own (hidden states of its windows) stays with it, and what all
 * need is shared or handed round. Sums go on in the order of pieces, as those
 * of threads do (crew.h): results have the same bits for any number of
 * members.
 *
 * Members call the functions below together and in the same order. A failure
 * inside them is told to all. One that a member has by itself (no memory) is
 * told at the next ptq_team_agree, which every member comes to whatever
 * happened to it; whoever waits elsewhere meanwhile stops waiting and comes
 * there too. The death of a member ends all waiting for good.
 *
 * A NULL team is this rank alone: every function then does what is right for
 * one rank.
 */
#ifndef PTQ_BASE_TEAM_H
#define PTQ_BASE_TEAM_H

#include <stdbool.h>
#include <stddef.h>

#include "ptq/base/crew.h"

enum { PTQ_TEAM_MAX = 64 }; /* members */

typedef struct ptq_team ptq_team;

/**
 * Join a team.
 * @param rank  of 0 .. size - 1; 0 leads
 * @param pids  [size] the members' processes
 * @param what  of the leader, the number that this returned to it; all others
 *              give what they were told
 * @return PTQ_E_NOMEM, PTQ_E_IO. The leader joins first: nothing is waited for.
 */
ptq_status ptq_team_open(int rank, int size, const int64_t *pids, int64_t *what,
                         ptq_team **out, ptq_err *err);
/** Leave: whoever still waits for this member waits no more. NULL is fine. */
void ptq_team_close(ptq_team *t);

int ptq_team_rank(const ptq_team *t);
int ptq_team_size(const ptq_team *t);
bool ptq_team_leads(const ptq_team *t);
/** Is piece i this member's? */
bool ptq_team_owns(const ptq_team *t, int64_t i);
/** A member has died or left: the team is of no use any more. */
bool ptq_team_broken(const ptq_team *t);

/** The first member's failure, to all; PTQ_OK where nobody has one.
 * PTQ_E_PEER: the team is broken. */
ptq_status ptq_team_agree(ptq_team *t, ptq_status mine, ptq_err *err);
/** Nobody goes on before all have come. */
ptq_status ptq_team_meet(ptq_team *t, ptq_err *err);

/**
 * Memory that all members have, zero-filled and aligned to a page; alone, that
 * of ptq_alloc.
 * @return PTQ_E_NOMEM: the host has no shared memory left
 */
ptq_status ptq_team_alloc(ptq_team *t, void *out, int64_t n, size_t size,
                          const char *what, ptq_err *err);
/** Rank-local; NULL is fine. */
void ptq_team_free(ptq_team *t, void *block);

/** Items of which each member has made its own, to all: item i of n, each
 * `bytes` long, is of the member that owns piece i / tile. */
ptq_status ptq_team_share(ptq_team *t, void *items, int64_t n, size_t bytes,
                          int64_t tile, ptq_err *err);
/** The members' values [n] added up. */
ptq_status ptq_team_sum(ptq_team *t, int64_t *values, int64_t n, ptq_err *err);

/** ptq_crew_run over all members' threads; behind it all have ended. */
ptq_status ptq_team_run(ptq_team *t, int threads, int64_t n, ptq_crew_fn *fn,
                        void *ctx, ptq_err *err);
/** The same of ptq_crew_run_ordered; what pieces add to is shared. */
ptq_status ptq_team_run_ordered(ptq_team *t, int threads, int64_t first,
                                int64_t end, int64_t n_places, ptq_crew_fn *fn,
                                void *ctx, ptq_err *err);

#endif /* PTQ_BASE_TEAM_H */
