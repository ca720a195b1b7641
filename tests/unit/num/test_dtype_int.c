/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "ptq/base/rng.h"
#include "ptq/num/dtype.h"

static ptq_dtype parsed(const char *text) {
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse(text, &dt, NULL), PTQ_OK);
  return dt;
}

static ptq_group_params fit(const char *dtype, const float *x, int64_t n) {
  const ptq_dtype dt = parsed(dtype);
  return dt.family->fit(&dt, x, n, 1);
}

static void symmetric_scale_spans_both_sides(void **state) {
  (void)state;
  const float x[] = {-3.0F, 1.0F, 2.0F};
  const ptq_group_params p = fit("int4", x, 3);
  assert_true(p.scale == 6.0F / 15.0F);
  assert_true(p.zero == 8.0F);
}

static void groups_without_negatives_get_half_the_scale(void **state) {
  (void)state;
  const float x[] = {0.0F, 1.0F, 3.0F};
  float y[3];
  int16_t q[3];
  const ptq_dtype dt = parsed("int4");
  const ptq_group_params p = fit("int4", x, 3);
  assert_true(p.scale == 3.0F / 15.0F);
  dt.family->round(&dt, x, 3, &p, 0, y, q);
  assert_int_equal(q[1], 8 + 5);
  assert_int_equal(q[2], 15); /* saturates at 7 steps of 15 */
  assert_true(y[2] == 7.0F * p.scale);
}

static void asymmetric_range_always_holds_zero(void **state) {
  (void)state;
  const float above[] = {2.0F, 3.0F}, below[] = {-3.0F, -2.0F};
  ptq_group_params p = fit("int4:asym", above, 2);
  assert_true(p.scale == 3.0F / 15.0F && p.zero == 0.0F);
  p = fit("int4:asym", below, 2);
  assert_true(p.scale == 3.0F / 15.0F && p.zero == 15.0F);
}

static void zeros_get_the_range_of_one(void **state) {
  (void)state;
  const float x[] = {0.0F, -0.0F};
  ptq_group_params p = fit("int4", x, 2);
  assert_true(p.scale == 2.0F / 15.0F && p.zero == 8.0F);
  p = fit("int4:asym", x, 2);
  /* 1 / (2 / 15) is just below 7.5 in float32 */
  assert_true(p.scale == 2.0F / 15.0F && p.zero == 7.0F);
}

static void what_is_too_small_to_divide_counts_as_zero(void **state) {
  (void)state;
  const float x[] = {0x1p-149F, -0x1p-149F};
  float y[2];
  const ptq_dtype dt = parsed("int8");
  const ptq_group_params p = fit("int8", x, 2);
  assert_true(p.scale == 2.0F / 255.0F);
  dt.family->round(&dt, x, 2, &p, 0, y, NULL);
  assert_true(y[0] == 0.0F && y[1] == 0.0F);
}

static void ties_go_to_even_before_zero_is_added(void **state) {
  (void)state;
  const float x[] = {0.5F, 1.5F, 2.5F, -0.5F, -1.5F, -2.5F};
  const int16_t expected[] = {0, 2, 2, 0, -2, -2};
  /* an odd zero point would turn the ties of round(x / scale + zero) round */
  const ptq_group_params p = {.scale = 1.0F, .zero = 7.0F};
  const ptq_dtype dt = parsed("int4:asym");
  int16_t q[6];
  dt.family->round(&dt, x, 6, &p, 0, NULL, q);
  for (int i = 0; i < 6; i++) assert_int_equal(q[i], 7 + expected[i]);
}

static void values_beyond_the_range_saturate(void **state) {
  (void)state;
  const float x[] = {1e30F, -1e30F, INFINITY, -INFINITY};
  const ptq_group_params p = {.scale = 1e-20F, .zero = 4.0F};
  const ptq_dtype dt = parsed("int3");
  int16_t q[4];
  dt.family->round(&dt, x, 4, &p, 0, NULL, q);
  assert_int_equal(q[0], 7);
  assert_int_equal(q[1], 0);
  assert_int_equal(q[2], 7);
  assert_int_equal(q[3], 0);
}

/* The code of -most in float64, counted from zero. */
static double code_in_float64(float most, double top) {
  const double scale = ((double)most + (double)most) / top;
  return rint(-(double)most / scale);
}

static void the_tie_of_the_maximum_is_settled_as_in_float64(void **state) {
  (void)state;
  ptq_rng r;
  ptq_rng_init(&r, 5);
  for (int b = 2; b <= 8; b++) {
    const char name[] = {'i', 'n', 't', (char)('0' + b), '\0'};
    const ptq_dtype dt = parsed(name);
    const double top = (double)((1 << b) - 1);
    int unlike = 0;
    for (int i = 0; i < 2000; i++) {
      const float x[] = {-0.1F - (float)ptq_rng_unit(&r), 0.05F};
      const ptq_group_params p = dt.family->fit(&dt, x, 2, 1);
      const ptq_group_params exact =
          dt.family->settle_tie(&dt, x, 2, 1, true, p);
      const ptq_group_params even =
          dt.family->settle_tie(&dt, x, 2, 1, false, p);
      assert_true((double)rintf(x[0] / exact.scale) ==
                  code_in_float64(-x[0], top));
      assert_true((double)rintf(x[0] / even.scale) == -(top + 1.0) / 2.0);
      assert_true(fabsf(exact.scale / p.scale - 1.0F) < 1e-6F);
      unlike += exact.scale != p.scale;
    }
    if (b > 2) assert_in_range(unlike, 100, 800); /* about a fifth */
  }
}

static void the_tie_of_a_zero_point_is_settled_as_in_float64(void **state) {
  (void)state;
  ptq_rng r;
  ptq_rng_init(&r, 6);
  const ptq_dtype dt = parsed("int4:asym");
  int unlike = 0;
  for (int i = 0; i < 2000; i++) {
    const float v = 0.1F + (float)ptq_rng_unit(&r), x[] = {v, -v};
    const double scale = ((double)v + (double)v) / 15.0;
    const ptq_group_params p = dt.family->fit(&dt, x, 2, 1);
    const ptq_group_params exact = dt.family->settle_tie(&dt, x, 2, 1, true, p);
    assert_true((double)exact.zero == rint((double)v / scale));
    assert_true(exact.scale == p.scale);
    assert_true(dt.family->settle_tie(&dt, x, 2, 1, false, p).zero == p.zero);
    unlike += exact.zero != p.zero;
  }
  assert_in_range(unlike, 100, 800);
}

static void other_groups_are_not_settled(void **state) {
  (void)state;
  const float positive[] = {3.3F, -1.1F}, negative[] = {-3.3F, 1.1F};
  const ptq_dtype dt = parsed("int4"), asym = parsed("int4:asym");
  ptq_group_params p = dt.family->fit(&dt, positive, 2, 1);
  assert_true(dt.family->settle_tie(&dt, positive, 2, 1, true, p).scale ==
              p.scale);
  p = asym.family->fit(&asym, negative, 2, 1);
  assert_true(asym.family->settle_tie(&asym, negative, 2, 1, false, p).scale ==
              p.scale);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(symmetric_scale_spans_both_sides),
      cmocka_unit_test(groups_without_negatives_get_half_the_scale),
      cmocka_unit_test(asymmetric_range_always_holds_zero),
      cmocka_unit_test(zeros_get_the_range_of_one),
      cmocka_unit_test(what_is_too_small_to_divide_counts_as_zero),
      cmocka_unit_test(ties_go_to_even_before_zero_is_added),
      cmocka_unit_test(values_beyond_the_range_saturate),
      cmocka_unit_test(the_tie_of_the_maximum_is_settled_as_in_float64),
      cmocka_unit_test(the_tie_of_a_zero_point_is_settled_as_in_float64),
      cmocka_unit_test(other_groups_are_not_settled),
  };
  return cmocka_run_group_tests_name("num/dtype_int", tests, NULL, NULL);
}
