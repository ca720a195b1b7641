/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file nap.h
 * Time, and waiting that is quick to notice and then cheap.
 */
#ifndef PTQ_COMM_NAP_H
#define PTQ_COMM_NAP_H

/** Seconds of a clock that never goes back. */
double ptq_nap_clock(void);

/** Between probes for messages: look again at once some tens of times, then
 * sleep twice as long each time, from 5 microseconds up to 2 ms. */
typedef struct ptq_nap {
  int takes; /* since the last message */
} ptq_nap;

void ptq_nap_reset(ptq_nap *nap);
void ptq_nap_take(ptq_nap *nap);

#endif /* PTQ_COMM_NAP_H */
