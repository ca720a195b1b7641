/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file ending.h
 * What is left of the ranks when the run is over: who will say goodbye.
 */
#ifndef PTQ_DIST_ENDING_H
#define PTQ_DIST_ENDING_H

#include "peer.h"
#include "protocol.h"

/** One worker as rank 0 sees it at the end. */
typedef struct ptq_ending_rank {
  bool lost;           /* will not be waited for */
  bool gone;           /* its process has ended */
  bool watchable;      /* its process is of this host */
  bool heard;          /* has said hello in its time */
  bool bye;            /* its files are closed */
  MPI_Request request; /* STOP or LEAVE on its way */
} ptq_ending_rank;

struct ptq_dist_ending {
  MPI_Comm comm; /* owned; the run's own duplicate */
  int rank, size;
  double patience_s;      /* for a goodbye */
  ptq_peer *peers;        /* owned; [size] where each rank lives */
  ptq_ending_rank *ranks; /* owned; [size], rank 0 only */
  ptq_wire_stop stop;     /* rank 0: bytes of the messages under way */
  ptq_wire_leave leave;
  bool coordinator_watchable; /* workers: rank 0 is of this host */
  bool coordinator_lost;
  bool coordinator_silent; /* lost, but may still live */
  bool coordinator_gone;   /* lost: its process has ended */
};

/** Free what an ending holds, but for what may still be on its way. */
void ptq_ending_free(ptq_dist_ending *e);

#endif /* PTQ_DIST_ENDING_H */
