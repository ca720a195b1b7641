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

static void models_that_cannot_be_told_apart_are_refused(void **state) {
  (void)state;
  /* clang-format off */
  static const struct { const char *text, *message; } rows[] = {
    {"models:\n  - zoo/a\n  - zo/*\n" DATA GRID,
     "s.yaml:3: no model directory matches 'zo/*' (relative paths start from"},
    {"models: zoo/a.py\n" DATA GRID, "no model directory matches 'zoo/a.py'"},
    {"models: [zoo/a, other/a]\n" DATA GRID, "s.yaml:1: two models are named "
     "'a'"},
    {"models: [zoo/*, zoo/a]\n" DATA GRID, "two models are named 'a'"},
    {"models:\n  - {path: zoo/*, name: x}\n" DATA GRID, "s.yaml:2: "},
    {"models: other/odd*\n" DATA GRID, "model name 'odd name' must be"},
    {"models: {path: zoo/a, family: 'x y'}\n" DATA GRID,
     "family 'x y' must be"},
    {"models: {path: zoo/a, note: 'x,y'}\n" DATA GRID,
     "covariate 'note' must be free of commas"},
    {"models: {path: zoo/a, 'a-b': 1}\n" DATA GRID,
     "covariate 'a-b' must be named"},
    {"models: {path: zoo/a, tokens: [1]}\n" DATA GRID,
     "tokens must be a single value, got a list"},
    {"models: {path: zoo/a, famly: x}\n" DATA GRID, "did you mean 'family'?"},
    {"models: {path: zoo/a, holdut: true}\n" DATA GRID,
     "did you mean 'holdout'?"},
    {"models: {path: zoo/a, holdout: 1}\n" DATA GRID,
     "'holdout' of a model is true (predicted, never learned from) or false, "
     "got '1'"},
    {"models: {path: zoo/a, run: a/b}\n" DATA GRID,
     "the training run 'a/b' of a model must be"},
    {"models: [[zoo/a]]\n" DATA GRID, "a model's path must be a single value"},
  };
  /* clang-format on */
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
    refused(rows[i].text, NULL, rows[i].message);
  ptq_spec s;
  read_good("models: {path: other/odd*, name: odd, rate: 3}\n" DATA GRID, NULL,
            0, &s);
  assert_string_equal(s.models[0].name, "odd");
  assert_string_equal(s.models[0].covariates, "rate=3");
  ptq_spec_release(&s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(models_that_cannot_be_told_apart_are_refused),
  };
  return cmocka_run_group_tests_name("sweep/spec_models", tests, make_files,
                                     remove_files);
}
