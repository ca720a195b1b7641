/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/comm/guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "peers.h"

enum { MAX_RANKS = 4096 };

static const int period_ms = 100, calm_period_ms = 500;
/* A run that went well ends in its own time, and what is stopped in it is not
 * the guard's affair. */
enum { CALM_FACTOR = 3 };
/* Words on the leash. */
static const char go = 'g', calm_down = 'c';
/* Ranks that are stopped are waited for this many times as long. */
enum { STOPPED_FACTOR = 12 };
/* What a launcher that was asked to end may take. */
static const int ending_ms = 10000;

/** Leave nothing open but `keep`: whoever reads what the run prints waits for
 * the last writer. */
static void close_all_but(int keep) {
  const long max = sysconf(_SC_OPEN_MAX);
  for (int fd = 0; fd < (max > 0 && max < 4096 ? (int)max : 4096); fd++)
    if (fd != keep) (void)close(fd);
  for (int fd = 0; fd < 3; fd++)
    if (open("/dev/null", O_RDWR) < 0) break;
}

/** Wait a period for a word of the rank that forked this guard; 0: none. A rank
 * that died only lets go of its end. */
static char hear(int *leash, int wait_ms) {
  struct pollfd p = {.fd = *leash, .events = POLLIN};
  char word;
  if (poll(&p, 1, wait_ms) <= 0 || *leash < 0) return 0;
  if (read(*leash, &word, 1) == 1) return word;
  (void)close(*leash);
  *leash = -1; /* which poll passes over */
  (void)poll(&p, 0, wait_ms);
  return 0;
}

/** Ranks of the launcher that are not stopped, and those that are. */
static void count_ranks(pid_t launcher, int *n_running, int *n_stopped) {
  pid_t ranks[MAX_RANKS];
  *n_stopped = 0;
  *n_running = ptq_peers_find(launcher, true, ranks, MAX_RANKS);
  for (int i = *n_running - 1; i >= 0; i--)
    if (ptq_peers_is_stopped(ranks[i])) {
      --*n_running;
      ++*n_stopped;
    }
}

static void guard(pid_t launcher, int leash, int patience_ms) {
  int orphaned_ms = 0, step_ms = period_ms;
  char word = 0;
  while ((word = hear(&leash, step_ms)) != go &&
         ptq_peers_is_launcher(launcher)) {
    int running = 0, stopped = 0;
    if (word == calm_down && step_ms != calm_period_ms) {
      step_ms = calm_period_ms;
      patience_ms *= CALM_FACTOR;
      continue;
    }
    const bool calm = step_ms == calm_period_ms;
    count_ranks(launcher, &running, &stopped);
    orphaned_ms = running == 0 ? orphaned_ms + step_ms : 0;
    if (!calm && stopped > 0 && orphaned_ms >= STOPPED_FACTOR * patience_ms) {
      ptq_guard_end_stopped(launcher);
      orphaned_ms = 0;
    }
    if (stopped > 0 || orphaned_ms < patience_ms) continue;
    (void)kill(launcher, SIGKILL); /* it no longer hears anything else */
    break;
  }
  _exit(0);
}

void ptq_guard_end_stopped(pid_t launcher) {
  pid_t ranks[MAX_RANKS];
  const int n = ptq_peers_find(launcher, false, ranks, MAX_RANKS);
  for (int i = 0; i < n; i++)
    if (ranks[i] != getpid() && ptq_peers_is_stopped(ranks[i]))
      (void)kill(ranks[i], SIGKILL);
}

void ptq_guard_begin(ptq_guard *g, pid_t launcher, int patience_ms) {
  int ends[2];
  *g = (ptq_guard){0, -1};
  if (!ptq_peers_is_launcher(launcher) || pipe(ends) != 0) return;
  g->pid = fork();
  if (g->pid == 0) {
    (void)setsid(); /* out of reach of who ends the rank's group */
    close_all_but(ends[0]);
    guard(launcher, ends[0], patience_ms);
  }
  (void)close(ends[0]);
  g->leash = ends[1];
  (void)fcntl(g->leash, F_SETFD, FD_CLOEXEC);
  if (g->pid > 0) return;
  (void)close(g->leash);
  *g = (ptq_guard){0, -1};
}

static void tell(const ptq_guard *g, char word) {
  struct sigaction ignore = {.sa_handler = SIG_IGN}, before;
  (void)sigaction(SIGPIPE, &ignore, &before); /* it may have been killed */
  (void)!write(g->leash, &word, 1);
  (void)sigaction(SIGPIPE, &before, NULL);
}

void ptq_guard_calm(const ptq_guard *g) {
  if (g->pid > 0) tell(g, calm_down);
}

void ptq_guard_end(ptq_guard *g) {
  if (g->pid <= 0) return;
  tell(g, go);
  (void)close(g->leash);
  while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR) continue;
  *g = (ptq_guard){0, -1};
}

static void sleep_ms(int ms) {
  const struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
  (void)nanosleep(&t, NULL);
}

static void kill_ranks(const ptq_guard_orders *o) {
  for (int i = 0; i < o->n; i++)
    if (ptq_peers_is_rank(o->pids[i])) (void)kill(o->pids[i], SIGKILL);
}

/** True when it has gone by itself. */
static bool goes(pid_t launcher, int patience_ms) {
  for (int ms = 0; ms < patience_ms; ms += period_ms) {
    if (!ptq_peers_is_launcher(launcher)) return true;
    sleep_ms(period_ms);
  }
  return false;
}

static _Noreturn void stay(const ptq_guard_orders *o) {
  (void)setsid();
  close_all_but(-1);
  if (o->kill_after_ms > 0) {
    if (o->launcher != 0)
      (void)goes(o->launcher, o->kill_after_ms);
    else
      sleep_ms(o->kill_after_ms);
    kill_ranks(o);
  }
  if (o->launcher != 0 && o->end_launcher_after_ms > 0 &&
      !goes(o->launcher, o->end_launcher_after_ms)) {
    (void)kill(o->launcher, SIGTERM);
    if (!goes(o->launcher, ending_ms)) (void)kill(o->launcher, SIGKILL);
  }
  _exit(0);
}

void ptq_guard_stay(const ptq_guard_orders *o) {
  if (o->kill_after_ms == 0) kill_ranks(o);
  if (o->kill_after_ms == 0 && o->end_launcher_after_ms == 0) return;
  if (fork() == 0) stay(o); /* where there is none to be had, so be it */
}
