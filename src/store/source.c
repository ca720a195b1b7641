/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "source.h"

#include <stdio.h>
#include <string.h>

#include "attempt.h"
#include "integrity.h"
#include "pack.h"
#include "ptq/base/log.h"
#include "ptq/base/mem.h"

ptq_status ptq_source_rows(const ptq_source *s, ptq_set_id id, int64_t at,
                           int64_t n, void *out, ptq_err *err) {
  enum { SLAB = 4096 };
  ptq_status rc = PTQ_OK;
  const ptq_h5_set *set = &s->sets.set[id];
  const ptq_table *t = ptq_set_get(id)->table();
  ptq_pack_column columns[64];
  unsigned char *raw = NULL;
  char *rows = NULL;
  *(void **)out = NULL;
  if (n == 0) return ptq_alloc(out, 0, t->row_size, set->name, err);
  PTQ_TRY(ptq_h5_columns(set, t, s->sets.schema, columns, err));
  PTQ_TRY(ptq_alloc(&rows, n, t->row_size, set->name, err));
  PTQ_TRY(ptq_alloc(&raw, n < SLAB ? n : SLAB, set->row_bytes, set->name, err));
  for (int64_t done = 0; done < n; done += SLAB) {
    const int64_t some = n - done < SLAB ? n - done : SLAB;
    PTQ_TRY(ptq_h5_read(set, at + done, some, raw, err));
    ptq_unpack_rows(t, columns, set->row_bytes, raw, some,
                    rows + (size_t)done * t->row_size);
  }
  *(void **)out = rows;
  rows = NULL;
done:
  ptq_free(raw);
  ptq_free(rows);
  return rc;
}

/* What fails its checksum was never finished. */
static void forget_bad(void *ctx, const char *kind, int64_t row,
                       const char *why) {
  ptq_source *s = ctx;
  unsigned char *state = NULL;
  int64_t *n = NULL;
  if (strcmp(kind, "point") == 0)
    state = &s->state[row], n = &s->n_bad_points;
  else if (strcmp(kind, "model") == 0)
    state = &s->model_state[row], n = &s->n_bad_models;
  else if (strcmp(kind, "direction") == 0)
    state = &s->direction_state[row], n = &s->n_bad_directions;
  else /* a spectrum is redone with its model */
    state = &s->model_state[s->sets.spectra[row].subject], n = &s->n_bad_models;
  /* What a killed writer left pending is no result. */
  if (*state == PTQ_STATE_PENDING) return;
  *state = PTQ_STATE_PENDING;
  ++*n;
  if (s->first_bad[0] == '\0')
    (void)snprintf(s->first_bad, sizeof s->first_bad, "%s %lld: %s", kind,
                   (long long)row, why);
}

/* Not a result: the row goes on without. */
static void forget_attempt(void *ctx, const char *kind, int64_t row,
                           const char *why) {
  ptq_source *s = ctx;
  ptq_attempt_row *a = &s->attempts[row];
  if (strcmp(kind, ptq_set_get(PTQ_SET_MODELS_ATTEMPTS)->name) == 0)
    a = &s->model_attempts[row];
  if (strcmp(kind, ptq_set_get(PTQ_SET_DIRECTIONS_ATTEMPTS)->name) == 0)
    a = &s->direction_attempts[row];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_ATTEMPTS), a);
  ptq_log(PTQ_LOG_WARN,
          "store '%s': row %lld of '%s' is damaged and not taken over (%s)",
          s->sets.path, (long long)row, kind, why);
}

void ptq_source_tell_bad(const ptq_source *s) {
  const char *path = s->sets.path;
  if (s->first_bad[0] == '\0') return;
  ptq_log(PTQ_LOG_WARN,
          "store '%s': %lld points, %lld models (or spectra of theirs) and "
          "%lld directions are damaged and count as not done (first: %s); "
          "`ptqsweep verify %s` lists them, `ptqsweep run` does them again",
          path, (long long)s->n_bad_points, (long long)s->n_bad_models,
          (long long)s->n_bad_directions, s->first_bad, path);
}

static ptq_status load_states(ptq_source *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *sets = &s->sets;
  int64_t checked = 0, bad = 0;
  PTQ_TRY(ptq_alloc(&s->state, sets->n_points, 1, "states", err));
  PTQ_TRY(ptq_alloc(&s->model_state, sets->n_subjects, 1, "states", err));
  PTQ_TRY(
      ptq_h5_read(&sets->set[PTQ_SET_STATE], 0, sets->n_points, s->state, err));
  PTQ_TRY(ptq_h5_read(&sets->set[PTQ_SET_MODELS_STATE], 0, sets->n_subjects,
                      s->model_state, err));
  const int64_t n = sets->n_directions;
  PTQ_TRY(ptq_alloc(&s->direction_state, n, 1, "states", err));
  if (n > 0)
    PTQ_TRY(ptq_h5_read(&sets->set[PTQ_SET_DIRECTIONS_STATE], 0, n,
                        s->direction_state, err));
  PTQ_TRY(
      ptq_attempt_check(sets, PTQ_SET_ATTEMPTS, forget_attempt, s, &bad, err));
  PTQ_TRY(ptq_attempt_check(sets, PTQ_SET_MODELS_ATTEMPTS, forget_attempt, s,
                            &bad, err));
  PTQ_TRY(ptq_attempt_check(sets, PTQ_SET_DIRECTIONS_ATTEMPTS, forget_attempt,
                            s, &bad, err));
  PTQ_TRY(ptq_integrity_points(sets, 0, sets->n_points, forget_bad, s, &checked,
                               &bad, err));
  PTQ_TRY(ptq_integrity_models(sets, 0, sets->n_subjects, forget_bad, s,
                               &checked, &bad, err));
  PTQ_TRY(ptq_integrity_directions(sets, 0, sets->n_directions, forget_bad, s,
                                   &checked, &bad, err));
  PTQ_TRY(ptq_integrity_spectra(sets, 0, sets->n_spectra, forget_bad, s,
                                &checked, &bad, err));
done:
  return rc;
}

ptq_status ptq_source_open(const char *path, ptq_source *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_source){0};
  ptq_sets_init(&out->sets);
  const ptq_sets *sets = &out->sets;
  const hid_t fapl = ptq_h5_plain_access();
  if (fapl < 0)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_NOMEM, path, "access properties of", "/"));
  PTQ_TRY(ptq_sets_open(path, H5F_ACC_RDONLY, fapl, &out->sets, err));
  PTQ_TRY(ptq_h5_attribute_get(sets->file, path, "uuid", &out->uuid, err));
  PTQ_TRY(
      ptq_h5_attribute_get(sets->file, path, "numerics", &out->numerics, err));
  PTQ_TRY(ptq_source_rows(out, PTQ_SET_POINTS, 0, sets->n_points, &out->points,
                          err));
  PTQ_TRY(ptq_source_rows(out, PTQ_SET_MODELS, 0, sets->n_subjects,
                          &out->models, err));
  PTQ_TRY(ptq_source_rows(out, PTQ_SET_ATTEMPTS, 0, sets->n_points,
                          &out->attempts, err));
  PTQ_TRY(ptq_source_rows(out, PTQ_SET_MODELS_ATTEMPTS, 0, sets->n_subjects,
                          &out->model_attempts, err));
  PTQ_TRY(ptq_source_rows(out, PTQ_SET_DIRECTIONS, 0, sets->n_directions,
                          &out->directions, err));
  PTQ_TRY(ptq_source_rows(out, PTQ_SET_DIRECTIONS_ATTEMPTS, 0,
                          sets->n_directions, &out->direction_attempts, err));
  PTQ_TRY(load_states(out, err));
done:
  if (fapl >= 0) (void)H5Pclose(fapl);
  if (rc != PTQ_OK) ptq_source_close(out);
  return rc;
}

void ptq_source_close(ptq_source *s) {
  (void)ptq_sets_close(&s->sets, NULL);
  ptq_free(s->points);
  ptq_free(s->models);
  ptq_free(s->attempts);
  ptq_free(s->model_attempts);
  ptq_free(s->state);
  ptq_free(s->model_state);
  ptq_free(s->directions);
  ptq_free(s->direction_attempts);
  ptq_free(s->direction_state);
  ptq_free(s->uuid);
  ptq_free(s->numerics);
  *s = (ptq_source){0};
  ptq_sets_init(&s->sets);
}

ptq_status ptq_source_read_point(const ptq_source *s, int64_t i,
                                 ptq_source_point *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t *layer = s->sets.first_layer + i;
  const int64_t *window = s->sets.first_window + i;
  const int64_t *answer = s->sets.first_answer + i;
  *out = (ptq_source_point){0};
  if (s->state[i] != PTQ_STATE_DONE) return PTQ_OK;
  out->n_layers = layer[1] - layer[0];
  out->n_windows = window[1] - window[0];
  out->n_answers = answer[1] - answer[0];
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_LAYERS, layer[0], out->n_layers,
                          &out->layers, err));
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_WINDOWS, window[0], out->n_windows,
                          &out->windows, err));
  PTQ_TRY(ptq_source_rows(s, PTQ_SET_ANSWERS, answer[0], out->n_answers,
                          &out->answers, err));
done:
  if (rc != PTQ_OK) ptq_source_point_release(out);
  return rc;
}

void ptq_source_point_release(ptq_source_point *p) {
  ptq_free(p->layers);
  ptq_free(p->windows);
  ptq_free(p->answers);
  *p = (ptq_source_point){0};
}
