/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file run_options.h
 * What the command line of `run` asks for.
 */
#ifndef PTQ_CLI_RUN_OPTIONS_H
#define PTQ_CLI_RUN_OPTIONS_H

#include "args.h"
#include "ptq/dist/run.h"

typedef struct ptq_run_options {
  ptq_dist_options dist;
  int64_t memory_bytes; /* a rank may use; 0: not given */
  int threads, ranks;   /* of a rank, of a point; 0: not given */
  const char *scratch;  /* borrowed of the arguments, nullable */
} ptq_run_options;

/**
 * Read and check the options. Only rank 0 keeps the time, and says how much.
 *
 * @return PTQ_E_ARG: a value cannot be. Rank-local.
 */
ptq_status ptq_run_options_read(int rank, const ptq_args *args,
                                ptq_run_options *out, ptq_err *err);

/** Memory of this host that one of its `n` ranks may use, in bytes: four
 * fifths, shared. */
int64_t ptq_run_default_memory(int n);

#endif /* PTQ_CLI_RUN_OPTIONS_H */
