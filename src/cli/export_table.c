/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "export_table.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/analysis/layer_ranks.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/store/netcdf.h"

enum { MAX_COLUMNS = 64, MAX_PARTS = 4 };

/* A row to write is put together from parts: C rows of several tables. */
typedef struct column {
  const ptq_field *field; /* borrowed */
  int part;
} column;

typedef struct writer {
  FILE *out; /* borrowed; NULL for netCDF */
  ptq_export_format format;
  column columns[MAX_COLUMNS];
  int n_columns;
  /* netCDF: columns are gathered */
  void *values[MAX_COLUMNS]; /* owned; double, int64_t or char * (owned) */
  int64_t n_rows, capacity;
  ptq_status rc; /* of gathering */
} writer;

/* The shortest of three spellings that reads back as the same number. */
static void write_f64(FILE *out, double v, ptq_export_format format) {
  char text[40];
  const bool json = format == PTQ_EXPORT_JSONL;
  if (isnan(v)) {
    if (json) fputs("null", out);
    return;
  }
  if (isinf(v)) { /* JSON has no word for it; this overflows to it */
    fprintf(out, "%s%s", v < 0 ? "-" : "", json ? "1e999" : "inf");
    return;
  }
  for (int digits = 15; digits <= 17; digits++) {
    (void)snprintf(text, sizeof text, "%.*g", digits, v);
    if (strtod(text, NULL) == v) break;
  }
  fputs(text, out);
}

static void write_csv_text(FILE *out, const char *s) {
  if (strpbrk(s, ",\"\r\n") == NULL) {
    fputs(s, out);
    return;
  }
  fputc('"', out);
  for (; *s != '\0'; s++) {
    if (*s == '"') fputc('"', out);
    fputc(*s, out);
  }
  fputc('"', out);
}

static void write_json_text(FILE *out, const char *s) {
  fputc('"', out);
  for (; *s != '\0'; s++) {
    const unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      fprintf(out, "\\%c", c);
    else if (c < 0x20)
      fprintf(out, "\\u%04x", c);
    else
      fputc(c, out);
  }
  fputc('"', out);
}

static void write_cell(const writer *w, const ptq_field *f, const void *row) {
  const char *at = (const char *)row + f->offset;
  const bool json = w->format == PTQ_EXPORT_JSONL;
  int64_t i = 0;
  double v = 0.0;
  switch (f->kind) {
    case PTQ_KIND_TEXT:
      if (json)
        write_json_text(w->out, at);
      else
        write_csv_text(w->out, at);
      break;
    case PTQ_KIND_F64:
      memcpy(&v, at, sizeof v);
      write_f64(w->out, v, w->format);
      break;
    case PTQ_KIND_I64:
      memcpy(&i, at, sizeof i);
      fprintf(w->out, "%" PRId64, i);
      break;
  }
}

/* A column, or every column when `name` is NULL. Names are our own. */
static void add(writer *w, int part, const ptq_field *fields, size_t n,
                const char *name) {
  for (size_t i = 0; i < n && w->n_columns < MAX_COLUMNS; i++)
    if (name == NULL || strcmp(fields[i].name, name) == 0)
      w->columns[w->n_columns++] = (column){&fields[i], part};
}

static void add_table(writer *w, int part, ptq_table_id id, const char *name) {
  const ptq_table *t = ptq_table_get(id);
  add(w, part, t->fields, t->n_fields, name);
}

static void write_header(const writer *w) {
  if (w->format != PTQ_EXPORT_CSV) return;
  for (int i = 0; i < w->n_columns; i++)
    fprintf(w->out, "%s%s", i > 0 ? "," : "", w->columns[i].field->name);
  fputc('\n', w->out);
}

/* One row behind the gathered columns. */
static ptq_status gather(writer *w, const void *const parts[MAX_PARTS]) {
  ptq_status rc = PTQ_OK;
  if (w->n_rows == w->capacity) {
    const int64_t more = w->capacity > 0 ? 2 * w->capacity : 256;
    for (int i = 0; i < w->n_columns; i++)
      PTQ_TRY(ptq_grow(&w->values[i], w->capacity, more, sizeof(double),
                       "export", NULL));
    w->capacity = more;
  }
  for (int i = 0; i < w->n_columns; i++) {
    const ptq_field *f = w->columns[i].field;
    const char *at = (const char *)parts[w->columns[i].part] + f->offset;
    if (f->kind == PTQ_KIND_TEXT)
      PTQ_TRY(ptq_strdup(&((char **)w->values[i])[w->n_rows], at, NULL));
    else
      memcpy((char *)w->values[i] + w->n_rows * 8, at, 8);
  }
  w->n_rows++;
done:
  return rc;
}

static void write_row(writer *w, const void *const parts[MAX_PARTS]) {
  if (w->format == PTQ_EXPORT_NETCDF) {
    if (w->rc == PTQ_OK) w->rc = gather(w, parts);
    return;
  }
  const bool json = w->format == PTQ_EXPORT_JSONL;
  if (json) fputc('{', w->out);
  for (int i = 0; i < w->n_columns; i++) {
    const ptq_field *f = w->columns[i].field;
    if (i > 0) fputc(',', w->out);
    if (json) fprintf(w->out, "\"%s\":", f->name);
    write_cell(w, f, parts[w->columns[i].part]);
  }
  fputs(json ? "}\n" : "\n", w->out);
}

/* State as a column of its own. */
typedef struct state_row {
  char state[16];
} state_row;
static const ptq_field state_field = {
    "state", PTQ_KIND_TEXT, offsetof(state_row, state), 16, "", "state"};

/* Every table of a store, as the rows below need them. */
typedef struct source {
  const ptq_point_row *points;
  const ptq_attempt_row *attempts;
  const ptq_model_row *models;
  const int *point_state, *model_state;
  const int64_t *subject, *first_layer, *first_window;
  int64_t n_points, n_models;
} source;

static ptq_status read_source(ptq_view *v, source *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_view_states(v, &s->point_state, &s->n_points, &s->model_state,
                          &s->n_models, err));
  PTQ_TRY(
      ptq_view_index(v, &s->subject, &s->first_layer, &s->first_window, err));
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &n, err));
  s->points = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_ATTEMPTS, &rows, &n, err));
  s->attempts = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_MODELS, &rows, &n, err));
  s->models = rows;
done:
  return rc;
}

/* What does not depend on who was interrupted when. */
static const char *settled_name(int state) {
  const bool settled = state == PTQ_STATE_DONE || state == PTQ_STATE_FAILED;
  return ptq_state_name(settled ? state : PTQ_STATE_PENDING);
}

static ptq_status export_points(ptq_view *v, const source *s, writer *w,
                                bool stable, ptq_err *err) {
  (void)v;
  (void)err;
  add_table(w, 0, PTQ_TABLE_POINTS, NULL);
  add(w, 1, &state_field, 1, NULL);
  if (!stable) add_table(w, 2, PTQ_TABLE_ATTEMPTS, NULL);
  write_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    state_row state;
    (void)ptq_text_copy(state.state, sizeof state.state,
                        stable ? settled_name(s->point_state[p])
                               : ptq_state_name(s->point_state[p]));
    const void *parts[MAX_PARTS] = {&s->points[p], &state, &s->attempts[p]};
    write_row(w, parts);
  }
  return PTQ_OK;
}

static ptq_status export_models(ptq_view *v, const source *s, writer *w,
                                bool stable, ptq_err *err) {
  (void)v;
  (void)err;
  add_table(w, 0, PTQ_TABLE_MODELS, NULL);
  add(w, 1, &state_field, 1, NULL);
  write_header(w);
  for (int64_t m = 0; m < s->n_models; m++) {
    state_row state;
    (void)ptq_text_copy(state.state, sizeof state.state,
                        stable ? settled_name(s->model_state[m])
                               : ptq_state_name(s->model_state[m]));
    const void *parts[MAX_PARTS] = {&s->models[m], &state};
    write_row(w, parts);
  }
  return PTQ_OK;
}

/* What layers and windows repeat of their point. */
static void add_point_columns(writer *w) {
  static const char *const names[] = {"key", "model", "dtype", "method",
                                      "group"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    add_table(w, 0, PTQ_TABLE_POINTS, names[i]);
}

static ptq_status export_layers(ptq_view *v, const source *s, writer *w,
                                bool stable, ptq_err *err) {
  (void)stable;
  const void *rows = NULL;
  int64_t n = 0;
  const ptq_status rc = ptq_view_table(v, PTQ_TABLE_LAYERS, &rows, &n, err);
  if (rc != PTQ_OK) return rc;
  const ptq_layer_row *layers = rows;
  add_point_columns(w);
  add_table(w, 1, PTQ_TABLE_LAYERS, NULL);
  write_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    if (s->point_state[p] != PTQ_STATE_DONE) continue;
    for (int64_t i = s->first_layer[p]; i < s->first_layer[p + 1]; i++) {
      const void *parts[MAX_PARTS] = {&s->points[p], &layers[i]};
      write_row(w, parts);
    }
  }
  return PTQ_OK;
}

/* Beside a point's window: what the unquantized model had there. */
typedef struct reference_row {
  double tokens, bytes, nll_reference; /* NaN when that is not finished */
} reference_row;
#define REFERENCE_FIELD(name, unit, text)                                     \
  {                                                                           \
#name, PTQ_KIND_F64, offsetof(reference_row, name), sizeof(double), unit, \
        text                                                                  \
  }
static const ptq_field reference_fields[] = {
    REFERENCE_FIELD(tokens, "", "scored tokens"),
    REFERENCE_FIELD(bytes, "", "scored bytes of text"),
    REFERENCE_FIELD(nll_reference, "nat", "sum of the unquantized NLL"),
};

/* First baseline row of every model; rows stand in the models' order. */
static ptq_status index_baseline(const ptq_baseline_row *rows, int64_t n,
                                 int64_t n_models, int64_t **first,
                                 ptq_err *err) {
  const ptq_status rc =
      ptq_alloc(first, n_models + 1, sizeof **first, "baseline index", err);
  if (rc != PTQ_OK) return rc;
  int64_t at = 0;
  for (int64_t m = 0; m <= n_models; m++) {
    while (at < n && rows[at].subject < m) at++;
    (*first)[m] = at;
  }
  return PTQ_OK;
}

static ptq_status export_windows(ptq_view *v, const source *s, writer *w,
                                 bool stable, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL, *base = NULL;
  int64_t n = 0, n_base = 0, *first = NULL;
  (void)stable;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_WINDOWS, &rows, &n, err));
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_BASELINE, &base, &n_base, err));
  PTQ_TRY(index_baseline(base, n_base, s->n_models, &first, err));
  const ptq_window_row *windows = rows;
  const ptq_baseline_row *baseline = base;
  add_point_columns(w);
  add_table(w, 1, PTQ_TABLE_WINDOWS, NULL);
  add(w, 2, reference_fields, 3, NULL);
  write_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    const int64_t m = s->subject[p];
    if (s->point_state[p] != PTQ_STATE_DONE) continue;
    for (int64_t i = s->first_window[p]; i < s->first_window[p + 1]; i++) {
      const int64_t b = first[m] + (i - s->first_window[p]);
      reference_row ref = {(double)NAN, (double)NAN, (double)NAN};
      if (s->model_state[m] == PTQ_STATE_DONE && b < first[m + 1])
        ref = (reference_row){(double)baseline[b].tokens,
                              (double)baseline[b].bytes, baseline[b].nll};
      const void *parts[MAX_PARTS] = {&s->points[p], &windows[i], &ref};
      write_row(w, parts);
    }
  }
done:
  ptq_free(first);
  return rc;
}

/* Beside a point's answer: the right one, and the unquantized model's. */
typedef struct given_row {
  double choices, right, choice_reference, choice_norm_reference,
      choice_byte_reference, choice_token_reference, logp_reference,
      margin_reference; /* NaN when that is not finished */
} given_row;
#define GIVEN_FIELD(name, unit, text) \
  { #name, PTQ_KIND_F64, offsetof(given_row, name), sizeof(double), unit, text }
static const ptq_field given_fields[] = {
    GIVEN_FIELD(choices, "", "choices that the request offers"),
    GIVEN_FIELD(right, "", "the right one, from 0"),
    GIVEN_FIELD(choice_reference, "", "choice of the unquantized model"),
    GIVEN_FIELD(choice_norm_reference, "", "its choice_norm"),
    GIVEN_FIELD(choice_byte_reference, "", "its choice_byte"),
    GIVEN_FIELD(choice_token_reference, "", "its choice_token"),
    GIVEN_FIELD(logp_reference, "nat", "its logp"),
    GIVEN_FIELD(margin_reference, "nat", "its margin"),
};

static given_row given_by(const ptq_baseline_answer_row *b) {
  return (given_row){.choices = (double)b->choices,
                     .right = (double)b->right,
                     .choice_reference = (double)b->choice,
                     .choice_norm_reference = (double)b->choice_norm,
                     .choice_byte_reference = (double)b->choice_byte,
                     .choice_token_reference = (double)b->choice_token,
                     .logp_reference = b->logp,
                     .margin_reference = b->margin};
}

static ptq_status export_answers(ptq_view *v, const source *s, writer *w,
                                 bool stable, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL, *base = NULL;
  const int64_t *first = NULL, *first_base = NULL;
  const double nothing = (double)NAN;
  int64_t n = 0;
  (void)stable;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_ANSWERS, &rows, &n, err));
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_BASELINE_ANSWERS, &base, &n, err));
  ptq_view_answers(v, &first, &first_base);
  const ptq_answer_row *answers = rows;
  const ptq_baseline_answer_row *baseline = base;
  add_point_columns(w);
  add_table(w, 1, PTQ_TABLE_ANSWERS, NULL);
  add(w, 2, given_fields, sizeof given_fields / sizeof given_fields[0], NULL);
  write_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    const int64_t m = s->subject[p];
    const bool known = s->model_state[m] == PTQ_STATE_DONE;
    if (s->point_state[p] != PTQ_STATE_DONE) continue;
    for (int64_t i = first[p]; i < first[p + 1]; i++) {
      const int64_t b = first_base[m] + (i - first[p]);
      given_row given = {nothing, nothing, nothing, nothing,
                         nothing, nothing, nothing, nothing};
      if (known && b < first_base[m + 1]) given = given_by(&baseline[b]);
      const void *parts[MAX_PARTS] = {&s->points[p], &answers[i], &given};
      write_row(w, parts);
    }
  }
done:
  return rc;
}

/* One row an eigenvalue. */
typedef struct eigen_row {
  int64_t subject, block, index, n_tokens;
  char site[32];
  double eigenvalue;
} eigen_row;
#define EIGEN_FIELD(kind, name, text)                  \
  {                                                    \
#name, PTQ_KIND_##kind, offsetof(eigen_row, name), \
        sizeof(((eigen_row *)NULL)->name), "", text    \
  }
static const ptq_field eigen_fields[] = {
    EIGEN_FIELD(I64, subject, "row of /models"),
    EIGEN_FIELD(TEXT, site, "input site of the linear layers"),
    EIGEN_FIELD(I64, block, "block"),
    EIGEN_FIELD(I64, index, "rank of the eigenvalue, 0 the largest"),
    EIGEN_FIELD(F64, eigenvalue, "eigenvalue of the second moment"),
    EIGEN_FIELD(I64, n_tokens, "tokens behind the second moment"),
};

static ptq_status export_spectra(ptq_view *v, const source *s, writer *w,
                                 bool stable, ptq_err *err) {
  (void)stable;
  const ptq_view_spectrum *spectra = NULL;
  int64_t n = 0;
  const ptq_status rc = ptq_view_spectra(v, &spectra, &n, err);
  if (rc != PTQ_OK) return rc;
  add_table(w, 0, PTQ_TABLE_MODELS, "model");
  add_table(w, 0, PTQ_TABLE_MODELS, "calibration");
  add(w, 1, eigen_fields, sizeof eigen_fields / sizeof eigen_fields[0], NULL);
  write_header(w);
  for (int64_t k = 0; k < n; k++) {
    const ptq_view_spectrum *x = &spectra[k];
    if (x->n_tokens == 0) continue; /* not finished */
    eigen_row row = {.subject = x->subject, .n_tokens = x->n_tokens};
    (void)ptq_text_copy(row.site, sizeof row.site, x->site);
    for (row.block = 0; row.block < x->n_blocks; row.block++)
      for (row.index = 0; row.index < x->d; row.index++) {
        row.eigenvalue = x->values[row.block * x->d + row.index];
        const void *parts[MAX_PARTS] = {&s->models[x->subject], &row};
        write_row(w, parts);
      }
  }
  return PTQ_OK;
}

/* What parts of the landscape repeat of their direction. */
static void add_direction_columns(writer *w) {
  static const char *const names[] = {"key",    "model", "kind", "scaling",
                                      "number", "dtype", "group"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    add_table(w, 0, PTQ_TABLE_DIRECTIONS, names[i]);
}

static ptq_status export_directions(ptq_view *v, const source *s, writer *w,
                                    bool stable, ptq_err *err) {
  const void *rows = NULL;
  int64_t n = 0;
  ptq_view_landscape l;
  const ptq_status rc = ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &n, err);
  if (rc != PTQ_OK) return rc;
  (void)s;
  ptq_view_directions(v, &l);
  add_table(w, 0, PTQ_TABLE_DIRECTIONS, NULL);
  add(w, 1, &state_field, 1, NULL);
  write_header(w);
  for (int64_t i = 0; i < n; i++) {
    state_row state;
    (void)ptq_text_copy(
        state.state, sizeof state.state,
        stable ? settled_name(l.state[i]) : ptq_state_name(l.state[i]));
    const void *parts[MAX_PARTS] = {(const ptq_direction_row *)rows + i,
                                    &state};
    write_row(w, parts);
  }
  return PTQ_OK;
}

/* Rows of one part of the finished directions; `first` [directions + 1]. */
static ptq_status export_part(ptq_view *v, writer *w, ptq_table_id id,
                              const int64_t *first, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_table *t = ptq_table_get(id);
  const void *directions = NULL, *rows = NULL;
  int64_t n = 0, n_rows = 0;
  ptq_view_landscape l;
  ptq_view_directions(v, &l);
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &directions, &n, err));
  PTQ_TRY(ptq_view_table(v, id, &rows, &n_rows, err));
  add_direction_columns(w);
  add_table(w, 1, id, NULL);
  write_header(w);
  for (int64_t i = 0; i < n; i++) {
    if (l.state[i] != PTQ_STATE_DONE) continue;
    for (int64_t k = first[i]; k < first[i + 1]; k++) {
      const void *parts[MAX_PARTS] = {
          (const ptq_direction_row *)directions + i,
          (const char *)rows + (size_t)k * t->row_size};
      write_row(w, parts);
    }
  }
done:
  return rc;
}

static ptq_status export_landscape(ptq_view *v, const source *s, writer *w,
                                   bool stable, ptq_err *err) {
  ptq_view_landscape l;
  (void)s, (void)stable;
  ptq_view_directions(v, &l);
  return export_part(v, w, PTQ_TABLE_PROFILES, l.first_profile, err);
}

static ptq_status export_direction_layers(ptq_view *v, const source *s,
                                          writer *w, bool stable,
                                          ptq_err *err) {
  ptq_view_landscape l;
  (void)s, (void)stable;
  ptq_view_directions(v, &l);
  return export_part(v, w, PTQ_TABLE_DIRECTION_LAYERS, l.first_layer, err);
}

/* Layers one by one beside what else is known of them. */
static ptq_status export_sensitivity(ptq_view *v, const source *s, writer *w,
                                     bool stable, ptq_err *err) {
  ptq_sensitivities all;
  const ptq_table *t = ptq_sensitivity_table();
  (void)s, (void)stable;
  const ptq_status rc = ptq_sensitivities_read(v, &all, err);
  if (rc != PTQ_OK) return rc;
  add(w, 0, t->fields, t->n_fields, NULL);
  write_header(w);
  for (int64_t i = 0; i < all.n; i++) {
    const void *parts[MAX_PARTS] = {&all.rows[i]};
    write_row(w, parts);
  }
  ptq_sensitivities_release(&all);
  return PTQ_OK;
}

static ptq_status export_ritz(ptq_view *v, const source *s, writer *w,
                              bool stable, ptq_err *err) {
  ptq_view_landscape l;
  (void)s, (void)stable;
  ptq_view_directions(v, &l);
  return export_part(v, w, PTQ_TABLE_RITZ, l.first_ritz, err);
}

typedef ptq_status (*exporter)(ptq_view *, const source *, writer *, bool,
                               ptq_err *);

const char *const ptq_export_tables[] = {
    "points",           "layers",  "windows",     "spectra",
    "models",           "answers", "directions",  "landscape",
    "direction_layers", "ritz",    "sensitivity", NULL};
static const exporter exporters[] = {
    export_points,     export_layers,     export_windows,
    export_spectra,    export_models,     export_answers,
    export_directions, export_landscape,  export_direction_layers,
    export_ritz,       export_sensitivity};
_Static_assert(sizeof exporters / sizeof exporters[0] + 1 ==
                   sizeof ptq_export_tables / sizeof ptq_export_tables[0],
               "one exporter per table");

static ptq_status export_rows(ptq_view *v, const char *table, bool stable,
                              writer *w, ptq_err *err) {
  source s = {0};
  size_t i = 0;
  while (ptq_export_tables[i] != NULL &&
         strcmp(ptq_export_tables[i], table) != 0)
    i++;
  if (ptq_export_tables[i] == NULL)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "unknown table '%s'; one of " PTQ_EXPORT_NAMES, table);
  ptq_status rc = read_source(v, &s, err);
  if (rc == PTQ_OK) rc = exporters[i](v, &s, w, stable, err);
  return rc;
}

ptq_status ptq_export_table(ptq_view *v, const char *table,
                            ptq_export_format format, bool stable, FILE *out,
                            ptq_err *err) {
  writer w = {.out = out, .format = format};
  ptq_status rc = export_rows(v, table, stable, &w, err);
  if (rc == PTQ_OK && (fflush(out) != 0 || ferror(out) != 0))
    rc = PTQ_FAIL(err, PTQ_E_IO, "cannot write the export; is the disk full?");
  return rc;
}

ptq_status ptq_export_netcdf(ptq_view *v, const char *table, bool stable,
                             const char *path, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  writer w = {.format = PTQ_EXPORT_NETCDF};
  ptq_netcdf_column columns[MAX_COLUMNS];
  char title[96];
  PTQ_TRY(export_rows(v, table, stable, &w, err));
  if (w.rc != PTQ_OK)
    PTQ_TRY(PTQ_FAIL(err, w.rc, "export of the table '%s'", table));
  for (int i = 0; i < w.n_columns; i++)
    columns[i] = (ptq_netcdf_column){w.columns[i].field, w.values[i]};
  (void)snprintf(title, sizeof title, "%s of a ptqsweep store", table);
  PTQ_TRY(ptq_netcdf_write(path, title, w.n_rows, columns, w.n_columns, err));
done:
  for (int i = 0; i < w.n_columns; i++) {
    for (int64_t k = 0; w.columns[i].field->kind == PTQ_KIND_TEXT &&
                        w.values[i] != NULL && k < w.n_rows;
         k++)
      ptq_free(((char **)w.values[i])[k]);
    ptq_free(w.values[i]);
  }
  return rc;
}
