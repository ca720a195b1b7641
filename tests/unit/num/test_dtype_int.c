/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

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

/* Codes of x in float64, as the reference writes it. */
static double reference_code(double x, double scale, double zero, double top) {
  const double code = rint(x / scale) + zero;
  return code < 0.0 ? 0.0 : code > top ? top : code;
}

static void float64_is_the_references_arithmetic(void **state) {
  (void)state;
  static const char *const names[] = {"int2", "int4", "int8", "int3:asym",
                                      "int8:asym"};
  enum { N = 37 }; /* two chunks and a rest */
  ptq_rng r;
  ptq_rng_init(&r, 7);
  for (size_t d = 0; d < sizeof names / sizeof names[0]; d++) {
    const ptq_dtype dt = parsed(names[d]);
    const double top = (double)((1 << dt.bits) - 1);
    double x[N], scale[N], zero[N], y[N];
    int16_t q[N];
    for (int i = 0; i < N; i++) {
      const double lo = 0.3 - ptq_rng_unit(&r), hi = ptq_rng_unit(&r);
      const ptq_group_params64 p = dt.family->fit64(&dt, lo, hi, true);
      const bool asym = strchr(names[d], ':') != NULL;
      const double most = fmax(-lo, hi), under = fmin(lo, 0.0);
      const double width = asym ? hi - under : lo < 0.0 ? most + most : hi;
      assert_true(p.scale == width / top);
      assert_true(p.zero == (asym ? rint(-under / p.scale) : (top + 1) / 2));
      x[i] = 3.0 * ptq_rng_unit(&r) - 1.5;
      if (i % 3 == 0) x[i] = ((double)(i % 8) - 3.5) * p.scale;
      scale[i] = p.scale;
      zero[i] = p.zero;
    }
    dt.family->round64(&dt, x, N, scale, zero, y, q);
    for (int i = 0; i < N; i++) {
      const double code = reference_code(x[i], scale[i], zero[i], top);
      assert_int_equal(q[i], (int)code);
      assert_true(y[i] == scale[i] * (code - zero[i]));
    }
  }
}

static int16_t round_one64(const ptq_dtype *dt, double x,
                           ptq_group_params64 p) {
  double y;
  int16_t q;
  dt->family->round64(dt, &x, 1, &p.scale, &p.zero, &y, &q);
  return q;
}

static void the_maximum_is_a_tie_that_goes_to_even_unless_given(void **state) {
  (void)state;
  ptq_rng r;
  ptq_rng_init(&r, 5);
  for (int b = 2; b <= 8; b++) {
    const char name[] = {'i', 'n', 't', (char)('0' + b), '\0'};
    const ptq_dtype dt = parsed(name);
    int odd = 0;
    for (int i = 0; i < 2000; i++) {
      const double most = 0.1 + ptq_rng_unit(&r);
      const ptq_group_params64 given = dt.family->fit64(&dt, -most, 0.05, true);
      const ptq_group_params64 noisy =
          dt.family->fit64(&dt, -most, 0.05, false);
      assert_true(fabs(noisy.scale / given.scale - 1.0) < 0x1p-49);
      assert_int_equal(round_one64(&dt, -most, noisy), 0);
      assert_int_equal(round_one64(&dt, most, noisy), (1 << b) - 1);
      odd += round_one64(&dt, -most, given);
    }
    if (b > 2) assert_in_range(odd, 60, 800); /* a tenth or a fifth */
  }
}

static void other_groups_do_not_care_whether_they_are_given(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("int4"), asym = parsed("int4:asym");
  assert_true(dt.family->fit64(&dt, 0.1, 3.3, false).scale == 3.3 / 15.0);
  assert_true(asym.family->fit64(&asym, -3.3, 1.1, false).scale ==
              (1.1 + 3.3) / 15.0);
}

static ptq_status fit64(const ptq_dtype *dt, double lo, double hi, int64_t n,
                        int64_t row, int64_t col, ptq_group_params64 *out,
                        ptq_err *err) {
  const ptq_group64 g = {.n = n, .lo = lo, .hi = hi, .given = true};
  return ptq_dtype_fit64(dt, &g, row, col, out, err);
}

static void float64_has_the_range_of_float32(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("int4");
  ptq_group_params64 p;
  ptq_err err = {0};
  assert_int_equal(fit64(&dt, -1e38, 2e38, 32, 5, 64, &p, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "row 5, column 64 overflows as int4"));
  assert_non_null(strstr(err.msg, "32 weights range from -1e+38 to 2e+38"));
  assert_int_equal(fit64(&dt, 0.0, 0.0, 1, 0, 0, &p, NULL), PTQ_OK);
  assert_true(p.scale == 2.0 / 15.0 && p.zero == 8.0);
  /* too small for a scale in float32 */
  assert_int_equal(fit64(&dt, -1e-45, 1e-45, 1, 0, 0, &p, NULL), PTQ_OK);
  assert_true(p.scale == 2.0 / 15.0);
  assert_int_equal(round_one64(&dt, (double)NAN, p), 0);
  assert_int_equal(round_one64(&dt, (double)INFINITY, p), 15);
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
      cmocka_unit_test(float64_is_the_references_arithmetic),
      cmocka_unit_test(the_maximum_is_a_tie_that_goes_to_even_unless_given),
      cmocka_unit_test(other_groups_do_not_care_whether_they_are_given),
      cmocka_unit_test(float64_has_the_range_of_float32),
  };
  return cmocka_run_group_tests_name("num/dtype_int", tests, NULL, NULL);
}
