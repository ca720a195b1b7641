/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "worker.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "signals.h"
#include "task.h"

#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/comm/nap.h"

/* How often a waiting worker looks whether rank 0 is there. */
static const double watch_s = 0.25;
/* Rank 0 is asked once more before it is given up. */
static const double last_chance_s = 1.0;

/** A task and its points. */
typedef struct order {
  ptq_task task;
  int64_t id;      /* 0: none */
  int64_t *points; /* owned; [task.n] */
  int64_t cap;
} order;

typedef struct worker {
  MPI_Comm comm;                   /* borrowed */
  const ptq_dist_ops *ops;         /* borrowed */
  const ptq_dist_options *options; /* borrowed */
  ptq_dist_ending *ending;         /* borrowed */
  int64_t *inbox;                  /* owned; the last message */
  int64_t inbox_cap;               /* in int64_t */
  ptq_wire_report report;          /* the message being sent */
  MPI_Request request;             /* of it */
  order now;                       /* what runs */
  order next;                      /* what was ordered since */
  int64_t cancelled_id;            /* tasks up to this one are dropped */
  bool stopped;
  bool lost; /* rank 0 is gone */
  double next_beat_s, next_watch_s;
  double unanswered_s;        /* first beat without an answer; 0: none */
  double last_alive_s, gap_s; /* between blocks of the task */
  int signals;                /* told to rank 0 */
  ptq_wire_report result;     /* waits for DONE; `result` 0: none */
  pid_t launcher;             /* parent process at the start */
} worker;

/** Rank 0 may be busy with a slow file system for as long as this. */
static double patience_s(const worker *w) {
  return fmax(w->options->silence_min_s, 3.0 * w->options->heartbeat_s);
}

static ptq_status watch_rank_0(worker *w, double now, ptq_err *err);

/** Waits until the message has left, but not for a rank 0 that is not there. */
static ptq_status send_report(worker *w, ptq_wire_kind kind, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_nap nap = {0};
  bool sent = false;
  w->report.head = ptq_wire_make_head(kind, w->now.id);
  PTQ_TRY(ptq_wire_post(w->comm, 0, &w->report,
                        ptq_wire_report_size(&w->report), &w->request, err));
  const double start = ptq_nap_clock();
  for (;;) {
    PTQ_TRY(ptq_wire_is_sent(&w->request, &sent, err));
    if (sent) return PTQ_OK;
    const double now = ptq_nap_clock();
    PTQ_TRY(watch_rank_0(w, now, err));
    if (now - start > patience_s(w))
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_PEER,
                       "rank 0 took no message for %.0f s; the same command "
                       "goes on with the run",
                       now - start));
    ptq_nap_take(&nap);
  }
done:
  w->lost = true;
  return rc;
}

static ptq_status send_beat(worker *w, double share, double now, ptq_err *err) {
  w->signals = ptq_signals_seen();
  w->report = (ptq_wire_report){.share = share, .signalled = w->signals > 0};
  w->next_beat_s = now + w->options->heartbeat_s;
  if (w->unanswered_s == 0.0) w->unanswered_s = now;
  return send_report(w, PTQ_WIRE_BEAT, err);
}

/** The latest order counts: rank 0 gives a rank one task at a time, so an
 * earlier one was taken away while this rank was thought lost. */
static ptq_status take_work(worker *w, int size, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_wire_work work;
  order *o = &w->next;
  memcpy(&work, w->inbox, sizeof work);
  const int64_t bytes = size - (int64_t)sizeof work;
  if (work.n < 0 || bytes != work.n * (int64_t)sizeof(int64_t))
    return PTQ_FAIL(err, PTQ_E_PEER, "work of %lld points in %d bytes",
                    (long long)work.n, size);
  if (work.n > o->cap) {
    PTQ_TRY(ptq_grow(&o->points, o->cap, work.n, sizeof *o->points,
                     "points of a batch", err));
    o->cap = work.n;
  }
  if (work.n > 0)
    memcpy(o->points, (const char *)w->inbox + sizeof work, (size_t)bytes);
  o->task = (ptq_task){.subject = work.subject,
                       .first = work.first,
                       .n = work.n,
                       .seconds = work.seconds};
  o->id = work.head.task_id;
done:
  return rc;
}

static ptq_status give_up_rank_0(worker *w, const char *how, ptq_err *err) {
  w->lost = true;
  return PTQ_FAIL(err, PTQ_E_PEER,
                  "rank 0 %s; the same command goes on with the run", how);
}

/** A word of another worker can only be that rank 0 has gone. Where a dead
 * rank keeps MPI from looking for anyone's, it tells of rank 0 itself. */
static ptq_status hear_others(worker *w, ptq_err *err) {
  ptq_wire_head head = {0};
  int source, size;
  char how[64];
  if (ptq_wire_probe(w->comm, MPI_ANY_SOURCE, &source, &size, NULL) != PTQ_OK ||
      source <= 0 || size != (int)sizeof head ||
      ptq_wire_receive(w->comm, source, &head, size, patience_s(w), NULL) !=
          PTQ_OK ||
      ptq_wire_check(&head, size, source, NULL) != PTQ_OK ||
      head.kind != PTQ_WIRE_ORPHAN)
    return PTQ_OK;
  (void)snprintf(how, sizeof how, "died, says rank %d", source);
  return give_up_rank_0(w, how, err);
}

/** Take one message; *there says whether there was one. */
static ptq_status hear(worker *w, bool *there, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_wire_head head;
  int source, size;
  *there = false;
  PTQ_TRY(ptq_wire_probe(w->comm, 0, &source, &size, err));
  if (source < 0) return PTQ_OK;
  const int64_t words = size / (int64_t)sizeof(int64_t) + 1;
  if (words > w->inbox_cap) {
    PTQ_TRY(ptq_grow(&w->inbox, w->inbox_cap, words, sizeof *w->inbox,
                     "message", err));
    w->inbox_cap = words;
  }
  PTQ_TRY(ptq_wire_receive(w->comm, 0, w->inbox, size, patience_s(w), err));
  memcpy(&head, w->inbox,
         (size_t)size < sizeof head ? (size_t)size : sizeof head);
  PTQ_TRY(ptq_wire_check(&head, size, 0, err));
  *there = true;
  switch (head.kind) {
    case PTQ_WIRE_WORK:
      PTQ_TRY(take_work(w, size, err));
      break;
    case PTQ_WIRE_CANCEL:
      if (head.task_id > w->cancelled_id) w->cancelled_id = head.task_id;
      break;
    case PTQ_WIRE_PONG:
      w->unanswered_s = 0.0;
      break;
    default:
      memcpy(&w->ending->stop, w->inbox, sizeof w->ending->stop);
      w->stopped = true;
  }
done:
  if (rc == PTQ_E_PEER) w->lost = true;
  return rc;
}

static ptq_status hear_all(worker *w, bool *any, ptq_err *err) {
  bool there = true;
  *any = false;
  while (there && !w->stopped) {
    const ptq_status rc = hear(w, &there, err);
    if (rc != PTQ_OK) return rc;
    if (there) *any = true;
  }
  return w->stopped ? PTQ_OK : hear_others(w, err);
}

/** Is rank 0 still there? */
static ptq_status watch_rank_0(worker *w, double now, ptq_err *err) {
  if (now < w->next_watch_s) return PTQ_OK;
  w->next_watch_s = now + watch_s;
  if (w->ending->coordinator_watchable && ptq_peer_gone(&w->ending->peers[0])) {
    w->ending->coordinator_gone = true;
    return give_up_rank_0(w, "died", err);
  }
  if (getppid() != w->launcher)
    return give_up_rank_0(w, "may live, but mpirun is gone", err);
  if (w->unanswered_s == 0.0 || now - w->unanswered_s < patience_s(w))
    return PTQ_OK;
  /* This process may have been the one that was stopped: the answer may
   * just have arrived. */
  ptq_nap nap = {0};
  while (ptq_nap_clock() - now < last_chance_s && !w->stopped) {
    bool any;
    const ptq_status rc = hear_all(w, &any, err);
    if (rc != PTQ_OK) return rc;
    if (w->unanswered_s == 0.0) return PTQ_OK;
    ptq_nap_take(&nap);
  }
  if (w->stopped) return PTQ_OK;
  w->ending->coordinator_silent = true;
  return give_up_rank_0(w, "fell silent", err);
}

/** What is to be done now and then, working or waiting. */
static ptq_status look_around(worker *w, double share, bool *any,
                              ptq_err *err) {
  const double now = ptq_nap_clock();
  ptq_status rc = hear_all(w, any, err);
  if (rc == PTQ_OK &&
      (now >= w->next_beat_s || ptq_signals_seen() > w->signals))
    rc = send_beat(w, share, now, err);
  if (rc == PTQ_OK) rc = watch_rank_0(w, now, err);
  return rc;
}

static ptq_status task_point(void *ctx, int64_t index, ptq_state state,
                             ptq_err *err) {
  worker *w = ctx;
  w->report = (ptq_wire_report){
      .result = PTQ_WIRE_POINT, .index = index, .state = (int32_t)state};
  if (w->now.task.n > 1) return send_report(w, PTQ_WIRE_POINT, err);
  w->result = w->report; /* one message the fewer */
  return PTQ_OK;
}

static ptq_status task_subject(void *ctx, ptq_state state, ptq_err *err) {
  worker *w = ctx;
  (void)err;
  w->result =
      (ptq_wire_report){.result = PTQ_WIRE_SUBJECT, .state = (int32_t)state};
  return PTQ_OK;
}

static ptq_status task_alive(void *ctx, double done, ptq_err *err) {
  worker *w = ctx;
  bool any;
  const double now = ptq_nap_clock();
  w->gap_s = fmax(w->gap_s, now - w->last_alive_s);
  w->last_alive_s = now;
  const ptq_status rc = look_around(w, done, &any, err);
  if (rc != PTQ_OK) return rc;
  if (w->now.id <= w->cancelled_id || w->next.id != 0 || w->stopped)
    return PTQ_FAIL(err, PTQ_E_STOPPED, "stopped");
  return PTQ_OK;
}

/** Do what was ordered and report its end. An error is rank 0's loss. */
static ptq_status do_task(worker *w, ptq_err *err) {
  const ptq_task_listener listener = {.ctx = w,
                                      .point = task_point,
                                      .subject = task_subject,
                                      .alive = task_alive};
  ptq_task_end end;
  ptq_err own = {0};
  const order spare = w->now;
  const ptq_team *team =
      w->options->teams != NULL ? w->options->teams->team : NULL;
  w->now = w->next;
  w->next = spare;
  w->next.id = 0;
  w->last_alive_s = ptq_nap_clock();
  w->gap_s = 0.0;
  w->result.result = 0;
  ptq_task_run(w->ops, &w->now.task, w->now.points, &listener, &end, &own);
  if (w->lost) return PTQ_FAIL(err, own.code, "%s", own.msg);
  w->gap_s = fmax(w->gap_s, ptq_nap_clock() - w->last_alive_s);
  w->report = (ptq_wire_report){.result = w->result.result,
                                .index = w->result.index,
                                .state = w->result.state,
                                .status = (int32_t)end.status,
                                .sink_failed = end.sink_failed,
                                .seconds = end.seconds,
                                .gap_s = w->gap_s,
                                .team_broken = ptq_team_broken(team)};
  if (end.status != PTQ_OK)
    ptq_text_copy(w->report.text, sizeof w->report.text, end.text);
  const ptq_status rc = send_report(w, PTQ_WIRE_DONE, err);
  w->now.id = 0;
  return rc;
}

static ptq_status say_hello(worker *w, ptq_err *err) {
  w->report = (ptq_wire_report){0};
  w->unanswered_s = ptq_nap_clock();
  w->next_beat_s = w->unanswered_s + w->options->heartbeat_s;
  return send_report(w, PTQ_WIRE_HELLO, err);
}

static ptq_status loop(worker *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_nap nap = {0};
  PTQ_TRY(say_hello(w, err));
  while (!w->stopped) {
    bool any = false;
    PTQ_TRY(look_around(w, 0.0, &any, err));
    if (w->next.id != 0 && !w->stopped) {
      PTQ_TRY(do_task(w, err));
      any = true;
    }
    if (any)
      ptq_nap_reset(&nap);
    else
      ptq_nap_take(&nap);
  }
done:
  return rc;
}

static void read_summary(const ptq_wire_stop *stop, ptq_dist_summary *out) {
  out->points_done = stop->points_done;
  out->points_failed = stop->points_failed;
  out->items_done = stop->items_done;
  out->ranks_lost = stop->ranks_lost;
  out->subjects_failed = stop->subjects_failed;
  out->seconds = stop->seconds;
  out->stopped = stop->stopped != 0;
}

ptq_status ptq_worker_run(MPI_Comm comm, const ptq_dist_ops *ops,
                          const ptq_dist_options *options,
                          ptq_dist_summary *out, ptq_dist_ending *ending,
                          ptq_err *err) {
  worker w = {.comm = comm,
              .ops = ops,
              .options = options,
              .ending = ending,
              .request = MPI_REQUEST_NULL,
              .launcher = getppid()};
  ptq_status rc = loop(&w, err);
  if (w.stopped) {
    read_summary(&ending->stop, out);
    ending->stop.text[sizeof ending->stop.text - 1] = '\0';
    rc = (ptq_status)ending->stop.status;
    if (rc != PTQ_OK) (void)PTQ_FAIL(err, rc, "%s", ending->stop.text);
  } else {
    /* Rank 0 is gone, or this rank cannot go on without it noticing. */
    ending->coordinator_lost = true;
    out->ranks_lost = 1;
  }
  if (!w.lost) ptq_free(w.inbox); /* else a message may still arrive there */
  ptq_free(w.now.points);
  ptq_free(w.next.points);
  return rc;
}
