/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/comm/startup.h"

#include <mpi.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ptq/comm/finish.h"
#include "ptq/comm/guard.h"
#include "lookout.h"
#include "peers.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/comm/nap.h"

/* Ranks of a host that are not all there after this long died early. */
static const double patience_s = 15.0;
/* MPI that has not started after this many times the silence will not. */
static const double init_factor = 5.0;
/* For the ranks of other hosts to be told. */
static const double telling_s = 10.0;
/* A launcher without ranks that is still there after this long is stuck. */
static const int launcher_patience_ms = 10000;
/* Of the message to the ranks of other hosts, on MPI_COMM_WORLD. */
enum { TAG = 0x5151 };

/* The one watch of this process. */
static struct {
  pthread_t thread;
  bool runs;
  bool elsewhere; /* there are ranks on other hosts */
  atomic_bool stop, mpi;
  atomic_long lost; /* process that died; the main thread tells the others */
  ptq_lookout lookout;
  bool sees; /* the other ranks of this host */
  ptq_guard guard;
} watch;

static _Noreturn void leave(void) {
  fflush(NULL);
  if (watch.sees) ptq_guard_end_stopped(watch.lookout.parent);
  if (atomic_load(&watch.mpi)) ptq_finish_abort(MPI_COMM_WORLD, 1);
  _exit(1);
}

static void end_all(const char *what, long pid) {
  if (atomic_load(&watch.stop)) return;
  ptq_log(PTQ_LOG_ERROR,
          "%s (process %ld) while the run was getting ready; nothing is lost, "
          "the same command starts it anew",
          what, pid);
  leave();
}

/** One rank has died. The others of this host see it too, those of other hosts
 * must be told by the main thread, if it comes to it. */
static void one_died(long pid) {
  atomic_store(&watch.lost, pid);
  const double start = ptq_nap_clock();
  while (watch.elsewhere && atomic_load(&watch.mpi) &&
         !atomic_load(&watch.stop) && ptq_nap_clock() - start < 2.0 * telling_s)
    (void)ptq_lookout_pause(&watch.lookout);
  end_all("a rank of this host died", pid);
}

static void *keep_watch(void *unused) {
  ptq_lookout *l = &watch.lookout;
  const bool launched = ptq_peers_is_launcher(l->parent);
  double waited_s = 0.0, step_s = 0.0;
  (void)unused;
  while (!atomic_load(&watch.stop)) {
    ptq_sight s = {0};
    if (watch.sees) watch.sees = ptq_lookout_look(l, step_s, &s);
    if (s.lost != 0) one_died((long)s.lost);
    if (watch.sees && launched && s.n < l->n_ranks && waited_s > patience_s)
      end_all("a rank of this host never came up", (long)l->parent);
    if (!atomic_load(&watch.mpi) && waited_s > init_factor * l->silence_s)
      end_all("MPI_Init did not return", (long)getpid());
    step_s = ptq_lookout_pause(l);
    waited_s += step_s;
  }
  return NULL;
}

static int number_of(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text != NULL ? atoi(text) : otherwise;
}

void ptq_startup_begin(double silence_s) {
  const int n_ranks = number_of("OMPI_COMM_WORLD_SIZE", 1);
  if (watch.runs || n_ranks < 2) return;
  watch.sees = ptq_lookout_init(&watch.lookout, silence_s);
  watch.elsewhere = n_ranks > watch.lookout.n_ranks;
  /* Two of them, as one may be killed before it could. */
  if (watch.sees && number_of("OMPI_COMM_WORLD_LOCAL_RANK", 2) < 2)
    ptq_guard_begin(&watch.guard, watch.lookout.parent, launcher_patience_ms);
  atomic_store(&watch.stop, false);
  watch.runs = pthread_create(&watch.thread, NULL, keep_watch, NULL) == 0;
}

void ptq_startup_mpi_runs(void) {
  atomic_store(&watch.mpi, true);
}

/** To all ranks, as nobody knows who lives. */
static void tell_others(void) {
  int size = 0, done = 0;
  MPI_Request *requests = NULL;
  ptq_nap nap = {0};
  const double start = ptq_nap_clock();
  (void)MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (ptq_alloc(&requests, size, sizeof *requests, "requests", NULL) != PTQ_OK)
    return;
  for (int i = 0; i < size; i++)
    if (MPI_Isend(NULL, 0, MPI_BYTE, i, TAG, MPI_COMM_WORLD, &requests[i]) !=
        MPI_SUCCESS)
      requests[i] = MPI_REQUEST_NULL;
  while (!done && ptq_nap_clock() - start < telling_s) {
    if (MPI_Testall(size, requests, &done, MPI_STATUSES_IGNORE) != MPI_SUCCESS)
      break;
    ptq_nap_take(&nap);
  }
}

void ptq_startup_look(void) {
  int told = 0;
  if (!watch.runs || !watch.elsewhere || atomic_load(&watch.stop)) return;
  const long lost = atomic_load(&watch.lost);
  if (lost != 0) {
    tell_others();
    end_all("a rank of this host died", lost);
  }
  if (MPI_Iprobe(MPI_ANY_SOURCE, TAG, MPI_COMM_WORLD, &told,
                 MPI_STATUS_IGNORE) != MPI_SUCCESS ||
      !told)
    return;
  /* Who died there is said there. */
  leave();
}

void ptq_startup_end(void) {
  atomic_store(&watch.stop, true);
  if (watch.runs) (void)pthread_join(watch.thread, NULL);
  watch.runs = false;
  /* Ranks of other hosts may go on where those of this one have gone. */
  if (watch.elsewhere)
    ptq_guard_end(&watch.guard);
  else
    ptq_guard_calm(&watch.guard);
}
