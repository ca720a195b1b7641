/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ending.h"
#include "leftover.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ptq/base/file.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/comm/finish.h"
#include "ptq/comm/guard.h"
#include "ptq/comm/nap.h"

/* For a small message to leave, and for processes to end. */
static const double moment_s = 2.0;

/* For a rank that was not heard all the run: it most likely died before its
 * first word, and then nothing tells that its process is gone. */
static const double stranger_s = 10.0;

/** Tell the script that runs mpirun how the program ended. */
static void write_exit_file(int exit_code) {
  const char *path = getenv("PTQSWEEP_EXIT_FILE");
  char text[16];
  ptq_err err = {0};
  if (path == NULL || path[0] == '\0') return;
  const int n = snprintf(text, sizeof text, "%d\n", exit_code);
  if (ptq_file_write_atomic(path, text, (size_t)n, &err) != PTQ_OK)
    ptq_log(PTQ_LOG_ERROR, "%s", err.msg);
}

/* Open MPI 4 and 5. */
static bool is_launched_as_first(void) {
  const char *rank = getenv("OMPI_COMM_WORLD_RANK");
  if (rank == NULL) rank = getenv("PMIX_RANK");
  return rank != NULL && strcmp(rank, "0") == 0;
}

void ptq_dist_ended_early(int exit_code) {
  int begun = 0;
  (void)MPI_Initialized(&begun);
  if (!begun && is_launched_as_first()) write_exit_file(exit_code);
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

/* What is heard at the end. */
typedef union word {
  ptq_wire_head head;
  ptq_wire_report report; /* to rank 0 */
  ptq_wire_leave leave;   /* of rank 0 */
  ptq_wire_stop stop;
} word;

/** Take one message; true if there was one. */
static bool hear(const ptq_dist_ending *e, word *out, int *source) {
  int size;
  ptq_wire_probe_any(e->comm, 0, source, &size);
  if (*source < 0 || size > (int)sizeof *out) return false;
  memset(out, 0, sizeof *out);
  return ptq_wire_receive(e->comm, *source, out, size, moment_s, NULL) ==
             PTQ_OK &&
         ptq_wire_check(&out->head, size, *source, NULL) == PTQ_OK;
}

static bool all_said_goodbye(ptq_dist_ending *e) {
  bool all = true;
  for (int i = 1; i < e->size; i++) {
    ptq_ending_rank *it = &e->ranks[i];
    if (it->watchable && !it->gone && ptq_peer_gone(&e->peers[i])) {
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
    word heard;
    int source;
    if (hear(e, &heard, &source)) {
      if (source > 0 && heard.head.kind == PTQ_WIRE_BYE)
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

/** Write down who was given up and may be left. Returns whether somebody may
 * be of whom no process is known, or more than can be told. */
static bool list_left(const ptq_dist_ending *e, ptq_wire_leave *out) {
  bool unknown = false;
  for (int i = 1; i < e->size; i++) {
    const ptq_ending_rank *it = &e->ranks[i];
    if (!it->lost || it->gone) continue;
    const ptq_peer *peer = &e->peers[i];
    const uint64_t host = ptq_peer_place(peer);
    if (host == 0 || out->n_left == PTQ_WIRE_LEFT_MAX)
      unknown = true;
    else
      out->left[out->n_left++] = (ptq_wire_place){peer->pid, host};
  }
  return unknown;
}

/** Whoever does not get it waits in vain, and the others for it: once more if
 * it does not leave. */
static void post_leave(ptq_dist_ending *e, int rank) {
  for (int i = 0; i < 2; i++)
    if (ptq_wire_post(e->comm, rank, &e->leave, (int)sizeof e->leave,
                      &e->ranks[rank].request, NULL) == PTQ_OK)
      return;
}

static void finalize_coordinator(MPI_Comm comm, ptq_dist_ending *e,
                                 int exit_code) {
  bool lost = false;
  await_goodbyes(e);
  (void)await_sent(e);
  e->leave = (ptq_wire_leave){.head = ptq_wire_make_head(PTQ_WIRE_LEAVE, 0)};
  const bool left = list_left(e, &e->leave) || e->leave.n_left > 0;
  for (int i = 1; i < e->size; i++) lost = lost || e->ranks[i].lost;
  e->leave.by_exit = lost;
  for (int i = 1; i < e->size; i++)
    if (!e->ranks[i].lost) post_leave(e, i);
  (void)await_sent(e);
  if (!lost) return;
  if (left) {
    ptq_log(PTQ_LOG_WARN,
            "ranks that were given up may still be there, and are killed");
    fflush(NULL);
    ptq_leftover_end(&e->leave, true);
    if (!ptq_leftover_recovers()) ptq_finish_abort(comm, exit_code);
  }
  leave(exit_code);
}

/** Rank 0's process has ended: those who do not see it shall know. */
static void tell_orphans(ptq_dist_ending *e) {
  const ptq_wire_head orphan = ptq_wire_make_head(PTQ_WIRE_ORPHAN, 0);
  ptq_err ignored = {0};
  if (ptq_alloc(&e->ranks, e->size, sizeof *e->ranks, "ranks", &ignored) !=
      PTQ_OK)
    return;
  for (int i = 1; i < e->size; i++) {
    e->ranks[i].request = MPI_REQUEST_NULL;
    if (i != e->rank)
      (void)ptq_wire_post(e->comm, i, &orphan, (int)sizeof orphan,
                          &e->ranks[i].request, NULL);
  }
  (void)await_sent(e);
}

/** Rank 0 is not there to see to those that are stopped. */
static _Noreturn void leave_orphaned(int exit_code) {
  ptq_guard_end_stopped(getppid());
  leave(exit_code);
}

static void finalize_worker(MPI_Comm comm, ptq_dist_ending *e, int exit_code) {
  ptq_wire_report bye = {.head = ptq_wire_make_head(PTQ_WIRE_BYE, 0)};
  const int failed = exit_code != 0 ? exit_code : 1;
  if (e->coordinator_silent) {
    ptq_guard_end_stopped(getppid());
    fflush(NULL);
    ptq_finish_abort(comm,
                     failed); /* a stopped rank 0 would keep mpirun waiting */
  }
  if (e->coordinator_gone) tell_orphans(e);
  if (e->coordinator_lost ||
      ptq_wire_send(e->comm, 0, &bye, ptq_wire_report_size(&bye), e->patience_s,
                    NULL) != PTQ_OK)
    leave_orphaned(failed);
  /* Rank 0 hears all the others before it answers. */
  const double start = ptq_nap_clock();
  ptq_nap nap = {0};
  while (ptq_nap_clock() - start < 2.0 * e->patience_s) {
    word heard;
    int source;
    const bool any = hear(e, &heard, &source);
    if (any && source == 0 && heard.head.kind == PTQ_WIRE_LEAVE) {
      if (!heard.leave.by_exit) return;
      ptq_leftover_end(&heard.leave, false);
      leave(0); /* rank 0 gives the status */
    }
    if (any && heard.head.kind == PTQ_WIRE_ORPHAN) break;
    if (e->coordinator_watchable && ptq_peer_gone(&e->peers[0])) {
      tell_orphans(e);
      break;
    }
    ptq_nap_take(&nap);
  }
  leave_orphaned(failed);
}

void ptq_ending_free(ptq_dist_ending *e) {
  if (e == NULL) return;
  if (e->comm != MPI_COMM_NULL) MPI_Comm_free(&e->comm);
  ptq_free(e->ranks);
  ptq_free(e->peers);
  ptq_free(e);
}

int ptq_dist_finalize(MPI_Comm comm, ptq_dist_summary *summary, int exit_code) {
  ptq_dist_ending *e = summary->ending;
  double silence_s = PTQ_DIST_SILENCE_S;
  int size = 1, rank = -1;
  summary->ending = NULL;
  MPI_Comm_rank(comm, &rank);
  if (rank == 0) write_exit_file(exit_code);
  if (e != NULL) {
    silence_s = e->patience_s;
    if (e->rank == 0 && e->ranks != NULL)
      finalize_coordinator(comm, e, exit_code);
    else
      finalize_worker(comm, e, exit_code);
  }
  (void)MPI_Comm_size(comm, &size);
  if (size > 1) ptq_finish_begin(silence_s, exit_code);
  ptq_ending_free(e);
  MPI_Finalize();
  ptq_finish_end();
  return exit_code;
}
