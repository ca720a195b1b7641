/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "extend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "carry.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "source.h"
#include "store_impl.h"

/* Points looked at for why they are missing; kinds of reasons told. */
enum { MAX_LOOKED_AT = 2000, MAX_REASONS = 20 };

typedef struct reason {
  char text[400];
  int64_t n; /* points */
} reason;

/* A store against a layout. */
typedef struct comparison {
  const ptq_source *old;         /* borrowed */
  const ptq_store_layout *fresh; /* borrowed */
  int64_t *place;   /* owned [old points]: row of the layout, -1: none */
  int64_t n_common; /* points of both */
  reason reasons[MAX_REASONS];
  int n_reasons;
} comparison;

/* A key and its row. */
typedef struct keyed {
  const char *key; /* borrowed */
  int64_t row;
} keyed;

static int by_key(const void *a, const void *b) {
  return strcmp(((const keyed *)a)->key, ((const keyed *)b)->key);
}

static void add_reason(comparison *c, const char *text) {
  for (int i = 0; i < c->n_reasons; i++)
    if (strcmp(c->reasons[i].text, text) == 0) {
      c->reasons[i].n++;
      return;
    }
  if (c->n_reasons == MAX_REASONS) {
    c->reasons[MAX_REASONS - 1].n++; /* said below as "and others" */
    return;
  }
  reason *r = &c->reasons[c->n_reasons++];
  const char *last = c->n_reasons == MAX_REASONS ? "other differences" : text;
  (void)snprintf(r->text, sizeof r->text, "%s", last);
  r->n = 1;
}

static ptq_status match_keys(comparison *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = c->fresh->n_points, m = c->old->sets.n_points;
  keyed *keys = NULL;
  PTQ_TRY(ptq_alloc(&keys, n, sizeof *keys, "keys", err));
  PTQ_TRY(ptq_alloc(&c->place, m, sizeof *c->place, "keys", err));
  for (int64_t i = 0; i < n; i++) keys[i] = (keyed){c->fresh->points[i].key, i};
  qsort(keys, (size_t)n, sizeof *keys, by_key);
  for (int64_t i = 0; i < m; i++) {
    const keyed want = {c->old->points[i].key, 0};
    const keyed *found = bsearch(&want, keys, (size_t)n, sizeof *keys, by_key);
    c->place[i] = found != NULL ? found->row : -1;
    c->n_common += found != NULL;
  }
done:
  ptq_free(keys);
  return rc;
}

static bool same_words(const ptq_point_row *a, const ptq_point_row *b) {
  return strcmp(a->model, b->model) == 0 && strcmp(a->dtype, b->dtype) == 0 &&
         strcmp(a->method, b->method) == 0 &&
         strcmp(a->options, b->options) == 0 && a->group == b->group &&
         strcmp(a->calibration, b->calibration) == 0 &&
         strcmp(a->evaluation, b->evaluation) == 0;
}

/* The same words, and yet another key. */
static void why_changed(comparison *c, int64_t old, int64_t fresh, char *text,
                        size_t size) {
  const ptq_model_row *a = &c->old->models[c->old->sets.subject[old]];
  const ptq_model_row *b = &c->fresh->subjects[c->fresh->point_subject[fresh]];
  if (strcmp(a->fingerprint, b->fingerprint) != 0)
    (void)snprintf(text, size, "the checkpoint of model '%s' has changed",
                   a->model);
  else if (strcmp(a->selection, b->selection) != 0)
    (void)snprintf(text, size, "the selection text is '%s' there, '%s' here",
                   a->selection, b->selection);
  else
    (void)snprintf(text, size,
                   "a text of model '%s' has changed (calibration, selection "
                   "or evaluation)",
                   a->model);
}

/* Which axis of the sweep lacks a point's place. */
static void why_gone(const comparison *c, const ptq_point_row *p, char *text,
                     size_t size) {
  bool model = false, dtype = false, method = false, group = false;
  bool calibration = false, evaluation = false;
  for (int64_t i = 0; i < c->fresh->n_points; i++) {
    const ptq_point_row *q = &c->fresh->points[i];
    model = model || strcmp(p->model, q->model) == 0;
    dtype = dtype || strcmp(p->dtype, q->dtype) == 0;
    method = method || (strcmp(p->method, q->method) == 0 &&
                        strcmp(p->options, q->options) == 0);
    group = group || p->group == q->group;
    calibration = calibration || strcmp(p->calibration, q->calibration) == 0;
    evaluation = evaluation || strcmp(p->evaluation, q->evaluation) == 0;
  }
  const char *colon = p->options[0] != '\0' ? ":" : "";
  if (!model)
    (void)snprintf(text, size, "model '%s' is not in this sweep", p->model);
  else if (!dtype)
    (void)snprintf(text, size, "dtype '%s' is not in this sweep", p->dtype);
  else if (!method)
    (void)snprintf(text, size, "method '%s%s%s' is not in this sweep",
                   p->method, colon, p->options);
  else if (!group)
    (void)snprintf(text, size, "group %lld is not in this sweep",
                   (long long)p->group);
  else if (!calibration)
    (void)snprintf(text, size, "calibration '%s' is not in this sweep",
                   p->calibration);
  else if (!evaluation)
    (void)snprintf(text, size, "evaluation '%s' is not in this sweep",
                   p->evaluation);
  else
    (void)snprintf(text, size, "%s %s %s%s%s group %lld is excluded here",
                   p->model, p->dtype, p->method, colon, p->options,
                   (long long)p->group);
}

static void explain(comparison *c) {
  int64_t looked_at = 0;
  for (int64_t i = 0; i < c->old->sets.n_points; i++) {
    char text[400];
    int64_t found = -1;
    if (c->place[i] >= 0) continue;
    if (++looked_at > MAX_LOOKED_AT) {
      add_reason(c, "points not looked at");
      continue;
    }
    for (int64_t j = 0; j < c->fresh->n_points && found < 0; j++)
      if (same_words(&c->old->points[i], &c->fresh->points[j])) found = j;
    if (found >= 0)
      why_changed(c, i, found, text, sizeof text);
    else
      why_gone(c, &c->old->points[i], text, sizeof text);
    add_reason(c, text);
  }
}

static ptq_status refuse(const char *path, comparison *c, ptq_err *err) {
  const int64_t n = c->old->sets.n_points;
  explain(c);
  for (int i = 0; i < c->n_reasons; i++)
    ptq_log(PTQ_LOG_ERROR, "%s: %lld of its points: %s", path,
            (long long)c->reasons[i].n, c->reasons[i].text);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "store '%s': it belongs to another sweep: %lld of its %lld "
                  "points are not of this one (%.200s%s); give the sweep file, "
                  "models and texts it was made from, or choose another file "
                  "with -o",
                  path, (long long)(n - c->n_common), (long long)n,
                  c->reasons[0].text, c->n_reasons > 1 ? ", and more" : "");
}

static bool same_direction(const ptq_direction_row *a,
                           const ptq_direction_row *b) {
  return strcmp(a->model, b->model) == 0 && strcmp(a->kind, b->kind) == 0 &&
         strcmp(a->scaling, b->scaling) == 0 && a->number == b->number &&
         strcmp(a->dtype, b->dtype) == 0;
}

/* A finished direction has no place in the new sweep. */
static ptq_status refuse_direction(const char *path, const ptq_direction_row *d,
                                   const ptq_store_layout *l, ptq_err *err) {
  bool otherwise = false;
  for (int64_t i = 0; i < l->n_directions && !otherwise; i++)
    otherwise = same_direction(d, &l->directions[i]);
  return PTQ_FAIL(
      err, PTQ_E_ARG,
      otherwise
          ? "store '%s': a direction of its landscape (%s %s%s of '%s') was "
            "measured with other settings (radial or full, radii, probes, "
            "Lanczos' steps and starts, texts) and would be lost; keep these "
            "of measure.landscape as they were and add directions, dtypes, "
            "methods or sensitivities alone, or measure into another file with "
            "-o"
          : "store '%s': a direction of its landscape (%s %s%s of '%s') is not "
            "in this sweep and would be lost; ask for no less of "
            "measure.landscape than it has, or choose another file with -o",
      path, d->kind, d->scaling, d->dtype, d->model);
}

/* The direction of the new store that has all that one with this key has; -1:
 * none. */
static int64_t whole_of(const ptq_store_layout *l, const char *key) {
  for (int64_t i = 0; l->direction_parts != NULL && i < l->n_directions; i++)
    if (strcmp(l->direction_parts[i], key) == 0) return i;
  return -1;
}

/* Is it finished in the old store, as a joined one may have it? */
static bool is_finished(const comparison *c, const char *key) {
  for (int64_t i = 0; i < c->old->sets.n_directions; i++)
    if (c->old->direction_state[i] == PTQ_STATE_DONE &&
        strcmp(c->old->directions[i].key, key) == 0)
      return true;
  return false;
}

/* The old store's directions in the new one; a finished one that has no place
 * there would be lost, unless a larger one measures it again. */
static ptq_status carry_directions(const char *path, const comparison *c,
                                   ptq_carry **out, int64_t *n_again,
                                   ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_store_layout *l = c->fresh;
  *n_again = 0;
  PTQ_TRY(ptq_alloc(out, l->n_directions, sizeof **out, "directions", err));
  for (int64_t i = 0; i < c->old->sets.n_directions; i++) {
    const ptq_direction_row *d = &c->old->directions[i];
    const int64_t whole = whole_of(l, d->key);
    int64_t at = 0;
    while (at < l->n_directions && strcmp(l->directions[at].key, d->key) != 0)
      at++;
    if (at < l->n_directions)
      (*out)[at] = (ptq_carry){c->old, i};
    else if (c->old->direction_state[i] != PTQ_STATE_DONE)
      continue;
    else if (whole >= 0)
      *n_again += !is_finished(c, l->directions[whole].key);
    else
      PTQ_TRY(refuse_direction(path, d, l, err));
  }
done:
  return rc;
}

/* Where each row of the new store comes from. */
static ptq_status make_carries(const comparison *c, ptq_carry **points,
                               ptq_carry **subjects, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_store_layout *l = c->fresh;
  PTQ_TRY(ptq_alloc(points, l->n_points, sizeof **points, "points", err));
  PTQ_TRY(ptq_alloc(subjects, l->n_subjects, sizeof **subjects, "models", err));
  for (int64_t i = 0; i < c->old->sets.n_points; i++) {
    if (c->place[i] < 0) continue;
    (*points)[c->place[i]] = (ptq_carry){c->old, i};
    /* Equal keys are equal checkpoints and texts: the models are the same. */
    (*subjects)[l->point_subject[c->place[i]]] =
        (ptq_carry){c->old, c->old->sets.subject[i]};
  }
done:
  return rc;
}

static ptq_status grow(const char *path, const comparison *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_carry *points = NULL, *subjects = NULL, *directions = NULL;
  char line[200], more[80] = "";
  int64_t n = 0, n_again = 0;
  PTQ_TRY(make_carries(c, &points, &subjects, err));
  PTQ_TRY(carry_directions(path, c, &directions, &n_again, err));
  if (n_again > 0)
    (void)snprintf(more, sizeof more,
                   ", %lld radial directions are measured again in full",
                   (long long)n_again);
  (void)snprintf(line, sizeof line, "extended from %lld to %lld points%s",
                 (long long)c->old->sets.n_points,
                 (long long)c->fresh->n_points, more);
  const ptq_carry_plan plan = {.layout = c->fresh,
                               .points = points,
                               .subjects = subjects,
                               .directions = directions,
                               .sources = c->old,
                               .n_sources = 1,
                               .log = c->old,
                               .line = line};
  PTQ_TRY(ptq_carry_into(path, &plan, &n, err));
  ptq_log(PTQ_LOG_INFO, "%s: %s, %lld finished ones taken over", path, line,
          (long long)n);
done:
  ptq_free(points);
  ptq_free(subjects);
  ptq_free(directions);
  return rc;
}

/* Are the directions, in order, those of the layout? */
static ptq_status same_landscape(const ptq_sets *s, const ptq_store_layout *l,
                                 bool *same, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_DIRECTIONS);
  *same = s->n_directions == l->n_directions;
  for (int64_t i = 0; i < l->n_directions && *same; i++) {
    ptq_direction_row row;
    PTQ_TRY(ptq_store_read_row(&s->set[PTQ_SET_DIRECTIONS], t, i, &row, err));
    *same = strcmp(row.key, l->directions[i].key) == 0;
  }
done:
  return rc;
}

/* Is there anything to compare? Numerics are part of every key, and have an
 * error of their own. */
static ptq_status differs(const char *path, const ptq_store_layout *l,
                          bool *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_sets sets;
  char *fingerprint = NULL, *numerics = NULL;
  const hid_t fapl = ptq_h5_plain_access();
  *out = false;
  ptq_sets_init(&sets);
  PTQ_TRY(ptq_sets_open(path, H5F_ACC_RDONLY, fapl, &sets, err));
  PTQ_TRY(
      ptq_h5_attribute_get(sets.file, path, "fingerprint", &fingerprint, err));
  PTQ_TRY(ptq_h5_attribute_get(sets.file, path, "numerics", &numerics, err));
  if (strcmp(numerics, l->numerics) != 0) goto done;
  bool same = true;
  if (l->extend && sets.schema == PTQ_STORE_SCHEMA)
    PTQ_TRY(same_landscape(&sets, l, &same, err));
  *out = strcmp(fingerprint, l->fingerprint) != 0 ||
         (l->extend && (sets.schema < PTQ_STORE_SCHEMA ||
                        sets.n_spectra != l->n_spectra || !same));
done:
  if (fapl >= 0) (void)H5Pclose(fapl);
  (void)ptq_sets_close(&sets, NULL);
  ptq_free(fingerprint);
  ptq_free(numerics);
  return rc;
}

ptq_status ptq_extend(const char *path, const ptq_store_layout *layout,
                      ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_source old = {0};
  comparison c = {.old = &old, .fresh = layout};
  bool different = false;
  ptq_sets_init(&old.sets);
  PTQ_TRY(differs(path, layout, &different, err));
  if (!different) goto done;
  PTQ_TRY(ptq_source_open(path, &old, err));
  ptq_source_tell_bad(&old);
  PTQ_TRY(match_keys(&c, err));
  if (c.n_common < old.sets.n_points)
    rc = refuse(path, &c, err);
  else if (layout->extend)
    rc = grow(path, &c, err);
  else
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "store '%s': it belongs to another sweep, a part of this "
                  "one: %lld of these %lld points; --extend carries them over "
                  "into a new file of that name, or choose another file with "
                  "-o",
                  path, (long long)c.n_common, (long long)layout->n_points);
done:
  ptq_free(c.place);
  ptq_source_close(&old);
  return rc;
}
