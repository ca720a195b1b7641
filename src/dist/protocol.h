/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file protocol.h
 * The messages between rank 0 and the workers.
 *
 *   worker -> 0   HELLO                 I am here
 *                 BEAT                  alive; share done; a signal came
 *                 POINT, SUBJECT        a result is in the store
 *                 DONE                  the task is over: status, seconds, and
 *                                       the only result of a task that has one
 *                 BYE                   my files are closed
 *   0 -> worker   WORK points[]         do this task
 *                 CANCEL                drop the task at the next block
 *                 PONG                  answer to HELLO and BEAT
 *                 STOP summary          the run is over
 *                 LEAVE                 answer to BYE: how to end MPI, and
 *                                       who may be left behind
 *   worker -> worker  ORPHAN            rank 0's process has ended
 *
 * Every message carries the number of the task it speaks of (`task_id`,
 * unique in the run, 0: none), so that late words of a rank that was given up
 * are told from current ones. Structs travel as bytes between equal builds;
 * the version word also holds their sizes. Worker messages fit any
 * transport's eager limit: a sender never waits for its receiver.
 */
#ifndef PTQ_DIST_PROTOCOL_H
#define PTQ_DIST_PROTOCOL_H

#include <mpi.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/dist/run.h"

enum { PTQ_WIRE_TAG = 7, PTQ_WIRE_TEXT_MAX = 480 };

typedef enum ptq_wire_kind {
  PTQ_WIRE_HELLO = 1,
  PTQ_WIRE_BEAT,
  PTQ_WIRE_POINT,
  PTQ_WIRE_SUBJECT,
  PTQ_WIRE_DONE,
  PTQ_WIRE_BYE,
  PTQ_WIRE_WORK,
  PTQ_WIRE_CANCEL,
  PTQ_WIRE_PONG,
  PTQ_WIRE_STOP,
  PTQ_WIRE_LEAVE,
  PTQ_WIRE_ORPHAN
} ptq_wire_kind;

typedef struct ptq_wire_head {
  uint32_t version;
  uint32_t kind;
  int64_t task_id;
} ptq_wire_head;

/** What a worker says. */
typedef struct ptq_wire_report {
  ptq_wire_head head;
  int64_t index;  /* POINT, DONE: place in the plan's order */
  double seconds; /* DONE: took */
  double gap_s;   /* DONE: longest time between blocks */
  double share;   /* BEAT: of the task, done */
  int32_t result; /* DONE: kind of the result that it tells as well, or 0 */
  int32_t state;  /* POINT, SUBJECT, DONE: ptq_state */
  int32_t status; /* DONE: ptq_status */
  int32_t sink_failed;
  int32_t signalled;
  int32_t team_broken;          /* DONE: another rank of the team has gone */
  char text[PTQ_WIRE_TEXT_MAX]; /* DONE: message; only the bytes in use travel
                                 */
} ptq_wire_report;

/** WORK; followed by int64_t points[n]. */
typedef struct ptq_wire_work {
  ptq_wire_head head;
  int64_t subject, first, n;
  double seconds;
} ptq_wire_work;

/** STOP. CANCEL, PONG and ORPHAN are heads only. */
typedef struct ptq_wire_stop {
  ptq_wire_head head;
  int64_t points_done, points_failed, items_done, ranks_lost, subjects_failed;
  double seconds;
  int32_t stopped;
  int32_t status; /* of the run */
  char text[PTQ_WIRE_TEXT_MAX];
} ptq_wire_stop;

/** A process, with a hash of its host. */
typedef struct ptq_wire_place {
  int64_t pid;
  uint64_t host;
} ptq_wire_place;

enum { PTQ_WIRE_LEFT_MAX = 64 };

typedef struct ptq_wire_leave {
  ptq_wire_head head;
  int32_t by_exit; /* do not call MPI_Finalize */
  int32_t n_left;
  ptq_wire_place left[PTQ_WIRE_LEFT_MAX]; /* were given up, may live */
} ptq_wire_leave;

ptq_wire_head ptq_wire_make_head(ptq_wire_kind kind, int64_t task_id);
/** Is it a whole message of a known kind from an equal build? `size` bytes
 * arrived from `rank`. */
ptq_status ptq_wire_check(const ptq_wire_head *head, int size, int rank,
                          ptq_err *err);

/** Bytes of a report that travel. */
int ptq_wire_report_size(const ptq_wire_report *r);

/** PTQ_OK, or PTQ_E_PEER with MPI's own text for `code`. */
ptq_status ptq_wire_mpi(int code, const char *what, ptq_err *err);

/** Start to send bytes that stay put until *request completes. */
ptq_status ptq_wire_post(MPI_Comm comm, int rank, const void *data, int size,
                         MPI_Request *request, ptq_err *err);
/** Has a posted message left its bytes? */
ptq_status ptq_wire_is_sent(MPI_Request *request, bool *sent, ptq_err *err);
/** Send, and wait until the bytes may change again: at most `limit_s`, then
 * PTQ_E_PEER and the bytes must stay. */
ptq_status ptq_wire_send(MPI_Comm comm, int rank, const void *data, int size,
                         double limit_s, ptq_err *err);
/** Is a message from `rank` (or MPI_ANY_SOURCE) there? *source is -1 if
 * not. */
ptq_status ptq_wire_probe(MPI_Comm comm, int rank, int *source, int *size,
                          ptq_err *err);
/** The same of anyone. A transport that knows of a dead rank refuses to look
 * for messages of anyone (ULFM): then each is asked in turn, from rank
 * `first` on. */
void ptq_wire_probe_any(MPI_Comm comm, int first, int *source, int *size);
/** Receive a probed message. Waits, for at most `limit_s`, for a sender that
 * may die within a long message. */
ptq_status ptq_wire_receive(MPI_Comm comm, int source, void *data, int size,
                            double limit_s, ptq_err *err);

#endif /* PTQ_DIST_PROTOCOL_H */
