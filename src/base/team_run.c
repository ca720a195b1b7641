/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Pieces and turns of several processes. */
#include <stddef.h>

#include "ptq/base/check.h"
#include "turns.h"

ptq_status ptq_turns_wait(const ptq_turns *t, int64_t place, int64_t index,
                          ptq_err *err) {
  int64_t naps = 0;
  PTQ_ASSERT(place >= 0 && place < t->n_places);
  while (atomic_load(&t->next[place]) < index) {
    if (atomic_load(t->failed) < index) break;
    if (ptq_team_nap(t->team, &naps)) break;
  }
  if (atomic_load(&t->next[place]) == index) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_STOPPED, "a piece before this one failed");
}

/* Over pieces that ended without passing. Whoever sees last, the one that
 * passes or the one that ends, moves on; where both see, one of them does. */
static void skip_ended(const ptq_turns *t, int64_t place, long long next) {
  while (next < t->end && atomic_load(&t->ended[next - t->first])) {
    long long expected = next;
    if (!atomic_compare_exchange_strong(&t->next[place], &expected, next + 1))
      return;
    next++;
  }
}

void ptq_turns_pass(const ptq_turns *t, int64_t place, int64_t index) {
  PTQ_ASSERT(atomic_load(&t->next[place]) == index);
  atomic_store(&t->next[place], index + 1);
  skip_ended(t, place, index + 1);
}

void ptq_turns_end(const ptq_turns *t, int64_t index, bool good) {
  long long lowest = atomic_load(t->failed);
  while (!good && index < lowest &&
         !atomic_compare_exchange_weak(t->failed, &lowest, index)) {
  }
  if (!good) return;
  atomic_store(&t->ended[index - t->first], 1);
  for (int64_t p = 0; p < t->n_places; p++)
    if (atomic_load(&t->next[p]) == index) skip_ended(t, p, index);
}

/* This member's share of pieces [first, end). */
static ptq_crew_part part_of(const ptq_team *t, int64_t first, int64_t end) {
  const int64_t size = ptq_team_size(t);
  const int64_t ahead = (ptq_team_rank(t) - first % size + size) % size;
  return (ptq_crew_part){.first = first + ahead, .end = end, .step = size};
}

static ptq_status run_part(ptq_team *t, int threads, const ptq_crew_part *part,
                           ptq_crew_fn *fn, void *ctx, ptq_err *err) {
  ptq_err own = {0};
  int64_t failed = part->end;
  ptq_status rc = PTQ_OK;
  if (part->first < part->end)
    rc = ptq_crew_run_part(threads, part, fn, ctx, &failed, &own);
  if (rc != PTQ_OK && own.code == PTQ_OK)
    (void)PTQ_FAIL(&own, rc, "%s", ptq_status_str(rc));
  return ptq_team_settle(t, failed, part->end, rc, &own, err);
}

ptq_status ptq_team_run(ptq_team *t, int threads, int64_t n, ptq_crew_fn *fn,
                        void *ctx, ptq_err *err) {
  if (t == NULL) return ptq_crew_run(threads, n, fn, ctx, err);
  const ptq_crew_part part = part_of(t, 0, n);
  return run_part(t, threads, &part, fn, ctx, err);
}

/* The order's memory, made anew by the leader. */
static ptq_status open_turns(ptq_team *t, ptq_turns *turns, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *room = NULL;
  const int64_t n = turns->end - turns->first;
  const int64_t words = (1 + turns->n_places) * (int64_t)sizeof(atomic_llong);
  PTQ_TRY(ptq_team_turns_room(t, words + n, &room, err));
  turns->team = t;
  turns->failed = (atomic_llong *)(void *)room;
  turns->next = turns->failed + 1;
  turns->ended = (atomic_uchar *)(void *)(room + words);
  if (ptq_team_leads(t)) {
    atomic_store(turns->failed, turns->end);
    for (int64_t p = 0; p < turns->n_places; p++)
      atomic_store(&turns->next[p], turns->first);
    for (int64_t i = 0; i < n; i++) atomic_store(&turns->ended[i], 0);
  }
  PTQ_TRY(ptq_team_meet(t, err));
done:
  return rc;
}

ptq_status ptq_team_run_ordered(ptq_team *t, int threads, int64_t first,
                                int64_t end, int64_t n_places, ptq_crew_fn *fn,
                                void *ctx, ptq_err *err) {
  if (t == NULL)
    return ptq_crew_run_ordered(threads, first, end, n_places, fn, ctx, err);
  ptq_turns turns = {.first = first, .end = end, .n_places = n_places};
  const ptq_status rc = open_turns(t, &turns, err);
  if (rc != PTQ_OK) return rc;
  ptq_crew_part part = part_of(t, first, end);
  part.turns = &turns;
  return run_part(t, threads, &part, fn, ctx, err);
}
