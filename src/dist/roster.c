/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "roster.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"

/* Shorter tasks say nothing about the rhythm of long ones. */
static const double telling_s = 1.0;

ptq_status ptq_roster_init(ptq_roster *r, MPI_Comm comm, const ptq_peer *peers,
                           const ptq_dist_options *options, double now_s,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *r = (ptq_roster){
      .comm = comm,
      .peers = peers,
      .leader = options->teams != NULL ? options->teams->leader : NULL,
      .heartbeat_s = options->heartbeat_s,
      .silence_factor = options->silence_factor,
      .silence_min_s = options->silence_min_s,
      .gap_share = 1.0};
  MPI_Comm_size(comm, &r->size);
  r->n_live = r->size - 1;
  r->pong = ptq_wire_make_head(PTQ_WIRE_PONG, 0);
  PTQ_TRY(ptq_alloc(&r->ranks, r->size, sizeof *r->ranks, "ranks", err));
  for (int i = 0; i < r->size; i++)
    r->ranks[i] =
        (ptq_rank){.state = PTQ_RANK_NEW,
                   .watchable = ptq_peer_watchable(&peers[0], &peers[i]),
                   .heard_s = now_s,
                   .work_request = MPI_REQUEST_NULL,
                   .cancel_request = MPI_REQUEST_NULL,
                   .pong_request = MPI_REQUEST_NULL};
done:
  return rc;
}

/** Has a message left its buffer? */
static bool is_sent(MPI_Request *request) {
  int done = 0;
  if (*request == MPI_REQUEST_NULL) return true;
  return MPI_Test(request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done;
}

void ptq_roster_release(ptq_roster *r) {
  bool quiet = true;
  for (int i = 1; r->ranks != NULL && i < r->size; i++) {
    ptq_rank *rank = &r->ranks[i];
    const bool sent = is_sent(&rank->work_request);
    quiet = quiet && sent && is_sent(&rank->cancel_request) &&
            is_sent(&rank->pong_request);
    if (sent) ptq_free(rank->work);
  }
  /* What is still on its way to a rank that is not there keeps its bytes. */
  if (quiet) ptq_free(r->ranks);
  r->ranks = NULL;
}

static ptq_status make_room(ptq_rank *rank, int64_t want, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (!is_sent(&rank->work_request)) {
    /* An old message to a rank that was given up and came back: leave it. */
    rank->work = NULL;
    rank->work_cap = 0;
    rank->work_request = MPI_REQUEST_NULL;
  }
  if (want <= rank->work_cap) return PTQ_OK;
  PTQ_TRY(ptq_grow(&rank->work, rank->work_cap, want, sizeof *rank->work,
                   "message", err));
  rank->work_cap = want;
done:
  return rc;
}

int ptq_roster_leader(const ptq_roster *r, int rank) {
  return r->leader != NULL ? r->leader[rank] : rank;
}

bool ptq_roster_mates(const ptq_roster *r, int a, int b) {
  const int leader = ptq_roster_leader(r, a);
  return leader > 0 && leader == ptq_roster_leader(r, b);
}

bool ptq_roster_is_free(const ptq_roster *r, int rank) {
  if (rank < 1 || ptq_roster_leader(r, rank) != rank) return false;
  for (int i = rank; i < r->size; i++)
    if (ptq_roster_leader(r, i) == rank &&
        (r->ranks[i].state != PTQ_RANK_IDLE || r->ranks[i].dismissed ||
         r->ranks[i].gone))
      return false;
  return true;
}

int64_t ptq_roster_teams(const ptq_roster *r) {
  int64_t n = 0;
  for (int i = 1; i < r->size; i++)
    n += ptq_roster_leader(r, i) == i && !r->ranks[i].dismissed &&
         r->ranks[i].state != PTQ_RANK_LOST;
  return n;
}

void ptq_roster_dismiss(ptq_roster *r, int rank) {
  for (int i = 1; i < r->size; i++)
    if (i != rank && ptq_roster_mates(r, i, rank))
      r->ranks[i].dismissed = r->ranks[rank].dismissed = true;
}

/* A rank that was silent is back: where the others of its team are there, they
 * go on together. */
static void reunite(ptq_roster *r, int rank) {
  for (int i = 1; i < r->size; i++)
    if (ptq_roster_mates(r, i, rank) && r->ranks[i].state == PTQ_RANK_LOST)
      return;
  for (int i = 1; i < r->size; i++)
    if (ptq_roster_mates(r, i, rank)) r->ranks[i].dismissed = false;
}

/* To one rank of a team; the task is its leader's. */
static ptq_status give_one(ptq_roster *r, int rank, const ptq_wire_work *work,
                           const ptq_task *task, const int64_t *points,
                           bool leads, double now_s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_rank *to = &r->ranks[rank];
  const size_t points_size = (size_t)task->n * sizeof *points;
  _Static_assert(sizeof *work % sizeof(int64_t) == 0, "points follow aligned");
  to->task = *task;
  to->has_task = leads;
  to->cancelled = false;
  to->task_id = work->head.task_id;
  to->heard_s = to->task_start_s = now_s;
  to->longest_s = 0.0;
  to->state = PTQ_RANK_BUSY;
  r->n_busy++;
  PTQ_TRY(
      make_room(to, (int64_t)(sizeof *work / sizeof(int64_t)) + task->n, err));
  memcpy(to->work, work, sizeof *work);
  if (task->n > 0) memcpy((char *)to->work + sizeof *work, points, points_size);
  for (int i = 0; i < 2; i++) { /* once more if it does not leave */
    rc = ptq_wire_post(r->comm, rank, to->work,
                       (int)(sizeof *work + points_size), &to->work_request,
                       err);
    if (rc == PTQ_OK) break;
  }
done:
  if (rc != PTQ_OK) ptq_roster_idle(r, rank); /* it knows of no task */
  return rc;
}

ptq_status ptq_roster_give(ptq_roster *r, int rank, const ptq_task *task,
                           const int64_t *points, double now_s, ptq_err *err) {
  const ptq_wire_work work = {
      .head = ptq_wire_make_head(PTQ_WIRE_WORK, ++r->last_task_id),
      .subject = task->subject,
      .first = task->first,
      .n = task->n,
      .seconds = task->seconds};
  ptq_status rc = PTQ_OK;
  for (int i = rank; i < r->size && rc == PTQ_OK; i++)
    if (ptq_roster_leader(r, i) == rank)
      rc = give_one(r, i, &work, task, points, i == rank, now_s, err);
  return rc;
}

void ptq_roster_idle(ptq_roster *r, int rank) {
  ptq_rank *it = &r->ranks[rank];
  if (it->state == PTQ_RANK_BUSY) r->n_busy--;
  it->state = PTQ_RANK_IDLE;
  it->has_task = false;
  it->task_id = 0;
}

ptq_status ptq_roster_cancel(ptq_roster *r, int rank, ptq_err *err) {
  ptq_rank *to = &r->ranks[rank];
  if (to->state != PTQ_RANK_BUSY || to->cancelled ||
      !is_sent(&to->cancel_request))
    return PTQ_OK;
  to->cancelled = true;
  to->cancel = ptq_wire_make_head(PTQ_WIRE_CANCEL, to->task_id);
  return ptq_wire_post(r->comm, rank, &to->cancel, (int)sizeof to->cancel,
                       &to->cancel_request, err);
}

ptq_status ptq_roster_pong(ptq_roster *r, int rank, ptq_err *err) {
  ptq_rank *to = &r->ranks[rank];
  if (!is_sent(&to->pong_request)) return PTQ_OK; /* one is on its way */
  return ptq_wire_post(r->comm, rank, &r->pong, (int)sizeof r->pong,
                       &to->pong_request, err);
}

bool ptq_roster_heard(ptq_roster *r, int rank, int64_t task_id, double now_s) {
  ptq_rank *it = &r->ranks[rank];
  const bool back = it->state == PTQ_RANK_LOST;
  if (back) {
    it->state = task_id != 0 ? PTQ_RANK_BUSY : PTQ_RANK_IDLE;
    it->task_id = task_id;
    it->task_start_s = now_s;
    it->longest_s = 0.0;
    it->cancelled = false;
    r->n_live++;
    if (it->state == PTQ_RANK_BUSY) r->n_busy++;
    reunite(r, rank);
  } else if (now_s - it->heard_s > it->longest_s) {
    it->longest_s = now_s - it->heard_s;
  }
  it->heard_s = now_s;
  return back;
}

void ptq_roster_learn(ptq_roster *r, double seconds_s, double gap_s) {
  if (!(seconds_s >= telling_s)) return;
  const double share = fmin(1.0, gap_s / seconds_s);
  r->gap_share = r->gap_seen ? fmax(r->gap_share, share) : share;
  r->gap_seen = true;
}

void ptq_roster_lose(ptq_roster *r, int rank) {
  ptq_rank *it = &r->ranks[rank];
  if (it->state == PTQ_RANK_LOST) return;
  if (it->state == PTQ_RANK_BUSY) r->n_busy--;
  r->n_live--;
  it->state = PTQ_RANK_LOST;
  it->has_task = false;
}

double ptq_roster_limit(const ptq_roster *r, int rank, double correction) {
  const ptq_rank *it = &r->ranks[rank];
  const int leader = ptq_roster_leader(r, rank);
  double rhythm_s = r->heartbeat_s;
  if (it->state == PTQ_RANK_BUSY) {
    rhythm_s = fmax(rhythm_s, it->longest_s);
    if (leader > 0 && r->ranks[leader].has_task)
      rhythm_s = fmax(rhythm_s, r->gap_share * it->task.seconds * correction);
  }
  return fmax(r->silence_min_s, r->silence_factor * rhythm_s);
}

void ptq_roster_excuse(ptq_roster *r, double seconds) {
  for (int i = 1; i < r->size; i++) {
    r->ranks[i].heard_s += seconds;
    r->ranks[i].task_start_s += seconds;
  }
}
