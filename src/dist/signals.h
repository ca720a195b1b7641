/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file signals.h
 * SIGTERM, SIGUSR1 and SIGUSR2: counted, all meaning "stop in good order".
 */
#ifndef PTQ_DIST_SIGNALS_H
#define PTQ_DIST_SIGNALS_H

/** Install the handlers (again). */
void ptq_signals_install(void);
/** How many have come since the last ptq_signals_forget. */
int ptq_signals_seen(void);
/** For tests that run several sweeps in one process. */
void ptq_signals_forget(void);

#endif /* PTQ_DIST_SIGNALS_H */
