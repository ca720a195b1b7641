/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file leftover.h
 * Ranks that were given up and may still be there when the run is over: while
 * they live, mpirun does not end.
 *
 * Under `mpirun --enable-recovery` MPI_Abort does not end other ranks (Open
 * MPI 4.1.4 only counts the caller twice among those that have ended: the job
 * ends as long as no more than one rank is left). So they are killed where
 * they are known, and a process that stays behind ends mpirun if need be.
 */
#ifndef PTQ_DIST_LEFTOVER_H
#define PTQ_DIST_LEFTOVER_H

#include <stdbool.h>

#include "protocol.h"

/** Is it known that MPI_Abort would end this rank only? */
bool ptq_leftover_recovers(void);

/** Kill those of this host: at once where MPI_Abort would not, else some
 * seconds later, by a process that this one leaves behind. With `launcher` it
 * also ends this rank's launcher, if that is still there a while later. */
void ptq_leftover_end(const ptq_wire_leave *leave, bool launcher);

#endif /* PTQ_DIST_LEFTOVER_H */
