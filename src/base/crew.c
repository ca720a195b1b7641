/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/crew.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "turns.h"

struct ptq_order {
  const ptq_turns *turns; /* borrowed; in several processes; then all else is
                             unused */
  pthread_mutex_t lock;
  pthread_cond_t moved;
  int64_t *next; /* owned; [n_places] whose turn it is */
  bool *ended;   /* owned; [end - first] */
  int64_t first, end, n_places;
  int64_t failed; /* the lowest piece that did; end: none */
};

static ptq_status order_open(ptq_order *o, int64_t first, int64_t end,
                             int64_t n_places, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *o = (ptq_order){.lock = PTHREAD_MUTEX_INITIALIZER,
                   .moved = PTHREAD_COND_INITIALIZER,
                   .first = first,
                   .end = end,
                   .n_places = n_places,
                   .failed = end};
  PTQ_TRY(ptq_alloc(&o->next, n_places, sizeof *o->next, "turns", err));
  PTQ_TRY(ptq_alloc(&o->ended, end - first, sizeof *o->ended, "turns", err));
  for (int64_t p = 0; p < n_places; p++) o->next[p] = first;
done:
  return rc;
}

static void order_close(ptq_order *o) {
  (void)pthread_cond_destroy(&o->moved);
  (void)pthread_mutex_destroy(&o->lock);
  ptq_free(o->next);
  ptq_free(o->ended);
}

ptq_status ptq_order_wait(ptq_order *o, int64_t place, int64_t index,
                          ptq_err *err) {
  if (o == NULL) return PTQ_OK;
  if (o->turns != NULL) return ptq_turns_wait(o->turns, place, index, err);
  PTQ_ASSERT(place >= 0 && place < o->n_places);
  (void)pthread_mutex_lock(&o->lock);
  while (o->next[place] < index && o->failed > index)
    (void)pthread_cond_wait(&o->moved, &o->lock);
  const bool mine = o->next[place] == index;
  (void)pthread_mutex_unlock(&o->lock);
  if (mine) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_STOPPED, "a piece before this one failed");
}

/* Over pieces that ended without passing. */
static void skip_ended(ptq_order *o, int64_t place) {
  int64_t *next = &o->next[place];
  while (*next < o->end && o->ended[*next - o->first]) ++*next;
}

void ptq_order_pass(ptq_order *o, int64_t place, int64_t index) {
  if (o == NULL) return;
  if (o->turns != NULL) {
    ptq_turns_pass(o->turns, place, index);
    return;
  }
  (void)pthread_mutex_lock(&o->lock);
  PTQ_ASSERT(o->next[place] == index);
  o->next[place]++;
  skip_ended(o, place);
  (void)pthread_cond_broadcast(&o->moved);
  (void)pthread_mutex_unlock(&o->lock);
}

static void order_end(ptq_order *o, int64_t index, bool good) {
  if (o == NULL) return;
  if (o->turns != NULL) {
    ptq_turns_end(o->turns, index, good);
    return;
  }
  (void)pthread_mutex_lock(&o->lock);
  if (!good && index < o->failed) o->failed = index;
  o->ended[index - o->first] = good;
  for (int64_t p = 0; p < o->n_places; p++) skip_ended(o, p);
  (void)pthread_cond_broadcast(&o->moved);
  (void)pthread_mutex_unlock(&o->lock);
}

typedef struct crew {
  ptq_crew_fn *fn; /* borrowed, as ctx and order */
  void *ctx;
  ptq_order *order;
  int64_t end, step;
  atomic_llong next, failed; /* failed: the lowest piece that did, or end */
} crew;

/* A thread, and the first failure among its pieces, which is its lowest. */
typedef struct hand {
  crew *c;
  int index;
  int64_t failed; /* piece; c->end: none */
  ptq_err err;
} hand;

static void lower(atomic_llong *at, long long value) {
  long long have = atomic_load(at);
  while (value < have && !atomic_compare_exchange_weak(at, &have, value)) {
  }
}

static void *work(void *arg) {
  hand *h = arg;
  crew *c = h->c;
  for (;;) {
    const int64_t i = atomic_fetch_add(&c->next, c->step);
    if (i >= c->end || i > atomic_load(&c->failed)) return NULL;
    ptq_err err = {0};
    const ptq_status rc = c->fn(c->ctx, h->index, i, c->order, &err);
    order_end(c->order, i, rc == PTQ_OK);
    if (rc == PTQ_OK) continue;
    h->failed = i;
    h->err = err;
    h->err.code = rc;
    lower(&c->failed, i);
    return NULL;
  }
}

/* Pieces first, first + step .. before end. */
static ptq_status run(int threads, const ptq_crew_part *part, ptq_order *order,
                      ptq_crew_fn *fn, void *ctx, int64_t *failed,
                      ptq_err *err) {
  const int64_t end = part->end, step = part->step;
  const int64_t n = (end - part->first + step - 1) / step;
  crew c = {.fn = fn, .ctx = ctx, .order = order, .end = end, .step = step};
  pthread_t ids[PTQ_CREW_MAX];
  hand hands[PTQ_CREW_MAX];
  int started = 1;
  PTQ_ASSERT(threads >= 1 && threads <= PTQ_CREW_MAX);
  atomic_store(&c.next, part->first);
  atomic_store(&c.failed, end);
  for (int i = 0; i < threads; i++) {
    hands[i].c = &c;
    hands[i].index = i;
    hands[i].failed = end;
  }
  for (; started < threads && started < n; started++)
    if (pthread_create(&ids[started], NULL, work, &hands[started]) != 0) break;
  (void)work(&hands[0]);
  const hand *told = &hands[0];
  for (int i = 1; i < started; i++) {
    (void)pthread_join(ids[i], NULL);
    if (hands[i].failed < told->failed) told = &hands[i];
  }
  *failed = told->failed;
  if (told->failed == end) return PTQ_OK;
  if (err != NULL && err->code == PTQ_OK) *err = told->err;
  return told->err.code;
}

ptq_status ptq_crew_run_part(int threads, const ptq_crew_part *part,
                             ptq_crew_fn *fn, void *ctx, int64_t *failed,
                             ptq_err *err) {
  ptq_order order = {.turns = part->turns};
  return run(threads, part, part->turns != NULL ? &order : NULL, fn, ctx,
             failed, err);
}

ptq_status ptq_crew_run(int threads, int64_t n, ptq_crew_fn *fn, void *ctx,
                        ptq_err *err) {
  const ptq_crew_part all = {.end = n, .step = 1};
  int64_t failed;
  return run(threads, &all, NULL, fn, ctx, &failed, err);
}

ptq_status ptq_crew_run_ordered(int threads, int64_t first, int64_t end,
                                int64_t n_places, ptq_crew_fn *fn, void *ctx,
                                ptq_err *err) {
  const ptq_crew_part all = {.first = first, .end = end, .step = 1};
  int64_t failed;
  ptq_order order;
  if (threads == 1 || end - first < 2)
    return run(1, &all, NULL, fn, ctx, &failed, err);
  ptq_status rc = order_open(&order, first, end, n_places, err);
  if (rc == PTQ_OK) rc = run(threads, &all, &order, fn, ctx, &failed, err);
  order_close(&order);
  return rc;
}
