/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ptq/sweep/grid.h"
#include "sweep_files.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"
#define MODELS "models: [" ZOO "llama-25k, " ZOO "opt-25k]\n"
#define DATA                                                       \
  "data:\n"                                                        \
  "  calibration: {text: c.txt, windows: 4, length: 8, seed: 1}\n" \
  "  evaluation: {text: e.txt, windows: 4, length: 8}\n"           \
  "  selection: {text: s.txt, windows: 2, length: 8}\n"
#define GRID "grid: {dtype: [int4, mxint3], method: [rtn, gptq], group: [16]}\n"

static scratch files;

static int make_files(void **state) {
  (void)state;
  scratch_make(&files);
  scratch_text(&files, "c.txt", "calibration");
  scratch_text(&files, "e.txt", "evaluation");
  scratch_text(&files, "s.txt", "selection");
  scratch_text(&files, "x.txt", "something else");
  return 0;
}

static int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

/* A grid with the spec that it borrows. */
typedef struct sweep {
  ptq_spec spec;
  ptq_grid grid;
} sweep;

static ptq_status open_sweep(sweep *s, const char *text, const char *set,
                             ptq_err *err) {
  scratch_text(&files, "s.yaml", text);
  s->grid = (ptq_grid){0};
  ptq_status rc = ptq_spec_read(files.path, &set, set != NULL, &s->spec, err);
  if (rc == PTQ_OK) rc = ptq_grid_build(&s->spec, &s->grid, err);
  return rc;
}

static void close_sweep(sweep *s) {
  ptq_grid_release(&s->grid);
  ptq_spec_release(&s->spec);
}

static void open_good(sweep *s, const char *text, const char *set) {
  ptq_err err = {0};
  if (open_sweep(s, text, set, &err) != PTQ_OK) fail_msg("%s", err.msg);
}

static void refused(const char *text, const char *set, const char *part) {
  sweep s;
  ptq_err err = {0};
  if (open_sweep(&s, text, set, &err) == PTQ_OK)
    fail_msg("accepted; expected '%s'", part);
  if (strstr(err.msg, part) == NULL) fail_msg("'%s' lacks '%s'", err.msg, part);
  assert_null(s.grid.points);
  assert_null(s.grid.subjects);
  close_sweep(&s);
}

static void set_keys(sweep *s, const char *numerics) {
  char models[8][PTQ_HASH_HEX], texts[8][PTQ_HASH_HEX];
  ptq_err err = {0};
  assert_true(ptq_grid_inputs(&s->grid) <= 8 && s->spec.n_models <= 8);
  if (ptq_grid_hash_inputs(&s->grid, models, texts, &err) != PTQ_OK ||
      ptq_grid_set_keys(&s->grid, models, texts, numerics, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

/* Keys of a sweep without requests are what they were before there were any;
 * with requests, their file, the options and the tokenizer's settings count. */
static void requests_enter_keys_only_where_asked(void **state) {
  (void)state;
#define ASKED(more) MODELS DATA "  requests: {file: r.jsonl" more "}\n" GRID
  static const char *const texts[] = {
      MODELS DATA GRID,        ASKED(""),
      ASKED(", limit: 1"),     ASKED(", bos: true"),
      ASKED(", prefix: 1"),    ASKED(", length: 8"),
      ASKED(", delimiter: ''")};
#undef ASKED
  enum { N = sizeof texts / sizeof texts[0] };
  char keys[N + 1][PTQ_HASH_HEX];
  scratch_text(&files, "r.jsonl", "{}\n{}\n");
  for (int i = 0; i <= N; i++) {
    sweep s;
    if (i == N) scratch_text(&files, "r.jsonl", "{}\n{ }\n");
    open_good(&s, texts[i < N ? i : 1], NULL);
    set_keys(&s, "n");
    assert_int_equal(s.grid.n_requests, i == 0 ? 0 : i == 2 ? 1 : 2);
    assert_int_equal(ptq_grid_inputs(&s.grid), i == 0 ? 3 : 6);
    strcpy(keys[i], s.grid.points[0].key);
    for (int k = 0; k < i; k++) assert_string_not_equal(keys[k], keys[i]);
    close_sweep(&s);
  }
}

static void points_come_in_the_order_of_the_sweep_file(void **state) {
  (void)state;
  sweep s;
  const ptq_grid *g = &s.grid;
  open_good(&s,
            MODELS DATA
            "grid: {dtype: [int4, mxint3], method: rtn, group: [16, 8]}\n",
            NULL);
  assert_int_equal(g->n_subjects, 2);
  assert_int_equal(g->n_points, 8);
  assert_int_equal(g->n_duplicates, 0);
  for (int64_t i = 0; i < 8; i++) {
    assert_int_equal(g->points[i].subject, i / 4);
    assert_int_equal(g->points[i].dtype, i / 2 % 2);
    assert_int_equal(g->points[i].method, 0);
    assert_int_equal(g->points[i].group, i % 2 == 0 ? 16 : 8);
  }
  assert_string_equal(g->subjects[0].family, "llama");
  assert_string_equal(g->subjects[1].family, "opt");
  const ptq_model_info *info = &g->subjects[0].info;
  assert_int_equal(ptq_subject_layers(&g->subjects[0]), 7 * info->n_blocks);
  assert_int_equal(ptq_subject_layers(&g->subjects[1]),
                   6 * g->subjects[1].info.n_blocks);
  close_sweep(&s);
}

static void texts_are_axes_of_the_grid(void **state) {
  (void)state;
  sweep s;
  open_good(&s,
            MODELS "data:\n"
                   "  calibration:\n"
                   "    - {text: c.txt, windows: 4, length: 8}\n"
                   "    - {text: x.txt, windows: 4, length: 8}\n"
                   "  evaluation: \n"
                   "    - {text: e.txt, windows: 4, length: 8}\n"
                   "    - {text: x.txt, windows: 2, length: 8}\n"
                   "    - {text: s.txt, windows: 2, length: 8}\n" GRID,
            NULL);
  assert_int_equal(s.grid.n_subjects, 12);
  assert_int_equal(s.grid.n_points, 48);
  assert_int_equal(ptq_grid_texts(&s.grid), 6);
  assert_int_equal(s.grid.subjects[5].model, 0);
  assert_int_equal(s.grid.subjects[5].calibration, 1);
  assert_int_equal(s.grid.subjects[5].evaluation, 2);
  set_keys(&s, "n"); /* all different */
  close_sweep(&s);
}

static void a_group_that_reaches_the_width_is_a_row(void **state) {
  (void)state;
  sweep s;
  open_good(&s,
            MODELS DATA
            "grid: {dtype: int4, method: rtn, group: [16, row, 100000]}\n",
            NULL);
  assert_int_equal(s.grid.n_points, 4);
  assert_int_equal(s.grid.n_duplicates, 2);
  assert_int_equal(s.grid.points[0].group, 16);
  assert_int_equal(s.grid.points[1].group, PTQ_GROUP_ROW);
  const ptq_model_info info = s.grid.subjects[0].info;
  const int64_t widest = info.d_ff > info.d_model ? info.d_ff : info.d_model;
  close_sweep(&s);
  /* Exactly the widest input is a row, one less is not. */
  char set[64];
  snprintf(set, sizeof set, "grid.group=[%lld, %lld]", (long long)widest - 1,
           (long long)widest);
  open_good(&s,
            "models: " ZOO "llama-25k\n" DATA
            "grid: {dtype: int4, method: rtn, group: 1}\n",
            set);
  assert_int_equal(s.grid.n_points, 2);
  assert_int_equal(s.grid.points[0].group, widest - 1);
  assert_int_equal(s.grid.points[1].group, PTQ_GROUP_ROW);
  close_sweep(&s);
}

static void exclusions_remove_what_they_match(void **state) {
  (void)state;
  static const struct {
    const char *exclude;
    int64_t left;
  } rows[] = {
      {"{dtype: int4}", 8},
      {"{dtype: int4, method: gptq}", 12},
      {"{model: 'llama*'}", 8},
      {"{model: 'opt*', dtype: mxint3, method: rtn, group: 16}", 15},
      {"{group: row}", 8},
      {"{group: 16}, {method: gptq}", 4},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    char text[2048];
    sweep s;
    snprintf(text, sizeof text,
             MODELS DATA
             "grid: {dtype: [int4, mxint3], method: [rtn, gptq], group: [16, "
             "100000]}\nexclude: [%s]\n",
             rows[i].exclude);
    open_good(&s, text, NULL);
    assert_int_equal(s.grid.n_points, rows[i].left);
    assert_int_equal(s.grid.n_excluded, 16 - rows[i].left);
    close_sweep(&s);
  }
  refused(MODELS DATA GRID "exclude: [{model: '*'}]\n", NULL,
          "'exclude' leaves no points");
}

#define DOCUMENT(length)                                          \
  "data:\n  calibration: {text: c.txt, windows: 4, length: 64}\n" \
  "  evaluation: {text: e.txt, windows: 4, length: " length       \
  ", preset: lm-eval}\n"

static void a_token_that_is_only_predicted_needs_no_position(void **state) {
  (void)state;
  sweep s;
  open_good(&s, MODELS DOCUMENT("513") GRID, NULL);
  close_sweep(&s);
  refused(MODELS DOCUMENT("514") GRID, NULL,
          "windows of 514 tokens are longer than the 512 positions");
}

static void what_cannot_be_done_is_refused_before_any_work(void **state) {
  (void)state;
  refused(MODELS DATA GRID, "data.evaluation.length=100000",
          "positions of model 'llama-25k'; lower 'length'");
  refused("models: .\n" DATA GRID, NULL, "give one: {path: .");
  refused("models: {path: ., name: here}\n" DATA GRID, NULL, "config.json");
  refused(MODELS DATA
          "grid:\n  dtype: int4\n  method: {name: gptq, damp: search}\n"
          "  group: 16\n",
          "data.calibration.windows=1", "it needs two windows, not 1");
  refused(
      MODELS DATA "grid:\n  dtype: int4\n  method: {name: gptq, mx: joint}\n"
                  "  group: 16\n",
      NULL, "'int4' has none; add {dtype: 'int4', method: gptq, group: 16}");
}

static ptq_status only_numbers(const ptq_method *m, const ptq_dtype *dt,
                               int64_t group, ptq_err *err) {
  (void)m;
  (void)dt;
  if (group > 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG, "groups must be numbers");
}

static void a_combination_that_a_method_refuses_is_named(void **state) {
  (void)state;
  sweep s = {0};
  ptq_err err = {0};
  scratch_text(&files, "s.yaml",
               MODELS DATA
               "grid:\n  dtype: int4\n  method:\n    - rtn\n    - gptq\n"
               "  group: [16, tensor]\n");
  assert_int_equal(ptq_spec_read(files.path, NULL, 0, &s.spec, &err), PTQ_OK);
  ptq_method_family picky = *s.spec.methods[1].family;
  picky.accepts = only_numbers;
  s.spec.methods[1].family = &picky;
  assert_int_equal(ptq_grid_build(&s.spec, &s.grid, &err), PTQ_E_ARG);
  assert_null(s.grid.points);
  if (strstr(err.msg,
             "s.yaml:10: method 'gptq' cannot be combined with dtype 'int4' "
             "and group tensor: groups must be numbers; add {dtype: 'int4', "
             "method: gptq, group: tensor} to 'exclude'") == NULL)
    fail_msg("%s", err.msg);
  ptq_spec_release(&s.spec);
}

static void groups_are_named_as_they_are_spelled(void **state) {
  (void)state;
  char name[24];
  ptq_group_name(PTQ_GROUP_ROW, name);
  assert_string_equal(name, "row");
  ptq_group_name(PTQ_GROUP_TENSOR, name);
  assert_string_equal(name, "tensor");
  ptq_group_name(128, name);
  assert_string_equal(name, "128");
}

/* Key of the first point under an override. */
static void key_of(const char *set, const char *numerics,
                   char key[PTQ_HASH_HEX]) {
  sweep s;
  open_good(&s,
            "models: " ZOO "llama-25k\n" DATA
            "grid: {dtype: int4, method: gptq, group: 16}\n",
            set);
  set_keys(&s, numerics);
  memcpy(key, s.grid.points[0].key, PTQ_HASH_HEX);
  close_sweep(&s);
}

static void every_ingredient_changes_the_key(void **state) {
  (void)state;
  static const char *const sets[] = {
      "models=" ZOO "opt-25k",
      "data.calibration.text=x.txt",
      "data.calibration.windows=5",
      "data.calibration.length=9",
      "data.calibration.seed=2",
      "data.calibration={text: c.txt, windows: 4, length: 8}",
      "data.calibration={text: c.txt, windows: 4, length: 8, seed: 0}",
      "data.evaluation.text=x.txt",
      "data.evaluation.windows=5",
      "data.selection.text=x.txt",
      "data.selection.windows=3",
      "grid.dtype=int3",
      "grid.dtype='int4:asym'",
      "grid.method=rtn",
      "grid.method={name: gptq, hessian: static}",
      "grid.group=8",
      "grid.group=row",
      "compute=bf16",
  };
  enum { N = sizeof sets / sizeof sets[0] + 2 };
  char keys[N][PTQ_HASH_HEX];
  key_of(NULL, "openblas a", keys[0]);
  key_of(NULL, "openblas b", keys[1]);
  for (size_t i = 2; i < N; i++) key_of(sets[i - 2], "openblas a", keys[i]);
  for (size_t i = 0; i < N; i++) {
    assert_int_equal(strlen(keys[i]), PTQ_HASH_HEX - 1);
    for (size_t j = 0; j < i; j++)
      if (strcmp(keys[i], keys[j]) == 0)
        fail_msg("ingredients %zu and %zu give one key", j, i);
  }
}

static void nothing_else_changes_the_key(void **state) {
  (void)state;
  static const char *const sets[] = {
      "name=other",
      "models={path: " ZOO "llama-25k, name: renamed, family: f, tokens: 3}",
      "measure.spectra=off",
      "compute=f32",
      "grid.dtype=[int4, int8]",
      "grid.group=[16, 8]",
      ("data.evaluation=[{text: e.txt, windows: 4, length: 8}, "
       "{text: x.txt, windows: 4, length: 8}]"),
  };
  char plain[PTQ_HASH_HEX], key[PTQ_HASH_HEX];
  key_of(NULL, "n", plain);
  for (size_t i = 0; i < sizeof sets / sizeof sets[0]; i++) {
    key_of(sets[i], "n", key);
    assert_string_equal(plain, key);
  }
}

static void the_default_selection_differs_from_one_at_the_start(void **state) {
  (void)state;
  sweep s;
  char key[PTQ_HASH_HEX];
  open_good(&s,
            "models: " ZOO "llama-25k\ndata:\n"
            "  calibration: {text: c.txt, windows: 4, length: 8}\n"
            "  evaluation: {text: e.txt, windows: 4, length: 8}\n" GRID,
            NULL);
  set_keys(&s, "n");
  memcpy(key, s.grid.points[0].key, sizeof key);
  close_sweep(&s);
  open_good(&s,
            "models: " ZOO "llama-25k\ndata:\n"
            "  calibration: {text: c.txt, windows: 4, length: 8}\n"
            "  selection: {text: c.txt, windows: 16, length: 8}\n"
            "  evaluation: {text: e.txt, windows: 4, length: 8}\n" GRID,
            NULL);
  set_keys(&s, "n");
  assert_string_not_equal(s.grid.points[0].key, key);
  close_sweep(&s);
}

static void keys_fill_the_fingerprints(void **state) {
  (void)state;
  sweep s, t;
  open_good(&s, MODELS DATA GRID, NULL);
  set_keys(&s, "n");
  assert_int_equal(strlen(s.grid.fingerprint), PTQ_HASH_HEX - 1);
  assert_int_equal(strlen(s.grid.data_fingerprint), PTQ_HASH_HEX - 1);
  assert_int_equal(strlen(s.grid.subjects[1].fingerprint), PTQ_HASH_HEX - 1);
  assert_string_not_equal(s.grid.subjects[0].fingerprint,
                          s.grid.subjects[1].fingerprint);
  open_good(&t, MODELS DATA GRID, "grid.dtype=[mxint3, int4]");
  set_keys(&t, "n");
  assert_string_equal(s.grid.data_fingerprint, t.grid.data_fingerprint);
  assert_string_not_equal(s.grid.fingerprint, t.grid.fingerprint);
  close_sweep(&s);
  close_sweep(&t);
}

static void the_same_point_twice_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *set, *message;
  } rows[] = {
      {"models=[" ZOO "llama-25k, {path: " ZOO "llama-25k, name: twin}]",
       "models 'llama-25k' and 'twin' are the same checkpoint"},
      {"data.evaluation=[{text: e.txt, windows: 4, length: 8}, {text: "
       "copy.txt, windows: 4, length: 8}]",
       "two texts of 'data' have the same bytes and windows"},
  };
  scratch_text(&files, "copy.txt", "evaluation");
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    sweep s;
    char models[8][PTQ_HASH_HEX], texts[8][PTQ_HASH_HEX];
    ptq_err err = {0};
    open_good(&s, MODELS DATA GRID, rows[i].set);
    assert_int_equal(ptq_grid_hash_inputs(&s.grid, models, texts, &err), 0);
    assert_int_equal(ptq_grid_set_keys(&s.grid, models, texts, "n", &err),
                     PTQ_E_ARG);
    if (strstr(err.msg, rows[i].message) == NULL)
      fail_msg("'%s' lacks '%s'", err.msg, rows[i].message);
    close_sweep(&s);
  }
}

static void a_missing_text_is_named_with_its_line(void **state) {
  (void)state;
  sweep s;
  char models[8][PTQ_HASH_HEX], texts[8][PTQ_HASH_HEX];
  ptq_err err = {0};
  open_good(&s,
            MODELS
            "data:\n"
            "  calibration: {text: c.txt, windows: 4, length: 8}\n"
            "  evaluation: {text: gone.txt, windows: 4, length: 8}\n" GRID,
            NULL);
  assert_int_equal(ptq_grid_hash_inputs(&s.grid, models, texts, &err),
                   PTQ_E_IO);
  assert_non_null(strstr(err.msg, "s.yaml:4: text: cannot open"));
  assert_non_null(strstr(err.msg, "gone.txt"));
  close_sweep(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(requests_enter_keys_only_where_asked),
      cmocka_unit_test(points_come_in_the_order_of_the_sweep_file),
      cmocka_unit_test(texts_are_axes_of_the_grid),
      cmocka_unit_test(a_group_that_reaches_the_width_is_a_row),
      cmocka_unit_test(exclusions_remove_what_they_match),
      cmocka_unit_test(a_token_that_is_only_predicted_needs_no_position),
      cmocka_unit_test(what_cannot_be_done_is_refused_before_any_work),
      cmocka_unit_test(a_combination_that_a_method_refuses_is_named),
      cmocka_unit_test(groups_are_named_as_they_are_spelled),
      cmocka_unit_test(every_ingredient_changes_the_key),
      cmocka_unit_test(nothing_else_changes_the_key),
      cmocka_unit_test(the_default_selection_differs_from_one_at_the_start),
      cmocka_unit_test(keys_fill_the_fingerprints),
      cmocka_unit_test(the_same_point_twice_is_refused),
      cmocka_unit_test(a_missing_text_is_named_with_its_line),
  };
  return cmocka_run_group_tests_name("sweep/grid", tests, make_files,
                                     remove_files);
}
