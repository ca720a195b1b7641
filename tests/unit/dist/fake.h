/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file fake.h
 * Fake work for the scheduler's tests: items that sleep, fail, kill their
 * rank, and write down what they did.
 */
#ifndef PTQ_TESTS_DIST_FAKE_H
#define PTQ_TESTS_DIST_FAKE_H

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/mem.h"
#include "ptq/dist/run.h"

enum { FAKE_MAX = 4096, FAKE_NONE = -1 };

/** A sweep of items that only take time. */
typedef struct fake {
  ptq_plan plan;
  double block_s; /* sleep between two calls of alive() */
  int blocks;     /* an item */
  /* Rows of points (FAKE_NONE: no such point). */
  int64_t fails, unreadable, sink_refuses, kills, nomem;
  int64_t bad_subject; /* its own item cannot run */
  int raise_at;        /* SIGUSR1 to itself at this item of the rank; 0: no */
  /* What this rank did. */
  int n_items;
  double seconds[FAKE_MAX]; /* predicted, in the order of running */
  int done[FAKE_MAX];       /* times a point reached the sink */
  int subjects_done[FAKE_MAX];
  int given_up[FAKE_MAX], subjects_given_up;
  char why[480];
  FILE *out; /* one line a result; NULL: none */
} fake;

static void fake_sleep(double seconds) {
  const double whole = floor(seconds);
  struct timespec t = {.tv_sec = (time_t)whole,
                       .tv_nsec = (long)(1e9 * (seconds - whole))};
  while (nanosleep(&t, &t) != 0 && errno == EINTR) {
  }
}

static int fake_has(const int64_t *points, int64_t n, int64_t point) {
  for (int64_t i = 0; i < n; i++)
    if (points[i] == point) return 1;
  return 0;
}

static double fake_seconds_of(const fake *f, int64_t subject,
                              const int64_t *points, int64_t n) {
  for (int64_t i = 0; i < f->plan.n_items; i++) {
    const ptq_item *item = &f->plan.items[i];
    if (n == 0 ? item->n == 0 && item->subject == subject
               : fake_has(f->plan.order + item->first, item->n, points[0]))
      return item->seconds;
  }
  return -1.0;
}

static ptq_status fake_work(void *ctx, int64_t subject, const int64_t *points,
                            int64_t n, const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  fake *f = ctx;
  if (f->n_items < FAKE_MAX)
    f->seconds[f->n_items] = fake_seconds_of(f, subject, points, n);
  if (++f->n_items == f->raise_at) raise(SIGUSR1);
  PTQ_TRY(sink->begin(sink->ctx, points, n, err));
  if (n > 1 && fake_has(points, n, f->nomem))
    return PTQ_FAIL(err, PTQ_E_NOMEM, "too wide");
  if (fake_has(points, n, f->unreadable))
    return PTQ_FAIL(err, PTQ_E_FORMAT, "weights are torn");
  if (n == 0 && subject == f->bad_subject)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "no text");
  for (int b = 0; b < f->blocks; b++) {
    fake_sleep(f->block_s);
    PTQ_TRY(sink->alive(sink->ctx, (double)b / f->blocks, err));
  }
  if (fake_has(points, n, f->kills)) raise(SIGKILL);
  for (int64_t i = 0; i < n; i++) {
    ptq_point_result r;
    memset(&r, 0, sizeof r);
    r.point = points[i];
    r.state = points[i] == f->fails ? PTQ_STATE_FAILED : PTQ_STATE_DONE;
    PTQ_TRY(sink->point(sink->ctx, &r, err));
  }
  if (n == 0) {
    ptq_subject_result r;
    memset(&r, 0, sizeof r);
    r.subject = subject;
    r.state = PTQ_STATE_DONE;
    PTQ_TRY(sink->subject(sink->ctx, &r, err));
  }
done:
  return rc;
}

static ptq_status fake_sink_point(void *ctx, const ptq_point_result *r,
                                  ptq_err *err) {
  fake *f = ctx;
  if (r->point == f->sink_refuses)
    return PTQ_FAIL(err, PTQ_E_IO, "store 'x.h5': no space left");
  f->done[r->point]++;
  if (f->out != NULL) {
    fprintf(f->out, "point %lld\n", (long long)r->point);
    fflush(f->out);
  }
  return PTQ_OK;
}

static ptq_status fake_sink_subject(void *ctx, const ptq_subject_result *r,
                                    ptq_err *err) {
  fake *f = ctx;
  (void)err;
  f->subjects_done[r->subject]++;
  if (f->out != NULL) {
    fprintf(f->out, "subject %lld\n", (long long)r->subject);
    fflush(f->out);
  }
  return PTQ_OK;
}

static ptq_status fake_give_up(void *ctx, int64_t point, const char *why,
                               ptq_err *err) {
  fake *f = ctx;
  (void)err;
  f->given_up[point]++;
  snprintf(f->why, sizeof f->why, "%s", why);
  if (f->out != NULL) {
    fprintf(f->out, "given-up %lld\n", (long long)point);
    fflush(f->out);
  }
  return PTQ_OK;
}

static ptq_status fake_give_up_subject(void *ctx, int64_t subject,
                                       const char *why, ptq_err *err) {
  fake *f = ctx;
  (void)subject;
  (void)err;
  f->subjects_given_up++;
  snprintf(f->why, sizeof f->why, "%s", why);
  return PTQ_OK;
}

static ptq_dist_ops fake_ops(fake *f) {
  const ptq_sink sink = {
      .ctx = f, .point = fake_sink_point, .subject = fake_sink_subject};
  return (ptq_dist_ops){.ctx = f,
                        .work = fake_work,
                        .sink = sink,
                        .give_up = fake_give_up,
                        .give_up_subject = fake_give_up_subject};
}

/**
 * `n_batches` batches of `width` points and `n_subjects` items of subjects,
 * the longest taking `longest_s` predicted seconds, the others evenly less.
 * The points' rows run backwards, so that places and rows differ.
 */
static ptq_status fake_init(fake *f, int64_t n_batches, int64_t width,
                            int64_t n_subjects, double longest_s,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  memset(f, 0, sizeof *f);
  f->fails = f->unreadable = f->sink_refuses = f->kills = f->nomem = FAKE_NONE;
  f->bad_subject = FAKE_NONE;
  ptq_plan *p = &f->plan;
  p->n_order = n_batches * width;
  p->n_items = n_batches + n_subjects;
  PTQ_TRY(ptq_alloc(&p->items, p->n_items, sizeof *p->items, "items", err));
  PTQ_TRY(ptq_alloc(&p->order, p->n_order, sizeof *p->order, "order", err));
  for (int64_t i = 0; i < p->n_order; i++) p->order[i] = p->n_order - 1 - i;
  for (int64_t i = 0; i < p->n_items; i++) {
    const double left = (double)(p->n_items - i) / (double)p->n_items;
    ptq_item *item = &p->items[i];
    *item = (ptq_item){.subject = i, .seconds = longest_s * left};
    if (i < n_batches) {
      item->subject = i % 3;
      item->first = i * width;
      item->n = width;
    }
  }
done:
  return rc;
}

static void fake_release(fake *f) {
  ptq_free(f->plan.items);
  ptq_free(f->plan.order);
}

#endif /* PTQ_TESTS_DIST_FAKE_H */
