/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/comm/finish.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "lookout.h"

/* What a rank does by itself once all have met takes no longer. */
static const double last_steps_s = 30.0;

/* The same of MPI_Abort. */
static const unsigned abort_takes_s = 10;

/* The one watch of this process. */
static struct {
  bool runs;
  atomic_bool stop;
  ptq_lookout lookout;
  bool sees; /* the other ranks of this host */
  int exit_code;
} watch;

static void *keep_watch(void *unused) {
  const double last_s = fmin(last_steps_s, watch.lookout.silence_s);
  double left_s = watch.lookout.silence_s + last_s, step_s = 0.0;
  (void)unused;
  while (!atomic_load(&watch.stop)) {
    ptq_sight s = {0};
    if (watch.sees) watch.sees = ptq_lookout_look(&watch.lookout, step_s, &s);
    if (s.lost != 0) left_s = fmin(left_s, last_s);
    if (left_s <= 0.0) {
      fflush(NULL);
      _exit(watch.exit_code);
    }
    step_s = ptq_lookout_pause(&watch.lookout);
    left_s -= step_s;
  }
  return NULL;
}

void ptq_finish_begin(double silence_s, int exit_code) {
  pthread_t thread;
  if (watch.runs) return;
  watch.sees = ptq_lookout_init(&watch.lookout, silence_s);
  watch.exit_code = exit_code;
  atomic_store(&watch.stop, false);
  watch.runs = pthread_create(&thread, NULL, keep_watch, NULL) == 0;
  if (watch.runs) (void)pthread_detach(thread);
}

void ptq_finish_end(void) {
  atomic_store(&watch.stop, true); /* the process ends: nobody waits for it */
}

_Noreturn void ptq_finish_abort(MPI_Comm comm, int exit_code) {
  struct sigaction end = {.sa_handler = SIG_DFL};
  sigset_t own;
  (void)sigemptyset(&own);
  (void)sigaddset(&own, SIGALRM);
  (void)sigaction(SIGALRM, &end, NULL);
  (void)pthread_sigmask(SIG_UNBLOCK, &own, NULL);
  (void)alarm(abort_takes_s);
  (void)MPI_Abort(comm, exit_code);
  _exit(exit_code);
}
