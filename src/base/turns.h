/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file turns.h
 * Turns of pieces that are in several processes, in memory that they share;
 * and what crew.c does for team_run.c.
 */
#ifndef PTQ_BASE_TURNS_H
#define PTQ_BASE_TURNS_H

#include <stdatomic.h>

#include "ptq/base/team.h"

/** The order of pieces [first, end) at places; no pointer leads out of shared
 * memory, no lock can be left locked. */
typedef struct ptq_turns {
  ptq_team *team;       /* borrowed */
  atomic_llong *next;   /* borrowed; [n_places] whose turn it is */
  atomic_llong *failed; /* borrowed; the lowest piece that did; end: none */
  atomic_uchar *ended;  /* borrowed; [end - first] */
  int64_t first, end, n_places;
} ptq_turns;

/** As ptq_order_wait and ptq_order_pass; a piece that ends passes the places
 * that it left out. */
ptq_status ptq_turns_wait(const ptq_turns *t, int64_t place, int64_t index,
                          ptq_err *err);
void ptq_turns_pass(const ptq_turns *t, int64_t place, int64_t index);
void ptq_turns_end(const ptq_turns *t, int64_t index, bool good);

/** Which pieces a process takes: first, first + step, ... before end. */
typedef struct ptq_crew_part {
  int64_t first, end, step;
  const ptq_turns *turns; /* borrowed; NULL: no order */
} ptq_crew_part;

/** Run them; *failed is the lowest that failed, or part->end. */
ptq_status ptq_crew_run_part(int threads, const ptq_crew_part *part,
                             ptq_crew_fn *fn, void *ctx, int64_t *failed,
                             ptq_err *err);

/** Wait until someone changes something: true when there is no use in it, a
 * member being dead or off to ptq_team_agree with a failure.
 * @param n how often it was called for this wait */
bool ptq_team_nap(ptq_team *t, int64_t *n);
/** The failure of the lowest piece, to all.
 * @param index this member's lowest that failed; end where none did
 * @param why   what `mine` is about */
ptq_status ptq_team_settle(ptq_team *t, int64_t index, int64_t end,
                           ptq_status mine, const ptq_err *why, ptq_err *err);
/** Shared memory of at least so many bytes for turns. */
ptq_status ptq_team_turns_room(ptq_team *t, int64_t bytes, char **out,
                               ptq_err *err);

#endif /* PTQ_BASE_TURNS_H */
