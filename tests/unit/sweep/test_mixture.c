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

#include "ptq/sweep/grid.h"
#include "sweep_files.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"
#define HEAD                                              \
  "models: [" ZOO "llama-25k, " ZOO "opt-25k]\n"          \
  "data:\n"                                               \
  "  calibration: {text: c.txt, windows: 4, length: 8}\n" \
  "  evaluation: {text: e.txt, windows: 4, length: 8}\n"  \
  "  selection: {text: s.txt, windows: 2, length: 8}\n"
/* from line 6 on */
#define MIXED(lines)             \
  HEAD "grid:\n"                 \
       "  method: [rtn, gptq]\n" \
       "  group: [8, 16]\n"      \
       "  dtype:\n" lines

static scratch files;

static int make_files(void **state) {
  (void)state;
  scratch_make(&files);
  scratch_text(&files, "c.txt", "calibration");
  scratch_text(&files, "e.txt", "evaluation");
  scratch_text(&files, "s.txt", "selection");
  return 0;
}

static int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

typedef struct sweep {
  ptq_spec spec;
  ptq_grid grid;
} sweep;

static void close_sweep(sweep *s) {
  ptq_grid_release(&s->grid);
  ptq_spec_release(&s->spec);
}

static ptq_status open_sweep(sweep *s, const char *text, const char *set,
                             ptq_err *err) {
  scratch_text(&files, "s.yaml", text);
  s->grid = (ptq_grid){0};
  ptq_status rc = ptq_spec_read(files.path, &set, set != NULL, &s->spec, err);
  if (rc == PTQ_OK) rc = ptq_grid_build(&s->spec, &s->grid, err);
  return rc;
}

static void open_good(sweep *s, const char *text, const char *set) {
  char models[4][PTQ_HASH_HEX], texts[4][PTQ_HASH_HEX];
  ptq_err err = {0};
  if (open_sweep(s, text, set, &err) != PTQ_OK ||
      ptq_grid_hash_inputs(&s->grid, models, texts, &err) != PTQ_OK ||
      ptq_grid_set_keys(&s->grid, models, texts, "n", &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void refused(const char *lines, const char *part) {
  sweep s;
  ptq_err err = {0};
  if (open_sweep(&s, lines, NULL, &err) == PTQ_OK)
    fail_msg("accepted; expected '%s'", part);
  if (strstr(err.msg, part) == NULL) fail_msg("'%s' lacks '%s'", err.msg, part);
  close_sweep(&s);
}

static void the_first_pattern_that_fits_decides(void **state) {
  (void)state;
  sweep s;
  const ptq_dtype *dtype = NULL;
  int64_t group = 0;
  open_good(&s,
            MIXED("    - mixed: m\n"
                  "      default: int3\n"
                  "      layers:\n"
                  "        '*.layers.1.*': {dtype: int6, group: 4}\n"
                  "        '*.down_proj': 'int4:asym'\n"
                  "        'model.decoder.layers.0.fc2.weight': int5\n"),
            NULL);
  assert_int_equal(s.grid.n_points, 8);
  ptq_point_format(&s.grid, 0, "model.layers.1.mlp.down_proj.weight", &dtype,
                   &group);
  assert_string_equal(dtype->name, "int6");
  assert_int_equal(group, 4);
  ptq_point_format(&s.grid, 1, "model.layers.0.mlp.down_proj.weight", &dtype,
                   &group);
  assert_string_equal(dtype->name, "int4:asym");
  assert_int_equal(group, 16);
  ptq_point_format(&s.grid, 0, "model.layers.0.mlp.up_proj.weight", &dtype,
                   &group);
  assert_string_equal(dtype->name, "int3");
  assert_int_equal(group, 8);
  assert_int_equal(ptq_point_least_group(&s.grid, 0), 4);
  close_sweep(&s);
}

/* llama-25k: q and o 32 x 32, k and v 16 x 32, gate and up 96 x 32, down 32 x
 * 96, in two blocks. */
static void bits_are_those_of_the_layers(void **state) {
  (void)state;
  sweep s;
  open_good(&s,
            MIXED("    - mixed: m\n"
                  "      default: {dtype: int3, group: 16}\n"
                  "      layers: {'*.down_proj': {dtype: int4, group: row}}\n"
                  "      models: llama-*\n"),
            NULL);
  assert_int_equal(s.grid.n_points, 2); /* its group is on no axis */
  assert_int_equal(s.grid.points[0].group, 16);
  const double down = 32 * 96, others = 2 * 32 * 32 + 2 * 16 * 32 + 2 * 96 * 32;
  const double bits = down * (4 + 32.0 / 96) + others * (3 + 32.0 / 16);
  double found = 0.0;
  assert_int_equal(ptq_point_bits(&s.grid, 0, &found, NULL), PTQ_OK);
  assert_true(fabs(found - bits / (down + others)) < 1e-12);
  close_sweep(&s);
}

static void a_name_can_be_checked_before_it_is_written(void **state) {
  (void)state;
  char longest[PTQ_DTYPE_NAME_MAX] = {0};
  ptq_err err = {0};
  memset(longest, 'x', PTQ_DTYPE_NAME_MAX - strlen("mixed:-01234567") - 1);
  assert_int_equal(ptq_mixture_check_name("gptq-3.25", &err), PTQ_OK);
  assert_int_equal(ptq_mixture_check_name(longest, &err), PTQ_OK);
  strcat(longest, "x");
  const char *const bad[] = {longest, "", ".m", "a b:c#\"", "\xc3\xbc/../x"};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    err = (ptq_err){0};
    assert_int_equal(ptq_mixture_check_name(bad[i], &err), PTQ_E_ARG);
    assert_non_null(strstr(err.msg, "a mixture's name"));
  }
}

static void names_hold_a_hash_of_the_formats(void **state) {
  (void)state;
  static const char *const lines[] = {
      "    - {mixed: m, default: int3, layers: {'*': int4}}\n",
      "    - {mixed: m, default: int3, layers: {'*': int4}, models: opt*}\n",
      "    - {mixed: m, default: int3, layers: {'*': int5}}\n",
      ("    - {mixed: m, default: int3, layers: {'*': {dtype: int4, group: "
       "8}}}\n"),
      "    - {mixed: m, default: int2, layers: {'*': int4}}\n",
      "    - {mixed: n, default: int3, layers: {'*': int4}}\n"};
  char names[6][PTQ_DTYPE_NAME_MAX];
  for (int i = 0; i < 6; i++) {
    sweep s;
    char text[1024];
    snprintf(text, sizeof text, MIXED("%s"), lines[i]);
    open_good(&s, text, NULL);
    strcpy(names[i], s.spec.dtypes[0].name);
    assert_string_equal(ptq_spec_mixture(&s.spec, 0)->name, names[i]);
    close_sweep(&s);
  }
  assert_string_equal(names[0], names[1]);
  for (int i = 2; i < 6; i++) assert_string_not_equal(names[0], names[i]);
  assert_int_equal(strncmp(names[0], "mixed:m-", 8), 0);
  assert_int_equal(strlen(names[0]), 16);
  assert_string_equal(names[5] + 8, names[0] + 8); /* the same formats */
}

/* The key of the one point of a mixture. */
static void key_of(const char *line, char key[PTQ_HASH_HEX]) {
  sweep s;
  char text[1024];
  snprintf(text, sizeof text, MIXED("%s"), line);
  open_good(&s, text, "models=[" ZOO "llama-25k]");
  strcpy(key, s.grid.points[0].key);
  close_sweep(&s);
}

static void keys_are_of_what_layers_get(void **state) {
  (void)state;
  char a[PTQ_HASH_HEX], b[PTQ_HASH_HEX];
  key_of("    - {mixed: a, default: int3, layers: {'*.down_proj': int4}}\n", a);
  key_of("    - {mixed: b, default: int4, layers: {'*self_attn*': int3,\n"
         "       '*gate_proj': int3, '*up_proj': int3}}\n",
         b);
  assert_string_equal(a, b); /* written another way, and called otherwise */
  key_of("    - {mixed: a, default: int3, layers: {'*.down_proj': int5}}\n", b);
  assert_string_not_equal(a, b);
  key_of("    - {mixed: a, default: int3, layers: {'*.0.mlp.down_proj': int4}}"
         "\n",
         b);
  assert_string_not_equal(a, b);
  key_of("    - {mixed: a, default: int3,\n"
         "       layers: {'*.down_proj': {dtype: int4, group: 32}}}\n",
         b);
  assert_string_not_equal(a, b);
  key_of("    - int3\n", b);
  assert_string_not_equal(a, b);
}

static void mixtures_that_come_out_alike_are_one_point(void **state) {
  (void)state;
  sweep s;
  open_good(&s,
            MIXED("    - {mixed: a, default: int3, layers: {'*fc2': int4,\n"
                  "       '*down_proj': int4}}\n"
                  "    - {mixed: b, default: int3, layers: {'*fc1': int4,\n"
                  "       '*down_proj': int4}}\n"),
            NULL);
  assert_int_equal(s.grid.n_points, 4 + 8); /* alike for llama, not for opt */
  assert_int_equal(s.grid.n_duplicates, 4);
  close_sweep(&s);
  /* one mixture for each of two models, and once more */
  open_good(&s,
            MIXED("    - {mixed: a, default: int3, layers: {'*.1.*': int4},\n"
                  "       models: llama-25k}\n"
                  "    - {mixed: a, default: int3, layers: {'*.1.*': int4},\n"
                  "       models: opt-25k}\n"
                  "    - {mixed: a, default: int3, layers: {'*.1.*': int4}}\n"),
            NULL);
  assert_string_equal(s.spec.dtypes[0].name, s.spec.dtypes[1].name);
  assert_int_equal(s.grid.n_points, 8);
  assert_int_equal(s.grid.n_duplicates, 8);
  close_sweep(&s);
}

static void exclusions_name_mixtures(void **state) {
  (void)state;
  sweep s;
  char text[1024], name[PTQ_DTYPE_NAME_MAX];
  static const char lines[] =
      "    - {mixed: a-1, default: int3, layers: {'*.0.*': int4}}\n"
      "    - {mixed: a, default: int3, layers: {'*.1.*': int4}}\n";
  snprintf(text, sizeof text, MIXED("%s%s"), lines,
           "exclude: [{dtype: 'mixed:a-1', method: gptq}]\n");
  open_good(&s, text, NULL);
  assert_int_equal(s.grid.n_points, 2 * (2 + 4));
  assert_int_equal(s.grid.n_excluded, 4);
  strcpy(name, s.spec.dtypes[1].name);
  close_sweep(&s);
  snprintf(text, sizeof text, MIXED("%s") "exclude: [{dtype: '%s'}]\n", lines,
           name);
  open_good(&s, text, NULL);
  assert_int_equal(s.grid.n_points, 8);
  close_sweep(&s);
  snprintf(text, sizeof text, MIXED("%s%s"), lines,
           "exclude: [{dtype: 'mixed:b'}]\n");
  refused(text, "s.yaml:12: this exclusion matches nothing: no mixture "
                "'mixed:b' in the sweep");
}

static void mistakes_are_told_with_their_line(void **state) {
  (void)state;
  static const struct {
    const char *lines, *part;
  } cases[] = {
      {"    - {mixed: a, layers: {'*': int4}}\n", ":10: a mixture lacks "
                                                  "'default'"},
      {"    - {mixed: a, default: int4}\n", ":10: a mixture lacks 'layers'"},
      {"    - {default: int4, layers: {'*': int4}}\n", "lacks 'mixed'"},
      {"    - {mixed: a, default: int4, layers: {}}\n", "must be a mapping"},
      {"    - {mixed: a, default: int4, layers: [int4]}\n",
       "must be a mapping of layer names"},
      {"    - {mixed: a, default: int4, layer: {'*': int4}}\n",
       "did you mean 'layers'?"},
      {"    - mixed: a\n      default: int4\n      layers:\n"
       "        '*': itn4\n",
       ":13: *: unknown dtype 'itn4', did you mean 'int4'"},
      {"    - {mixed: a, default: int99, layers: {'*': int4}}\n",
       "default: dtype 'int99': int has widths"},
      {"    - {mixed: a, default: int4, layers: {'*': {group: 8}}}\n",
       "lacks 'dtype'"},
      {"    - {mixed: a, default: int4, layers: {'*': {dtype: int4, "
       "group: none}}}\n",
       "a group is a number of weights"},
      {"    - {mixed: a, default: int4, layers: {'*': int3}, predicted: -1}\n",
       "a predicted loss is above 0 nats"},
      {"    - {mixed: a, default: int4, layers: {'*': int3}, "
       "predicted: [1, 2]}\n",
       "[loss, low, high]"},
      {"    - {mixed: a b, default: int4, layers: {'*': int4}}\n",
       "a mixture's name 'a b' must be letters"},
      {"    - {mixed: a, default: int4, layers: {'*': int4}, "
       "models: lama-25k}\n",
       "no model 'lama-25k' in the sweep, did you mean 'llama-25k'?"},
      {"    - mixed: a\n      default: int4\n      layers:\n"
       "        'model.layers.0.mlp.dwn_proj': int3\n",
       ":13: no quantized layer is called 'model.layers.0.mlp.dwn_proj'; did "
       "you mean 'model.layers.0.mlp.down_proj.weight'?"},
      {"    - mixed: a\n      default: int4\n      layers:\n"
       "        '*_proj': int3\n        '*fc*': int3\n"
       "        '*.down_proj': int5\n",
       ":15: '*.down_proj' decides for no layer: patterns before it take them "
       "all"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[1024];
    snprintf(text, sizeof text, MIXED("%s"), cases[i].lines);
    refused(text, cases[i].part);
  }
}

static void a_format_that_a_method_refuses_is_told(void **state) {
  (void)state;
  refused(HEAD "grid:\n  dtype: {mixed: a, default: 'int4:asym',\n"
               "    layers: {'*.down_proj': int4, '*.fc2': int4}}\n"
               "  method: hqq\n  group: 16\n",
          "its int4: ");
}

/* What an override takes away was no slip. */
static void overrides_may_leave_patterns_without_layers(void **state) {
  (void)state;
  sweep s;
  open_good(
      &s,
      MIXED("    - {mixed: a, default: int3, layers: {'*fc2': int4,\n"
            "       '*down_proj': int4}, models: [llama-25k, opt-25k]}\n"),
      "models=[" ZOO "opt-25k]");
  assert_int_equal(s.grid.n_points, 4);
  close_sweep(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_first_pattern_that_fits_decides),
      cmocka_unit_test(bits_are_those_of_the_layers),
      cmocka_unit_test(a_name_can_be_checked_before_it_is_written),
      cmocka_unit_test(names_hold_a_hash_of_the_formats),
      cmocka_unit_test(keys_are_of_what_layers_get),
      cmocka_unit_test(mixtures_that_come_out_alike_are_one_point),
      cmocka_unit_test(exclusions_name_mixtures),
      cmocka_unit_test(mistakes_are_told_with_their_line),
      cmocka_unit_test(a_format_that_a_method_refuses_is_told),
      cmocka_unit_test(overrides_may_leave_patterns_without_layers),
  };
  return cmocka_run_group_tests_name("sweep/mixture", tests, make_files,
                                     remove_files);
}
