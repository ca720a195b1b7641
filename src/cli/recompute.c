/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "recompute.h"

#include <stdio.h>
#include <string.h>

#include "ptq/base/log.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/base/text.h"
#include "ptq/sweep/batch.h"

/* The stored rows of the point that is being done again. */
typedef struct stored {
  const ptq_point_row *row;
  const ptq_layer_row *layers;
  const ptq_window_row *windows;
  const ptq_answer_row *answers;
  int64_t n_layers, n_windows, n_answers;
  bool differs;
} stored;

static void print_number(const ptq_field *f, const void *ours,
                         const void *theirs) {
  double a, b;
  memcpy(&a, (const char *)ours + f->offset, sizeof a);
  memcpy(&b, (const char *)theirs + f->offset, sizeof b);
  printf("%s is %.17g in the store, %.17g recomputed\n", f->name, a, b);
}

static void begin_line(stored *s) {
  const ptq_point_row *p = s->row;
  printf("wrong: point %s %s %s%s%s group %lld, key %s: ", p->model, p->dtype,
         p->method, p->options[0] != '\0' ? ":" : "", p->options,
         (long long)p->group, p->key);
  s->differs = true;
}

/* Results of one row: numbers, and with `all` text too. The row's own number
 * of its point is the store's business. */
static bool same_row(stored *s, const ptq_table *t, const void *ours,
                     const void *theirs, int64_t at, bool all) {
  for (size_t i = 0; i < t->n_fields; i++) {
    const ptq_field *f = &t->fields[i];
    if ((!all && f->kind != PTQ_KIND_F64) || strcmp(f->name, "point") == 0 ||
        ptq_field_same(f, ours, theirs))
      continue;
    begin_line(s);
    if (at >= 0) printf("row %lld of its %s: ", (long long)at, t->name);
    if (f->kind == PTQ_KIND_F64)
      print_number(f, ours, theirs);
    else
      printf("%s differs\n", f->name);
    return false;
  }
  return true;
}

static ptq_status compare(void *ctx, const ptq_point_result *r, ptq_err *err) {
  stored *s = ctx;
  (void)err;
  if (r->state != PTQ_STATE_DONE || r->n_layers != s->n_layers ||
      r->n_windows != s->n_windows || r->n_answers != s->n_answers) {
    begin_line(s);
    printf("done in the store, recomputing says: %s\n",
           r->state == PTQ_STATE_FAILED ? r->message : "another shape");
    return PTQ_OK;
  }
  if (!same_row(s, ptq_table_get(PTQ_TABLE_POINTS), s->row, &r->row, -1, false))
    return PTQ_OK;
  for (int64_t i = 0; i < s->n_layers; i++)
    if (!same_row(s, ptq_table_get(PTQ_TABLE_LAYERS), &s->layers[i],
                  &r->layers[i], i, true))
      return PTQ_OK;
  for (int64_t i = 0; i < s->n_windows; i++)
    if (!same_row(s, ptq_table_get(PTQ_TABLE_WINDOWS), &s->windows[i],
                  &r->windows[i], i, true))
      return PTQ_OK;
  for (int64_t i = 0; i < s->n_answers; i++)
    if (!same_row(s, ptq_table_get(PTQ_TABLE_ANSWERS), &s->answers[i],
                  &r->answers[i], i, true))
      return PTQ_OK;
  return PTQ_OK;
}

static ptq_status begin(void *ctx, const int64_t *points, int64_t n,
                        ptq_err *err) {
  (void)ctx, (void)points, (void)n, (void)err;
  return PTQ_OK;
}

static ptq_status alive(void *ctx, double done, ptq_err *err) {
  (void)ctx, (void)done, (void)err;
  return PTQ_OK;
}

/* The tables of the store, and who is finished. */
typedef struct tables {
  const ptq_point_row *points;
  const ptq_layer_row *layers;
  const ptq_window_row *windows;
  const ptq_answer_row *answers;
  const int64_t *subject, *first_layer, *first_window, *first_answer;
  int64_t *finished; /* owned */
  int64_t n_finished;
} tables;

static ptq_status load(ptq_view *v, tables *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  const int *state, *subject_state;
  int64_t n = 0, n_points, n_subjects;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &n, err));
  t->points = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_LAYERS, &rows, &n, err));
  t->layers = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_WINDOWS, &rows, &n, err));
  t->windows = rows;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_ANSWERS, &rows, &n, err));
  t->answers = rows;
  const int64_t *baseline = NULL;
  ptq_view_answers(v, &t->first_answer, &baseline);
  PTQ_TRY(
      ptq_view_index(v, &t->subject, &t->first_layer, &t->first_window, err));
  PTQ_TRY(
      ptq_view_states(v, &state, &n_points, &subject_state, &n_subjects, err));
  PTQ_TRY(
      ptq_alloc(&t->finished, n_points, sizeof *t->finished, "points", err));
  for (int64_t i = 0; i < n_points; i++)
    if (state[i] == PTQ_STATE_DONE) t->finished[t->n_finished++] = i;
done:
  return rc;
}

ptq_status ptq_study_reopen(ptq_view *v, const char *given, ptq_study *study,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *sets[PTQ_SETS_MAX];
  char *text = NULL;
  const char *path = given != NULL ? given : ptq_view_attribute(v, "spec_path");
  if (path[0] == '\0')
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "store '%s' does not say where its sweep file is: give "
                     "it with --spec",
                     ptq_view_path(v)));
  PTQ_TRY(ptq_strdup(&text, ptq_view_attribute(v, "spec_text"), err));
  const int64_t n = ptq_study_sets(text, sets);
  PTQ_TRY(ptq_study_open(MPI_COMM_SELF, path, sets, n, study, err));
  if (strcmp(study->numerics, ptq_view_attribute(v, "numerics")) != 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "store '%s' was computed with numerics '%s', here are "
                     "'%s', whose last bits differ; set OPENBLAS_CORETYPE, "
                     "ONEDNN_MAX_CPU_ISA and PTQ_ISA to the store's and use "
                     "the same libraries",
                     ptq_view_path(v), ptq_view_attribute(v, "numerics"),
                     study->numerics));
done:
  ptq_free(text);
  return rc;
}

int64_t ptq_study_find(const ptq_study *s, const char *key) {
  for (int64_t i = 0; i < s->grid.n_points; i++)
    if (strcmp(s->grid.points[i].key, key) == 0) return i;
  return -1;
}

static ptq_status redo(const tables *t, int64_t row, const ptq_study *study,
                       int64_t *n_bad, ptq_err *err) {
  const int64_t *layer = t->first_layer + row, *window = t->first_window + row;
  const int64_t *answer = t->first_answer + row;
  stored s = {.row = &t->points[row],
              .layers = t->layers + layer[0],
              .n_layers = layer[1] - layer[0],
              .windows = t->windows + window[0],
              .n_windows = window[1] - window[0],
              .answers = t->answers + answer[0],
              .n_answers = answer[1] - answer[0]};
  const ptq_sink sink = {
      .ctx = &s, .begin = begin, .point = compare, .alive = alive};
  const int64_t point = ptq_study_find(study, s.row->key);
  if (point < 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "point %s %s %s group %lld of the store is not one of "
                    "'%s': the sweep file, the model or a text has changed",
                    s.row->model, s.row->dtype, s.row->method,
                    (long long)s.row->group, study->spec.path);
  const ptq_status rc = ptq_batch_run(&study->grid, &point, 1, &sink, err);
  *n_bad += s.differs;
  return rc;
}

ptq_status ptq_recompute(ptq_view *v, const ptq_recompute_options *o,
                         int64_t *n_done, int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  tables t = {0};
  ptq_study study = {0};
  ptq_rng rng;
  *n_done = *n_bad = 0;
  ptq_rng_init(&rng, o->seed);
  PTQ_TRY(load(v, &t, err));
  PTQ_TRY(ptq_study_reopen(v, o->spec_path, &study, err));
  PTQ_TRY(ptq_study_check_tokens(&study, err));
  if (o->threads > 0) study.grid.threads = o->threads;
  /* The first of a shuffled list. */
  for (; *n_done < o->n_points && *n_done < t.n_finished; ++*n_done) {
    const int64_t left = t.n_finished - *n_done;
    const int64_t k = *n_done + (int64_t)ptq_rng_below(&rng, (uint64_t)left);
    const int64_t row = t.finished[k];
    t.finished[k] = t.finished[*n_done];
    t.finished[*n_done] = row;
    PTQ_TRY(redo(&t, row, &study, n_bad, err));
  }
done:
  ptq_free(t.finished);
  ptq_study_close(&study);
  return rc;
}
