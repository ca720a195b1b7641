/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "export_table.h"

#include <math.h>
#include <string.h>

#include "exporter.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

const ptq_field ptq_state_field = {
    "state",
    PTQ_KIND_TEXT,
    offsetof(ptq_state_cell, state),
    16,
    "",
    "pending, started, done or failed; only rows that are done have results"};

void ptq_state_cell_set(ptq_state_cell *cell, int state, bool stable) {
  const bool settled = state == PTQ_STATE_DONE || state == PTQ_STATE_FAILED;
  (void)ptq_text_copy(
      cell->state, sizeof cell->state,
      ptq_state_name(stable && !settled ? PTQ_STATE_PENDING : state));
}

static ptq_status read_source(ptq_view *v, ptq_export_source *s, ptq_err *err) {
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

static void point_columns(ptq_table_writer *w, bool stable) {
  ptq_writer_add_table(w, 0, PTQ_TABLE_POINTS, NULL);
  ptq_writer_add(w, 1, &ptq_state_field, 1, NULL);
  if (!stable) ptq_writer_add_table(w, 2, PTQ_TABLE_ATTEMPTS, NULL);
}

static ptq_status point_rows(ptq_view *v, const ptq_export_source *s,
                             ptq_table_writer *w, bool stable, ptq_err *err) {
  (void)v;
  (void)err;
  ptq_writer_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    ptq_state_cell state;
    ptq_state_cell_set(&state, s->point_state[p], stable);
    const void *parts[PTQ_WRITER_PARTS] = {&s->points[p], &state,
                                           &s->attempts[p]};
    ptq_writer_row(w, parts);
  }
  return PTQ_OK;
}

static void model_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  ptq_writer_add_table(w, 0, PTQ_TABLE_MODELS, NULL);
  ptq_writer_add(w, 1, &ptq_state_field, 1, NULL);
}

static ptq_status model_rows(ptq_view *v, const ptq_export_source *s,
                             ptq_table_writer *w, bool stable, ptq_err *err) {
  (void)v;
  (void)err;
  ptq_writer_header(w);
  for (int64_t m = 0; m < s->n_models; m++) {
    ptq_state_cell state;
    ptq_state_cell_set(&state, s->model_state[m], stable);
    const void *parts[PTQ_WRITER_PARTS] = {&s->models[m], &state};
    ptq_writer_row(w, parts);
  }
  return PTQ_OK;
}

/* What layers and windows repeat of their point. */
static void add_point_columns(ptq_table_writer *w) {
  static const char *const names[] = {"key", "model", "dtype", "method",
                                      "group"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    ptq_writer_add_table(w, 0, PTQ_TABLE_POINTS, names[i]);
}

static void layer_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  add_point_columns(w);
  ptq_writer_add_table(w, 1, PTQ_TABLE_LAYERS, NULL);
}

static ptq_status layer_rows(ptq_view *v, const ptq_export_source *s,
                             ptq_table_writer *w, bool stable, ptq_err *err) {
  (void)stable;
  const void *rows = NULL;
  int64_t n = 0;
  const ptq_status rc = ptq_view_table(v, PTQ_TABLE_LAYERS, &rows, &n, err);
  if (rc != PTQ_OK) return rc;
  const ptq_layer_row *layers = rows;
  ptq_writer_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    if (s->point_state[p] != PTQ_STATE_DONE) continue;
    for (int64_t i = s->first_layer[p]; i < s->first_layer[p + 1]; i++) {
      const void *parts[PTQ_WRITER_PARTS] = {&s->points[p], &layers[i]};
      ptq_writer_row(w, parts);
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

static void window_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  add_point_columns(w);
  ptq_writer_add_table(w, 1, PTQ_TABLE_WINDOWS, NULL);
  ptq_writer_add(w, 2, reference_fields, 3, NULL);
}

static ptq_status window_rows(ptq_view *v, const ptq_export_source *s,
                              ptq_table_writer *w, bool stable, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL, *base = NULL;
  int64_t n = 0, n_base = 0, *first = NULL;
  (void)stable;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_WINDOWS, &rows, &n, err));
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_BASELINE, &base, &n_base, err));
  PTQ_TRY(index_baseline(base, n_base, s->n_models, &first, err));
  const ptq_window_row *windows = rows;
  const ptq_baseline_row *baseline = base;
  ptq_writer_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    const int64_t m = s->subject[p];
    if (s->point_state[p] != PTQ_STATE_DONE) continue;
    for (int64_t i = s->first_window[p]; i < s->first_window[p + 1]; i++) {
      const int64_t b = first[m] + (i - s->first_window[p]);
      reference_row ref = {(double)NAN, (double)NAN, (double)NAN};
      if (s->model_state[m] == PTQ_STATE_DONE && b < first[m + 1])
        ref = (reference_row){(double)baseline[b].tokens,
                              (double)baseline[b].bytes, baseline[b].nll};
      const void *parts[PTQ_WRITER_PARTS] = {&s->points[p], &windows[i], &ref};
      ptq_writer_row(w, parts);
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
    GIVEN_FIELD(choice_norm_reference, "",
                "choice_norm of the unquantized model"),
    GIVEN_FIELD(choice_byte_reference, "",
                "choice_byte of the unquantized model"),
    GIVEN_FIELD(choice_token_reference, "",
                "choice_token of the unquantized model"),
    GIVEN_FIELD(logp_reference, "nat", "logp of the unquantized model"),
    GIVEN_FIELD(margin_reference, "nat", "margin of the unquantized model"),
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

static void answer_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  add_point_columns(w);
  ptq_writer_add_table(w, 1, PTQ_TABLE_ANSWERS, NULL);
  ptq_writer_add(w, 2, given_fields,
                 sizeof given_fields / sizeof given_fields[0], NULL);
}

static ptq_status answer_rows(ptq_view *v, const ptq_export_source *s,
                              ptq_table_writer *w, bool stable, ptq_err *err) {
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
  ptq_writer_header(w);
  for (int64_t p = 0; p < s->n_points; p++) {
    const int64_t m = s->subject[p];
    const bool known = s->model_state[m] == PTQ_STATE_DONE;
    if (s->point_state[p] != PTQ_STATE_DONE) continue;
    for (int64_t i = first[p]; i < first[p + 1]; i++) {
      const int64_t b = first_base[m] + (i - first[p]);
      given_row given = {nothing, nothing, nothing, nothing,
                         nothing, nothing, nothing, nothing};
      if (known && b < first_base[m + 1]) given = given_by(&baseline[b]);
      const void *parts[PTQ_WRITER_PARTS] = {&s->points[p], &answers[i],
                                             &given};
      ptq_writer_row(w, parts);
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
    EIGEN_FIELD(I64, block, "block of the model, from 0"),
    EIGEN_FIELD(I64, index, "rank of the eigenvalue, 0 the largest"),
    EIGEN_FIELD(
        F64, eigenvalue,
        "eigenvalue of the second moment of the site's inputs, a token"),
    EIGEN_FIELD(I64, n_tokens, "tokens behind the second moment"),
};

static void spectrum_columns(ptq_table_writer *w, bool stable) {
  (void)stable;
  ptq_writer_add_table(w, 0, PTQ_TABLE_MODELS, "model");
  ptq_writer_add_table(w, 0, PTQ_TABLE_MODELS, "calibration");
  ptq_writer_add(w, 1, eigen_fields,
                 sizeof eigen_fields / sizeof eigen_fields[0], NULL);
}

static ptq_status spectrum_rows(ptq_view *v, const ptq_export_source *s,
                                ptq_table_writer *w, bool stable,
                                ptq_err *err) {
  (void)stable;
  const ptq_view_spectrum *spectra = NULL;
  int64_t n = 0;
  const ptq_status rc = ptq_view_spectra(v, &spectra, &n, err);
  if (rc != PTQ_OK) return rc;
  ptq_writer_header(w);
  for (int64_t k = 0; k < n; k++) {
    const ptq_view_spectrum *x = &spectra[k];
    if (x->n_tokens == 0) continue; /* not finished */
    eigen_row row = {.subject = x->subject, .n_tokens = x->n_tokens};
    (void)ptq_text_copy(row.site, sizeof row.site, x->site);
    for (row.block = 0; row.block < x->n_blocks; row.block++)
      for (row.index = 0; row.index < x->d; row.index++) {
        row.eigenvalue = x->values[row.block * x->d + row.index];
        const void *parts[PTQ_WRITER_PARTS] = {&s->models[x->subject], &row};
        ptq_writer_row(w, parts);
      }
  }
  return PTQ_OK;
}

static const ptq_exporter export_points = {"points", point_columns, point_rows};
static const ptq_exporter export_layers = {"layers", layer_columns, layer_rows};
static const ptq_exporter export_windows = {"windows", window_columns,
                                            window_rows};
static const ptq_exporter export_spectra = {"spectra", spectrum_columns,
                                            spectrum_rows};
static const ptq_exporter export_models = {"models", model_columns, model_rows};
static const ptq_exporter export_answers = {"answers", answer_columns,
                                            answer_rows};
static const ptq_exporter *const exporters[] = {&export_points,
                                                &export_layers,
                                                &export_windows,
                                                &export_spectra,
                                                &export_models,
                                                &export_answers,
                                                &ptq_export_directions,
                                                &ptq_export_landscape,
                                                &ptq_export_direction_layers,
                                                &ptq_export_ritz,
                                                &ptq_export_sensitivity,
                                                &ptq_export_basins,
                                                NULL};
enum { N_EXPORTERS = sizeof exporters / sizeof exporters[0] - 1 };

const ptq_exporter *ptq_exporter_at(size_t i) {
  return i < N_EXPORTERS ? exporters[i] : NULL;
}

ptq_status ptq_export_check_name(const char *table, ptq_err *err) {
  const char *names[N_EXPORTERS];
  if (table == NULL)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "which table? --table takes one of " PTQ_EXPORT_NAMES);
  for (size_t i = 0; i < N_EXPORTERS; i++) {
    names[i] = exporters[i]->name;
    if (strcmp(names[i], table) == 0) return PTQ_OK;
  }
  const char *near = ptq_text_nearest(table, names, N_EXPORTERS);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "unknown table '%s'%s%s%s; one of " PTQ_EXPORT_NAMES, table,
                  near != NULL ? "; did you mean '" : "",
                  near != NULL ? near : "", near != NULL ? "'" : "");
}

static ptq_status export_rows(ptq_view *v, const char *table, bool stable,
                              ptq_table_writer *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_export_source s = {0};
  size_t i = 0;
  PTQ_TRY(ptq_export_check_name(table, err));
  while (strcmp(exporters[i]->name, table) != 0) i++;
  PTQ_TRY(read_source(v, &s, err));
  exporters[i]->columns(w, stable);
  PTQ_TRY(exporters[i]->rows(v, &s, w, stable, err));
done:
  return rc;
}

ptq_status ptq_export_table(ptq_view *v, const char *table,
                            ptq_export_format format, bool stable, FILE *out,
                            ptq_err *err) {
  ptq_table_writer w = {.out = out, .format = format};
  ptq_status rc = export_rows(v, table, stable, &w, err);
  if (rc == PTQ_OK && (fflush(out) != 0 || ferror(out) != 0))
    rc = PTQ_FAIL(err, PTQ_E_IO, "cannot write the export; is the disk full?");
  return rc;
}

ptq_status ptq_export_netcdf(ptq_view *v, const char *table, bool stable,
                             const char *path, ptq_err *err) {
  ptq_table_writer w = {.format = PTQ_EXPORT_NETCDF};
  ptq_status rc = export_rows(v, table, stable, &w, err);
  if (rc == PTQ_OK) rc = ptq_writer_save_netcdf(&w, table, path, err);
  ptq_writer_release(&w);
  return rc;
}
