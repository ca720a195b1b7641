/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "coordinator.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "board.h"
#include "progress.h"
#include "roster.h"
#include "signals.h"

#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/comm/nap.h"

/* How often things that need no message are looked at. */
static const double tick_s = 0.02, watch_s = 0.25;
/* A longer time between two ticks means that this process was stopped. */
static const double suspended_s = 3.0;

typedef struct coordinator {
  MPI_Comm comm;                   /* borrowed */
  const ptq_dist_options *options; /* borrowed */
  ptq_board board;
  ptq_roster roster;
  ptq_progress progress;
  double start_s, deadline_s; /* of the clock; deadline or infinity */
  double cancel_at_s;         /* drop what runs; infinity: never */
  double last_tick_s, next_watch_s;
  int signals;    /* seen so far */
  bool stopping;  /* nothing is handed out any more */
  pid_t launcher; /* parent process at the start */
} coordinator;

static void fail(coordinator *c, const ptq_err *err) {
  ptq_board_fail(&c->board, err->code, err->msg);
}

static void show_progress(coordinator *c, double now, bool last) {
  const ptq_board *b = &c->board;
  const double correction = ptq_board_correction(b);
  double left = b->queue.seconds_waiting * correction;
  for (int i = 1; i < c->roster.size; i++) {
    const ptq_rank *rank = &c->roster.ranks[i];
    if (rank->state == PTQ_RANK_BUSY && rank->has_task)
      left += fmax(
          0.0, rank->task.seconds * correction - (now - rank->task_start_s));
  }
  const ptq_progress_state state = {.points = b->plan->n_order,
                                    .points_done = b->points_done,
                                    .points_failed = b->points_failed,
                                    .items = b->plan->n_items,
                                    .items_done = b->items_done,
                                    .items_failed = b->subjects_failed,
                                    .ranks = c->roster.n_live,
                                    .left_s = left};
  if (last)
    ptq_progress_end(&c->progress, &state, now);
  else
    ptq_progress_show(&c->progress, &state, now);
}

/** Give an idle team its next task, if there is one that can finish. */
static void assign(coordinator *c, int rank, double now) {
  ptq_task task;
  ptq_err err = {0};
  if (c->stopping || c->board.fatal.code != PTQ_OK) return;
  if (!ptq_board_next(&c->board, c->deadline_s - now, &task)) return;
  if (ptq_roster_give(&c->roster, rank, &task,
                      c->board.plan->order + task.first, now, &err) != PTQ_OK)
    fail(c, &err);
}

static void assign_idle(coordinator *c, double now) {
  for (int i = 1; i < c->roster.size && c->board.queue.n_waiting > 0; i++)
    if (ptq_roster_is_free(&c->roster, i)) assign(c, i, now);
}

static void describe(const coordinator *c, int rank, char text[96]) {
  char host[64];
  ptq_text_copy(host, sizeof host, c->roster.peers[rank].host);
  host[strcspn(host, " ")] = '\0';
  snprintf(text, 96, "rank %d%s%s%s", rank, host[0] == '\0' ? "" : " (", host,
           host[0] == '\0' ? "" : ")");
}

static void watch_ranks(coordinator *c, double now);

static void ask_to_stop(coordinator *c, double now, const char *why,
                        double grace_s) {
  c->cancel_at_s = fmin(c->cancel_at_s, now + grace_s);
  if (c->stopping) return;
  c->stopping = true;
  /* Without --enable-recovery a rank that died is why mpirun stops the others:
   * who is gone by now died of its work, who goes from now on of the stop. */
  watch_ranks(c, now);
  c->board.excused = true;
  ptq_progress_clear(&c->progress);
  ptq_board_log(&c->board, "stopping: %s; the same command goes on", why);
}

/** A rank has gone, and with it the team: what it did waits again. */
static void break_team(coordinator *c, int rank, const char *text) {
  const int leader = ptq_roster_leader(&c->roster, rank);
  const ptq_task task = c->roster.ranks[leader].task;
  const bool has_task = leader > 0 && c->roster.ranks[leader].has_task;
  ptq_progress_clear(&c->progress);
  ptq_roster_dismiss(&c->roster, rank);
  c->roster.ranks[leader].has_task = false;
  if (has_task)
    ptq_board_vanished(&c->board, &task, text);
  else
    ptq_board_log(&c->board, "%s", text);
}

static void end_task(coordinator *c, int rank, const ptq_wire_report *r) {
  ptq_rank *it = &c->roster.ranks[rank];
  if (it->state != PTQ_RANK_BUSY || it->task_id != r->head.task_id)
    return; /* an older task, which was taken away from it */
  if (r->team_broken) watch_ranks(c, ptq_nap_clock()); /* who was it? */
  if (r->team_broken && it->has_task) {
    char who[96], text[160];
    describe(c, rank, who);
    snprintf(text, sizeof text, "%s lost a rank of its team", who);
    break_team(c, rank, text);
  }
  if (it->has_task) {
    char who[96], text[PTQ_WIRE_TEXT_MAX + 100];
    describe(c, rank, who);
    snprintf(text, sizeof text, "%s: %s", who, r->text);
    const ptq_task_end end = {.status = (ptq_status)r->status,
                              .sink_failed = r->sink_failed != 0,
                              .seconds = r->seconds,
                              .text = r->sink_failed ? text : r->text};
    if (end.status != PTQ_OK) ptq_progress_clear(&c->progress);
    ptq_board_end(&c->board, &it->task, &end);
    ptq_roster_learn(&c->roster, r->seconds, r->gap_s);
  }
  ptq_roster_idle(&c->roster, rank);
}

static void handle(coordinator *c, int rank, const ptq_wire_report *r,
                   double now) {
  ptq_err err = {0};
  ptq_rank *it = &c->roster.ranks[rank];
  if (!it->gone && ptq_roster_heard(&c->roster, rank, r->head.task_id, now)) {
    ptq_progress_clear(&c->progress);
    ptq_board_log(&c->board, "rank %d is back", rank);
  }
  switch (r->head.kind) {
    case PTQ_WIRE_HELLO:
      if (it->state == PTQ_RANK_NEW) it->state = PTQ_RANK_IDLE;
      break;
    case PTQ_WIRE_POINT:
      ptq_board_point(&c->board, r->index, (ptq_state)r->state);
      break;
    case PTQ_WIRE_SUBJECT:
      if (it->has_task && it->task_id == r->head.task_id)
        ptq_board_subject(&c->board, (ptq_state)r->state);
      break;
    case PTQ_WIRE_DONE:
      if (r->result == PTQ_WIRE_POINT)
        ptq_board_point(&c->board, r->index, (ptq_state)r->state);
      if (r->result == PTQ_WIRE_SUBJECT && it->has_task &&
          it->task_id == r->head.task_id)
        ptq_board_subject(&c->board, (ptq_state)r->state);
      end_task(c, rank, r);
      break;
    default: /* a beat */
      if (r->signalled) ask_to_stop(c, now, "signal", c->options->grace_s);
  }
  if (it->gone) return;
  if ((r->head.kind == PTQ_WIRE_HELLO || r->head.kind == PTQ_WIRE_BEAT) &&
      ptq_roster_pong(&c->roster, rank, &err) != PTQ_OK)
    fail(c, &err);
  const int leader = ptq_roster_leader(&c->roster, rank);
  if (ptq_roster_is_free(&c->roster, leader)) assign(c, leader, now);
}

/** Take one message of `from` (or of anyone); false if there is none. A
 * transport that reports its peer's death gives that rank up. */
static bool hear(coordinator *c, int from, ptq_err *err) {
  ptq_wire_report report;
  int source, size;
  if (ptq_wire_probe(c->comm, from, &source, &size, err) != PTQ_OK ||
      source < 0)
    return false;
  if (source < 1 || size > (int)sizeof report) {
    fail(c, &(ptq_err){.code = PTQ_E_PEER, .msg = "oversized message"});
    return false;
  }
  memset(&report, 0, sizeof report);
  if (ptq_wire_receive(c->comm, source, &report, size,
                       c->options->silence_min_s, err) != PTQ_OK)
    return false;
  if (ptq_wire_check(&report.head, size, source, err) != PTQ_OK) {
    fail(c, err);
    return false;
  }
  report.text[sizeof report.text - 1] = '\0';
  handle(c, source, &report, ptq_nap_clock());
  return true;
}

/** Give a rank up that is silent, or whose process has ended (gone). */
static void lose(coordinator *c, int rank, const char *how, double now) {
  char who[96], text[200];
  ptq_err err = {0};
  ptq_rank *it = &c->roster.ranks[rank];
  /* Last words first: they may be that a point is finished. */
  for (int i = 1; i < c->roster.size; i++)
    while ((i == rank || ptq_roster_mates(&c->roster, i, rank)) &&
           hear(c, i, &err)) {
    }
  if (it->state == PTQ_RANK_LOST) return; /* they were about this */
  if (!it->gone && ptq_nap_clock() - it->heard_s < tick_s) return;
  describe(c, rank, who);
  snprintf(text, sizeof text, "%s %s", who, how);
  break_team(c, rank, text);
  ptq_roster_lose(&c->roster, rank);
  assign_idle(c, now);
}

/** Take what messages there are, a bounded number at a time. */
static bool hear_all(coordinator *c) {
  ptq_err err = {0};
  bool heard = false;
  for (int i = 0; i < 256 && hear(c, MPI_ANY_SOURCE, &err); i++) heard = true;
  if (err.code == PTQ_OK || c->board.fatal.code != PTQ_OK) return heard;
  /* Something is wrong with a peer: find out with which. */
  for (int i = 1; i < c->roster.size; i++) {
    ptq_err own = {0};
    if (c->roster.ranks[i].state == PTQ_RANK_LOST) continue;
    while (hear(c, i, &own)) heard = true;
    if (own.code != PTQ_OK) lose(c, i, own.msg, ptq_nap_clock());
  }
  return heard;
}

static void watch_ranks(coordinator *c, double now) {
  const double correction = ptq_board_correction(&c->board);
  for (int i = 1; i < c->roster.size; i++) {
    ptq_rank *it = &c->roster.ranks[i];
    if (it->watchable && !it->gone && ptq_peer_gone(&c->roster.peers[i])) {
      it->gone = true; /* its last words get it no more work */
      if (it->state != PTQ_RANK_LOST) lose(c, i, "died", now);
      continue; /* one that was lost had been stopped, and was killed */
    }
    if (it->state == PTQ_RANK_LOST) continue;
    const double silent = now - it->heard_s;
    if (silent > ptq_roster_limit(&c->roster, i, correction)) {
      char how[64];
      snprintf(how, sizeof how, "has been silent for %.0f s", silent);
      lose(c, i, how, now);
    }
  }
  if (getppid() != c->launcher)
    ptq_board_fail(&c->board, PTQ_E_PEER,
                   "mpirun is gone; the same command goes on with the run");
}

/** Nothing runs, something waits, someone is there, and yet: the shortest
 * that waits does not fit into the time that is left. */
static bool nothing_fits(const coordinator *c, double now) {
  if (c->roster.n_busy > 0 || c->board.queue.n_waiting == 0 ||
      ptq_roster_teams(&c->roster) == 0)
    return false;
  for (int i = 1; i < c->roster.size; i++)
    if (c->roster.ranks[i].state == PTQ_RANK_NEW) return false;
  return ptq_queue_shortest(&c->board.queue) * ptq_board_correction(&c->board) >
         c->deadline_s - now;
}

static void watch_stops(coordinator *c, double now) {
  ptq_err err = {0};
  const int signals = ptq_signals_seen();
  if (signals > c->signals) {
    ask_to_stop(c, now, "signal",
                c->signals == 0 && signals == 1 ? c->options->grace_s : 0.0);
    c->signals = signals;
  }
  if (now >= c->deadline_s) ask_to_stop(c, now, "time limit", 0.0);
  if (!c->stopping && nothing_fits(c, now))
    ask_to_stop(c, now, "nothing more fits into the time limit", 0.0);
  if (c->board.fatal.code != PTQ_OK) {
    c->stopping = true;
    c->cancel_at_s = now;
  }
  if (now < c->cancel_at_s) return;
  for (int i = 1; i < c->roster.size; i++)
    if (ptq_roster_cancel(&c->roster, i, &err) != PTQ_OK) fail(c, &err);
}

/** Nobody is left to say it: the failure of other ranks is theirs to tell. */
static void tell_and_fail(coordinator *c, const char *text) {
  if (c->board.fatal.code == PTQ_OK) ptq_log(PTQ_LOG_ERROR, "%s", text);
  ptq_board_fail(&c->board, PTQ_E_PEER, text);
}

static void tick(coordinator *c, double now) {
  if (now - c->last_tick_s < tick_s) return;
  if (now - c->last_tick_s > suspended_s)
    ptq_roster_excuse(&c->roster, now - c->last_tick_s);
  c->last_tick_s = now;
  if (now >= c->next_watch_s) {
    watch_ranks(c, now);
    c->next_watch_s = now + watch_s;
  }
  watch_stops(c, now);
  if (c->board.queue.n_waiting > 0) assign_idle(c, now);
  if (ptq_roster_teams(&c->roster) == 0 && c->board.queue.n_waiting > 0 &&
      !c->stopping)
    tell_and_fail(c, c->roster.leader != NULL && c->options->teams->size > 1
                         ? "every team has lost a rank; the same command goes "
                           "on with the run"
                         : "every working rank vanished; the same command goes "
                           "on with the run");
  if (ptq_progress_due(&c->progress, now)) show_progress(c, now, false);
}

static bool is_over(const coordinator *c) {
  return c->roster.n_busy == 0 &&
         (c->board.queue.n_waiting == 0 || c->stopping ||
          c->board.fatal.code != PTQ_OK);
}

static void loop(coordinator *c) {
  ptq_nap nap = {0};
  for (;;) {
    const bool heard = hear_all(c);
    const double now = ptq_nap_clock();
    tick(c, now);
    if (is_over(c)) return;
    if (heard)
      ptq_nap_reset(&nap);
    else
      ptq_nap_take(&nap);
  }
}

/** Tell every rank that is there how the run went. */
static void send_stop(coordinator *c, const ptq_dist_summary *out,
                      ptq_dist_ending *e) {
  const ptq_err *fatal = &c->board.fatal;
  e->stop = (ptq_wire_stop){.head = ptq_wire_make_head(PTQ_WIRE_STOP, 0),
                            .points_done = out->points_done,
                            .points_failed = out->points_failed,
                            .items_done = out->items_done,
                            .ranks_lost = out->ranks_lost,
                            .subjects_failed = out->subjects_failed,
                            .seconds = out->seconds,
                            .stopped = out->stopped,
                            .status = (int32_t)fatal->code};
  ptq_text_copy(e->stop.text, sizeof e->stop.text, fatal->msg);
  const ptq_rank unheard = {.state = PTQ_RANK_NEW};
  for (int i = 1; i < e->size; i++) {
    const ptq_rank *from =
        c->roster.ranks != NULL ? &c->roster.ranks[i] : &unheard;
    ptq_ending_rank *to = &e->ranks[i];
    *to = (ptq_ending_rank){.lost = from->state == PTQ_RANK_LOST,
                            .gone = from->gone,
                            .watchable = from->watchable,
                            .heard = from->state != PTQ_RANK_NEW,
                            .request = MPI_REQUEST_NULL};
    if (!to->lost && ptq_wire_post(c->comm, i, &e->stop, (int)sizeof e->stop,
                                   &to->request, NULL) != PTQ_OK)
      to->lost = true;
  }
}

ptq_status ptq_coordinator_run(MPI_Comm comm, const ptq_plan *plan,
                               const ptq_dist_ops *ops,
                               const ptq_dist_options *options,
                               ptq_dist_summary *out, ptq_dist_ending *ending,
                               ptq_err *err) {
  static const ptq_plan nothing;
  ptq_status rc = PTQ_OK;
  const double now = ptq_nap_clock();
  coordinator c = {.comm = comm,
                   .options = options,
                   .start_s = now,
                   .deadline_s = options->time_limit_s > 0.0
                                     ? now + options->time_limit_s
                                     : INFINITY,
                   .cancel_at_s = INFINITY,
                   .last_tick_s = now,
                   .next_watch_s = now,
                   .launcher = getppid()};
  ptq_progress_init(&c.progress, options->progress, now);
  rc = ptq_roster_init(&c.roster, comm, ending->peers, options, now, err);
  if (rc == PTQ_OK) rc = ptq_board_init(&c.board, plan, ops, options, err);
  if (rc != PTQ_OK) { /* the workers must hear of it */
    (void)ptq_board_init(&c.board, &nothing, ops, options, NULL);
    ptq_board_fail(&c.board, rc, err->msg);
  } else {
    loop(&c);
    show_progress(&c, ptq_nap_clock(), true);
  }
  ptq_board_summary(&c.board, out);
  out->ranks_lost = ending->size - 1 - c.roster.n_live;
  out->seconds = ptq_nap_clock() - c.start_s;
  send_stop(&c, out, ending);
  rc = c.board.fatal.code;
  if (rc != PTQ_OK) (void)PTQ_FAIL(err, rc, "%s", c.board.fatal.msg);
  ptq_board_release(&c.board);
  ptq_roster_release(&c.roster);
  return rc;
}
