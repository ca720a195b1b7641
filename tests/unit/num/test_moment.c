/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/num/moment.h"

enum { D = 45, N = 33 };

static float scratch_[D * D];

static void fill(float *x, int64_t n, uint64_t seed) {
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  for (int64_t i = 0; i < n; i++) x[i] = (float)ptq_rng_unit(&rng) - 0.5F;
}

static void windows_add_up_to_the_mean_outer_product(void **state) {
  (void)state;
  float x[3 * N * D];
  fill(x, 3 * N * D, 1);
  ptq_moment m;
  assert_int_equal(ptq_moment_init(&m, D, NULL), PTQ_OK);
  for (int w = 0; w < 3; w++) ptq_moment_add(&m, x + w * N * D, N, scratch_);
  ptq_moment_add(&m, x, 0, scratch_);
  assert_int_equal(m.n_tokens, 3 * N);
  double h[D * D];
  float f[D * D];
  ptq_moment_get(&m, h);
  ptq_moment_get_f32(&m, f);
  for (int i = 0; i < D; i++)
    for (int j = 0; j < D; j++) {
      double s = 0.0;
      for (int t = 0; t < 3 * N; t++)
        s += (double)x[t * D + i] * (double)x[t * D + j];
      /* float32 sums of N products of at most 1/4 */
      assert_true(fabs(h[i * D + j] - s / (3 * N)) <= N * 0.25 * 0x1p-24);
      assert_true(h[i * D + j] == h[j * D + i]);
      assert_true(f[i * D + j] == (float)h[i * D + j]);
    }
  ptq_moment_release(&m);
}

static void reset_forgets_everything(void **state) {
  (void)state;
  float x[N * D];
  double a[D * D], b[D * D];
  ptq_moment m;
  assert_int_equal(ptq_moment_init(&m, D, NULL), PTQ_OK);
  fill(x, N * D, 3);
  ptq_moment_add(&m, x, N, scratch_);
  ptq_moment_get(&m, a);
  fill(x, N * D, 4);
  ptq_moment_add(&m, x, N, scratch_);
  ptq_moment_reset(&m);
  assert_int_equal(m.n_tokens, 0);
  fill(x, N * D, 3);
  ptq_moment_add(&m, x, N, scratch_);
  ptq_moment_get(&m, b);
  assert_memory_equal(a, b, sizeof a);
  ptq_moment_release(&m);
  ptq_moment_release(&m); /* twice is harmless */
}

/* In place the result is the same to the bit. */
static void a_moment_can_take_the_place_of_its_sum(void **state) {
  (void)state;
  float x[N * D];
  double h[D * D];
  ptq_moment m;
  assert_int_equal(ptq_moment_init(&m, D, NULL), PTQ_OK);
  fill(x, N * D, 7);
  ptq_moment_add(&m, x, N, scratch_);
  ptq_moment_get(&m, h);
  ptq_moment_get(&m, m.sum);
  assert_memory_equal(m.sum, h, sizeof h);
  ptq_moment_release(&m);
}

/* Wider than a panel: every element is there, and no more scratch is used. */
static void wide_inputs_are_taken_in_panels(void **state) {
  (void)state;
  enum { WIDE = PTQ_MOMENT_PANEL + 37, TOKENS = 5 };
  ptq_moment m;
  float *x = NULL, *scratch = NULL;
  const int64_t room = ptq_moment_scratch(WIDE);
  assert_int_equal(room, (int64_t)PTQ_MOMENT_PANEL * WIDE);
  assert_int_equal(ptq_moment_init(&m, WIDE, NULL), PTQ_OK);
  assert_int_equal(ptq_alloc(&x, TOKENS * WIDE, sizeof *x, "x", NULL), PTQ_OK);
  assert_int_equal(ptq_alloc(&scratch, room + 1, sizeof *scratch, "s", NULL),
                   PTQ_OK);
  fill(x, TOKENS * WIDE, 8);
  scratch[room] = 1234.0F;
  ptq_moment_add(&m, x, TOKENS, scratch);
  assert_true(scratch[room] == 1234.0F);
  ptq_moment_get(&m, m.sum);
  for (int64_t i = 0; i < WIDE; i += 13)
    for (int64_t j = 0; j < WIDE; j++) {
      double s = 0.0;
      for (int64_t t = 0; t < TOKENS; t++)
        s += (double)x[t * WIDE + i] * (double)x[t * WIDE + j];
      /* float32 sums of TOKENS products of at most 1/4 */
      assert_true(fabs(m.sum[i * WIDE + j] - s / TOKENS) <=
                  TOKENS * 0.25 * 0x1p-24);
      assert_true(m.sum[i * WIDE + j] == m.sum[j * WIDE + i]);
    }
  ptq_moment_release(&m);
  ptq_free(x);
  ptq_free(scratch);
}

static void the_quadratic_form_is_the_trace(void **state) {
  (void)state;
  enum { ROWS = 6 };
  float a[ROWS * D], h[D * D], scratch[ROWS * D];
  fill(a, ROWS * D, 5);
  fill(h, D * D, 6);
  for (int i = 0; i < D; i++)
    for (int j = 0; j < i; j++) h[i * D + j] = h[j * D + i];
  double want = 0.0;
  for (int r = 0; r < ROWS; r++)
    for (int i = 0; i < D; i++)
      for (int j = 0; j < D; j++)
        want +=
            (double)a[r * D + i] * (double)h[i * D + j] * (double)a[r * D + j];
  const double got = ptq_moment_quadratic(a, ROWS, h, D, scratch);
  /* each of ROWS * D elements of A H is off by at most D / 4 roundings */
  assert_true(fabs(got - want) <= ROWS * D * 0.5 * D * D * 0.25 * 0x1p-24);
  assert_true(fabs(got - want) <= 1e-4);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(windows_add_up_to_the_mean_outer_product),
      cmocka_unit_test(reset_forgets_everything),
      cmocka_unit_test(a_moment_can_take_the_place_of_its_sum),
      cmocka_unit_test(wide_inputs_are_taken_in_panels),
      cmocka_unit_test(the_quadratic_form_is_the_trace),
  };
  return cmocka_run_group_tests_name("num/moment", tests, start, NULL);
}
