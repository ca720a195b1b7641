/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rows of one configuration are found by its hash: everything that enters a
 * point's key but the texts' bytes and the numerics. Equal configurations of
 * equal numerics must then have equal keys.
 */
#include "ptq/store/merge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agreement.h"
#include "carry.h"
#include "join_directions.h"
#include "lockfile.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "source.h"

/* A row of one of the stores. */
typedef struct entry {
  char config[PTQ_HASH_HEX];
  int64_t source, row;
  int64_t order; /* of all rows, store by store */
} entry;

typedef struct joining {
  const ptq_merge_options *options; /* borrowed */
  ptq_merge_summary *summary;       /* borrowed */
  ptq_source *sources;              /* owned [n_sources] */
  int64_t n_sources;
  entry *points, *models; /* owned; by configuration, then order */
  int64_t n_points, n_models;
  entry *kept, *kept_models; /* owned; one each, in order */
  int64_t n_kept, n_kept_models;
} joining;

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
  const entry *x = a, *y = b;
  const int order = strcmp(x->config, y->config);
  return order != 0 ? order : (x->order > y->order) - (x->order < y->order);
}

static int by_order(const void *a, const void *b) {
  const entry *x = a, *y = b;
  return (x->order > y->order) - (x->order < y->order);
}

static ptq_status set_config(const ptq_source *s, bool model, entry *e,
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
static ptq_status collect(const joining *j, bool models, entry **out,
                          int64_t *n_out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n = 0;
  for (int64_t s = 0; s < j->n_sources; s++)
    n += models ? j->sources[s].sets.n_subjects : j->sources[s].sets.n_points;
  PTQ_TRY(ptq_alloc(out, n, sizeof **out, "rows to join", err));
  n = 0;
  for (int64_t s = 0; s < j->n_sources; s++) {
    const ptq_sets *sets = &j->sources[s].sets;
    for (int64_t i = 0; i < (models ? sets->n_subjects : sets->n_points); i++) {
      entry *e = &(*out)[n];
      *e = (entry){.source = s, .row = i, .order = n};
      n++;
      PTQ_TRY(set_config(&j->sources[s], models, e, err));
    }
  }
  qsort(*out, (size_t)n, sizeof **out, by_config);
  *n_out = n;
done:
  return rc;
}

static int state_of(const joining *j, const entry *e, bool model) {
  const ptq_source *s = &j->sources[e->source];
  return model ? s->model_state[e->row] : s->state[e->row];
}

/* The finished one, else the failed one, else the first. */
static int64_t best_of(const joining *j, const entry *group, int64_t n,
                       bool model) {
  static const int wanted[] = {PTQ_STATE_DONE, PTQ_STATE_FAILED};
  for (size_t w = 0; w < sizeof wanted / sizeof wanted[0]; w++)
    for (int64_t i = 0; i < n; i++)
      if (state_of(j, &group[i], model) == wanted[w]) return i;
  return 0;
}

static void tell(const joining *j, const entry *a, const entry *b, bool model,
                 const char *how) {
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
static ptq_status compare(const joining *j, const entry *a, const entry *b,
                          bool model, ptq_err *err) {
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
static ptq_status check_key(const joining *j, const entry *a, const entry *b,
                            ptq_err *err) {
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
static ptq_status choose(const joining *j, const entry *all, int64_t n,
                         bool model, entry **kept, int64_t *n_kept,
                         ptq_err *err) {
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
    entry *e = &(*kept)[(*n_kept)++];
    *e = all[best];
    e->order = all[i].order; /* where it first stood */
  }
  qsort(*kept, (size_t)*n_kept, sizeof **kept, by_order);
done:
  return rc;
}

/* --- The new store ----------------------------------------------------------
 */

typedef struct layout_parts {
  ptq_store_layout layout;
  ptq_point_row *points;                    /* owned */
  int64_t *subject;                         /* owned */
  int64_t *layers, *windows, *answers;      /* owned */
  ptq_model_row *subjects;                  /* owned */
  int64_t *subject_windows;                 /* owned */
  int64_t *subject_answers;                 /* owned */
  ptq_spectrum_slot *spectra;               /* owned */
  ptq_carry *carry_points, *carry_subjects; /* owned */
  char *texts[4]; /* owned; attributes of the first store */
  ptq_store_attribute attributes[4];
  ptq_joined_directions directions;
  ptq_text origin; /* where the rows are from */
  char numerics[128];
} layout_parts;

static void parts_release(layout_parts *p) {
  ptq_free(p->points);
  ptq_free(p->subject);
  ptq_free(p->layers);
  ptq_free(p->windows);
  ptq_free(p->answers);
  ptq_free(p->subjects);
  ptq_free(p->subject_windows);
  ptq_free(p->subject_answers);
  ptq_free(p->spectra);
  ptq_free(p->carry_points);
  ptq_free(p->carry_subjects);
  ptq_joined_directions_release(&p->directions);
  for (int i = 0; i < 4; i++) ptq_free(p->texts[i]);
  ptq_text_release(&p->origin);
}

static void clear_numbers(const ptq_table *t, void *row) {
  const double nothing = (double)NAN;
  for (size_t i = 0; i < t->n_fields; i++)
    if (t->fields[i].kind == PTQ_KIND_F64)
      memcpy((char *)row + t->fields[i].offset, &nothing, sizeof nothing);
}

/* Place of a subject's configuration among the kept ones. */
static int64_t find_model(const void *ctx, const ptq_source *s, int64_t row) {
  const joining *j = ctx;
  entry want = {.row = row};
  if (set_config(s, true, &want, NULL) != PTQ_OK) return -1;
  for (int64_t i = 0; i < j->n_kept_models; i++)
    if (strcmp(j->kept_models[i].config, want.config) == 0) return i;
  return -1;
}

static ptq_status fill_points(const joining *j, layout_parts *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = j->n_kept;
  PTQ_TRY(ptq_alloc(&p->points, n, sizeof *p->points, "points", err));
  PTQ_TRY(ptq_alloc(&p->subject, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->layers, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->windows, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->answers, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&p->carry_points, n, sizeof(ptq_carry), "points", err));
  for (int64_t i = 0, last = -1, from = -1, at = -1; i < n; i++) {
    const entry *e = &j->kept[i];
    const ptq_source *s = &j->sources[e->source];
    const int64_t *layer = s->sets.first_layer + e->row;
    const int64_t *window = s->sets.first_window + e->row;
    const int64_t *answer = s->sets.first_answer + e->row;
    p->points[i] = s->points[e->row];
    clear_numbers(ptq_table_get(PTQ_TABLE_POINTS), &p->points[i]);
    p->layers[i] = layer[1] - layer[0];
    p->windows[i] = window[1] - window[0];
    p->answers[i] = answer[1] - answer[0];
    p->carry_points[i] = (ptq_carry){s, e->row};
    /* Points of one model follow one another. */
    if (last != e->source || from != s->sets.subject[e->row])
      at = find_model(j, s, s->sets.subject[e->row]);
    last = e->source;
    from = s->sets.subject[e->row];
    p->subject[i] = at;
    if (at < 0) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "joining models"));
  }
done:
  return rc;
}

static ptq_status fill_subjects(const joining *j, layout_parts *p,
                                int64_t *n_spectra, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t m = j->n_kept_models;
  int64_t room = 0;
  PTQ_TRY(ptq_alloc(&p->subjects, m, sizeof *p->subjects, "models", err));
  PTQ_TRY(ptq_alloc(&p->subject_windows, m, sizeof(int64_t), "models", err));
  PTQ_TRY(ptq_alloc(&p->subject_answers, m, sizeof(int64_t), "models", err));
  PTQ_TRY(ptq_alloc(&p->carry_subjects, m, sizeof(ptq_carry), "models", err));
  for (int64_t s = 0; s < j->n_sources; s++)
    room += j->sources[s].sets.n_spectra;
  PTQ_TRY(ptq_alloc(&p->spectra, room, sizeof *p->spectra, "spectra", err));
  for (int64_t i = 0; i < m; i++) {
    const entry *e = &j->kept_models[i];
    const ptq_source *s = &j->sources[e->source];
    const int64_t *first = s->sets.first_baseline + e->row;
    p->subjects[i] = s->models[e->row];
    clear_numbers(ptq_table_get(PTQ_TABLE_MODELS), &p->subjects[i]);
    p->subject_windows[i] = first[1] - first[0];
    first = s->sets.first_baseline_answer + e->row;
    p->subject_answers[i] = first[1] - first[0];
    p->carry_subjects[i] = (ptq_carry){s, e->row};
    for (int64_t k = 0; k < s->sets.n_spectra; k++) {
      if (s->sets.spectra[k].subject != e->row) continue;
      ptq_spectrum_slot *slot = &p->spectra[(*n_spectra)++];
      *slot = s->sets.spectra[k];
      slot->subject = i;
    }
  }
done:
  return rc;
}

/* Spectra of several subjects of one model stand in groups of their own. */
static void name_groups(layout_parts *p, int64_t n,
                        const ptq_model_row *models) {
  for (int64_t i = 0; i < n; i++) {
    ptq_spectrum_slot *a = &p->spectra[i];
    bool shared = false;
    for (int64_t k = 0; k < n && !shared; k++)
      shared = p->spectra[k].subject != a->subject &&
               strcmp(models[p->spectra[k].subject].model,
                      models[a->subject].model) == 0;
    (void)snprintf(a->group, sizeof a->group, shared ? "%s@%lld" : "%s",
                   models[a->subject].model, (long long)a->subject);
  }
}

static ptq_status fingerprint(const layout_parts *p, int64_t n,
                              char hex[PTQ_HASH_HEX], ptq_err *err) {
  ptq_hash *h = NULL;
  const ptq_status rc = ptq_hash_create(&h, err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < n; i++) ptq_hash_text(h, p->points[i].key);
  ptq_hash_hex(h, hex);
  ptq_hash_free(h);
  return PTQ_OK;
}

/* What the stores say of the run as a whole: the first one's word, and whose
 * rows these are. */
static ptq_status fill_attributes(const joining *j, layout_parts *p,
                                  ptq_err *err) {
  static const char *const names[] = {"bootstrap", "preset", "moments"};
  ptq_status rc = PTQ_OK;
  const ptq_source *first = &j->sources[0];
  int n = 0;
  for (int i = 0; i < 3; i++) {
    if (H5Aexists(first->sets.file, names[i]) <= 0) continue;
    PTQ_TRY(ptq_h5_attribute_get(first->sets.file, first->sets.path, names[i],
                                 &p->texts[n], err));
    p->attributes[n] = (ptq_store_attribute){names[i], p->texts[n]};
    n++;
  }
  (void)ptq_text_copy(p->numerics, sizeof p->numerics, first->numerics);
  for (int64_t s = 0; s < j->n_sources; s++) {
    ptq_text_addf(&p->origin, "%s %s (%s)\n", j->sources[s].uuid,
                  j->sources[s].sets.path, j->sources[s].numerics);
    if (strcmp(first->numerics, j->sources[s].numerics) != 0)
      (void)ptq_text_copy(p->numerics, sizeof p->numerics, "mixed");
  }
  if (p->origin.rc != PTQ_OK)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "joining stores"));
  p->attributes[n++] =
      (ptq_store_attribute){"merged_from", ptq_text_str(&p->origin)};
  p->layout.n_attributes = n;
  p->layout.attributes = p->attributes;
  p->layout.numerics = p->numerics;
done:
  return rc;
}

static ptq_status make_layout(const joining *j, const char *spec_text,
                              layout_parts *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n_spectra = 0;
  PTQ_TRY(fill_points(j, p, err));
  PTQ_TRY(fill_subjects(j, p, &n_spectra, err));
  name_groups(p, n_spectra, p->subjects);
  PTQ_TRY(fill_attributes(j, p, err));
  ptq_store_layout *l = &p->layout;
  l->spec_text = spec_text;
  l->program_version = j->options->program_version;
  l->n_points = j->n_kept;
  l->points = p->points;
  l->point_subject = p->subject;
  l->point_layers = p->layers;
  l->point_windows = p->windows;
  l->point_answers = p->answers;
  l->n_subjects = j->n_kept_models;
  l->subjects = p->subjects;
  l->subject_windows = p->subject_windows;
  l->subject_answers = p->subject_answers;
  l->n_spectra = n_spectra;
  l->spectra = p->spectra;
  ptq_joined_directions_lay_out(&p->directions, l);
  PTQ_TRY(fingerprint(p, j->n_kept, l->fingerprint, err));
done:
  return rc;
}

static ptq_status refuse(const joining *j, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "the stores disagree in %lld rows, and nothing was "
                  "written; --tolerance allows more between different "
                  "CPUs, --keep-first takes the first store's rows",
                  (long long)j->summary->n_disagree);
}

static ptq_status join_directions(const joining *j, layout_parts *p,
                                  ptq_err *err) {
  const ptq_status rc = ptq_join_directions(
      j->sources, j->n_sources, find_model, j, j->options->report,
      j->options->ctx, &p->directions, err);
  if (rc != PTQ_OK) return rc;
  j->summary->n_equal += p->directions.n_equal;
  j->summary->n_disagree += p->directions.n_disagree;
  if (j->summary->n_disagree > 0 && !j->options->keep_first)
    return refuse(j, err);
  return PTQ_OK;
}

static ptq_status write_out(const char *out, const joining *j, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  layout_parts p = {.numerics = ""};
  char *spec_text = NULL;
  char line[80];
  int lock = -1;
  const ptq_sets *first = &j->sources[0].sets;
  if (H5Aexists(first->file, "spec_text") > 0)
    PTQ_TRY(ptq_h5_attribute_get(first->file, first->path, "spec_text",
                                 &spec_text, err));
  PTQ_TRY(join_directions(j, &p, err));
  PTQ_TRY(make_layout(j, spec_text != NULL ? spec_text : "", &p, err));
  (void)snprintf(line, sizeof line, "merged from %lld stores",
                 (long long)j->n_sources);
  const ptq_carry_plan plan = {.layout = &p.layout,
                               .points = p.carry_points,
                               .subjects = p.carry_subjects,
                               .directions = p.directions.carry,
                               .line = line};
  PTQ_TRY(ptq_lockfile_take(out, 1, &lock, err));
  PTQ_TRY(ptq_carry_into(out, &plan, &j->summary->n_finished, err));
done:
  ptq_lockfile_release(out, lock);
  ptq_free(spec_text);
  parts_release(&p);
  return rc;
}

static void joining_release(joining *j) {
  for (int64_t s = 0; j->sources != NULL && s < j->n_sources; s++)
    ptq_source_close(&j->sources[s]);
  ptq_free(j->sources);
  ptq_free(j->points);
  ptq_free(j->models);
  ptq_free(j->kept);
  ptq_free(j->kept_models);
}

static ptq_status open_sources(joining *j, const char *const *paths, int64_t n,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_alloc(&j->sources, n, sizeof *j->sources, "stores", err));
  for (int64_t s = 0; s < n; s++) ptq_sets_init(&j->sources[s].sets);
  j->n_sources = n;
  for (int64_t s = 0; s < n; s++) {
    PTQ_TRY(ptq_source_open(paths[s], &j->sources[s], err));
    ptq_source_tell_bad(&j->sources[s]);
  }
done:
  return rc;
}

ptq_status ptq_store_merge(const char *out, const char *const *paths,
                           int64_t n_paths, const ptq_merge_options *options,
                           ptq_merge_summary *summary, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  joining j = {.options = options, .summary = summary};
  *summary = (ptq_merge_summary){0};
  ptq_h5_quiet();
  if (ptq_path_exists(out))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "'%s' is there already; name a new file for the merged "
                     "store",
                     out));
  PTQ_TRY(open_sources(&j, paths, n_paths, err));
  PTQ_TRY(collect(&j, false, &j.points, &j.n_points, err));
  PTQ_TRY(collect(&j, true, &j.models, &j.n_models, err));
  PTQ_TRY(choose(&j, j.points, j.n_points, false, &j.kept, &j.n_kept, err));
  PTQ_TRY(choose(&j, j.models, j.n_models, true, &j.kept_models,
                 &j.n_kept_models, err));
  summary->n_points = j.n_kept;
  if (summary->n_disagree > 0 && !options->keep_first) PTQ_TRY(refuse(&j, err));
  PTQ_TRY(write_out(out, &j, err));
done:
  joining_release(&j);
  return rc;
}
