/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file commands.h  The list of subcommands. */
#ifndef PTQ_CLI_COMMANDS_H
#define PTQ_CLI_COMMANDS_H

#include "command.h"

/** In the order of --help, NULL-terminated. */
extern const ptq_command *const ptq_commands[];

#endif /* PTQ_CLI_COMMANDS_H */
