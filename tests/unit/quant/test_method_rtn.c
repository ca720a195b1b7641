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

/* Sum of |w - y|^2.4, which the search lowers. */
static double search_norm(const layer *l) {
  double sum = 0.0;
  for (int64_t i = 0; i < l->rows * l->cols; i++)
    sum += pow(fabs((double)l->w[i] - (double)l->y[i]), 2.4);
  return sum;
}

static void searched_scales_lower_the_error(void **state) {
  (void)state;
  static const struct {
    const char *dtype;
    int64_t group;
    bool lower; /* a power of two has no better neighbour in every group */
  } cases[] = {{"int3", 32, true},
               {"int3", PTQ_GROUP_TENSOR, true},
               {"int4:asym", PTQ_GROUP_ROW, true},
               {"mxint2", 32, false},
               {"mxfp4", 16, false},
               {"fp8_e4m3", 20, false}};
  layer l = layer_random(20, 50, 2);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    layer_quantize(&l, "rtn", "", cases[i].dtype, cases[i].group);
    const double before = search_norm(&l), bits = l.storage_bits;
    layer_quantize(&l, "rtn", "scales=mse", cases[i].dtype, cases[i].group);
    const double after = search_norm(&l);
    if (after > before || (cases[i].lower && after > 0.95 * before))
      fail_msg("%s: %g, then %g", cases[i].dtype, before, after);
    assert_true(l.storage_bits == bits);
  }
  layer_release(&l);
}

static void the_search_is_the_formats_own(void **state) {
  (void)state;
  layer l = layer_random(20, 50, 3);
  layer_quantize(&l, "rtn", "", "int4:scale=mse", 16);
  layer_keep(&l);
  l.threads = 3;
  layer_quantize(&l, "rtn", "scales=mse", "int4", 16);
  assert_memory_equal(l.y, l.kept_y, 20 * 50 * sizeof *l.y);
  assert_memory_equal(l.q, l.kept_q, 20 * 50 * sizeof *l.q);
  layer_release(&l);
}

static void a_weight_that_is_not_finite_fails_by_name(void **state) {
  (void)state;
  layer l = layer_random(7, 50, 1);
  l.w[3 * 50 + 49] = NAN;
  ptq_err err = {0};
  assert_int_equal(layer_try(&l, "rtn", "", "int4", 16, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "row 3, column 49 is NaN"));
  err = (ptq_err){0};
  assert_int_equal(layer_try(&l, "rtn", "scales=mse", "int4", 16, &err),
                   PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "row 3, column 49 is NaN"));
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounding_to_nearest_is_the_formats_own),
      cmocka_unit_test(searched_scales_lower_the_error),
      cmocka_unit_test(the_search_is_the_formats_own),
      cmocka_unit_test(a_weight_that_is_not_finite_fails_by_name),
  };
  return cmocka_run_group_tests_name("quant/method_rtn", tests, layer_set_up,
                                     NULL);
}
