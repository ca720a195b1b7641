/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file crew.h
 * Pieces of one computation on several threads, and an order among those that
 * add to one sum: results have the same bits for any number of threads.
 */
#ifndef PTQ_BASE_CREW_H
#define PTQ_BASE_CREW_H

#include <stdint.h>

#include "ptq/base/status.h"

enum { PTQ_CREW_MAX = 64 }; /* threads */

/** Turns at places: piece i's comes when all before it passed the place or
 * ended. Borrowed from ptq_crew_run_ordered; NULL: there is one thread. */
typedef struct ptq_order ptq_order;

/** Computes piece `index` on the thread `hand` of 0 .. threads - 1, which has
 * scratch of its own. Pieces touch nothing of each other but in their turns. */
typedef ptq_status ptq_crew_fn(void *ctx, int hand, int64_t index,
                               ptq_order *order, ptq_err *err);

/**
 * Run pieces 0 .. n-1, taken in ascending order, on up to `threads` threads,
 * the caller's among them; a thread that cannot be had is done without.
 * @return the failure of the lowest piece that fails, whatever the threads'
 *         luck: pieces before it all run, of those behind it none starts any
 *         more
 */
ptq_status ptq_crew_run(int threads, int64_t n, ptq_crew_fn *fn, void *ctx,
                        ptq_err *err);
/** The same for pieces first .. end - 1 that take turns at places
 * 0 .. n_places - 1. PTQ_E_NOMEM. */
ptq_status ptq_crew_run_ordered(int threads, int64_t first, int64_t end,
                                int64_t n_places, ptq_crew_fn *fn, void *ctx,
                                ptq_err *err);

/** Wait for piece `index`'s turn at a place. PTQ_E_STOPPED: a piece before it
 * failed, and the turn never comes. */
ptq_status ptq_order_wait(ptq_order *o, int64_t place, int64_t index,
                          ptq_err *err);
/** The turn is over; once a piece and place. A piece that leaves a place out
 * passes it when it ends. */
void ptq_order_pass(ptq_order *o, int64_t place, int64_t index);

#endif /* PTQ_BASE_CREW_H */
