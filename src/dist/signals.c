/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "signals.h"

#include <signal.h>
#include <string.h>

#include "ptq/dist/run.h"

/* A signal handler has nowhere else to write. */
static volatile sig_atomic_t n_seen;

static void count_signal(int number) {
  (void)number;
  if (n_seen < 1000) n_seen++;
}

void ptq_signals_install(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_handler = count_signal;
  action.sa_flags = SA_RESTART; /* reads and writes of files go on */
  sigemptyset(&action.sa_mask);
  sigaction(SIGTERM, &action, NULL);
  sigaction(SIGUSR1, &action, NULL);
  sigaction(SIGUSR2, &action, NULL);
}

int ptq_signals_seen(void) {
  return n_seen;
}

void ptq_signals_forget(void) {
  n_seen = 0;
}

void ptq_dist_catch_signals(void) {
  ptq_signals_install();
}

bool ptq_dist_signalled(void) {
  return n_seen > 0;
}
