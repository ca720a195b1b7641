/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "ptq/num/dtype.h"

static ptq_dtype parsed(const char *text) {
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse(text, &dt, NULL), PTQ_OK);
  return dt;
}

static void the_step_is_a_power_of_two_below_the_maximum(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("mxint4");
  const float x[] = {1.0F, 1.9999999F, 2.0F, 0.75F};
  const float step[] = {0.25F, 0.25F, 0.5F, 0.125F};
  for (int i = 0; i < 4; i++) {
    const ptq_group_params p = dt.family->fit(&dt, &x[i], 1, 1);
    assert_true(p.scale == step[i] && p.zero == 0.0F);
  }
}

static void two_bits_are_ternary(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("mxint2");
  const float x[] = {1.9F, -1.9F, 0.6F, 0.5F, -0.4F, 1.5F};
  const int16_t expected[] = {1, -1, 1, 0, 0, 1};
  int16_t q[6];
  const ptq_group_params p = dt.family->fit(&dt, x, 6, 1);
  dt.family->round(&dt, x, 6, &p, 0, NULL, q);
  for (int i = 0; i < 6; i++) assert_int_equal(q[i], expected[i]);
  assert_int_equal(dt.family->levels(&dt), 3);
}

static void a_value_next_to_a_tie_is_rounded_twice(void **state) {
  (void)state;
  /* Block of maximum 1, step 1/4: just above the tie 1/8 is nearer to 1/4,
   * but the first sum (6 + x, whose last place is 2^-21) loses what is
   * above and then the tie goes to even. */
  const ptq_dtype dt = parsed("mxint4");
  const float x[] = {1.0F, 0.125F + 0x1p-26F, 0.125F + 0x1p-20F};
  const int16_t expected[] = {4, 0, 1};
  int16_t q[3];
  const ptq_group_params p = dt.family->fit(&dt, x, 3, 1);
  dt.family->round(&dt, x, 3, &p, 0, NULL, q);
  for (int i = 0; i < 3; i++) assert_int_equal(q[i], expected[i]);
}

static void zeros_have_code_zero_whatever_reaches_them(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("mxint4");
  const float zeros[] = {0.0F, -0.0F}, later[] = {3.0F, -1e-40F};
  float y[2];
  int16_t q[2];
  const ptq_group_params p = dt.family->fit(&dt, zeros, 2, 1);
  dt.family->round(&dt, later, 2, &p, 0, y, q);
  for (int i = 0; i < 2; i++) assert_true(y[i] == 0.0F && q[i] == 0);
}

static void the_maximum_is_always_clipped(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("mxint3");
  const float x[] = {1.99F, -1.99F, 30.0F, -1e30F};
  float y[4];
  const ptq_group_params p = dt.family->fit(&dt, x, 2, 1);
  dt.family->round(&dt, x, 4, &p, 0, y, NULL);
  for (int i = 0; i < 4; i++) assert_true(y[i] == (i % 2 ? -1.5F : 1.5F));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_step_is_a_power_of_two_below_the_maximum),
      cmocka_unit_test(two_bits_are_ternary),
      cmocka_unit_test(a_value_next_to_a_tie_is_rounded_twice),
      cmocka_unit_test(zeros_have_code_zero_whatever_reaches_them),
      cmocka_unit_test(the_maximum_is_always_clipped),
  };
  return cmocka_run_group_tests_name("num/dtype_mxint", tests, NULL, NULL);
}
