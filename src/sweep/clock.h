/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file clock.h  Seconds of a monotonic clock. */
#ifndef PTQ_SWEEP_CLOCK_H
#define PTQ_SWEEP_CLOCK_H

#include <time.h>

static inline double ptq_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif /* PTQ_SWEEP_CLOCK_H */
