/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tables.h"

static tables table;
static const synthetic_law law = {
    .intercept = -4.0, .noise = 0.1, .floor = 0.002};

static void every_point_has_one_use_and_is_counted(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  table.states[0] = PTQ_STATE_FAILED;
  table.states[1] = PTQ_STATE_PENDING;
  table.states[2] = PTQ_STATE_STARTED;
  table.points[3].nll = table.models[0].nll_unigram;
  table.points[4].nll = INFINITY;
  table.points[5].dnll = NAN;
  (void)ptq_text_copy(table.models[9].provenance, 16, "dequantized");
  table.models[8].nll_unigram = NAN;
  const ptq_frame_source source = tables_source(&table);
  ptq_frame f;
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(f.n, 320);
  assert_int_equal(f.count[PTQ_USE_FAILED], 1);
  assert_int_equal(f.count[PTQ_USE_PENDING], 2);
  assert_int_equal(f.count[PTQ_USE_COLLAPSED], 2);
  assert_int_equal(f.count[PTQ_USE_DEQUANTIZED], 32);
  assert_int_equal(f.count[PTQ_USE_INCOMPLETE], 33);
  assert_int_equal(f.count[PTQ_USE_OK], 320 - 70);
  assert_int_equal(f.obs[3].use, PTQ_USE_COLLAPSED);
  for (int u = 0; u < PTQ_USE_COUNT; u++) {
    assert_true(ptq_use_name((ptq_use)u)[0] != '\0');
    assert_true(ptq_use_text((ptq_use)u)[0] != '\0');
  }
  ptq_frame_release(&f);
}

static void errors_of_layers_are_averaged_in_logarithms(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  table.n_points = 2;
  ptq_layer_row layers[3] = {
      {.err_hessian = 1e-2}, {.err_hessian = 1e-4}, {.err_hessian = 0.5}};
  const int64_t first[3] = {0, 2, 3};
  ptq_frame_source source = tables_source(&table);
  source.layers = layers;
  source.first_layer = first;
  ptq_frame f;
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(f.obs[0].n_layers, 2);
  assert_true(fabs(f.obs[0].log_err_hessian - log(1e-3)) < 1e-12);
  assert_true(fabs(f.obs[1].log_err_hessian - log(0.5)) < 1e-12);
  ptq_frame_release(&f);
}

static void point_of_no_model_is_refused(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  table.subject[7] = 99;
  const ptq_frame_source source = tables_source(&table);
  ptq_frame f;
  ptq_err err = {0};
  assert_int_equal(ptq_frame_build(&source, &f, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "point 7: subject 99"));
  assert_null(f.obs);
}

static void empty_store_is_an_empty_frame(void **state) {
  (void)state;
  const ptq_frame_source source = {0};
  ptq_frame f;
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(f.n, 0);
  ptq_frame_release(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_point_has_one_use_and_is_counted),
      cmocka_unit_test(errors_of_layers_are_averaged_in_logarithms),
      cmocka_unit_test(point_of_no_model_is_refused),
      cmocka_unit_test(empty_store_is_an_empty_frame),
  };
  return cmocka_run_group_tests_name("analysis/frame", tests, NULL, NULL);
}
