/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Reads with the plain driver and without file locks, so a run may be writing
 * meanwhile. States are read when the view opens, before any row: a row that
 * was done then is complete when it is read later.
 */
#include "ptq/store/view.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "attempt.h"
#include "fixed.h"
#include "integrity.h"
#include "lockfile.h"
#include "logring.h"
#include "pack.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "steps.h"

typedef struct view_text {
  char name[64];
  char *text; /* owned */
} view_text;

struct ptq_view {
  ptq_sets sets;    /* owned */
  view_text *texts; /* owned */
  int64_t n_texts;
  void *rows[PTQ_TABLE_COUNT]; /* owned; NULL until asked for */
  void *item_attempts[2];      /* owned; likewise: models', directions' */
  int *point_state, *model_state, *direction_state; /* owned */
  ptq_view_spectrum *spectra;    /* owned, with their values */
  unsigned char *spectrum_state; /* owned */
};

/* Which set holds a table. */
static const ptq_set_id table_sets[PTQ_TABLE_COUNT] = {
    [PTQ_TABLE_POINTS] = PTQ_SET_POINTS,
    [PTQ_TABLE_LAYERS] = PTQ_SET_LAYERS,
    [PTQ_TABLE_WINDOWS] = PTQ_SET_WINDOWS,
    [PTQ_TABLE_MODELS] = PTQ_SET_MODELS,
    [PTQ_TABLE_BASELINE] = PTQ_SET_BASELINE,
    [PTQ_TABLE_ATTEMPTS] = PTQ_SET_ATTEMPTS,
    [PTQ_TABLE_ANSWERS] = PTQ_SET_ANSWERS,
    [PTQ_TABLE_BASELINE_ANSWERS] = PTQ_SET_BASELINE_ANSWERS,
    [PTQ_TABLE_DIRECTIONS] = PTQ_SET_DIRECTIONS,
    [PTQ_TABLE_PROFILES] = PTQ_SET_PROFILES,
    [PTQ_TABLE_DIRECTION_LAYERS] = PTQ_SET_DIRECTION_LAYERS,
    [PTQ_TABLE_RITZ] = PTQ_SET_RITZ,
};
_Static_assert(sizeof table_sets / sizeof table_sets[0] == PTQ_TABLE_COUNT,
               "one set per table");

/* A named text that the view owns; `text` is handed over, also on failure. */
static ptq_status add_text(ptq_view *v, const char *name, char *text,
                           ptq_err *err) {
  const ptq_status rc = ptq_grow(&v->texts, v->n_texts, v->n_texts + 1,
                                 sizeof *v->texts, "attributes", err);
  if (rc != PTQ_OK) {
    ptq_free(text);
    return rc;
  }
  view_text *t = &v->texts[v->n_texts++];
  (void)ptq_text_copy(t->name, sizeof t->name, name);
  t->text = text;
  return PTQ_OK;
}

static bool is_text(hid_t file, const char *name) {
  const hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
  const hid_t type = attribute < 0 ? attribute : H5Aget_type(attribute);
  const bool text = type >= 0 && H5Tget_class(type) == H5T_STRING;
  if (type >= 0) (void)H5Tclose(type);
  if (attribute >= 0) (void)H5Aclose(attribute);
  return text;
}

/* Attributes are opened by name: HDF5 1.10 dies of a damaged one when it walks
 * over all of them. */
static ptq_status load_texts(ptq_view *v, ptq_err *err) {
  static const char *const names[] = {
      "uuid",        "created",   "numerics",  "program_version",
      "fingerprint", "spec_text", "bootstrap", "preset",
      "landscape",   "moments",   "spec_path", "command_line",
      "build",       "libraries", "hosts",     "merged_from"};
  ptq_status rc = PTQ_OK;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    char *text = NULL;
    if (!is_text(v->sets.file, names[i])) continue; /* or a dataset */
    PTQ_TRY(
        ptq_h5_attribute_get(v->sets.file, v->sets.path, names[i], &text, err));
    PTQ_TRY(add_text(v, names[i], text, err));
  }
done:
  return rc;
}

/* A sweep file too long for an attribute is a dataset. */
static ptq_status load_long_spec(ptq_view *v, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_h5_set set = PTQ_H5_SET_NONE;
  char *text = NULL;
  if (ptq_view_attribute(v, "spec_text")[0] != '\0' ||
      H5Lexists(v->sets.file, "spec_text", H5P_DEFAULT) <= 0)
    return PTQ_OK;
  PTQ_TRY(ptq_h5_open(v->sets.file, v->sets.path, "spec_text", &set, err));
  PTQ_TRY(ptq_alloc(&text, (int64_t)set.row_bytes + 1, 1, set.name, err));
  PTQ_TRY(ptq_h5_read(&set, 0, 1, text, err));
  rc = add_text(v, "spec_text", text, err);
  text = NULL;
done:
  ptq_free(text);
  ptq_h5_close(&set);
  return rc;
}

static ptq_status load_states(const ptq_h5_set *set, int **out, ptq_err *err) {
  unsigned char *raw = NULL;
  ptq_status rc = ptq_alloc(&raw, set->rows, 1, "states", err);
  if (rc == PTQ_OK) rc = ptq_alloc(out, set->rows, sizeof **out, "states", err);
  if (rc == PTQ_OK) rc = ptq_h5_read(set, 0, set->rows, raw, err);
  for (int64_t i = 0; rc == PTQ_OK && i < set->rows; i++) (*out)[i] = raw[i];
  ptq_free(raw);
  return rc;
}

ptq_status ptq_view_open(const char *path, ptq_view **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *v = NULL;
  hid_t fapl = H5I_INVALID_HID;
  *out = NULL;
  ptq_h5_quiet();
  PTQ_TRY(ptq_alloc(&v, 1, sizeof *v, "view of a store", err));
  ptq_sets_init(&v->sets);
  fapl = ptq_h5_plain_access();
  if (fapl < 0)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_NOMEM, path, "access properties of", "/"));
  PTQ_TRY(ptq_sets_open(path, H5F_ACC_RDONLY, fapl, &v->sets, err));
  const ptq_sets *s = &v->sets;
  PTQ_TRY(load_states(&s->set[PTQ_SET_STATE], &v->point_state, err));
  PTQ_TRY(load_states(&s->set[PTQ_SET_MODELS_STATE], &v->model_state, err));
  PTQ_TRY(
      load_states(&s->set[PTQ_SET_DIRECTIONS_STATE], &v->direction_state, err));
  PTQ_TRY(ptq_alloc(&v->spectrum_state, s->n_spectra, 1, "states", err));
  PTQ_TRY(ptq_h5_read(&s->set[PTQ_SET_SPECTRA_STATE], 0, s->n_spectra,
                      v->spectrum_state, err));
  PTQ_TRY(load_texts(v, err));
  PTQ_TRY(load_long_spec(v, err));
  *out = v;
  v = NULL;
done:
  if (fapl >= 0) (void)H5Pclose(fapl);
  ptq_view_close(v);
  return rc;
}

void ptq_view_close(ptq_view *v) {
  if (v == NULL) return;
  for (int64_t i = 0; v->spectra != NULL && i < v->sets.n_spectra; i++)
    ptq_free(v->spectra[i].values);
  ptq_free(v->spectra);
  ptq_free(v->spectrum_state);
  ptq_free(v->point_state);
  ptq_free(v->model_state);
  ptq_free(v->direction_state);
  for (int i = 0; i < PTQ_TABLE_COUNT; i++) ptq_free(v->rows[i]);
  for (int i = 0; i < 2; i++) ptq_free(v->item_attempts[i]);
  for (int64_t i = 0; i < v->n_texts; i++) ptq_free(v->texts[i].text);
  ptq_free(v->texts);
  (void)ptq_sets_close(&v->sets, NULL);
  ptq_free(v);
}

const char *ptq_view_path(const ptq_view *v) {
  return v->sets.path;
}

bool ptq_view_running(const ptq_view *v, long *pid) {
  return ptq_lockfile_held(v->sets.path, pid);
}

const char *ptq_view_attribute(const ptq_view *v, const char *name) {
  for (int64_t i = 0; i < v->n_texts; i++)
    if (strcmp(v->texts[i].name, name) == 0) return v->texts[i].text;
  return "";
}

static ptq_status load_table(const ptq_h5_set *set, const ptq_table *t,
                             int64_t schema, void **out, ptq_err *err) {
  enum { SLAB = 8192 };
  ptq_status rc = PTQ_OK;
  ptq_pack_column columns[64];
  unsigned char *raw = NULL;
  char *rows = NULL;
  if (t->n_fields > 64)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_UNSUPPORTED, "table '%s'", t->name));
  if (set->rows == 0) return ptq_alloc(out, 0, t->row_size, set->name, err);
  PTQ_TRY(ptq_h5_columns(set, t, schema, columns, err));
  PTQ_TRY(ptq_alloc(&rows, set->rows, t->row_size, set->name, err));
  PTQ_TRY(ptq_alloc(&raw, SLAB, set->row_bytes, set->name, err));
  for (int64_t at = 0; at < set->rows; at += SLAB) {
    const int64_t n = set->rows - at < SLAB ? set->rows - at : SLAB;
    PTQ_TRY(ptq_h5_read(set, at, n, raw, err));
    ptq_unpack_rows(t, columns, set->row_bytes, raw, n,
                    rows + (size_t)at * t->row_size);
  }
  *out = rows;
  rows = NULL;
done:
  ptq_free(raw);
  ptq_free(rows);
  return rc;
}

/* Rows [from, to) hold no result: whatever an interrupted writer left there,
 * numbers are NaN. `owner_column` names the owner in rows that were never
 * written; NULL keeps text and integers. */
static void blank_rows(const ptq_table *t, char *rows, int64_t from, int64_t to,
                       const char *owner_column, int64_t owner) {
  const double nothing = (double)NAN;
  for (int64_t r = from; r < to; r++) {
    char *row = rows + (size_t)r * t->row_size;
    if (owner_column != NULL) {
      ptq_row_clear(t, row);
      memcpy(row + ptq_table_field(t, owner_column)->offset, &owner,
             sizeof owner);
      continue;
    }
    for (size_t i = 0; i < t->n_fields; i++)
      if (t->fields[i].kind == PTQ_KIND_F64)
        memcpy(row + t->fields[i].offset, &nothing, sizeof nothing);
  }
}

/* Whose rows a table holds. */
typedef struct owner {
  const char *column; /* of the owner's number, in tables of its parts */
  const int *state;
  int64_t n;
} owner;

static owner owner_of(const ptq_view *v, ptq_table_id id) {
  switch (id) {
    case PTQ_TABLE_MODELS:
    case PTQ_TABLE_BASELINE:
    case PTQ_TABLE_BASELINE_ANSWERS:
      return (owner){"subject", v->model_state, v->sets.n_subjects};
    case PTQ_TABLE_DIRECTIONS:
    case PTQ_TABLE_PROFILES:
    case PTQ_TABLE_DIRECTION_LAYERS:
    case PTQ_TABLE_RITZ:
      return (owner){"direction", v->direction_state, v->sets.n_directions};
    default:
      return (owner){"point", v->point_state, v->sets.n_points};
  }
}

static void blank_unfinished(const ptq_view *v, ptq_table_id id) {
  const ptq_table *t = ptq_table_get(id);
  const ptq_sets *s = &v->sets;
  const owner of = owner_of(v, id);
  const int64_t *first = NULL;
  if (id == PTQ_TABLE_ATTEMPTS) return;
  if (id == PTQ_TABLE_LAYERS) first = s->first_layer;
  if (id == PTQ_TABLE_WINDOWS) first = s->first_window;
  if (id == PTQ_TABLE_BASELINE) first = s->first_baseline;
  if (id == PTQ_TABLE_ANSWERS) first = s->first_answer;
  if (id == PTQ_TABLE_BASELINE_ANSWERS) first = s->first_baseline_answer;
  if (id == PTQ_TABLE_PROFILES) first = s->first_profile;
  if (id == PTQ_TABLE_DIRECTION_LAYERS) first = s->first_direction_layer;
  if (id == PTQ_TABLE_RITZ) first = s->first_ritz;
  for (int64_t i = 0; i < of.n; i++)
    if (of.state[i] != PTQ_STATE_DONE)
      blank_rows(t, v->rows[id], first != NULL ? first[i] : i,
                 first != NULL ? first[i + 1] : i + 1,
                 first != NULL ? of.column : NULL, i);
}

ptq_status ptq_view_table(ptq_view *v, ptq_table_id id, const void **rows,
                          int64_t *n, ptq_err *err) {
  const ptq_h5_set *set = &v->sets.set[table_sets[id]];
  *rows = NULL;
  *n = 0;
  if (v->rows[id] == NULL) {
    const ptq_status rc =
        load_table(set, ptq_table_get(id), v->sets.schema, &v->rows[id], err);
    if (rc != PTQ_OK) return rc;
    blank_unfinished(v, id);
  }
  *rows = v->rows[id];
  *n = set->rows;
  return PTQ_OK;
}

ptq_status ptq_view_item_attempts(ptq_view *v, bool directions,
                                  const ptq_attempt_row **rows, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  void **of = &v->item_attempts[directions];
  const ptq_set_id set =
      directions ? PTQ_SET_DIRECTIONS_ATTEMPTS : PTQ_SET_MODELS_ATTEMPTS;
  *rows = NULL;
  if (*of == NULL)
    PTQ_TRY(load_table(&v->sets.set[set], ptq_table_get(PTQ_TABLE_ATTEMPTS),
                       v->sets.schema, of, err));
  *rows = *of;
done:
  return rc;
}

ptq_status ptq_view_states(ptq_view *v, const int **points, int64_t *n_points,
                           const int **subjects, int64_t *n_subjects,
                           ptq_err *err) {
  (void)err; /* loaded at open */
  *points = v->point_state;
  *n_points = v->sets.n_points;
  *subjects = v->model_state;
  *n_subjects = v->sets.n_subjects;
  return PTQ_OK;
}

void ptq_view_answers(const ptq_view *v, const int64_t **first_answer,
                      const int64_t **first_baseline_answer) {
  *first_answer = v->sets.first_answer;
  *first_baseline_answer = v->sets.first_baseline_answer;
}

void ptq_view_directions(const ptq_view *v, ptq_view_landscape *out) {
  const ptq_sets *s = &v->sets;
  *out = (ptq_view_landscape){.n = s->n_directions,
                              .state = v->direction_state,
                              .first_profile = s->first_profile,
                              .first_layer = s->first_direction_layer,
                              .first_ritz = s->first_ritz};
}

ptq_status ptq_view_index(ptq_view *v, const int64_t **subject,
                          const int64_t **first_layer,
                          const int64_t **first_window, ptq_err *err) {
  (void)err; /* loaded at open */
  *subject = v->sets.subject;
  *first_layer = v->sets.first_layer;
  *first_window = v->sets.first_window;
  return PTQ_OK;
}

static ptq_status load_spectrum(const ptq_view *v, int64_t i,
                                ptq_view_spectrum *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &v->sets;
  const ptq_spectrum_slot *slot = &s->spectra[i];
  const bool finished = v->spectrum_state[i] == PTQ_STATE_DONE;
  const int64_t n = slot->n_blocks * slot->d;
  ptq_h5_set set = PTQ_H5_SET_NONE;
  unsigned char tokens[8] = {0};
  (void)ptq_text_copy(out->group, sizeof out->group, slot->group);
  (void)ptq_text_copy(out->site, sizeof out->site, slot->site);
  out->subject = slot->subject;
  out->n_blocks = slot->n_blocks;
  out->d = slot->d;
  PTQ_TRY(ptq_sets_spectrum(s, i, &set, err));
  PTQ_TRY(ptq_alloc(&out->values, n, sizeof *out->values, slot->site, err));
  for (int64_t k = 0; k < n; k++) out->values[k] = (double)NAN;
  if (!finished) goto done;
  PTQ_TRY(ptq_h5_read(&s->set[PTQ_SET_SPECTRA_TOKENS], i, 1, tokens, err));
  PTQ_TRY(ptq_h5_read(&set, 0, set.rows, out->values, err));
  out->n_tokens = ptq_unpack_i64(tokens);
  const unsigned char *raw = (const unsigned char *)out->values;
  for (int64_t k = 0; k < n; k++) {
    const int64_t bits = ptq_unpack_i64(raw + 8 * k);
    memcpy(&out->values[k], &bits, sizeof bits);
  }
done:
  ptq_h5_close(&set);
  return rc;
}

ptq_status ptq_view_spectra(ptq_view *v, const ptq_view_spectrum **out,
                            int64_t *n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = NULL;
  *n = 0;
  if (v->spectra == NULL) {
    PTQ_TRY(ptq_alloc(&v->spectra, v->sets.n_spectra, sizeof *v->spectra,
                      "spectra", err));
    for (int64_t i = 0; i < v->sets.n_spectra; i++)
      PTQ_TRY(load_spectrum(v, i, &v->spectra[i], err));
  }
  *out = v->spectra;
  *n = v->sets.n_spectra;
done:
  if (rc != PTQ_OK && v->spectra != NULL) {
    for (int64_t i = 0; i < v->sets.n_spectra; i++)
      ptq_free(v->spectra[i].values);
    ptq_free(v->spectra);
    v->spectra = NULL;
  }
  return rc;
}

ptq_status ptq_view_log(ptq_view *v, int64_t last, ptq_text *out,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *log = &v->sets.set[PTQ_SET_LOG];
  int64_t next = 0;
  char line[PTQ_LOG_LINE + 1] = "";
  PTQ_TRY(ptq_logring_next(&v->sets, &next, err));
  int64_t at = next > log->rows ? next - log->rows : 0;
  if (next - at > last) at = next - (last > 0 ? last : 0);
  for (; at < next; at++) {
    PTQ_TRY(ptq_h5_read(log, at % log->rows, 1, line, err));
    ptq_text_add(out, line);
    ptq_text_add(out, "\n");
  }
  if (out->rc != PTQ_OK) rc = PTQ_FAIL(err, out->rc, "lines of the log");
done:
  return rc;
}

typedef struct verify_ctx {
  ptq_view *view;
  void (*report)(void *ctx, const char *line);
  void *ctx;
  const ptq_point_row *points; /* borrowed; NULL when unreadable */
  const ptq_model_row *models;
  const ptq_direction_row *directions;
} verify_ctx;

static void name_bad(void *ctx, const char *kind, int64_t row,
                     const char *why) {
  const verify_ctx *c = ctx;
  char line[480] = "";
  if (strcmp(kind, "point") == 0 && c->points != NULL) {
    const ptq_point_row *p = &c->points[row];
    (void)snprintf(line, sizeof line,
                   "point %lld (%s %s %s group %lld, key %s): %s",
                   (long long)row, p->model, p->dtype, p->method,
                   (long long)p->group, p->key, why);
  } else if (strcmp(kind, "model") == 0 && c->models != NULL) {
    (void)snprintf(line, sizeof line, "model %lld (%s): %s", (long long)row,
                   c->models[row].model, why);
  } else if (strcmp(kind, "direction") == 0 && c->directions != NULL) {
    const ptq_direction_row *d = &c->directions[row];
    (void)snprintf(line, sizeof line,
                   "direction %lld (%s %s%s of %s, key %s): %s", (long long)row,
                   d->kind, d->scaling, d->dtype, d->model, d->key, why);
  } else if (strcmp(kind, "spectrum") == 0) {
    const ptq_spectrum_slot *slot = &c->view->sets.spectra[row];
    (void)snprintf(line, sizeof line, "spectrum %lld (%s/%s): %s",
                   (long long)row, slot->group, slot->site, why);
  } else if (strcmp(kind, "/") == 0) {
    (void)snprintf(line, sizeof line,
                   "the file outside its datasets (HDF5's structure, "
                   "attributes): %s; take an older copy, or `ptqsweep merge` "
                   "what is good into a new store",
                   why);
  } else if (strncmp(kind, "index/", 6) == 0) {
    (void)snprintf(line, sizeof line,
                   "'%s': %s; take an older copy, or `ptqsweep merge` what is "
                   "good into a new store",
                   kind, why);
  } else {
    (void)snprintf(line, sizeof line, "row %lld of '%s': %s", (long long)row,
                   kind, why);
  }
  c->report(c->ctx, line);
}

ptq_status ptq_view_verify(ptq_view *v,
                           void (*report)(void *ctx, const char *line),
                           void *ctx, int64_t *n_checked, int64_t *n_bad,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &v->sets;
  verify_ctx c = {.view = v, .report = report, .ctx = ctx};
  const ptq_integrity_report each = report != NULL ? name_bad : NULL;
  const void *rows = NULL;
  int64_t n = 0;
  *n_checked = *n_bad = 0;
  /* Names only help: a store of other columns still has checksums. */
  if (ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &n, NULL) == PTQ_OK)
    c.points = rows;
  if (ptq_view_table(v, PTQ_TABLE_MODELS, &rows, &n, NULL) == PTQ_OK)
    c.models = rows;
  if (ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &n, NULL) == PTQ_OK)
    c.directions = rows;
  PTQ_TRY(
      ptq_integrity_points(s, 0, s->n_points, each, &c, n_checked, n_bad, err));
  PTQ_TRY(ptq_integrity_models(s, 0, s->n_subjects, each, &c, n_checked, n_bad,
                               err));
  PTQ_TRY(ptq_integrity_directions(s, 0, s->n_directions, each, &c, n_checked,
                                   n_bad, err));
  PTQ_TRY(ptq_integrity_spectra(s, 0, s->n_spectra, each, &c, n_checked, n_bad,
                                err));
  static const ptq_set_id attempts[] = {
      PTQ_SET_ATTEMPTS, PTQ_SET_MODELS_ATTEMPTS, PTQ_SET_DIRECTIONS_ATTEMPTS};
  for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
    PTQ_TRY(ptq_attempt_check(s, attempts[i], each, &c, n_bad, err));
  PTQ_TRY(ptq_steps_check(s, each, &c, n_bad, err));
  PTQ_TRY(ptq_logring_check(s, each, &c, n_bad, err));
  PTQ_TRY(ptq_fixed_check(s, each, &c, n_bad, err));
done:
  return rc;
}
