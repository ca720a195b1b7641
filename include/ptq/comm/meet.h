/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file meet.h
 * Collective calls in which nobody waits for the dead.
 *
 * With mpirun --enable-recovery neither a rank's death nor MPI_Abort ends the
 * others. Ranks of its host see it (startup.h); inside these calls they tell
 * the ranks of other hosts, and all end. Collective on comm, all of them.
 */
#ifndef PTQ_COMM_MEET_H
#define PTQ_COMM_MEET_H

#include <mpi.h>
#include <stdint.h>

#include "ptq/base/status.h"

/** `what` names the call in messages. PTQ_E_PEER with MPI's own text. */
ptq_status ptq_meet_bcast(MPI_Comm comm, void *data, int64_t n,
                          MPI_Datatype type, int root, const char *what,
                          ptq_err *err);
/** Elementwise, in place. */
ptq_status ptq_meet_allreduce(MPI_Comm comm, void *inout, int64_t n,
                              MPI_Datatype type, MPI_Op op, const char *what,
                              ptq_err *err);
/** `n` bytes of every rank, in the order of ranks; `all` has place for those
 * of all. */
ptq_status ptq_meet_allgather(MPI_Comm comm, const void *mine, int64_t n,
                              void *all, const char *what, ptq_err *err);
/** Freed with MPI_Comm_free. */
ptq_status ptq_meet_dup(MPI_Comm comm, MPI_Comm *out, ptq_err *err);

/** PTQ_OK, or PTQ_E_PEER with MPI's own text for `code`. */
ptq_status ptq_meet_failed(int code, const char *what, ptq_err *err);

#endif /* PTQ_COMM_MEET_H */
