/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ending.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nap.h"

#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"

/* For a small message to leave, and for processes to end. */
static const double moment_s = 2.0;

/* For a rank that was not heard all the run: it most likely died before its
 * first word, and then nothing tells that its process is gone. */
static const double stranger_s = 10.0;

/** Tell the script that runs mpirun how the run ended. */
static void write_exit_file(MPI_Comm comm, int exit_code) {
  const char *path = getenv("PTQSWEEP_EXIT_FILE");
  char text[16];
  ptq_err err = {0};
  int rank = -1;
  MPI_Comm_rank(comm, &rank);
  if (rank != 0 || path == NULL || path[0] == '\0') return;
  const int n = snprintf(text, sizeof text, "%d\n", exit_code);
  if (ptq_file_write_atomic(path, text, (size_t)n, &err) != PTQ_OK)
    ptq_log(PTQ_LOG_ERROR, "%s", err.msg);
}

void ptq_dist_clear_exit_file(MPI_Comm comm) {
  const char *path = getenv("PTQSWEEP_EXIT_FILE");
  int rank = -1;
  MPI_Comm_rank(comm, &rank);
  if (rank == 0 && path != NULL && path[0] != '\0' && ptq_path_exists(path))
    (void)ptq_file_write_atomic(path, "", 0, NULL);
}

/** Leave without MPI_Finalize, which waits for ranks that are not there. */
static _Noreturn void leave(int exit_code) {
  fflush(NULL);
  _exit(exit_code);
}

/** Take one message; true if there was one. */
static bool hear(const ptq_dist_ending *e, ptq_wire_stop *stop,
                 ptq_wire_report *report, int *source) {
  int size;
  const int from = e->rank == 0 ? MPI_ANY_SOURCE : 0;
  const int room = e->rank == 0 ? (int)sizeof *report : (int)sizeof *stop;
  void *into = e->rank == 0 ? (void *)report : (void *)stop;
  if (ptq_wire_probe(e->comm, from, source, &size, NULL) != PTQ_OK ||
      *source < 0 || size > room)
    return false;
  memset(into, 0, (size_t)room);
  return ptq_wire_receive(e->comm, *source, into, size, moment_s, NULL) ==
         PTQ_OK;
}

static bool all_said_goodbye(ptq_dist_ending *e) {
  bool all = true;
  for (int i = 1; i < e->size; i++) {
    ptq_ending_rank *it = &e->ranks[i];
    if (it->watchable && !it->gone && ptq_peer_gone(&it->peer)) {
      it->gone = true;
      it->lost = it->lost || !it->bye;
    }
    all = all && (it->bye || it->lost);
  }
  return all;
}

/** Hear the goodbyes of those who live; who does not speak in time is
 * lost, who never spoke sooner. */
static void await_goodbyes(ptq_dist_ending *e) {
  const double start = ptq_nap_clock();
  ptq_nap nap = {0};
  while (!all_said_goodbye(e)) {
    ptq_wire_report report;
    int source;
    if (hear(e, NULL, &report, &source)) {
      if (source > 0 && report.head.kind == PTQ_WIRE_BYE)
        e->ranks[source].bye = true;
      ptq_nap_reset(&nap);
      continue;
    }
    ptq_nap_take(&nap);
    const double waited = ptq_nap_clock() - start;
    for (int i = 1; i < e->size; i++) {
      ptq_ending_rank *it = &e->ranks[i];
      const double limit =
          it->heard || e->patience_s < stranger_s ? e->patience_s : stranger_s;
      if (!it->bye && waited >= limit) it->lost = true;
    }
  }
}

/** Let the last messages leave. */
static bool await_sent(ptq_dist_ending *e) {
  const double start = ptq_nap_clock();
  ptq_nap nap = {0};
  for (;;) {
    bool all = true;
    for (int i = 1; i < e->size; i++) {
      int done = 1;
      if (e->ranks[i].request != MPI_REQUEST_NULL &&
          MPI_Test(&e->ranks[i].request, &done, MPI_STATUS_IGNORE) !=
              MPI_SUCCESS)
        done = 1;
      all = all && (done || e->ranks[i].lost);
    }
    if (all || ptq_nap_clock() - start > moment_s) return all;
    ptq_nap_take(&nap);
  }
}

/** Do lost ranks live that would keep mpirun waiting? */
static bool someone_may_live(const ptq_dist_ending *e) {
  for (int i = 1; i < e->size; i++)
    if (e->ranks[i].lost && !e->ranks[i].gone) return true;
  return false;
}

static void finalize_coordinator(MPI_Comm comm, ptq_dist_ending *e,
                                 int exit_code) {
  bool lost = false;
  await_goodbyes(e);
  (void)await_sent(e);
  for (int i = 1; i < e->size; i++) lost = lost || e->ranks[i].lost;
  e->leave = (ptq_wire_stop){.head = ptq_wire_make_head(PTQ_WIRE_LEAVE, 0),
                             .leave_by_exit = lost};
  for (int i = 1; i < e->size; i++)
    if (!e->ranks[i].lost)
      (void)ptq_wire_post(e->comm, i, &e->leave, (int)sizeof e->leave,
                          &e->ranks[i].request, NULL);
  (void)await_sent(e);
  if (!lost) return;
  if (someone_may_live(e)) {
    ptq_log(PTQ_LOG_WARN,
            "ending the job by MPI_Abort with status %d: a rank that was "
            "given up may still be there",
            exit_code);
    fflush(NULL);
    MPI_Abort(comm, exit_code);
  }
  leave(exit_code);
}

static void finalize_worker(MPI_Comm comm, const ptq_dist_ending *e,
                            int exit_code) {
  ptq_wire_report bye = {.head = ptq_wire_make_head(PTQ_WIRE_BYE, 0)};
  const int failed = exit_code != 0 ? exit_code : 1;
  if (e->coordinator_silent) {
    fflush(NULL);
    MPI_Abort(comm, failed); /* a stopped rank 0 would keep mpirun waiting */
  }
  if (e->coordinator_lost ||
      ptq_wire_send(e->comm, 0, &bye, ptq_wire_report_size(&bye), e->patience_s,
                    NULL) != PTQ_OK)
    leave(failed);
  /* Rank 0 hears all the others before it answers. */
  const double start = ptq_nap_clock();
  ptq_nap nap = {0};
  while (ptq_nap_clock() - start < 2.0 * e->patience_s) {
    ptq_wire_stop order;
    int source;
    if (hear(e, &order, NULL, &source) && order.head.kind == PTQ_WIRE_LEAVE) {
      if (order.leave_by_exit) leave(0); /* rank 0 gives the status */
      return;
    }
    if (e->coordinator_watchable && ptq_peer_gone(&e->coordinator)) break;
    ptq_nap_take(&nap);
  }
  leave(failed);
}

void ptq_ending_free(ptq_dist_ending *e) {
  if (e == NULL) return;
  if (e->comm != MPI_COMM_NULL) MPI_Comm_free(&e->comm);
  ptq_free(e->ranks);
  ptq_free(e);
}

int ptq_dist_finalize(MPI_Comm comm, ptq_dist_summary *summary, int exit_code) {
  ptq_dist_ending *e = summary->ending;
  summary->ending = NULL;
  write_exit_file(comm, exit_code);
  if (e != NULL) {
    if (e->rank == 0 && e->ranks != NULL)
      finalize_coordinator(comm, e, exit_code);
    else
      finalize_worker(comm, e, exit_code);
    ptq_ending_free(e);
  }
  MPI_Finalize();
  return exit_code;
}
