/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "lane.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/num/numerics.h"
#include "ptq/sweep/batch.h"
#include "ptq/sweep/sites.h"
#include "sweep_files.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"

enum { N_TOKENS = 2000, MAX_POINTS = 64, MAX_LAYERS = 32, MAX_WINDOWS = 8 };

static scratch files;
static ptq_spec spec;
static ptq_grid grid;

/* Random tokens of one text under one model's tokenizer. */
static void write_tokens(const char *text, const char *model) {
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  char t[PTQ_HASH_HEX], k[PTQ_HASH_HEX], name[128], tokenizer[512];
  ptq_rng rng;
  ptq_rng_init(&rng, (uint64_t)text[0]);
  for (uint32_t i = 0; i < N_TOKENS; i++) {
    ids[i] = (uint32_t)ptq_rng_below(&rng, 1000);
    ends[i] = 3 * (uint64_t)(i + 1);
  }
  snprintf(tokenizer, sizeof tokenizer, ZOO "%s/tokenizer.json", model);
  assert_int_equal(ptq_hash_file(scratch_path(&files, text), t, NULL), PTQ_OK);
  assert_int_equal(ptq_hash_file(tokenizer, k, NULL), PTQ_OK);
  snprintf(name, sizeof name, ".tokens/%s-%s.ids.npy", t, k);
  scratch_npy(&files, name, "<u4", ids, N_TOKENS, sizeof *ids);
  snprintf(name, sizeof name, ".tokens/%s-%s.ends.npy", t, k);
  scratch_npy(&files, name, "<u8", ends, N_TOKENS, sizeof *ends);
}

static const char sweep[] =
    "name: batch\n"
    "models: [" ZOO "llama-25k, " ZOO "opt-25k]\n"
    "data:\n"
    "  calibration: {text: c.txt, windows: 4, length: 32}\n"
    "  selection: {text: s.txt, windows: 2, length: 24}\n"
    "  evaluation: {text: e.txt, windows: 5, length: 40}\n"
    "grid:\n"
    "  dtype: [mxint3, \"int4:asym\"]\n"
    "  method:\n"
    "    - rtn\n"
    "    - gptq\n"
    "    - {name: gptq, hessian: static}\n"
    "    - {name: gptq, true_sequential: true}\n"
    "    - {name: gptq, damp: search, hessian: static}\n"
    "    - {name: gptaq, true_sequential: true}\n"
    "    - {name: awq, clip: false}\n"
    "  group: [16, tensor]\n"
    "measure: {spectra: full}\n";

static int open_grid(void **state) {
  char numerics[PTQ_NUMERICS_MAX], path[256];
  char models[2][PTQ_HASH_HEX], texts[3][PTQ_HASH_HEX];
  ptq_err err = {0};
  (void)state;
  unsetenv("PTQSWEEP_TOKENS");
  scratch_make(&files);
  scratch_mkdir(&files, ".tokens");
  for (int i = 0; i < 3; i++) {
    const char *const names[] = {"c.txt", "s.txt", "e.txt"};
    scratch_text(&files, names[i], names[i]);
    write_tokens(names[i], "llama-25k");
    write_tokens(names[i], "opt-25k");
  }
  scratch_text(&files, "s.yaml", sweep);
  strcpy(path, files.path);
  if (ptq_blas_init(&err) != PTQ_OK ||
      ptq_spec_read(path, NULL, 0, &spec, &err) != PTQ_OK ||
      ptq_grid_build(&spec, &grid, &err) != PTQ_OK ||
      ptq_grid_hash_inputs(&grid, models, texts, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_numerics_text(spec.compute, numerics);
  assert_int_equal(ptq_grid_set_keys(&grid, models, texts, numerics, &err),
                   PTQ_OK);
  return 0;
}

static int close_grid(void **state) {
  (void)state;
  ptq_grid_release(&grid);
  ptq_spec_release(&spec);
  scratch_remove(&files);
  return 0;
}

/* What a sink was given, copied. */
typedef struct recorded {
  ptq_point_row row;
  ptq_state state;
  char message[240];
  ptq_layer_row layers[MAX_LAYERS];
  int64_t n_layers;
  ptq_window_row windows[MAX_WINDOWS];
  int64_t n_windows;
} recorded;

typedef struct recorder {
  recorded points[MAX_POINTS]; /* by point */
  int n_points, n_alive;
  ptq_subject_result subject; /* its pointers are not kept */
  double first_nll, top_eigenvalue;
  int refuse_after; /* points accepted before the sink fails; -1: all */
  int stop_after;   /* alive() calls before stop_with; -1: never */
  ptq_status stop_with;
  int n_subjects; /* results of them taken */
} recorder;

static ptq_status begin(void *ctx, const int64_t *points, int64_t n,
                        ptq_err *err) {
  (void)ctx;
  (void)points;
  (void)err;
  assert_true(n > 0);
  return PTQ_OK;
}

static ptq_status take_point(void *ctx, const ptq_point_result *r,
                             ptq_err *err) {
  recorder *to = ctx;
  if (to->refuse_after >= 0 && to->n_points >= to->refuse_after)
    return PTQ_FAIL(err, PTQ_E_IO, "the disk is full");
  assert_true(r->point < MAX_POINTS && r->n_layers <= MAX_LAYERS &&
              r->n_windows <= MAX_WINDOWS);
  recorded *p = &to->points[r->point];
  p->row = r->row;
  p->state = r->state;
  memcpy(p->message, r->message, sizeof p->message);
  p->n_layers = r->n_layers;
  p->n_windows = r->n_windows;
  if (r->n_layers > 0)
    memcpy(p->layers, r->layers, (size_t)r->n_layers * sizeof *p->layers);
  if (r->n_windows > 0)
    memcpy(p->windows, r->windows, (size_t)r->n_windows * sizeof *p->windows);
  to->n_points++;
  return PTQ_OK;
}

static ptq_status take_subject(void *ctx, const ptq_subject_result *r,
                               ptq_err *err) {
  recorder *to = ctx;
  (void)err;
  to->subject = *r;
  to->n_subjects++;
  to->first_nll = r->n_windows > 0 ? r->windows[0].nll : (double)NAN;
  if (r->n_spectra > 0) to->top_eigenvalue = r->spectra[0].values[0];
  for (int64_t i = 0; i < r->n_spectra; i++)
    for (int64_t j = 1; j < r->spectra[i].d; j++)
      assert_true(r->spectra[i].values[j] <= r->spectra[i].values[j - 1]);
  return PTQ_OK;
}

static ptq_status alive(void *ctx, double done, ptq_err *err) {
  recorder *to = ctx;
  assert_true(done > 0.0 && done < 1.0);
  if (to->stop_after >= 0 && to->n_alive++ >= to->stop_after)
    return PTQ_FAIL(err, to->stop_with, "stop");
  return PTQ_OK;
}

static ptq_sink sink_of(recorder *r) {
  return (ptq_sink){.ctx = r,
                    .begin = begin,
                    .point = take_point,
                    .subject = take_subject,
                    .alive = alive};
}

static recorder *make_recorder(void) {
  recorder *r = NULL;
  assert_int_equal(ptq_alloc(&r, 1, sizeof *r, "a recorder", NULL), PTQ_OK);
  r->refuse_after = r->stop_after = -1;
  return r;
}

/* All points of a subject in grid order. */
static int64_t points_of(int64_t subject, int64_t *points) {
  int64_t n = 0;
  for (int64_t i = 0; i < grid.n_points; i++)
    if (grid.points[i].subject == subject) points[n++] = i;
  return n;
}

static void run_together(recorder *r, const int64_t *points, int64_t n) {
  ptq_err err = {0};
  const ptq_sink sink = sink_of(r);
  if (ptq_batch_run(&grid, points, n, &sink, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void a_point_has_the_same_bits_in_any_batch(void **state) {
  (void)state;
  int64_t points[MAX_POINTS];
  recorder *together = make_recorder(), *alone = make_recorder();
  for (int64_t s = 0; s < grid.n_subjects; s++) {
    const int64_t n = points_of(s, points);
    assert_int_equal(n, 28);
    run_together(together, points, n);
    for (int64_t i = n - 1; i >= 0; i--) run_together(alone, points + i, 1);
  }
  for (int64_t i = 0; i < grid.n_points; i++) {
    const recorded *a = &together->points[i], *b = &alone->points[i];
    assert_int_equal(a->state, PTQ_STATE_DONE);
    assert_memory_equal(&a->row, &b->row, sizeof a->row);
    assert_memory_equal(a->layers, b->layers, sizeof a->layers);
    assert_memory_equal(a->windows, b->windows, sizeof a->windows);
  }
  ptq_free(together);
  ptq_free(alone);
}

static void check_row(const recorded *p) {
  const ptq_point_row *r = &p->row;
  double nll = 0.0, kl = 0.0, output = 0.0;
  for (int64_t i = 0; i < p->n_windows; i++) {
    nll += p->windows[i].nll;
    kl += p->windows[i].kl;
  }
  for (int64_t i = 0; i < p->n_layers; i++) {
    assert_true(isfinite(p->layers[i].sqnr_output_prop));
    assert_true(p->layers[i].err_hessian > 0.0);
    assert_int_equal(strlen(p->layers[i].codes), 16);
    output += p->layers[i].sqnr_output;
  }
  /* 5 windows of 40 tokens: 195 scored positions. */
  assert_true(fabs(nll / 195 - r->nll) < 1e-12);
  assert_true(fabs(kl / 195 - r->kl) < 1e-12);
  assert_true(r->kl > 0.0 && r->kl_rev > 0.0 && r->kl_p99 > r->kl);
  assert_true(fabs(exp(r->nll) - r->ppl) < 1e-9 * r->ppl);
  /* Tokens end every 3 bytes, so 39 scored tokens are 117 bytes. */
  assert_true(fabs(r->nll_byte * 3 - r->nll) < 1e-12);
  assert_true(fabs(output / (double)p->n_layers - r->sqnr_output) < 1e-9);
  assert_true(r->top1 > 0.0 && r->top1 <= 1.0);
  assert_true(r->dnll_se > 0.0 && r->nll_se > 0.0 && r->kl_se > 0.0);
}

static void every_column_is_filled_and_consistent(void **state) {
  (void)state;
  int64_t points[MAX_POINTS];
  recorder *r = make_recorder();
  const ptq_sink sink = sink_of(r);
  const int64_t n = points_of(0, points);
  run_together(r, points, n);
  for (int64_t i = 0; i < n; i++) check_row(&r->points[points[i]]);
  assert_int_equal(ptq_subject_run(&grid, 0, &sink, NULL), PTQ_OK);
  const ptq_subject_result *s = &r->subject;
  assert_int_equal(s->state, PTQ_STATE_DONE);
  assert_int_equal(s->row.tokens, 195);
  assert_int_equal(s->row.bytes, 585);
  assert_int_equal(s->row.calib_tokens, 128);
  assert_int_equal(s->n_spectra, PTQ_SPECTRA_ROWS);
  assert_true(r->top_eigenvalue > 0.0);
  /* The difference is to the very baseline that the subject's item has. */
  for (int64_t i = 0; i < n; i++) {
    const ptq_point_row *p = &r->points[points[i]].row;
    assert_true(fabs(p->nll - p->dnll - s->row.nll) < 1e-12);
  }
  ptq_free(r);
}

/* int4:asym with groups of 16: 4 bits, and 32 + 4 a group. */
static void bits_count_scales_and_zero_points(void **state) {
  (void)state;
  int64_t points[MAX_POINTS];
  recorder *r = make_recorder();
  const int64_t n = points_of(0, points);
  run_together(r, points, n);
  for (int64_t i = 0; i < n; i++) {
    const ptq_point_row *p = &r->points[points[i]].row;
    if (p->group != 16) continue;
    const double expected =
        strcmp(p->dtype, "mxint3") == 0 ? 3 + 8.0 / 16 : 4 + 36.0 / 16;
    assert_true(fabs(p->bits_per_weight - expected) < 1e-12);
    assert_true(p->bits_model > p->bits_per_weight);
  }
  ptq_free(r);
}

static void a_refusing_sink_ends_the_batch_with_its_error(void **state) {
  (void)state;
  int64_t points[MAX_POINTS];
  ptq_err err = {0};
  recorder *r = make_recorder();
  const ptq_sink sink = sink_of(r);
  r->refuse_after = 1;
  const int64_t n = points_of(0, points);
  assert_int_equal(ptq_batch_run(&grid, points, n, &sink, &err), PTQ_E_IO);
  assert_string_equal(err.msg, "the disk is full");
  assert_int_equal(r->n_points, 1);
  ptq_free(r);
}

/* Dropped, rank 0 gone, out of memory while telling it: not the item's. */
static void a_stop_drops_the_item_without_results(void **state) {
  (void)state;
  static const ptq_status codes[] = {PTQ_E_STOPPED, PTQ_E_PEER, PTQ_E_NOMEM};
  int64_t points[MAX_POINTS];
  const int64_t n = points_of(0, points);
  for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
    ptq_err err = {0};
    recorder *r = make_recorder();
    const ptq_sink sink = sink_of(r);
    r->stop_with = codes[i];
    r->stop_after = 3;
    assert_int_equal(ptq_batch_run(&grid, points, n, &sink, &err), codes[i]);
    assert_int_equal(r->n_points, 0);
    r->n_alive = 0;
    r->stop_after = 0;
    err = (ptq_err){0};
    assert_int_equal(ptq_subject_run(&grid, 0, &sink, &err), codes[i]);
    assert_string_equal(err.msg, "stop");
    assert_int_equal(r->n_subjects, 0);
    ptq_free(r);
  }
}

/* Tokens that vanish while a run goes on fail its points, not the run. */
static void an_unreadable_input_fails_the_points(void **state) {
  (void)state;
  int64_t points[MAX_POINTS];
  recorder *r = make_recorder();
  const int64_t n = points_of(0, points);
  setenv("PTQSWEEP_TOKENS", "nowhere", 1);
  run_together(r, points, n);
  unsetenv("PTQSWEEP_TOKENS");
  assert_int_equal(r->n_points, n);
  for (int64_t i = 0; i < n; i++) {
    assert_int_equal(r->points[points[i]].state, PTQ_STATE_FAILED);
    assert_non_null(strstr(r->points[points[i]].message, "prepare.py"));
    assert_true(isnan(r->points[points[i]].row.nll));
  }
  ptq_free(r);
}

static void decibels_know_their_edges(void **state) {
  (void)state;
  assert_true(ptq_decibel(100.0, 1.0) == 20.0);
  assert_true(isinf(ptq_decibel(1.0, 0.0)));
  assert_true(isnan(ptq_decibel(0.0, 0.0)));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_point_has_the_same_bits_in_any_batch),
      cmocka_unit_test(every_column_is_filled_and_consistent),
      cmocka_unit_test(bits_count_scales_and_zero_points),
      cmocka_unit_test(a_refusing_sink_ends_the_batch_with_its_error),
      cmocka_unit_test(a_stop_drops_the_item_without_results),
      cmocka_unit_test(an_unreadable_input_fails_the_points),
      cmocka_unit_test(decibels_know_their_edges),
  };
  return cmocka_run_group_tests_name("sweep/batch", tests, open_grid,
                                     close_grid);
}
