/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A sweep with a landscape on random tokens, and a sink that keeps what a
 * direction leaves. Included first. */
#ifndef PTQ_TEST_LANDSCAPE_FIXTURE_H
#define PTQ_TEST_LANDSCAPE_FIXTURE_H

#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "displace.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/model/export.h"
#include "ptq/num/blas.h"
#include "ptq/num/numerics.h"
#include "ptq/num/operator.h"
#include "ptq/sweep/batch.h"
#include "ptq/sweep/landscape.h"
#include "sweep_files.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"

enum { N_TOKENS = 2000, MAX_STEPS = 32, MAX_LAYERS = 32, MAX_RITZ = 64 };

static scratch files;
static const char *methods = "rtn";  /* of the grid */
static uint32_t n_tokens = N_TOKENS; /* of a text */

/* A sweep file, read and with keys. */
typedef struct study {
  ptq_spec spec;
  ptq_grid grid;
} study;

static inline void write_tokens(const char *text, const char *model_dir) {
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  char t[PTQ_HASH_HEX], k[PTQ_HASH_HEX], name[128], tokenizer[512];
  ptq_rng rng;
  ptq_rng_init(&rng, (uint64_t)text[0]);
  for (uint32_t i = 0; i < n_tokens; i++) {
    ids[i] = (uint32_t)ptq_rng_below(&rng, 1000);
    ends[i] = 3 * (uint64_t)(i + 1);
  }
  snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", model_dir);
  assert_int_equal(ptq_hash_file(scratch_path(&files, text), t, NULL), PTQ_OK);
  assert_int_equal(ptq_hash_file(tokenizer, k, NULL), PTQ_OK);
  snprintf(name, sizeof name, ".tokens/%s-%s.ids.npy", t, k);
  scratch_npy(&files, name, "<u4", ids, n_tokens, sizeof *ids);
  snprintf(name, sizeof name, ".tokens/%s-%s.ends.npy", t, k);
  scratch_npy(&files, name, "<u8", ends, n_tokens, sizeof *ends);
}

static inline void open_study(study *s, const char *models,
                              const char *evaluation, const char *landscape) {
  char text[1200], numerics[PTQ_NUMERICS_MAX], path[256];
  char hashes[4][PTQ_HASH_HEX], texts[3][PTQ_HASH_HEX];
  ptq_err err = {0};
  snprintf(text, sizeof text,
           "models: [%s]\n"
           "data:\n"
           "  calibration: {text: c.txt, windows: 4, length: 32}\n"
           "  selection: {text: s.txt, windows: 2, length: 24}\n"
           "  evaluation: {text: e.txt, windows: 5, length: 40%s}\n"
           "grid: {dtype: [mxint3, int4], method: [%s], group: [16, 32]}\n"
           "measure: {spectra: off, landscape: %s}\n",
           models, evaluation, methods, landscape);
  scratch_text(&files, "s.yaml", text);
  strcpy(path, files.path);
  if (ptq_spec_read(path, NULL, 0, &s->spec, &err) != PTQ_OK ||
      ptq_grid_build(&s->spec, &s->grid, &err) != PTQ_OK ||
      ptq_grid_hash_inputs(&s->grid, hashes, texts, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_numerics_text(PTQ_COMPUTE_F32, numerics);
  assert_int_equal(ptq_grid_set_keys(&s->grid, hashes, texts, numerics, &err),
                   PTQ_OK);
}

static inline void close_study(study *s) {
  ptq_grid_release(&s->grid);
  ptq_spec_release(&s->spec);
}

static inline int make_files(void **state) {
  (void)state;
  unsetenv("PTQSWEEP_TOKENS");
  scratch_make(&files);
  scratch_mkdir(&files, ".tokens");
  const char *const names[] = {"c.txt", "s.txt", "e.txt"};
  for (int i = 0; i < 3; i++) {
    scratch_text(&files, names[i], names[i]);
    write_tokens(names[i], ZOO "llama-25k");
    write_tokens(names[i], ZOO "opt-25k");
  }
  assert_int_equal(ptq_blas_init(NULL), PTQ_OK);
  return 0;
}

static inline int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

/* What a sink was given. */
typedef struct taken {
  ptq_direction_row row;
  ptq_state state;
  ptq_profile_row steps[MAX_STEPS];
  int64_t n;
  char message[240];
  ptq_direction_layer_row layers[MAX_LAYERS];
  int64_t n_layers;
  ptq_ritz_row ritz[MAX_RITZ];
  int64_t n_ritz;
  double baseline;
  int stop_after; /* calls of alive; -1: never */
  ptq_status stop_with;
  double last;
} taken;

static inline ptq_status take_direction(void *ctx,
                                        const ptq_direction_result *r,
                                        ptq_err *err) {
  taken *t = ctx;
  (void)err;
  assert_true(r->n_profile <= MAX_STEPS);
  t->row = r->row;
  t->state = r->state;
  t->n = r->n_profile;
  memcpy(t->message, r->message, sizeof t->message);
  if (t->n > 0) memcpy(t->steps, r->profile, (size_t)t->n * sizeof *t->steps);
  assert_true(r->n_layers <= MAX_LAYERS && r->n_ritz <= MAX_RITZ);
  t->n_layers = r->n_layers;
  t->n_ritz = r->n_ritz;
  if (t->n_layers > 0)
    memcpy(t->layers, r->layers, (size_t)t->n_layers * sizeof *t->layers);
  if (t->n_ritz > 0)
    memcpy(t->ritz, r->ritz, (size_t)t->n_ritz * sizeof *t->ritz);
  return PTQ_OK;
}

static inline ptq_status take_subject(void *ctx, const ptq_subject_result *r,
                                      ptq_err *err) {
  (void)err;
  if (r->state != PTQ_STATE_DONE) fail_msg("%s", r->message);
  ((taken *)ctx)->baseline = r->row.nll;
  return PTQ_OK;
}

static inline ptq_status alive(void *ctx, double done, ptq_err *err) {
  taken *t = ctx;
  assert_true(done > t->last && done < 1.0);
  t->last = done;
  if (t->stop_after >= 0 && t->stop_after-- == 0)
    return PTQ_FAIL(err, t->stop_with, "stop");
  return PTQ_OK;
}

static inline ptq_sink sink_of(taken *t) {
  t->last = 0.0;
  return (ptq_sink){.ctx = t,
                    .subject = take_subject,
                    .direction = take_direction,
                    .alive = alive};
}

static inline void run_direction(const study *s, int64_t direction, taken *t) {
  ptq_err err = {0};
  *t = (taken){.stop_after = -1};
  const ptq_sink sink = sink_of(t);
  if (ptq_direction_run(&s->grid, direction, &sink, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  if (t->state != PTQ_STATE_DONE) fail_msg("%s", t->message);
}

static inline double baseline(const study *s) {
  taken t = {.stop_after = -1};
  ptq_err err = {0};
  const ptq_sink sink = sink_of(&t);
  if (ptq_subject_run(&s->grid, 0, &sink, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return t.baseline;
}

#endif /* PTQ_TEST_LANDSCAPE_FIXTURE_H */
