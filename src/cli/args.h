/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file args.h  The command line of a subcommand, parsed by its options. */
#ifndef PTQ_CLI_ARGS_H
#define PTQ_CLI_ARGS_H

#include "command.h"

enum { PTQ_ARGS_MAX = 256 };

struct ptq_args {
  const char *const *argv; /* borrowed; the command's words, [argc] */
  int argc;
  const char *positional[PTQ_ARGS_MAX]; /* borrowed */
  int n_positional;
  const ptq_option *given[PTQ_ARGS_MAX]; /* borrowed */
  const char *value[PTQ_ARGS_MAX];       /* borrowed, "" for flags */
  int n_given;
};

/** Options that every command takes: help, quiet, verbose. */
extern const ptq_option ptq_common_options[];

/** Parse argv[0..argc): `--name value`, `--name=value`, `-x value`, `--` ends
 * options. PTQ_E_ARG names the word and the nearest option. */
ptq_status ptq_args_parse(const ptq_command *command, int argc, char **argv,
                          ptq_args *out, ptq_err *err);

#endif /* PTQ_CLI_ARGS_H */
