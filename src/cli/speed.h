/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file speed.h  How fast is this machine, for predictions. */
#ifndef PTQ_CLI_SPEED_H
#define PTQ_CLI_SPEED_H

#include "ptq/sweep/cost.h"

/** FLOP/s of sgemm on one core, in the time this process had it (others on the
 * machine do not count); 0 where it cannot be measured. Some 150 ms. */
double ptq_speed_sgemm(void);

/** Rates for the cost model from the measured sgemm. Call after
 * ptq_blas_init. */
ptq_rates ptq_speed_rates(void);

#endif /* PTQ_CLI_SPEED_H */
