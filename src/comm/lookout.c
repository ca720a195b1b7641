/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "lookout.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "peers.h"
#include "ptq/base/log.h"

/* Between two looks; more where many ranks look at many. */
static const long pause_ms = 100, pause_ms_a_rank = 4;
/* A step of more pauses than this was a sleep of this process. */
static const double longest_step = 10.0;

static double clock_s(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

bool ptq_lookout_init(ptq_lookout *l, double silence_s) {
  const char *size = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  memset(l, 0, sizeof *l);
  l->n_ranks = size != NULL ? atoi(size) : 1;
  l->parent = getppid();
  l->silence_s = silence_s;
  l->pause_ms = pause_ms + pause_ms_a_rank * l->n_ranks;
  l->last_s = clock_s();
  return l->n_ranks >= 2 && l->n_ranks <= PTQ_LOOKOUT_MAX;
}

static int place_of(pid_t pid, const pid_t *pids, int n) {
  for (int i = 0; i < n; i++)
    if (pids[i] == pid) return i;
  return -1;
}

static void end_stopped(pid_t pid, double stopped_s) {
  ptq_log(PTQ_LOG_WARN,
          "process %ld, a rank of this host, is killed: it was stopped for "
          "%.0f s (--silence), and all wait for it",
          (long)pid, stopped_s);
  (void)kill(pid, SIGKILL);
}

bool ptq_lookout_look(ptq_lookout *l, double step_s, ptq_sight *out) {
  pid_t now[PTQ_LOOKOUT_MAX];
  double stopped_s[PTQ_LOOKOUT_MAX];
  *out = (ptq_sight){0};
  const int n = ptq_peers_find(l->parent, false, now, PTQ_LOOKOUT_MAX);
  if (n < 0 || getppid() != l->parent) return false;
  for (int i = 0; i < n; i++) {
    const int known = place_of(now[i], l->pid, l->n);
    stopped_s[i] = known < 0 ? 0.0 : l->stopped_s[known];
    stopped_s[i] = ptq_peers_is_stopped(now[i]) ? stopped_s[i] + step_s : 0.0;
    if (stopped_s[i] <= l->silence_s) continue;
    end_stopped(now[i], stopped_s[i]);
    stopped_s[i] = 0.0;
  }
  for (int i = 0; i < l->n && out->lost == 0; i++)
    if (place_of(l->pid[i], now, n) < 0) out->lost = l->pid[i];
  memcpy(l->pid, now, (size_t)n * sizeof *now);
  memcpy(l->stopped_s, stopped_s, (size_t)n * sizeof *stopped_s);
  l->n = out->n = n;
  return true;
}

double ptq_lookout_pause(ptq_lookout *l) {
  const struct timespec pause = {l->pause_ms / 1000,
                                 l->pause_ms % 1000 * 1000000};
  (void)nanosleep(&pause, NULL);
  const double then = l->last_s, planned_s = 1e-3 * (double)l->pause_ms;
  l->last_s = clock_s();
  return l->last_s - then < longest_step * planned_s ? l->last_s - then
                                                     : planned_s;
}
