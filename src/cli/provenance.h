/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file provenance.h
 * Where a store comes from: command line, sweep file, build, libraries, hosts.
 */
#ifndef PTQ_CLI_PROVENANCE_H
#define PTQ_CLI_PROVENANCE_H

#include <mpi.h>

#include "args.h"
#include "ptq/base/text.h"
#include "ptq/store/store.h"

enum { PTQ_PROVENANCE_MAX = 8 };

typedef struct ptq_provenance {
  ptq_text command_line, spec_path, build, libraries, hosts; /* owned */
  ptq_store_attribute attributes[PTQ_PROVENANCE_MAX]; /* borrow the texts */
  int64_t n;
  int n_here; /* ranks of this host */
} ptq_provenance;

/** Collective: every rank tells its host. Texts are complete on rank 0. A
 * failure may be of this rank only. */
ptq_status ptq_provenance_collect(MPI_Comm comm, const ptq_args *args,
                                  const char *spec_path, const char *numerics,
                                  ptq_provenance *out, ptq_err *err);
void ptq_provenance_release(ptq_provenance *p);

#endif /* PTQ_CLI_PROVENANCE_H */
