/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <mpi.h>
#include <stdio.h>
#include <string.h>

#include "command.h"
#include "output.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/model/export.h"
#include "ptq/sweep/batch.h"
#include "recompute.h"

extern const ptq_command ptq_cmd_materialize;

/* What the batch tells of the point while it is quantized. */
typedef struct making {
  ptq_export *export; /* owned */
  double nll;
  char message[sizeof((ptq_point_result *)0)->message];
  bool done;
} making;

static ptq_status begin(void *ctx, const int64_t *points, int64_t n,
                        ptq_err *err) {
  (void)ctx, (void)points, (void)n, (void)err;
  return PTQ_OK;
}

static ptq_status alive(void *ctx, double done, ptq_err *err) {
  (void)ctx, (void)done, (void)err;
  return PTQ_OK;
}

static void take(making *m, int state, double nll, const char *message) {
  m->done = state == PTQ_STATE_DONE;
  m->nll = nll;
  (void)ptq_text_copy(m->message, sizeof m->message, message);
}

static ptq_status take_point(void *ctx, const ptq_point_result *r,
                             ptq_err *err) {
  (void)err;
  take(ctx, (int)r->state, r->row.nll, r->message);
  return PTQ_OK;
}

static ptq_status take_block(void *ctx, int64_t point, const ptq_block *b,
                             ptq_err *err) {
  const making *m = ctx;
  (void)point;
  return ptq_export_block(m->export, b, err);
}

/* The one point whose key begins with `prefix`. */
static ptq_status find_row(ptq_view *v, const char *prefix,
                           const ptq_point_row **out, bool *finished,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const void *rows = NULL;
  const int *state = NULL, *subject_state = NULL;
  int64_t n = 0, n_points = 0, n_subjects = 0, found = 0;
  PTQ_TRY(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &n, err));
  PTQ_TRY(
      ptq_view_states(v, &state, &n_points, &subject_state, &n_subjects, err));
  const ptq_point_row *points = rows;
  for (int64_t i = 0; i < n; i++) {
    if (strncmp(points[i].key, prefix, strlen(prefix)) != 0) continue;
    *out = &points[i];
    *finished = state[i] == PTQ_STATE_DONE;
    found++;
  }
  if (found != 1)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "store '%s' has %lld points whose key begins with '%s'; "
                     "`ptqsweep export --table points` lists the keys",
                     ptq_view_path(v), (long long)found, prefix));
done:
  return rc;
}

static ptq_status take_subject(void *ctx, const ptq_subject_result *r,
                               ptq_err *err) {
  (void)err;
  take(ctx, (int)r->state, r->row.nll, r->message);
  return PTQ_OK;
}

/* NLL of what was written, as of a model of its own: the baseline of the
 * point's subject in a sweep that has `dir` in its model's place. */
static ptq_status measure(const ptq_study *s, int64_t subject, const char *dir,
                          double *nll, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  making m = {0};
  char *path = NULL;
  ptq_model_spec *models = NULL;
  ptq_spec spec = s->spec;
  ptq_grid grid = s->grid;
  const ptq_sink sink = {
      .ctx = &m, .begin = begin, .subject = take_subject, .alive = alive};
  PTQ_TRY(ptq_strdup(&path, dir, err));
  PTQ_TRY(ptq_alloc(&models, spec.n_models, sizeof *models, "models", err));
  memcpy(models, spec.models, (size_t)spec.n_models * sizeof *models);
  models[grid.subjects[subject].model].path = path;
  spec.models = models;
  spec.spectra = PTQ_SPECTRA_OFF;
  spec.requests.path = NULL;
  grid.spec = &spec;
  grid.n_requests = 0;
  PTQ_TRY(ptq_subject_run(&grid, subject, &sink, err));
  if (!m.done) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "%s: %s", dir, m.message));
  *nll = m.nll;
done:
  ptq_free(models);
  ptq_free(path);
  return rc;
}

/* Rounded to bfloat16 the model is another one, and says so. */
static ptq_status tell(const ptq_study *s, int64_t subject, const char *dir,
                       const char *note, ptq_export_type type, double nll,
                       bool finished, ptq_err *err) {
  double written = nll;
  if (type == PTQ_EXPORT_BF16) {
    const ptq_status rc = measure(s, subject, dir, &written, err);
    if (rc != PTQ_OK) return rc;
  }
  printf("%s: %s\nNLL on the evaluation text %.6f", dir, note, written);
  if (type == PTQ_EXPORT_BF16)
    printf(" in bf16; %.6f %s\n", nll, finished ? "in the store" : "in f32");
  else
    printf("%s\n", finished ? ", as in the store" : "");
  return PTQ_OK;
}

static ptq_status make(const ptq_study *s, const ptq_point_row *row,
                       bool finished, const char *dir, ptq_export_type type,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_model *model = NULL;
  making m = {0};
  char note[512];
  const int64_t point = ptq_study_find(s, row->key);
  if (point < 0)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "the point is not one of '%s': the sweep file, the model "
                    "or a text has changed",
                    s->spec.path);
  const ptq_subject *sub = &s->grid.subjects[s->grid.points[point].subject];
  const char *source = s->spec.models[sub->model].path;
  const ptq_sink sink = {
      .ctx = &m, .begin = begin, .point = take_point, .alive = alive};
  const ptq_block_watch watch = {.ctx = &m, .block = take_block};
  snprintf(note, sizeof note, "%s: %s %s%s%s group %lld, key %s", row->model,
           row->dtype, row->method, row->options[0] != '\0' ? ":" : "",
           row->options, (long long)row->group, row->key);
  PTQ_TRY(ptq_model_open(source, &model, err));
  PTQ_TRY(ptq_export_open(model, source, dir, type, note, &m.export, err));
  PTQ_TRY(ptq_batch_run_watched(&s->grid, &point, 1, &sink, &watch, err));
  if (!m.done) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "%s: %s", note, m.message));
  if (finished && memcmp(&m.nll, &row->nll, sizeof m.nll) != 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC,
                     "%s: NLL is %.17g, the store has %.17g", note, m.nll,
                     row->nll));
  PTQ_TRY(ptq_export_finish(m.export, err));
  PTQ_TRY(tell(s, s->grid.points[point].subject, dir, note, type, m.nll,
               finished, err));
done:
  ptq_export_free(m.export);
  ptq_model_close(model);
  return rc;
}

static ptq_status check_options(const ptq_args *args, ptq_export_type *type,
                                int *threads, ptq_err *err) {
  const char *name = ptq_args_get(args, "dtype");
  ptq_status rc = ptq_args_threads(args, threads, err);
  if (rc != PTQ_OK) return rc;
  if (!ptq_args_has(args, "point") || !ptq_args_has(args, "output"))
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "--point KEY and --output DIR say what to write and where");
  const char *const inputs[] = {ptq_args_at(args, 0),
                                ptq_args_get(args, "spec")};
  rc = ptq_output_check(ptq_args_get(args, "output"), inputs, 2, err);
  if (rc != PTQ_OK) return rc;
  *type = PTQ_EXPORT_F32;
  if (name == NULL || strcmp(name, "f32") == 0) return PTQ_OK;
  *type = PTQ_EXPORT_BF16;
  if (strcmp(name, "bf16") == 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG, "--dtype '%s': f32 or bf16", name);
}

static ptq_status run_materialize(const ptq_args *args, int *exit_code,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_view *v = NULL;
  ptq_study study = {0};
  ptq_export_type type = PTQ_EXPORT_F32;
  const ptq_point_row *row = NULL;
  bool finished = false;
  int threads = 0;
  rc = check_options(args, &type, &threads, err);
  if (rc != PTQ_OK) {
    *exit_code = PTQ_EXIT_USAGE;
    return rc;
  }
  PTQ_TRY(ptq_view_open(ptq_args_at(args, 0), &v, err));
  PTQ_TRY(find_row(v, ptq_args_get(args, "point"), &row, &finished, err));
  if (MPI_Init(NULL, NULL) != MPI_SUCCESS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_PEER, "MPI_Init failed"));
  rc = ptq_study_reopen(v, ptq_args_get(args, "spec"), &study, err);
  if (rc == PTQ_OK) rc = ptq_study_check_tokens(&study, err);
  if (threads > 0) study.grid.threads = threads;
  if (rc == PTQ_OK)
    rc = make(&study, row, finished, ptq_args_get(args, "output"), type, err);
  ptq_study_close(&study);
  MPI_Finalize();
done:
  ptq_view_close(v);
  return rc;
}

static const ptq_option options[] = {
    {"point", 0, "KEY", "the point's key, or how it begins"},
    {"output", 'o', "DIR", "the directory to make"},
    {"dtype", 0, "TYPE", "of all weights written: f32 (default) or bf16"},
    {"threads", 0, "N", "as of run: threads that quantize"},
    {"spec", 0, "SPEC", "the sweep file, if it is no longer where it was"},
    {NULL, 0, NULL, NULL}};

const ptq_command ptq_cmd_materialize = {
    .name = "materialize",
    .args = "STORE --point KEY -o DIR [options]",
    .summary = "write a point's quantized model as a Hugging Face directory",
    .details =
        "Quantizes the point's model once more and writes it, with its "
        "tokenizer, for any\nother tool: weights are what the quantized codes "
        "stand for, so the directory is\nas large as an unquantized model. A "
        "finished point must come out with the NLL in\nthe store, bit for "
        "bit. f32 keeps every weight; bf16 rounds them, which moves the\nNLL "
        "where the number format has more digits: that of the rounded weights "
        "is measured\nand printed beside the store's. Needs the sweep file, "
        "its "
        "models,\ntexts and tokens.\n\n"
        "  ptqsweep materialize quick.h5 --point 3f2a -o llama-3m-int4\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run_materialize,
};
