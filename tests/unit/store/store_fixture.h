/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file store_fixture.h
 * A small sweep with two models of different shapes, and its results as
 * functions of the row's number, for the tests of the store.
 */
#ifndef PTQ_TESTS_STORE_FIXTURE_H
#define PTQ_TESTS_STORE_FIXTURE_H

#include <hdf5.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/text.h"
#include "ptq/store/store.h"
#include "ptq/store/view.h"

enum {
  FX_SUBJECTS = 2,
  FX_SPECTRA = 3,
  FX_MAX_LAYERS = 8,
  FX_MAX_WINDOWS = 8,
  FX_MAX_ANSWERS = 8
};

typedef struct fixture {
  ptq_store_layout layout;
  ptq_point_row *points;
  int64_t *subject, *layers, *windows, *answers;
  ptq_model_row subjects[FX_SUBJECTS];
  int64_t subject_windows[FX_SUBJECTS], subject_answers[FX_SUBJECTS];
  ptq_spectrum_slot spectra[FX_SPECTRA];
  ptq_store_attribute extra[1];
} fixture;

static inline fixture fixture_create(int64_t n) {
  fixture f = {.points = calloc((size_t)n, sizeof *f.points),
               .subject = calloc((size_t)n, 8),
               .layers = calloc((size_t)n, 8),
               .windows = calloc((size_t)n, 8),
               .answers = calloc((size_t)n, 8)};
  const ptq_table *points = ptq_table_get(PTQ_TABLE_POINTS);
  for (int64_t i = 0; i < n; i++) {
    ptq_row_clear(points, &f.points[i]);
    snprintf(f.points[i].key, sizeof f.points[i].key, "%032llx",
             (unsigned long long)i * 2654435761U);
    f.subject[i] = i % FX_SUBJECTS;
    (void)ptq_text_copy(f.points[i].model, sizeof f.points[i].model,
                        i % 2 ? "opt, \"small\"" : "llama-25k");
    (void)ptq_text_copy(f.points[i].dtype, sizeof f.points[i].dtype, "int4");
    (void)ptq_text_copy(f.points[i].method, sizeof f.points[i].method, "rtn");
    f.points[i].group = 16 << (i % 4);
    f.layers[i] = f.subject[i] == 0 ? 3 : 5;
    f.windows[i] = f.subject[i] == 0 ? 4 : 7;
    f.answers[i] = f.subject[i] == 0 ? 6 : 2;
  }
  for (int s = 0; s < FX_SUBJECTS; s++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), &f.subjects[s]);
    (void)ptq_text_copy(f.subjects[s].model, sizeof f.subjects[s].model,
                        s ? "opt, \"small\"" : "llama-25k");
    f.subjects[s].params = 25000 + s;
    f.subject_windows[s] = s == 0 ? 4 : 7;
    f.subject_answers[s] = s == 0 ? 6 : 2;
  }
  const ptq_spectrum_slot spectra[FX_SPECTRA] = {
      {0, "llama-25k", "attn_in", 2, 8},
      {0, "llama-25k", "attn_in_nofirst", 2, 8},
      {1, "opt", "mlp_in", 3, 4},
  };
  memcpy(f.spectra, spectra, sizeof spectra);
  return f;
}

/* Pointers into `f` itself, so taken where it lives. */
static inline const ptq_store_layout *fixture_layout(fixture *f, int64_t n) {
  f->extra[0] = (ptq_store_attribute){"bootstrap", "seed 1"};
  f->layout = (ptq_store_layout){
      .spec_text = "name: test\n",
      .program_version = "0.0",
      .numerics = "OpenBLAS test",
      .fingerprint = "0123456789abcdef0123456789abcdef",
      .n_points = n,
      .points = f->points,
      .point_subject = f->subject,
      .point_layers = f->layers,
      .point_windows = f->windows,
      .point_answers = f->answers,
      .n_subjects = FX_SUBJECTS,
      .subjects = f->subjects,
      .subject_windows = f->subject_windows,
      .subject_answers = f->subject_answers,
      .n_spectra = FX_SPECTRA,
      .spectra = f->spectra,
      .n_attributes = 1,
      .attributes = f->extra,
  };
  return &f->layout;
}

static inline void fixture_free(fixture *f) {
  free(f->points);
  free(f->subject);
  free(f->layers);
  free(f->windows);
  free(f->answers);
}

static inline void fixture_answers(int64_t p, int64_t n,
                                   ptq_answer_row *answers) {
  for (int64_t i = 0; i < n; i++)
    answers[i] =
        (ptq_answer_row){p, i, 1, 2, 3, 0, -1.5 * (double)(p + i), 0.5};
}

static inline ptq_status fixture_put_point(const fixture *f, ptq_store *st,
                                           int64_t p, ptq_err *err) {
  ptq_layer_row layers[FX_MAX_LAYERS];
  ptq_window_row windows[FX_MAX_WINDOWS];
  ptq_answer_row answers[FX_MAX_ANSWERS];
  ptq_point_result r = {.point = p, .state = PTQ_STATE_DONE, .seconds = 1.5};
  r.row = f->points[p];
  r.row.nll = 3.0 + 0.001 * (double)p;
  r.row.dnll = -0.25;
  r.row.kl = 1.0 / (double)(p + 3);
  r.n_layers = f->layers[p];
  r.n_windows = f->windows[p];
  for (int64_t i = 0; i < r.n_layers; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_LAYERS), &layers[i]);
    layers[i].point = p;
    snprintf(layers[i].layer, sizeof layers[i].layer, "blocks.%d", (int)i);
    layers[i].sqnr_weight = 20.0 + (double)i + 0.01 * (double)p;
  }
  for (int64_t i = 0; i < r.n_windows; i++)
    windows[i] = (ptq_window_row){p, i, 100.0 + (double)(p * 8 + i), 0.5, 10.0};
  r.n_answers = f->answers[p];
  fixture_answers(p, r.n_answers, answers);
  r.layers = layers;
  r.windows = windows;
  r.answers = answers;
  return ptq_store_put_point(st, &r, err);
}

static inline ptq_status fixture_put_subject(const fixture *f, ptq_store *st,
                                             int64_t s, ptq_err *err) {
  static double values[2][16];
  ptq_baseline_row windows[FX_MAX_WINDOWS];
  ptq_baseline_answer_row answers[FX_MAX_ANSWERS];
  ptq_spectrum spectra[2] = {{NULL, 0, 0, NULL, 0}, {NULL, 0, 0, NULL, 0}};
  ptq_subject_result r = {.subject = s,
                          .state = PTQ_STATE_DONE,
                          .row = f->subjects[s],
                          .windows = windows,
                          .n_windows = f->subject_windows[s],
                          .answers = answers,
                          .n_answers = f->subject_answers[s],
                          .spectra = spectra,
                          .seconds = 2.5};
  r.row.nll = 2.5 + (double)s;
  for (int64_t i = 0; i < r.n_windows; i++)
    windows[i] = (ptq_baseline_row){s, i, 10 * i, 9, 40, 30.0 + (double)i};
  for (int64_t i = 0; i < r.n_answers; i++)
    answers[i] = (ptq_baseline_answer_row){
        s, i, 4, 2, 2, 2, 2, 0, -3.0 * (double)i, -0.25};
  for (int k = 0; k < FX_SPECTRA; k++) {
    const ptq_spectrum_slot *slot = &f->spectra[k];
    if (slot->subject != s) continue;
    double *v = values[r.n_spectra];
    for (int i = 0; i < 16; i++) v[i] = 100.0 * k - i;
    spectra[r.n_spectra++] =
        (ptq_spectrum){slot->site, slot->n_blocks, slot->d, v, 1000 + k};
  }
  return ptq_store_put_subject(st, &r, err);
}

/** Is row `p` of an open view what fixture_put_point wrote? */
static inline bool fixture_point_is_right(ptq_view *v, const fixture *f,
                                          int64_t p) {
  const void *points, *layers, *windows, *answers;
  const int64_t *subject, *first_layer, *first_window, *first_answer, *base;
  int64_t n;
  if (ptq_view_table(v, PTQ_TABLE_POINTS, &points, &n, NULL) != PTQ_OK ||
      ptq_view_table(v, PTQ_TABLE_LAYERS, &layers, &n, NULL) != PTQ_OK ||
      ptq_view_table(v, PTQ_TABLE_WINDOWS, &windows, &n, NULL) != PTQ_OK ||
      ptq_view_table(v, PTQ_TABLE_ANSWERS, &answers, &n, NULL) != PTQ_OK ||
      ptq_view_index(v, &subject, &first_layer, &first_window, NULL) != PTQ_OK)
    return false;
  ptq_view_answers(v, &first_answer, &base);
  const ptq_point_row *row = (const ptq_point_row *)points + p;
  if (row->nll != 3.0 + 0.001 * (double)p || row->kl != 1.0 / (double)(p + 3) ||
      strcmp(row->key, f->points[p].key) != 0 ||
      row->group != f->points[p].group || !isnan(row->top1))
    return false;
  for (int64_t i = 0; i < f->layers[p]; i++) {
    const ptq_layer_row *l = (const ptq_layer_row *)layers + first_layer[p] + i;
    if (l->point != p || l->layer[7] != '0' + i ||
        l->sqnr_weight != 20.0 + (double)i + 0.01 * (double)p)
      return false;
  }
  for (int64_t i = 0; i < f->windows[p]; i++) {
    const ptq_window_row *w =
        (const ptq_window_row *)windows + first_window[p] + i;
    if (w->point != p || w->window != i ||
        w->nll != 100.0 + (double)(p * 8 + i))
      return false;
  }
  for (int64_t i = 0; i < f->answers[p]; i++) {
    const ptq_answer_row *a =
        (const ptq_answer_row *)answers + first_answer[p] + i;
    if (a->point != p || a->request != i || a->choice_byte != 3 ||
        a->logp != -1.5 * (double)(p + i))
      return false;
  }
  return true;
}

/** HDF5 identifiers open in this process. */
static inline long long open_ids(void) {
  hsize_t total = 0;
  const H5I_type_t types[] = {H5I_FILE,       H5I_GROUP,   H5I_DATATYPE,
                              H5I_DATASPACE,  H5I_DATASET, H5I_ATTR,
                              H5I_GENPROP_LST};
  for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
    hsize_t n = 0;
    if (H5Inmembers(types[i], &n) >= 0) total += n;
  }
  return (long long)total;
}

/** First byte of a dataset in the file, -1 if there is none. */
static inline long long set_offset(const char *path, const char *name) {
  haddr_t at = HADDR_UNDEF;
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t set = file < 0 ? file : H5Dopen2(file, name, H5P_DEFAULT);
  if (set >= 0) at = H5Dget_offset(set);
  if (set >= 0) H5Dclose(set);
  if (file >= 0) H5Fclose(file);
  return at == HADDR_UNDEF ? -1 : (long long)at;
}

/** XOR one byte of a file. */
static inline void flip(const char *path, long long at, int mask) {
  FILE *f = fopen(path, "r+b");
  int c = 0;
  if (f == NULL || fseek(f, (long)at, SEEK_SET) != 0 || (c = fgetc(f)) == EOF ||
      fseek(f, (long)at, SEEK_SET) != 0 || fputc(c ^ mask, f) == EOF ||
      fclose(f) != 0)
    abort();
}

#endif /* PTQ_TESTS_STORE_FIXTURE_H */
