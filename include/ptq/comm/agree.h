/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file agree.h
 * Leaving together: ranks agree whether one of them failed.
 */
#ifndef PTQ_COMM_AGREE_H
#define PTQ_COMM_AGREE_H

#include <mpi.h>

#include "ptq/base/status.h"

/** Returns `mine` where it is a failure, PTQ_E_PEER where another rank failed
 * (naming the rank and its message), PTQ_OK when all are well. Collective. */
ptq_status ptq_agree(MPI_Comm comm, ptq_status mine, ptq_err *err);

/** Do all ranks hold the same text? PTQ_E_ARG on every rank naming the first
 * that differs, and `what`. Collective. */
ptq_status ptq_agree_text(MPI_Comm comm, const char *text, const char *what,
                          ptq_err *err);

#endif /* PTQ_COMM_AGREE_H */
