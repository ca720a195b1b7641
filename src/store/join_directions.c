/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "join_directions.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agreement.h"
#include "ptq/base/mem.h"

typedef struct keyed {
  const char *key; /* borrowed */
  const ptq_source *source;
  int64_t row, order;
} keyed;

static int by_key(const void *a, const void *b) {
  const keyed *x = a, *y = b;
  const int order = strcmp(x->key, y->key);
  return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b) {
  const keyed *x = a, *y = b;
  return (x->order > y->order) - (x->order < y->order);
}

static int rank_of(const keyed *k) {
  const int state = k->source->direction_state[k->row];
  return state == PTQ_STATE_DONE ? 2 : state == PTQ_STATE_FAILED;
}

static int64_t deaths_of(const keyed *k) {
  return k->source->direction_attempts[k->row].deaths;
}

/* Finished before failed, of finished ones that with more columns, and of those
 * that wait that of which more ranks died. */
static bool is_better(const keyed *a, const keyed *b) {
  const int x = rank_of(a), y = rank_of(b);
  if (x != y) return x > y;
  if (x == 0 && deaths_of(a) != deaths_of(b))
    return deaths_of(a) > deaths_of(b);
  return a->source->sets.schema > b->source->sets.schema;
}

/* The best of equal keys stays, at the place of the first. */
static ptq_status choose(keyed *all, int64_t n, ptq_joined_directions *j,
                         void (*report)(void *, const char *), void *report_ctx,
                         int64_t *n_kept, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0, end; i < n; i = end) {
    keyed best = all[i];
    for (end = i + 1; end < n && strcmp(all[end].key, all[i].key) == 0; end++)
      if (is_better(&all[end], &best)) best = all[end];
    for (int64_t k = i; k < end; k++) {
      char how[160] = "", line[400];
      bool agree = false;
      if (all[k].order == best.order || rank_of(&all[k]) < 2) continue;
      PTQ_TRY(ptq_agreement_direction(best.source, best.row, all[k].source,
                                      all[k].row, how, &agree, err));
      if (agree) {
        j->n_equal++;
        continue;
      }
      j->n_disagree++;
      (void)snprintf(line, sizeof line, "direction %s: %s in '%s' and '%s'",
                     best.key, how, best.source->sets.path,
                     all[k].source->sets.path);
      if (report != NULL) report(report_ctx, line);
    }
    best.order = all[i].order;
    all[(*n_kept)++] = best;
  }
  qsort(all, (size_t)*n_kept, sizeof *all, by_order);
done:
  return rc;
}

static void clear_numbers(ptq_direction_row *row) {
  const ptq_table *t = ptq_table_get(PTQ_TABLE_DIRECTIONS);
  const double nothing = (double)NAN;
  for (size_t i = 0; i < t->n_fields; i++)
    if (t->fields[i].kind == PTQ_KIND_F64)
      memcpy((char *)row + t->fields[i].offset, &nothing, sizeof nothing);
}

static ptq_status fill(const keyed *kept, ptq_joined_directions *j,
                       int64_t (*subject)(const void *, const ptq_source *,
                                          int64_t),
                       const void *ctx, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = j->n;
  PTQ_TRY(ptq_alloc(&j->rows, n, sizeof *j->rows, "directions", err));
  PTQ_TRY(ptq_alloc(&j->steps, n, sizeof *j->steps, "directions", err));
  PTQ_TRY(ptq_alloc(&j->layers, n, sizeof *j->layers, "directions", err));
  PTQ_TRY(ptq_alloc(&j->ritz, n, sizeof *j->ritz, "directions", err));
  PTQ_TRY(ptq_alloc(&j->carry, n, sizeof *j->carry, "directions", err));
  for (int64_t i = 0; i < n; i++) {
    const ptq_source *s = kept[i].source;
    const int64_t at = kept[i].row;
    j->rows[i] = s->directions[at];
    clear_numbers(&j->rows[i]);
    j->rows[i].subject = subject(ctx, s, s->directions[at].subject);
    j->steps[i] = s->sets.first_profile[at + 1] - s->sets.first_profile[at];
    j->layers[i] = s->sets.first_direction_layer[at + 1] -
                   s->sets.first_direction_layer[at];
    j->ritz[i] = s->sets.first_ritz[at + 1] - s->sets.first_ritz[at];
    j->carry[i] = (ptq_carry){s, at};
  }
done:
  return rc;
}

ptq_status ptq_join_directions(
    const ptq_source *sources, int64_t n_sources,
    int64_t (*subject)(const void *ctx, const ptq_source *s, int64_t row),
    const void *ctx, void (*report)(void *ctx, const char *line),
    void *report_ctx, ptq_joined_directions *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  keyed *all = NULL;
  int64_t n = 0;
  *out = (ptq_joined_directions){0};
  for (int64_t s = 0; s < n_sources; s++) n += sources[s].sets.n_directions;
  PTQ_TRY(ptq_alloc(&all, n, sizeof *all, "directions", err));
  n = 0;
  for (int64_t s = 0; s < n_sources; s++)
    for (int64_t i = 0; i < sources[s].sets.n_directions; i++, n++)
      all[n] = (keyed){sources[s].directions[i].key, &sources[s], i, n};
  qsort(all, (size_t)n, sizeof *all, by_key);
  PTQ_TRY(choose(all, n, out, report, report_ctx, &out->n, err));
  PTQ_TRY(fill(all, out, subject, ctx, err));
done:
  ptq_free(all);
  if (rc != PTQ_OK) ptq_joined_directions_release(out);
  return rc;
}

void ptq_joined_directions_release(ptq_joined_directions *j) {
  ptq_free(j->rows);
  ptq_free(j->steps);
  ptq_free(j->layers);
  ptq_free(j->ritz);
  ptq_free(j->carry);
  *j = (ptq_joined_directions){0};
}

void ptq_joined_directions_lay_out(const ptq_joined_directions *j,
                                   ptq_store_layout *l) {
  l->n_directions = j->n;
  l->directions = j->rows;
  l->direction_steps = j->steps;
  l->direction_layers = j->layers;
  l->direction_ritz = j->ritz;
}
