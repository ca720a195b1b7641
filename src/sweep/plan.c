/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/sweep/cost.h"
#include "ptq/sweep/landscape.h"

/* A kill loses no more than this of one rank's work. */
#define MAX_SECONDS 600.0
enum { BATCHES_A_RANK = 4 };
/* Of the least time the plan can take: what comes last and is no longer than
 * this share of it delays the end by no more. */
#define LATE_SHARE 0.02

/* What is left of a subject's points while they are packed. */
typedef struct rest {
  int64_t first, end; /* into plan->order */
  double seconds;
  int64_t batches; /* to make of it, at least */
} rest;

/* What bounds a batch, and where batches go. */
typedef struct packer {
  const ptq_grid *g;
  int64_t memory;            /* bytes; 0: no limit */
  double seconds_per_flop;   /* corrected */
  const unsigned char *todo; /* borrowed; [n_points] */
  rest *rests;               /* owned; [n_subjects] points to pack */
  ptq_plan *plan;
} packer;

double ptq_own_flops(const ptq_grid *g, int64_t own) {
  return own < g->n_subjects ? ptq_subject_flops(g, own)
                             : ptq_direction_flops(g, own - g->n_subjects);
}

int64_t ptq_own_bytes(const ptq_grid *g, int64_t own) {
  return own < g->n_subjects ? ptq_subject_bytes(g, own)
                             : ptq_direction_bytes(g, own - g->n_subjects);
}

static bool is_alone(const packer *p, int64_t point) {
  return p->todo[point] == PTQ_TODO_ALONE;
}

static double point_seconds(const packer *p, int64_t point) {
  return ptq_point_flops(p->g, point) * p->seconds_per_flop;
}

/* What it would take with hidden states in files, in words; nothing where
 * they are, or where that is not less. */
static void scratch_words(const packer *p, int64_t own, const ptq_load *load,
                          int64_t bytes, char words[64]) {
  ptq_grid g = *p->g;
  char need[24];
  words[0] = '\0';
  if (g.scratch != NULL) return;
  g.scratch = ".";
  const int64_t with =
      load != NULL ? ptq_batch_bytes(&g, own, load) : ptq_own_bytes(&g, own);
  if (with >= bytes) return;
  ptq_bytes_name(with, need);
  snprintf(words, 64, ", name a directory by --scratch (%s)", need);
}

static bool is_hessian(const ptq_grid *g, int64_t own) {
  return own >= g->n_subjects &&
         g->directions[own - g->n_subjects].kind == PTQ_DIRECTION_HESSIAN;
}

/* `load` is of a batch of one point of subject `own`, or NULL for a model's own
 * item. */
static ptq_status too_large(const packer *p, int64_t own, const ptq_load *load,
                            int64_t bytes, ptq_err *err) {
  const ptq_spec *spec = p->g->spec;
  const int64_t subject = load != NULL ? own : ptq_grid_own_subject(p->g, own);
  char need[24], have[24], scratch[64];
  ptq_bytes_name(bytes, need);
  ptq_bytes_name(p->memory, have);
  scratch_words(p, own, load, bytes, scratch);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "%s of model '%s' takes %s (%" PRId64
                  " bytes), more than the %s that a rank may use; raise "
                  "--memory%s, or take fewer or shorter windows%s",
                  load != NULL             ? "a point, alone in its batch,"
                  : own < p->g->n_subjects ? "the baseline"
                                           : "the landscape",
                  spec->models[p->g->subjects[subject].model].name, need, bytes,
                  have, scratch,
                  own < p->g->n_subjects ? ", or fewer requests (limit)"
                  : is_hessian(p->g, own)
                      ? ", or fewer steps (measure.landscape.lanczos)"
                      : "");
}

static ptq_turn turn_of(const packer *p, int64_t subject, int64_t n) {
  if (n > 0) return PTQ_TURN_MAIN;
  return subject < p->g->n_subjects ? PTQ_TURN_BASELINE : PTQ_TURN_LATE;
}

static void add_item(packer *p, int64_t subject, int64_t first, int64_t n,
                     double seconds, int64_t bytes) {
  p->plan->items[p->plan->n_items++] =
      (ptq_item){.subject = subject,
                 .first = first,
                 .n = n,
                 .seconds = seconds,
                 .turn = turn_of(p, subject, n)};
  if (bytes > p->plan->memory_bytes) p->plan->memory_bytes = bytes;
}

/* One batch from the front of the rest: the number of points nearest to an
 * equal part of it, within memory and time. */
static ptq_status pack_one(packer *p, int64_t subject, rest *r, ptq_err *err) {
  const ptq_grid *g = p->g;
  const double shared = ptq_shared_flops(g, subject) * p->seconds_per_flop;
  const double part = r->seconds / (double)r->batches;
  double own = 0.0;
  int64_t n = 0, bytes = 0;
  ptq_load load = {0};
  /* Leave a point for each of the batches to come. */
  for (; r->first + n <= r->end - r->batches; n++) {
    const int64_t point = p->plan->order[r->first + n];
    const double seconds = point_seconds(p, point);
    ptq_load with = load;
    ptq_load_add(&with, g, point);
    const int64_t need = ptq_batch_bytes(g, subject, &with);
    const bool fits = p->memory == 0 || need <= p->memory;
    if (n == 0 && !fits) return too_large(p, subject, &with, need, err);
    if (n > 0 && (!fits || shared + own + seconds > MAX_SECONDS)) break;
    if (n > 0 && (is_alone(p, point) || is_alone(p, p->plan->order[r->first])))
      break;
    if (n > 0 && r->batches > 1 && own + seconds / 2.0 > part) break;
    own += seconds;
    load = with;
    bytes = need;
  }
  add_item(p, subject, r->first, n, shared + own, bytes);
  r->first += n;
  r->seconds -= own;
  if (r->batches > 1) r->batches--;
  return PTQ_OK;
}

/* How many batches each subject's points become: a share of the work each, so
 * that every rank has its batches. Where a subject has too few points for its
 * part, those whose batches are longest make up for it. */
static void apportion(packer *p, int n_workers, double seconds) {
  const int64_t n_order = p->plan->n_order;
  const int64_t ask = (int64_t)BATCHES_A_RANK * n_workers;
  const int64_t want = ask < n_order ? ask : n_order;
  const double share = seconds / (double)ask;
  int64_t have = 0;
  for (int64_t s = 0; s < p->g->n_subjects; s++) {
    rest *r = &p->rests[s];
    const int64_t n = r->end - r->first;
    const double batches = n > 0 ? ceil(r->seconds / share) : 0.0;
    r->batches = batches < (double)n ? (int64_t)batches : n;
    have += r->batches;
  }
  for (; have < want; have++) {
    rest *longest = NULL;
    for (int64_t s = 0; s < p->g->n_subjects; s++) {
      rest *r = &p->rests[s];
      if (r->batches < r->end - r->first &&
          (longest == NULL || r->seconds / (double)r->batches >
                                  longest->seconds / (double)longest->batches))
        longest = r;
    }
    longest->batches++; /* there is one: have < want <= points */
  }
}

/* The points to do, in the order of the sweep, and what each subject has. */
static double collect(packer *p, const unsigned char *todo_points) {
  ptq_plan *plan = p->plan;
  double seconds = 0.0;
  for (int64_t i = 0; i < p->g->n_points; i++) {
    if (!todo_points[i]) continue;
    rest *r = &p->rests[p->g->points[i].subject];
    const double own = point_seconds(p, i);
    if (r->end == 0) r->first = plan->n_order;
    plan->order[plan->n_order++] = i;
    r->end = plan->n_order;
    r->seconds += own;
    seconds += own;
  }
  return seconds;
}

static ptq_status pack_all(packer *p, const unsigned char *todo_subjects,
                           ptq_err *err) {
  const ptq_grid *g = p->g;
  ptq_status rc = PTQ_OK;
  for (int64_t s = 0; s < ptq_grid_own(g); s++) {
    if (!todo_subjects[s]) continue;
    const int64_t bytes = ptq_own_bytes(g, s);
    if (p->memory > 0 && bytes > p->memory)
      PTQ_TRY(too_large(p, s, NULL, bytes, err));
    add_item(p, s, 0, 0, ptq_own_flops(g, s) * p->seconds_per_flop, bytes);
  }
  for (int64_t s = 0; s < g->n_subjects; s++)
    while (p->rests[s].first < p->rests[s].end)
      PTQ_TRY(pack_one(p, s, &p->rests[s], err));
done:
  return rc;
}

/* What would delay the end does not come last. */
static void hasten(ptq_plan *p, int n_workers) {
  double total = 0.0;
  for (int64_t i = 0; i < p->n_items; i++) total += p->items[i].seconds;
  const double late = LATE_SHARE * total / n_workers;
  for (int64_t i = 0; i < p->n_items; i++)
    if (p->items[i].turn == PTQ_TURN_LATE && p->items[i].seconds > late)
      p->items[i].turn = PTQ_TURN_MAIN;
}

/* By turn, then longest first; then in the order of the sweep, so that plans
 * are equal. */
static int by_turn(const void *a, const void *b) {
  const ptq_item *x = a, *y = b;
  if (x->turn != y->turn) return x->turn < y->turn ? -1 : 1;
  if (x->seconds != y->seconds) return x->seconds > y->seconds ? -1 : 1;
  if (x->subject != y->subject) return x->subject < y->subject ? -1 : 1;
  if (x->n != y->n && (x->n == 0 || y->n == 0)) return x->n == 0 ? -1 : 1;
  return (x->first > y->first) - (x->first < y->first);
}

ptq_status ptq_plan_build(const ptq_grid *g, const unsigned char *todo_points,
                          const unsigned char *todo_subjects, int n_workers,
                          int64_t memory, const ptq_rates *rates, ptq_plan *out,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_rates r = rates != NULL ? *rates : ptq_rates_default();
  PTQ_ASSERT(n_workers > 0 && memory >= 0);
  PTQ_ASSERT(r.flops_per_s > 0.0 && r.correction > 0.0);
  packer p = {
      .g = g,
      .memory = memory,
      .todo = todo_points,
      .seconds_per_flop = r.correction / r.flops_per_s / ptq_grid_speedup(g),
      .plan = out};
  *out = (ptq_plan){0};
  PTQ_TRY(ptq_alloc(&out->order, g->n_points, sizeof *out->order,
                    "the order of points", err));
  PTQ_TRY(ptq_alloc(&out->items, g->n_points + ptq_grid_own(g),
                    sizeof *out->items, "the plan's items", err));
  PTQ_TRY(ptq_alloc(&p.rests, g->n_subjects, sizeof *p.rests,
                    "the points to pack", err));
  apportion(&p, n_workers, collect(&p, todo_points));
  PTQ_TRY(pack_all(&p, todo_subjects, err));
  hasten(out, n_workers);
  qsort(out->items, (size_t)out->n_items, sizeof *out->items, by_turn);
  for (int64_t i = 0; i < out->n_items; i++)
    out->seconds_total += out->items[i].seconds;
done:
  ptq_free(p.rests);
  if (rc != PTQ_OK) ptq_plan_release(out);
  return rc;
}

void ptq_plan_release(ptq_plan *p) {
  ptq_free(p->items);
  ptq_free(p->order);
  *p = (ptq_plan){0};
}

double ptq_plan_makespan(const ptq_plan *p, int n_workers) {
  double *busy = NULL; /* until when each worker is */
  double end = 0.0;
  PTQ_ASSERT(n_workers > 0);
  if (ptq_alloc(&busy, n_workers, sizeof *busy, "workers", NULL) != PTQ_OK)
    return (double)NAN;
  for (int64_t i = 0; i < p->n_items; i++) {
    int free_first = 0;
    for (int w = 1; w < n_workers; w++)
      if (busy[w] < busy[free_first]) free_first = w;
    busy[free_first] += p->items[i].seconds;
    if (busy[free_first] > end) end = busy[free_first];
  }
  ptq_free(busy);
  return end;
}
