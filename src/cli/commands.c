/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "commands.h"

#include <stddef.h>

extern const ptq_command ptq_cmd_plan, ptq_cmd_run, ptq_cmd_status,
    ptq_cmd_verify, ptq_cmd_fit, ptq_cmd_report, ptq_cmd_export, ptq_cmd_list,
    ptq_cmd_inspect, ptq_cmd_merge, ptq_cmd_predict, ptq_cmd_materialize,
    ptq_cmd_allocate;

const ptq_command *const ptq_commands[] = {
    &ptq_cmd_plan,        &ptq_cmd_run,
    &ptq_cmd_status,      &ptq_cmd_verify,
    &ptq_cmd_fit,         &ptq_cmd_predict,
    &ptq_cmd_allocate,    &ptq_cmd_report,
    &ptq_cmd_export,      &ptq_cmd_merge,
    &ptq_cmd_materialize, &ptq_cmd_list,
    &ptq_cmd_inspect,     NULL};
