/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rows of one configuration are found by its hash: everything that enters a
 * point's key but the texts' bytes and the numerics. Equal configurations of
 * equal numerics must then have equal keys.
 */
#include "join_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agreement.h"
#include "ptq/base/mem.h"

static void model_config(const ptq_model_row *m, ptq_hash *h) {
  ptq_hash_text(h, m->model);
  ptq_hash_text(h, m->fingerprint);
  ptq_hash_text(h, m->calibration);
  ptq_hash_text(h, m->selection);
  ptq_hash_text(h, m->evaluation);
  ptq_hash_text(h, m->compute);
  ptq_hash_text(h, m->requests);
}

static void point_config(const ptq_source *s, int64_t i, ptq_hash *h) {
  const ptq_point_row *p = &s->points[i];
  char group[24];
  (void)snprintf(group, sizeof group, "%lld", (long long)p->group);
  model_config(&s->models[s->sets.subject[i]], h);
  ptq_hash_text(h, p->dtype);
  ptq_hash_text(h, p->method);
  ptq_hash_text(h, p->options);
  ptq_hash_text(h, group);
}

static int by_config(const void *a, const void *b) {
  const ptq_join_entry *x = a, *y = b;
  const int order = strcmp(x->config, y->config);
  return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b) {
  const ptq_join_entry *x = a, *y = b;
  return (x->order > y->order) - (x->order < y->order);
}

static ptq_status set_config(const ptq_source *s, bool model, ptq_join_entry *e,
                             ptq_err *err) {
  ptq_hash *h = NULL;
  const ptq_status rc = ptq_hash_create(&h, err);
  if (rc != PTQ_OK) return rc;
  if (model)
    model_config(&s->models[e->row], h);
  else
    point_config(s, e->row, h);
  ptq_hash_hex(h, e->config);
  ptq_hash_free(h);
  return PTQ_OK;
}

/* All rows of a kind, sorted by configuration. */
static ptq_status collect(const ptq_joining *j, bool models,
                          ptq_join_entry **out, int64_t *n_out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n = 0;
  for (int64_t s = 0; s < j->n_sources; s++)
    n += models ? j->sources[s].sets.n_subjects : j->sources[s].sets.n_points;
  PTQ_TRY(ptq_alloc(out, n, sizeof **out, "rows to join", err));
  n = 0;
  for (int64_t s = 0; s < j->n_sources; s++) {
    const ptq_sets *sets = &j->sources[s].sets;
    for (int64_t i = 0; i < (models ? sets->n_subjects : sets->n_points); i++) {
      ptq_join_entry *e = &(*out)[n];
      *e = (ptq_join_entry){.source = s, .row = i, .order = n};
      n++;
      PTQ_TRY(set_config(&j->sources[s], models, e, err));
    }
  }
  qsort(*out, (size_t)n, sizeof **out, by_config);
  *n_out = n;
done:
  return rc;
}

static int state_of(const ptq_joining *j, const ptq_join_entry *e, bool model) {
  const ptq_source *s = &j->sources[e->source];
  return model ? s->model_state[e->row] : s->state[e->row];
}

static int64_t deaths_of(const ptq_joining *j, const ptq_join_entry *e,
                         bool model) {
  const ptq_source *s = &j->sources[e->source];
  return model ? s->model_attempts[e->row].deaths : s->attempts[e->row].deaths;
}

/* The finished one, else the failed one, else that of which most ranks died; of
 * equals the first. */
static int64_t best_of(const ptq_joining *j, const ptq_join_entry *group,
                       int64_t n, bool model) {
  static const int wanted[] = {PTQ_STATE_DONE, PTQ_STATE_FAILED};
  int64_t best = 0;
  for (size_t w = 0; w < sizeof wanted / sizeof wanted[0]; w++)
    for (int64_t i = 0; i < n; i++)
      if (state_of(j, &group[i], model) == wanted[w]) return i;
  for (int64_t i = 1; i < n; i++)
    if (deaths_of(j, &group[i], model) > deaths_of(j, &group[best], model))
      best = i;
  return best;
}

static void tell(const ptq_joining *j, const ptq_join_entry *a,
                 const ptq_join_entry *b, bool model, const char *how) {
  const ptq_source *s = &j->sources[a->source], *t = &j->sources[b->source];
  char line[480];
  if (j->options->report == NULL) return;
  if (model) {
    const ptq_model_row *m = &s->models[a->row];
    (void)snprintf(line, sizeof line, "model %s (%s): %s in '%s' and '%s'",
                   m->model, m->evaluation, how, s->sets.path, t->sets.path);
  } else {
    const ptq_point_row *p = &s->points[a->row];
    (void)snprintf(
        line, sizeof line, "point %s %s %s%s%s group %lld: %s in '%s' and '%s'",
        p->model, p->dtype, p->method, p->options[0] != '\0' ? ":" : "",
        p->options, (long long)p->group, how, s->sets.path, t->sets.path);
  }
  j->options->report(j->options->ctx, line);
}

/* Two finished rows of one configuration. */
static ptq_status compare(const ptq_joining *j, const ptq_join_entry *a,
                          const ptq_join_entry *b, bool model, ptq_err *err) {
  const ptq_source *s = &j->sources[a->source], *t = &j->sources[b->source];
  const bool alike = strcmp(s->numerics, t->numerics) == 0;
  char how[160] = "";
  bool agree = false;
  ptq_status rc = PTQ_OK;
  if (alike)
    rc = ptq_agreement_bits(s, a->row, t, b->row, model, how, &agree, err);
  else
    agree = ptq_agreement_close(s, a->row, t, b->row, model,
                                j->options->tolerance, how);
  if (rc != PTQ_OK) return rc;
  if (!agree) {
    j->summary->n_disagree++;
    tell(j, a, b, model, how);
  } else if (alike) {
    j->summary->n_equal++;
  } else {
    j->summary->n_close++;
  }
  return PTQ_OK;
}

/* Equal words and numerics, yet another key: other bytes of a text. */
static ptq_status check_key(const ptq_joining *j, const ptq_join_entry *a,
                            const ptq_join_entry *b, ptq_err *err) {
  const ptq_source *s = &j->sources[a->source], *t = &j->sources[b->source];
  const ptq_point_row *p = &s->points[a->row], *q = &t->points[b->row];
  if (strcmp(s->numerics, t->numerics) != 0 || strcmp(p->key, q->key) == 0)
    return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "stores '%s' and '%s': texts of one name have other bytes "
                  "(%s, calibration '%s', evaluation '%s'); they cannot stand "
                  "in one store",
                  s->sets.path, t->sets.path, p->model, p->calibration,
                  p->evaluation);
}

/* One row of each configuration. */
static ptq_status choose(const ptq_joining *j, const ptq_join_entry *all,
                         int64_t n, bool model, ptq_join_entry **kept,
                         int64_t *n_kept, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_alloc(kept, n, sizeof **kept, "rows to join", err));
  for (int64_t i = 0, end; i < n; i = end) {
    for (end = i + 1; end < n && strcmp(all[end].config, all[i].config) == 0;
         end++) {
    }
    const int64_t best = i + best_of(j, all + i, end - i, model);
    for (int64_t k = i; k < end; k++) {
      if (k == best) continue;
      if (!model) PTQ_TRY(check_key(j, &all[best], &all[k], err));
      if (state_of(j, &all[k], model) == PTQ_STATE_DONE)
        PTQ_TRY(compare(j, &all[best], &all[k], model, err));
    }
    ptq_join_entry *e = &(*kept)[(*n_kept)++];
    *e = all[best];
    e->order = all[i].order; /* where it first stood */
  }
  qsort(*kept, (size_t)*n_kept, sizeof **kept, by_order);
done:
  return rc;
}

ptq_status ptq_joining_choose(ptq_joining *j, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(collect(j, false, &j->points, &j->n_points, err));
  PTQ_TRY(collect(j, true, &j->models, &j->n_models, err));
  PTQ_TRY(choose(j, j->points, j->n_points, false, &j->kept, &j->n_kept, err));
  PTQ_TRY(choose(j, j->models, j->n_models, true, &j->kept_models,
                 &j->n_kept_models, err));
done:
  return rc;
}

int64_t ptq_joining_find_model(const void *ctx, const ptq_source *s,
                               int64_t row) {
  const ptq_joining *j = ctx;
  ptq_join_entry want = {.row = row};
  if (set_config(s, true, &want, NULL) != PTQ_OK) return -1;
  for (int64_t i = 0; i < j->n_kept_models; i++)
    if (strcmp(j->kept_models[i].config, want.config) == 0) return i;
  return -1;
}

void ptq_joining_release(ptq_joining *j) {
  for (int64_t s = 0; j->sources != NULL && s < j->n_sources; s++)
    ptq_source_close(&j->sources[s]);
  ptq_free(j->sources);
  ptq_free(j->points);
  ptq_free(j->models);
  ptq_free(j->kept);
  ptq_free(j->kept_models);
}
