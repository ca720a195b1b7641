/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ptq/base/rng.h"

/* SplitMix64 of seed 0 starts with these four words (Vigna's reference), so
 * the first output of xoshiro256** is rotl(s[1] * 5, 7) * 9. */
static void the_stream_is_the_published_one(void **state) {
  (void)state;
  ptq_rng r;
  ptq_rng_init(&r, 0);
  assert_true(r.s[0] == UINT64_C(0xe220a8397b1dcdaf));
  assert_true(r.s[1] == UINT64_C(0x6e789e6aa1b965f4));
  assert_true(r.s[2] == UINT64_C(0x06c45d188009454f));
  assert_true(r.s[3] == UINT64_C(0xf88bb8a8724c81ec));
  assert_true(ptq_rng_u64(&r) == UINT64_C(0x99ec5f36cb75f2b4));
}

static void draws_below_stay_below_and_reach_all(void **state) {
  (void)state;
  ptq_rng r;
  int seen[7] = {0};
  ptq_rng_init(&r, 42);
  for (int i = 0; i < 7000; i++) {
    const uint64_t v = ptq_rng_below(&r, 7);
    assert_true(v < 7);
    seen[v]++;
  }
  for (int i = 0; i < 7; i++) assert_in_range(seen[i], 850, 1150);
  assert_int_equal(ptq_rng_below(&r, 1), 0);
}

static void unit_draws_have_the_right_mean(void **state) {
  (void)state;
  ptq_rng r;
  double sum = 0.0;
  ptq_rng_init(&r, 7);
  for (int i = 0; i < 100000; i++) {
    const double v = ptq_rng_unit(&r);
    assert_true(v >= 0.0 && v < 1.0);
    sum += v;
  }
  /* Standard error of the mean: 0.2887 / sqrt(1e5) = 9.1e-4; five of them. */
  assert_true(sum / 1e5 > 0.4954 && sum / 1e5 < 0.5046);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_stream_is_the_published_one),
      cmocka_unit_test(draws_below_stay_below_and_reach_all),
      cmocka_unit_test(unit_draws_have_the_right_mean),
  };
  return cmocka_run_group_tests_name("base/rng", tests, NULL, NULL);
}
