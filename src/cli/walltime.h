/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file walltime.h
 * How long a run may take: --time-limit, or what is left of the Slurm job
 * that it runs in.
 */
#ifndef PTQ_CLI_WALLTIME_H
#define PTQ_CLI_WALLTIME_H

#include <stdbool.h>

#include "command.h"

/** "90", "90.5" (seconds), "2:30" (minutes, seconds), "4:00:00" or
 * "1-12:00:00" (days, hours, ...): *seconds. PTQ_E_ARG. */
ptq_status ptq_walltime_parse(const char *text, double *seconds, ptq_err *err);

/**
 * Seconds that the run has from now, 0 for no limit. --time-limit gives them,
 * or "none"; without it, in a Slurm job, what is left of the job less half a
 * minute to close up (from SLURM_JOB_END_TIME, else from `squeue`, which may
 * not be there). *source says where it is from, for a message; static.
 * PTQ_E_ARG: not a time, or a --time-limit of 0. Rank-local: starts a process.
 */
ptq_status ptq_walltime_read(const ptq_args *args, double *seconds,
                             const char **source, ptq_err *err);

#endif /* PTQ_CLI_WALLTIME_H */
