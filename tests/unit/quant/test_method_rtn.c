/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "layer.h"

static void rounding_to_nearest_is_the_formats_own(void **state) {
  (void)state;
  layer l = layer_random(7, 50, 1);
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse("mxint4", &dt, NULL), PTQ_OK);
  assert_int_equal(ptq_dtype_round_matrix(&dt, l.w, 7, 50, 16, l.kept_y,
                                          l.kept_q, NULL, NULL),
                   PTQ_OK);
  layer_quantize(&l, "rtn", "", "mxint4", 16);
  assert_memory_equal(l.y, l.kept_y, 7 * 50 * sizeof *l.y);
  assert_memory_equal(l.q, l.kept_q, 7 * 50 * sizeof *l.q);
  assert_true(isnan(l.damp));
  assert_true(l.storage_bits == 7 * 50 * 4 + 7 * 4 * 8);
  layer_release(&l);
}

static void a_weight_that_is_not_finite_fails_by_name(void **state) {
  (void)state;
  layer l = layer_random(7, 50, 1);
  l.w[3 * 50 + 49] = NAN;
  ptq_err err = {0};
  assert_int_equal(layer_try(&l, "rtn", "", "int4", 16, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "row 3, column 49 is NaN"));
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounding_to_nearest_is_the_formats_own),
      cmocka_unit_test(a_weight_that_is_not_finite_fails_by_name),
  };
  return cmocka_run_group_tests_name("quant/method_rtn", tests, layer_set_up,
                                     NULL);
}
