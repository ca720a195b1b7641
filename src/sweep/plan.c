/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/sweep/cost.h"

/* A kill loses no more than this of one rank's work. */
#define MAX_SECONDS 600.0
enum { BATCHES_A_RANK = 4 };

/* What bounds a batch, and where batches go. */
typedef struct packer {
  const ptq_grid *g;
  int64_t memory;          /* bytes; 0: no limit */
  double seconds_per_flop; /* corrected */
  double share;            /* seconds of points that leave every rank its
                              batches */
  ptq_plan *plan;
} packer;

static bool is_sequential(const ptq_grid *g, int64_t point) {
  const ptq_method *m = &g->spec->methods[g->points[point].method];
  const ptq_calibration_mode mode = m->family->mode(m);
  return mode == PTQ_CALIB_SEQUENTIAL || mode == PTQ_CALIB_TRUE_SEQUENTIAL;
}

static double point_seconds(const packer *p, int64_t point) {
  return ptq_point_flops(p->g, point) * p->seconds_per_flop;
}

static ptq_status too_large(const packer *p, int64_t subject, int64_t bytes,
                            const char *what, ptq_err *err) {
  const ptq_spec *spec = p->g->spec;
  char need[24], have[24];
  ptq_bytes_name(bytes, need);
  ptq_bytes_name(p->memory, have);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "%s of model '%s' takes %s (%" PRId64
                  " bytes), more than the %s that a rank may use; raise "
                  "--memory, or take fewer or shorter windows",
                  what, spec->models[p->g->subjects[subject].model].name, need,
                  bytes, have);
}

static void add_item(packer *p, int64_t subject, int64_t first, int64_t n,
                     double seconds, int64_t bytes) {
  p->plan->items[p->plan->n_items++] = (ptq_item){
      .subject = subject, .first = first, .n = n, .seconds = seconds};
  if (bytes > p->plan->memory_bytes) p->plan->memory_bytes = bytes;
}

/* One batch from plan->order[first..end): *n becomes its width. */
static ptq_status pack_one(packer *p, int64_t subject, int64_t first,
                           int64_t end, double quota, int64_t *n,
                           ptq_err *err) {
  const ptq_grid *g = p->g;
  const double shared = ptq_shared_flops(g, subject) * p->seconds_per_flop;
  double own = 0.0;
  int64_t sequential = 0, bytes = 0;
  for (*n = 0; first + *n < end; ++*n) {
    const int64_t point = p->plan->order[first + *n];
    const double next = own + point_seconds(p, point);
    const int64_t with = sequential + is_sequential(g, point);
    const int64_t need = ptq_batch_bytes(g, subject, *n + 1, with);
    const bool fits = p->memory == 0 || need <= p->memory;
    if (*n == 0 && !fits) return too_large(p, subject, need, "a point", err);
    if (*n > 0 && (!fits || next > quota || shared + next > MAX_SECONDS)) break;
    own = next;
    sequential = with;
    bytes = need;
  }
  add_item(p, subject, first, *n, shared + own, bytes);
  return PTQ_OK;
}

/* The batches of the subject whose points are plan->order[first..end). */
static ptq_status pack_subject(packer *p, int64_t subject, int64_t first,
                               int64_t end, ptq_err *err) {
  double seconds = 0.0;
  for (int64_t i = first; i < end; i++)
    seconds += point_seconds(p, p->plan->order[i]);
  /* As few batches as the share allows, of nearly equal length; a little more
   * than equal, so that rounding does not split one off. */
  const double quota = seconds / ceil(seconds / p->share) * (1.0 + 1e-9);
  while (first < end) {
    int64_t n = 0;
    const ptq_status rc = pack_one(p, subject, first, end, quota, &n, err);
    if (rc != PTQ_OK) return rc;
    first += n;
  }
  return PTQ_OK;
}

static ptq_status pack_all(packer *p, const unsigned char *todo_subjects,
                           ptq_err *err) {
  const ptq_grid *g = p->g;
  ptq_plan *plan = p->plan;
  ptq_status rc = PTQ_OK;
  for (int64_t s = 0; s < g->n_subjects; s++) {
    if (!todo_subjects[s]) continue;
    const int64_t bytes = ptq_subject_bytes(g, s);
    if (p->memory > 0 && bytes > p->memory)
      PTQ_TRY(too_large(p, s, bytes, "the baseline", err));
    add_item(p, s, 0, 0, ptq_subject_flops(g, s) * p->seconds_per_flop, bytes);
  }
  for (int64_t first = 0, end = 0; first < plan->n_order; first = end) {
    const int64_t subject = g->points[plan->order[first]].subject;
    while (end < plan->n_order &&
           g->points[plan->order[end]].subject == subject)
      end++;
    PTQ_TRY(pack_subject(p, subject, first, end, err));
  }
done:
  return rc;
}

/* Longest first; then in the order of the sweep, so that plans are equal. */
static int by_length(const void *a, const void *b) {
  const ptq_item *x = a, *y = b;
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
  packer p = {.g = g,
              .memory = memory,
              .seconds_per_flop = r.correction / r.flops_per_s,
              .plan = out};
  *out = (ptq_plan){0};
  PTQ_TRY(ptq_alloc(&out->order, g->n_points, sizeof *out->order,
                    "the order of points", err));
  PTQ_TRY(ptq_alloc(&out->items, g->n_points + g->n_subjects,
                    sizeof *out->items, "the plan's items", err));
  double seconds = 0.0;
  for (int64_t i = 0; i < g->n_points; i++) {
    if (!todo_points[i]) continue;
    out->order[out->n_order++] = i;
    seconds += point_seconds(&p, i);
  }
  p.share = seconds / (BATCHES_A_RANK * (double)n_workers);
  PTQ_TRY(pack_all(&p, todo_subjects, err));
  qsort(out->items, (size_t)out->n_items, sizeof *out->items, by_length);
  for (int64_t i = 0; i < out->n_items; i++)
    out->seconds_total += out->items[i].seconds;
done:
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
