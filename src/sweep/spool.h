/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spool.h
 * Floats window by window, in memory or in a scratch file that has no name.
 */
#ifndef PTQ_SWEEP_SPOOL_H
#define PTQ_SWEEP_SPOOL_H

#include <stdint.h>

#include "ptq/base/team.h"

/** Where windows stand, and who works on them at once. */
typedef struct ptq_room {
  const char *scratch; /* borrowed; directory of files that are gone with the
                          process; NULL: memory */
  int hands;           /* threads; >= 1 */
  int ranks;           /* of a team, each of which has its windows; 0 is 1 */
  ptq_team *team;      /* borrowed, nullable; also NULL where only sizes are
                          asked for */
} ptq_room;

/** Windows that a rank has at most of n. */
int64_t ptq_room_share(ptq_room room, int64_t n);
/** The same for what is not dealt out among ranks. */
ptq_room ptq_room_alone(ptq_room room);

/** What a thread has in its memory of a file. */
typedef struct ptq_spool_hand {
  int64_t at;      /* window; -1: none */
  int64_t version; /* of that window */
} ptq_spool_hand;

/** Different windows may be in different hands at once. A rank of a team has
 * those that it owns, and asks for no other. */
typedef struct ptq_spool {
  float *memory; /* owned; [own, size]; of one window a hand where there is a
                    file */
  int fd;        /* owned; -1: none */
  int64_t n, size;
  int ranks, n_hands;
  ptq_spool_hand *hands; /* owned; [n_hands] */
  int64_t *version;      /* owned; [own] how often a window was put in a file */
} ptq_spool;

/**
 * Room for n windows of `size` floats, all 0.
 * @param what names them in messages
 */
ptq_status ptq_spool_open(ptq_spool *s, ptq_room room, int64_t n, int64_t size,
                          const char *what, ptq_err *err);
void ptq_spool_close(ptq_spool *s);

/** Window i, borrowed until the hand asks for another of the same spool. */
ptq_status ptq_spool_get(ptq_spool *s, int hand, int64_t i, float **x,
                         ptq_err *err);
/** The same to be overwritten: what it holds is not read. */
float *ptq_spool_fresh(ptq_spool *s, int hand, int64_t i);
/** Where among this rank's windows window i stands. */
int64_t ptq_spool_place(const ptq_spool *s, int64_t i);
/** The window that a hand last asked for. */
int64_t ptq_spool_at(const ptq_spool *s, int hand);
/** Keep what was changed in that window, its first n floats. */
ptq_status ptq_spool_put(ptq_spool *s, int hand, int64_t n, ptq_err *err);

/** Bytes of memory. */
int64_t ptq_spool_bytes(ptq_room room, int64_t n, int64_t size);

#endif /* PTQ_SWEEP_SPOOL_H */
