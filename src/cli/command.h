/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file command.h  One subcommand = one row = one file cmd_<name>.c. */
#ifndef PTQ_CLI_COMMAND_H
#define PTQ_CLI_COMMAND_H

#include <stdbool.h>

#include "ptq/base/status.h"

/** Exit codes of the program. */
enum {
  PTQ_EXIT_DONE = 0,
  PTQ_EXIT_FAILED = 1,
  PTQ_EXIT_USAGE = 2,
  PTQ_EXIT_POINTS_FAILED = 3,
  PTQ_EXIT_STOPPED = 75
};

/** Default of --silence: seconds that a rank may be silent or stopped. */
#define PTQ_SILENCE_S 120.0

/** One long option of a command. */
typedef struct ptq_option {
  const char *name;  /* "output", without dashes */
  char letter;       /* short form, 0 for none */
  const char *value; /* name of its value for --help, NULL for a flag */
  const char *help;  /* one line */
} ptq_option;

/** The command line of a command, parsed. Borrowed strings. */
typedef struct ptq_args ptq_args;
/** Positional argument i, NULL when absent. */
const char *ptq_args_at(const ptq_args *a, int i);
int ptq_args_count(const ptq_args *a);
/** Value of the last occurrence of an option, NULL when absent; "" for a
 * flag that was given. */
const char *ptq_args_get(const ptq_args *a, const char *name);
bool ptq_args_has(const ptq_args *a, const char *name);
/** All values of a repeatable option; returns their number (at most max). */
int ptq_args_all(const ptq_args *a, const char *name, const char **out,
                 int max);
/** PTQ_E_ARG when a value of the repeatable --set is not KEY=VALUE. */
ptq_status ptq_args_check_sets(const ptq_args *a, ptq_err *err);
/** Number options with a default; PTQ_E_ARG names the option. */
ptq_status ptq_args_int(const ptq_args *a, const char *name, long fallback,
                        long *out, ptq_err *err);
ptq_status ptq_args_double(const ptq_args *a, const char *name, double fallback,
                           double *out, ptq_err *err);
/** --threads N into *threads; as it was where it is not given. PTQ_E_ARG: out
 * of range. */
ptq_status ptq_args_threads(const ptq_args *a, int *threads, ptq_err *err);
/** The same for --ranks-per-point N. */
ptq_status ptq_args_ranks_per_point(const ptq_args *a, int *ranks,
                                    ptq_err *err);

typedef struct ptq_command {
  const char *name;
  const char *args;    /* usage after the name, e.g. "SPEC [options]" */
  const char *summary; /* one line for `ptqsweep --help`, no full stop */
  const char
      *details; /* body of `ptqsweep NAME --help`, ends with an example */
  const ptq_option *options; /* ended by a row without a name; may be NULL */
  int min_args, max_args;    /* positional */
  bool needs_mpi;            /* main() initializes MPI only for these */
  /** *exit_code is PTQ_EXIT_DONE on entry; an error becomes FAILED, unless
   * it says USAGE: a value of the command line is wrong. A command that needs
   * MPI may end it itself. What standard output lost is main()'s to tell. */
  ptq_status (*run)(const ptq_args *args, int *exit_code, ptq_err *err);
} ptq_command;

/** Print why a command failed, once for all ranks, and tell the exit code. */
int ptq_command_failed(const char *name, ptq_status rc, const ptq_err *err);

#endif /* PTQ_CLI_COMMAND_H */
