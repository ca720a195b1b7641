/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/comm/startup.h"

#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "guard.h"
#include "peers.h"
#include "ptq/base/log.h"

enum { MAX_PEERS = 4096 };
static const long period_ns = 100000000;
/* Ranks of a host that are not all there after this long died early. */
static const int patience_periods = 150;
/* A launcher without ranks that is still there after this long is stuck. */
static const int launcher_patience_ms = 10000;

/* The one watch of this process. */
static struct {
  pthread_t thread;
  bool runs;
  atomic_bool stop, mpi;
  pid_t parent;
  int n_peers; /* ranks of this host, this one included */
  ptq_guard guard;
} watch;

static bool is_among(pid_t pid, const pid_t *pids, int n) {
  for (int i = 0; i < n; i++)
    if (pids[i] == pid) return true;
  return false;
}

static void end_all(const char *what, long pid) {
  if (atomic_load(&watch.stop)) return;
  ptq_log(PTQ_LOG_ERROR,
          "%s (process %ld) while the run was getting ready; nothing is lost, "
          "the same command starts it anew",
          what, pid);
  fflush(NULL);
  if (atomic_load(&watch.mpi)) MPI_Abort(MPI_COMM_WORLD, 1);
  _exit(1);
}

static void *look(void *unused) {
  const struct timespec pause = {0, period_ns};
  pid_t seen[MAX_PEERS], now[MAX_PEERS];
  const bool launched = ptq_peers_is_launcher(watch.parent);
  int n_seen = 0;
  (void)unused;
  for (int periods = 0; !atomic_load(&watch.stop); periods++) {
    const int n = ptq_peers_find(watch.parent, false, now, MAX_PEERS);
    if (n < 0 || getppid() != watch.parent) return NULL;
    for (int i = 0; i < n_seen; i++)
      if (!is_among(seen[i], now, n))
        end_all("a rank of this host died", (long)seen[i]);
    memcpy(seen, now, (size_t)n * sizeof *now);
    n_seen = n;
    if (launched && n < watch.n_peers && periods > patience_periods)
      end_all("a rank of this host never came up", (long)watch.parent);
    (void)nanosleep(&pause, NULL);
  }
  return NULL;
}

void ptq_startup_begin(void) {
  const char *size = getenv("OMPI_COMM_WORLD_LOCAL_SIZE");
  watch.n_peers = size != NULL ? atoi(size) : 1;
  watch.parent = getppid();
  if (watch.n_peers < 2 || watch.n_peers > MAX_PEERS || watch.runs) return;
  /* Two of them, as one may be killed before it could. */
  const char *rank = getenv("OMPI_COMM_WORLD_LOCAL_RANK");
  if (rank != NULL && atoi(rank) < 2)
    ptq_guard_begin(&watch.guard, watch.parent, launcher_patience_ms);
  atomic_store(&watch.stop, false);
  watch.runs = pthread_create(&watch.thread, NULL, look, NULL) == 0;
}

void ptq_startup_mpi_runs(void) {
  atomic_store(&watch.mpi, true);
}

void ptq_startup_end(void) {
  atomic_store(&watch.stop, true);
  if (watch.runs) (void)pthread_join(watch.thread, NULL);
  watch.runs = false;
  ptq_guard_end(&watch.guard);
}
