/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ptq/base/rng.h"
#include "ptq/base/statistics.h"

enum { MANY = 343 };

static void assert_close(double got, double want, double relative) {
  if (!(fabs(got - want) <= relative * fabs(want)))
    fail_msg("%.12g, expected %.12g", got, want);
}

/*
 * With equal weights the resampled ratio is the mean of n / b independent
 * block means (b divides n), so its standard deviation is exactly the
 * population standard deviation of the n - b + 1 block means over
 * sqrt(n / b). 1,000 resamples know it to 1 / sqrt(2000) = 2.2 %: four of
 * those.
 */
static void bootstrap_error_is_that_of_block_means(void **state) {
  (void)state;
  const int64_t block = 7; /* ceil(343^(1/3)) */
  double x[MANY], w[MANY], smooth = 0.0;
  ptq_rng rng;
  ptq_rng_init(&rng, 3);
  for (int i = 0; i < MANY; i++) {
    smooth = 0.8 * smooth + ptq_rng_unit(&rng) - 0.5; /* correlated */
    x[i] = 255.0 * (0.01 + smooth);
    w[i] = 255.0;
  }
  const int64_t n_blocks = MANY - block + 1;
  double sum = 0.0, sum_sq = 0.0;
  for (int64_t s = 0; s < n_blocks; s++) {
    double mean = 0.0;
    for (int64_t i = s; i < s + block; i++)
      mean += x[i] / 255.0 / (double)block;
    sum += mean;
    sum_sq += mean * mean;
  }
  const double mean = sum / (double)n_blocks;
  const double var = sum_sq / (double)n_blocks - mean * mean;
  const double want = sqrt(var / ((double)MANY / (double)block));
  assert_close(ptq_block_bootstrap_se(x, w, MANY, 1), want, 0.09);
  /* and correlation makes it larger than independent windows would */
  assert_true(want > 1.5 * ptq_window_se(x, w, MANY));
}

static void bootstrap_repeats_with_its_seed(void **state) {
  (void)state;
  const double x[5] = {1.0, 4.0, 2.0, 8.0, 5.0}, w[5] = {2, 1, 2, 1, 2};
  const double a = ptq_block_bootstrap_se(x, w, 5, 11);
  assert_true(a > 0.0);
  assert_true(a == ptq_block_bootstrap_se(x, w, 5, 11));
  assert_true(a != ptq_block_bootstrap_se(x, w, 5, 12));
}

/* A constant ratio has no error, whatever the weights. */
static void bootstrap_is_of_the_ratio(void **state) {
  (void)state;
  const double w[5] = {200, 100, 400, 300, 500};
  const double x[5] = {50, 25, 100, 75, 125};
  assert_true(ptq_block_bootstrap_se(x, w, 5, 1) == 0.0);
}

static void errors_need_two_finite_windows(void **state) {
  (void)state;
  const double x[3] = {1.0, INFINITY, 2.0}, w[3] = {1.0, 1.0, 1.0};
  assert_true(isnan(ptq_block_bootstrap_se(x, w, 1, 1)));
  assert_true(isnan(ptq_block_bootstrap_se(x, w, 3, 1)));
  assert_true(isnan(ptq_window_se(x, w, 1)));
  assert_true(isnan(ptq_window_se(x, w, 0)));
}

/* numpy: r = x / w; r.std(ddof=1) / 2.0 */
static void window_error_is_that_of_window_means(void **state) {
  (void)state;
  const double x[4] = {2.0, 9.0, 4.0, 14.0}, w[4] = {2.0, 3.0, 4.0, 2.0};
  assert_close(ptq_window_se(x, w, 4), sqrt(8.0) / 2.0, 1e-15);
}

/* numpy 2.4.6: numpy.quantile of the same eight values in float64. */
static void quantiles_interpolate_as_numpy_does(void **state) {
  (void)state;
  static const struct {
    double p, want;
  } cases[] = {{0.0, -2.5},  {0.25, 0.875},   {0.5, 2.25},
               {0.9, 7.675}, {0.99, 10.6675}, {1.0, 11.0}};
  for (int i = 0; i < 6; i++) {
    float x[8] = {4.0F, -2.5F, 11.0F, 1.5F, 0.5F, 3.0F, 1.0F, 6.25F};
    assert_close(ptq_quantile(x, 8, cases[i].p), cases[i].want, 1e-15);
  }
}

static void quantiles_of_nothing_or_nan_are_nan(void **state) {
  (void)state;
  float one[1] = {3.5F}, bad[3] = {1.0F, NAN, 2.0F};
  float infinite[2] = {1.0F, INFINITY};
  assert_true(isnan(ptq_quantile(one, 0, 0.5)));
  assert_true(ptq_quantile(one, 1, 0.99) == 3.5);
  assert_true(isnan(ptq_quantile(bad, 3, 0.5)));
  assert_true(ptq_quantile(infinite, 2, 0.0) == 1.0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bootstrap_error_is_that_of_block_means),
      cmocka_unit_test(bootstrap_repeats_with_its_seed),
      cmocka_unit_test(bootstrap_is_of_the_ratio),
      cmocka_unit_test(errors_need_two_finite_windows),
      cmocka_unit_test(window_error_is_that_of_window_means),
      cmocka_unit_test(quantiles_interpolate_as_numpy_does),
      cmocka_unit_test(quantiles_of_nothing_or_nan_are_nan),
  };
  return cmocka_run_group_tests_name("base/statistics", tests, NULL, NULL);
}
