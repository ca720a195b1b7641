/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "spec_fixture.h"

static void a_whole_sweep_file_is_resolved(void **state) {
  (void)state;
  ptq_spec s;
  read_good("name: quick\n"
            "models:\n"
            "  - zoo/*\n"
            "  - {path: other/a, name: a2, family: fam, train_tokens: 3e9,\n"
            "     lr_state: decayed}\n"
            "data:\n"
            "  calibration:\n"
            "    - {text: t/c.txt, windows: 64, length: 256, seed: 1}\n"
            "    - {text: t/c.txt, windows: 64, length: 256, seed: 2}\n"
            "  evaluation: {text: /abs/e.txt, windows: 32, length: 128}\n"
            "  selection: {text: t/s.txt, windows: 2, length: 64}\n"
            "grid:\n"
            "  dtype: [int4, mxint3]\n"
            "  method: [rtn, gptq, {name: gptq, hessian: static}]\n"
            "  group: [16, row, tensor]\n"
            "exclude:\n"
            "  - {dtype: mxint3, method: gptq, group: 16, model: 'a*'}\n"
            "  - {method: {name: gptq, hessian: static}}\n"
            "measure: {spectra: off}\n"
            "compute: bf16\n",
            NULL, 0, &s);
  assert_string_equal(s.name, "quick");
  assert_int_equal(s.n_models, 4);
  assert_string_equal(s.models[0].name, "a");
  assert_string_equal(s.models[1].name, "b");
  assert_string_equal(s.models[2].name, "c");
  assert_string_equal(s.models[2].family, "");
  assert_int_equal(s.models[2].line, 3);
  assert_string_equal(s.models[3].name, "a2");
  assert_string_equal(s.models[3].family, "fam");
  assert_string_equal(s.models[3].covariates,
                      "lr_state=decayed,train_tokens=3e9");
  assert_non_null(strstr(s.models[3].path, "/other/a"));
  assert_int_equal(s.n_calibrations, 2);
  assert_string_equal(s.calibrations[1].label, "c.txt:64x256@2");
  assert_true(s.calibrations[1].random);
  assert_int_equal(s.calibrations[1].seed, 2);
  assert_int_equal(s.n_evaluations, 1);
  assert_string_equal(s.evaluations[0].path, "/abs/e.txt");
  assert_string_equal(s.evaluations[0].label, "e.txt:32x128");
  assert_false(s.evaluations[0].random);
  assert_false(s.selection_from_end);
  assert_int_equal(s.selection.windows, 2);
  assert_int_equal(s.n_dtypes, 2);
  assert_string_equal(s.dtypes[1].name, "mxint3");
  assert_int_equal(s.n_methods, 3);
  assert_string_equal(s.methods[2].name, "gptq");
  assert_string_equal(s.methods[2].options, "hessian=static");
  assert_int_equal(s.method_lines[2], 14);
  assert_int_equal(s.n_groups, 3);
  assert_int_equal(s.groups[0], 16);
  assert_int_equal(s.groups[1], PTQ_GROUP_ROW);
  assert_int_equal(s.groups[2], PTQ_GROUP_TENSOR);
  assert_int_equal(s.n_excludes, 2);
  assert_string_equal(s.excludes[0].dtype, "mxint3");
  assert_false(s.excludes[0].has_options);
  assert_true(s.excludes[0].has_group);
  assert_true(s.excludes[1].has_options);
  assert_string_equal(s.excludes[1].options, "hessian=static");
  assert_int_equal(s.spectra, PTQ_SPECTRA_OFF);
  assert_int_equal(s.compute, PTQ_COMPUTE_BF16);
  assert_non_null(strstr(s.text, "name: quick\n"));
  ptq_spec_release(&s);
}

static void what_is_left_out_has_documented_defaults(void **state) {
  (void)state;
  ptq_spec s;
  read_good("models: zoo/a\n" DATA "grid: {dtype: int4, method: rtn, "
            "group: row}",
            NULL, 0, &s);
  assert_string_equal(s.name, "s"); /* of s.yaml */
  assert_int_equal(s.n_models, 1);
  assert_int_equal(s.n_groups, 1);
  assert_true(s.selection_from_end);
  assert_int_equal(s.selection.windows, 16);
  assert_int_equal(s.selection.length, 8);
  assert_string_equal(s.selection.path, s.calibrations[0].path);
  assert_string_equal(s.selection.label, "c.txt:16x8@end");
  assert_int_equal(s.spectra, PTQ_SPECTRA_FULL);
  assert_int_equal(s.compute, PTQ_COMPUTE_F32);
  assert_int_equal(s.n_excludes, 0);
  ptq_spec_release(&s);
}

static void unknown_keys_are_refused_with_line_and_suggestion(void **state) {
  (void)state;
  /* clang-format off */
  static const struct { const char *text, *message; } rows[] = {
    {HEAD DATA GRID "exlude: []\n",
     "s.yaml:6: unknown key 'exlude' in a sweep file, did you mean 'exclude'?"},
    {HEAD DATA "grid: {dtype: int4, method: rtn, gruop: 3}\n",
     "s.yaml:5: unknown key 'gruop' in grid, did you mean 'group'?"},
    {HEAD "data:\n  calibraton: {}\n" GRID,
     "s.yaml:3: unknown key 'calibraton' in data, did you mean 'calibration'?"},
    {HEAD "data:\n  calibration: {text: c, windws: 3}\n  evaluation: {}\n" GRID,
     "s.yaml:3: unknown key 'windws' in calibration, did you mean 'windows'?"},
    {HEAD DATA GRID "measure: {spectrum: off}\n",
     "s.yaml:6: unknown key 'spectrum' in measure, did you mean 'spectra'?"},
    {HEAD DATA GRID "exclude:\n  - {dtyp: int4}\n",
     "s.yaml:7: unknown key 'dtyp' in an exclusion, did you mean 'dtype'?"},
    {"models:\n  - {path: zoo/a, nmae: x}\n" DATA GRID,
     "s.yaml:2: unknown key 'nmae' of a model, did you mean 'name'?"},
    {HEAD DATA "grid: {dtype: int4, method: {name: gptq, hesian: static}, "
     "group: 3}\n", "s.yaml:5: "},
  };
  /* clang-format on */
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    refused(rows[i].text, NULL, rows[i].message);
}

static void missing_parts_are_named(void **state) {
  (void)state;
  /* clang-format off */
  static const struct { const char *text, *message; } rows[] = {
    {DATA GRID, "s.yaml:1: the sweep file lacks 'models'"},
    {HEAD GRID, "the sweep file lacks 'data'"},
    {HEAD DATA, "the sweep file lacks 'grid'"},
    {HEAD "data: {evaluation: {}}\n" GRID, "s.yaml:2: data lacks 'calibration'"},
    {HEAD "data: {calibration: {}}\n" GRID, "data lacks 'evaluation'"},
    {HEAD "data:\n  calibration: {windows: 3}\n  evaluation: {}\n" GRID,
     "s.yaml:3: calibration lacks 'text'"},
    {HEAD "data:\n  calibration: {text: c}\n  evaluation: {}\n" GRID,
     "calibration lacks 'windows'"},
    {HEAD DATA "grid: {method: rtn, group: 3}\n", "grid lacks 'dtype'"},
    {HEAD DATA "grid: {dtype: int4, group: 3}\n", "grid lacks 'method'"},
    {HEAD DATA "grid: {dtype: int4, method: rtn}\n", "grid lacks 'group'"},
    {"models:\n  - {name: x}\n" DATA GRID, "s.yaml:2: a model lacks 'path'"},
    {HEAD DATA "grid: {dtype: int4, method: {hessian: static}, group: 3}\n",
     "s.yaml:5: a method lacks 'name'"},
    {"- 1\n- 2\n", "s.yaml:1: a sweep file must be a mapping"},
    {"", "s.yaml:1: the document is empty"},
    {"models: []\n" DATA GRID, "s.yaml:1: 'models' is an empty list"},
    {HEAD DATA "grid: {dtype: [], method: rtn, group: 3}\n",
     "'dtype' is an empty list"},
    {HEAD "data: {calibration: [], evaluation: {}}\n" GRID,
     "'calibration' is an empty list"},
    {HEAD "data: [1]\n" GRID, "s.yaml:2: data must be a mapping"},
    {HEAD DATA "grid: 3\n", "s.yaml:5: grid must be a mapping"},
  };
  /* clang-format on */
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    refused(rows[i].text, NULL, rows[i].message);
}

static void bad_values_are_named(void **state) {
  (void)state;
  /* clang-format off */
  static const struct { const char *text, *message; } rows[] = {
    {HEAD DATA "grid:\n  dtype:\n    - int4\n    - mxin3\n  method: rtn\n"
     "  group: 3\n", "s.yaml:8: unknown dtype 'mxin3', did you mean 'mxint3'"},
    {HEAD DATA "grid: {dtype: int12, method: rtn, group: 3}\n", "s.yaml:5: "},
    {HEAD DATA "grid: {dtype: [[int4]], method: rtn, group: 3}\n",
     "s.yaml:5: a dtype must be a single value, got a list"},
    {HEAD DATA "grid: {dtype: int4, method: gptg, group: 3}\n",
     "s.yaml:5: unknown method 'gptg', did you mean 'gptq'"},
    {HEAD DATA "grid: {dtype: int4, method: {name: rtn, damp: 1}, group: 3}\n",
     "s.yaml:5: "},
    {HEAD DATA "grid: {dtype: int4, method: {name: gptq, damp: [1]}, "
     "group: 3}\n", "s.yaml:5: damp must be a single value, got a list"},
    {HEAD DATA "grid: {dtype: int4, method: rtn, group: -1}\n",
     "s.yaml:5: a group is a number of weights above 0, 'row' or 'tensor', "
     "got '-1'"},
    {HEAD DATA "grid: {dtype: int4, method: rtn, group: [rows]}\n",
     "got 'rows'"},
    {HEAD DATA "grid: {dtype: int4, method: rtn, group: [{a: 1}]}\n",
     "got a list or mapping"},
    {HEAD DATA "grid: {dtype: [int4, int3, int4], method: rtn, group: 3}\n",
     "s.yaml:5: dtype 'int4' is listed twice"},
    {HEAD DATA "grid: {dtype: int4, method: [rtn, rtn], group: 3}\n",
     "s.yaml:5: method 'rtn' is listed twice"},
    {HEAD DATA "grid: {dtype: int4, method: rtn, group: [3, 3]}\n",
     "s.yaml:5: group '3' is listed twice"},
    {HEAD DATA GRID "measure: {landscape: some}\n",
     "s.yaml:6: landscape must be 'off', 'radial' or 'full', got 'some'"},
    {HEAD DATA GRID "compute: bf16\nmeasure: {landscape: full}\n",
     "s.yaml:7: the landscape is measured in float32; leave it out"},
    {HEAD DATA GRID "measure: {landscape: {radii: 9}}\n",
     "s.yaml:6: landscape lacks 'mode'"},
    {HEAD DATA GRID "measure: {landscape: {mode: full, probe: 9}}\n",
     "s.yaml:6: unknown key 'probe' in landscape, did you mean 'probes'?"},
    {HEAD DATA GRID "measure: {landscape: {mode: radial, probes: 9}}\n",
     "s.yaml:6: 'probes' is of the Hessian, which only 'mode: full' measures"},
    {HEAD DATA GRID "measure: {landscape: {mode: radial, radii: 1}}\n",
     "s.yaml:6: 'radii' must be 2 to 1000, got 1"},
    {HEAD DATA GRID "measure: {landscape: {mode: radial, smallest: 0}}\n",
     "'smallest' must be 1e-9 to 1e6, a length over that of the weights"},
    {HEAD DATA GRID "measure: {landscape: {mode: radial, smallest: 5}}\n",
     "'smallest' (5) must be below 'largest' (3)"},
    {HEAD DATA GRID "measure: {landscape: {mode: radial, random: normal}}\n",
     "s.yaml:6: unknown random direction 'normal'; gaussian:layer, "
     "gaussian:row, uniform:layer or uniform:row"},
    {HEAD DATA GRID
     "measure: {landscape: {mode: radial, rtn: false, directions: 0}}\n",
     "s.yaml:6: landscape: no directions at all; raise 'directions'"},
    {HEAD DATA GRID
     "measure: {landscape: {mode: radial, methods: [rtn, awq]}}\n",
     "s.yaml:6: a landscape has displacements of 'rtn' and 'gptq', not of "
     "'awq'"},
    {HEAD DATA GRID
     "measure: {landscape: {mode: radial, methods: gptq, rtn: true}}\n",
     "s.yaml:6: landscape: 'rtn' is one of 'methods'; give one"},
    {HEAD DATA GRID "measure: {landscape: {mode: radial, methods: []}}\n",
     "s.yaml:6: "},
    {HEAD DATA GRID "measure: {landscape: {mode: full, sensitivity: int5}}\n",
     "s.yaml:6: sensitivity to 'int5': not a dtype of the grid"},
    {HEAD DATA GRID "measure: {landscape: {mode: off, sensitivity: int4}}\n",
     "s.yaml:6: 'sensitivity' is of a landscape, whose mode is 'off'"},
    {HEAD DATA GRID "measure: {spectra: some}\n",
     "s.yaml:6: spectra must be 'full' or 'off', got 'some'"},
    {HEAD DATA GRID "compute: fp16\n",
     "s.yaml:6: compute must be 'f32' or 'bf16', got 'fp16'"},
    {HEAD DATA GRID "compute: [f32, bf16]\n",
     "s.yaml:6: compute must be 'f32' or 'bf16', got 'a list'"},
    {"name: a/b\n" HEAD DATA GRID, "s.yaml:1: the sweep's name 'a/b' must be"},
    {"name: [1]\n" HEAD DATA GRID, "s.yaml:1: name must be a single value"},
    {HEAD "data:\n  calibration: {text: c, windows: 0, length: 8}\n"
     "  evaluation: {}\n" GRID, "s.yaml:3: 'windows' must be 1 to 16777216, "
     "got 0"},
    {HEAD "data:\n  calibration: {text: c, windows: 3, length: 1}\n"
     "  evaluation: {}\n" GRID, "s.yaml:3: 'length' must be 2 to 1048576, "
     "got 1"},
    {HEAD "data:\n  calibration: {text: c, windows: many, length: 8}\n"
     "  evaluation: {}\n" GRID,
     "s.yaml:3: 'windows' must be a whole number, got 'many'"},
    {HEAD "data:\n  calibration: {text: c, windows: 3, length: 8, seed: -1}\n"
     "  evaluation: {}\n" GRID, "s.yaml:3: 'seed' must be 0 to"},
    {HEAD "data:\n"
     "  calibration: {text: c, windows: 3, length: 8}\n"
     "  evaluation:\n"
     "    - {text: x/e, windows: 3, length: 8}\n"
     "    - {text: y/e, windows: 3, length: 8}\n" GRID,
     "s.yaml:6: two evaluation texts are called 'e:3x8'"},
#define EVAL(more) "data:\n  calibration: {text: c, windows: 3, length: 8}\n" \
     "  evaluation: {text: e, windows: 3, length: 8, " more "}\n"
    {HEAD EVAL("preset: ppl") GRID, "s.yaml:4: preset 'ppl' is not gptq, "
     "llama.cpp"},
    {HEAD EVAL("preset: 'strided:8'") GRID, "the stride must be 1 to 7"},
    {HEAD EVAL("preset: 'strided:0'") GRID, "the stride must be 1 to 7"},
    {HEAD EVAL("preset: 'strided:x'") GRID, "the stride must be 1 to 7"},
    {HEAD EVAL("preset: 'strided:4', seed: 1") GRID, "without a seed"},
    {HEAD EVAL("preset: lm-eval, seed: 1") GRID, "without a seed"},
    {HEAD EVAL("preset: 'bytes:0'") GRID, "the bytes of a window must be 1"},
    {HEAD EVAL("preset: 'bytes:x'") GRID, "the bytes of a window must be 1"},
    {HEAD EVAL("preset: 'bytes:7', seed: 1") GRID, "without a seed"},
    {HEAD "data:\n"
     "  calibration: {text: c, windows: 3, length: 8, preset: gptq}\n"
     "  evaluation: {}\n" GRID, "s.yaml:3: only evaluation texts are scored"},
    {"models: [zoo/a]\nmodels: [zoo/b]\n" DATA GRID,
     "s.yaml:2: key 'models' appears twice (first in line 1)"},
  };
#undef EVAL
  /* clang-format on */
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    refused(rows[i].text, NULL, rows[i].message);
}

static void presets_stand_in_the_label(void **state) {
  (void)state;
  static const struct {
    const char *preset, *label;
    int64_t stride, context;
  } rows[] = {{"gptq", "e:3x8", 0, 0},
              {"llama.cpp", "e:3x8/llama.cpp", 0, 5},
              {"strided:3", "e:3x8/strided:3", 3, 5},
              {"lm-eval", "e:3x8/lm-eval", 7, 1}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    char text[512];
    ptq_spec s;
    ptq_err err = {0};
    snprintf(text, sizeof text,
             HEAD "data:\n  calibration: {text: c, windows: 3, length: 8}\n"
                  "  evaluation: {text: e, windows: 3, length: 8, preset: "
                  "'%s'}\n" GRID,
             rows[i].preset);
    if (read_text(text, NULL, 0, &s, &err) != PTQ_OK) fail_msg("%s", err.msg);
    assert_string_equal(s.evaluations[0].label, rows[i].label);
    assert_int_equal(s.evaluations[0].scoring.stride, rows[i].stride);
    assert_int_equal(s.evaluations[0].scoring.context, rows[i].context);
    ptq_spec_release(&s);
  }
}

static void a_long_file_name_of_a_text_is_refused(void **state) {
  (void)state;
  char text[512];
  snprintf(text, sizeof text,
           HEAD "data:\n  calibration: {text: %095d, windows: 1, length: 2}\n"
                "  evaluation: {}\n" GRID,
           7);
  refused(text, NULL, "s.yaml:3: the text's file name");
}

static void a_missing_sweep_file_is_named(void **state) {
  (void)state;
  ptq_spec s;
  ptq_err err = {0};
  assert_int_equal(ptq_spec_read("absent.yaml", NULL, 0, &s, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "'absent.yaml'"));
}

static void a_landscape_has_defaults_and_counts(void **state) {
  (void)state;
  ptq_spec s;
  read_good(HEAD DATA GRID, NULL, 0, &s);
  assert_int_equal(s.landscape.mode, PTQ_LANDSCAPE_OFF);
  ptq_spec_release(&s);
  read_good(HEAD DATA GRID "measure: {landscape: radial}\n", NULL, 0, &s);
  const ptq_landscape_spec *l = &s.landscape;
  assert_int_equal(l->mode, PTQ_LANDSCAPE_RADIAL);
  assert_int_equal(l->directions, 3);
  assert_int_equal(l->radii, 24);
  assert_true(l->rtn && l->random[PTQ_RANDOM_GAUSSIAN_LAYER] &&
              l->random[PTQ_RANDOM_UNIFORM_ROW] &&
              !l->random[PTQ_RANDOM_GAUSSIAN_ROW] &&
              !l->random[PTQ_RANDOM_UNIFORM_LAYER]);
  ptq_spec_release(&s);
  read_good(HEAD DATA GRID
            "measure: {landscape: {mode: radial, directions: 0, methods: gptq, "
            "sensitivity: int4}}\n",
            NULL, 0, &s);
  assert_true(l->gptq && !l->rtn && l->sensitivity[0]);
  ptq_spec_release(&s);
  read_good(HEAD DATA GRID
            "measure:\n"
            "  landscape: {mode: full, directions: 5, random: "
            "\"gaussian:row\", rtn: false, radii: 30, smallest: 1e-4,\n"
            "    largest: 10, probes: 7, lanczos: 20, starts: 4}\n",
            NULL, 0, &s);
  assert_int_equal(l->mode, PTQ_LANDSCAPE_FULL);
  assert_int_equal(l->directions, 5);
  assert_int_equal(l->radii, 30);
  assert_int_equal(l->probes, 7);
  assert_int_equal(l->lanczos, 20);
  assert_int_equal(l->starts, 4);
  assert_true(l->smallest == 1e-4 && l->largest == 10.0);
  assert_true(!l->rtn && l->random[PTQ_RANDOM_GAUSSIAN_ROW] &&
              !l->random[PTQ_RANDOM_GAUSSIAN_LAYER]);
  ptq_spec_release(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_landscape_has_defaults_and_counts),
      cmocka_unit_test(a_whole_sweep_file_is_resolved),
      cmocka_unit_test(what_is_left_out_has_documented_defaults),
      cmocka_unit_test(unknown_keys_are_refused_with_line_and_suggestion),
      cmocka_unit_test(missing_parts_are_named),
      cmocka_unit_test(bad_values_are_named),
      cmocka_unit_test(presets_stand_in_the_label),
      cmocka_unit_test(a_long_file_name_of_a_text_is_refused),
      cmocka_unit_test(a_missing_sweep_file_is_named),
  };
  return cmocka_run_group_tests_name("sweep/spec", tests, make_files,
                                     remove_files);
}
