/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/comm/nap.h"

#include <time.h>

/* Few looks and short first sleeps: on a machine with fewer cores than ranks,
 * a process that just slept gets its core back sooner than one that spun. */
enum { SPINS = 32, FIRST_SLEEP_NS = 5000, LAST_SLEEP_NS = 2000000 };

double ptq_nap_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void ptq_nap_reset(ptq_nap *nap) {
  nap->takes = 0;
}

void ptq_nap_take(ptq_nap *nap) {
  if (nap->takes < SPINS) {
    nap->takes++;
    return;
  }
  long ns = FIRST_SLEEP_NS;
  for (int i = SPINS; i < nap->takes && ns < LAST_SLEEP_NS; i++) ns *= 2;
  if (ns < LAST_SLEEP_NS)
    nap->takes++;
  else
    ns = LAST_SLEEP_NS;
  const struct timespec t = {.tv_sec = 0, .tv_nsec = ns};
  nanosleep(&t, NULL); /* a signal may cut it short: all the better */
}
