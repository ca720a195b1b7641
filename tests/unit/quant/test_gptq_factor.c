/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "gptq_factor.h"
#include "layer.h"

/* u' u times the damped moment, in the factor's order, is the identity. */
static void the_factor_inverts_the_damped_moment(void **state) {
  (void)state;
  enum { N = 60 };
  layer l = layer_random(1, N, 1);
  for (int act_order = 0; act_order < 2; act_order++) {
    ptq_gptq_factor *f = NULL;
    assert_int_equal(
        ptq_gptq_factor_create(l.h, N, 0.1, act_order != 0, 2, &f, NULL),
        PTQ_OK);
    double mean = 0.0, unit = 0.0;
    for (int i = 0; i < N; i++) mean += l.h[i * N + i] / N;
    for (int i = 0; i < N; i++)
      for (int j = 0; j < N; j++) {
        double sum = 0.0;
        for (int k = 0; k < N; k++) {
          const int64_t a = f->order != NULL ? f->order[k] : k;
          const int64_t b = f->order != NULL ? f->order[j] : j;
          const double h = l.h[a * N + b] + (a == b ? 0.1 * mean : 0.0);
          for (int m = 0; m <= i && m <= k; m++)
            sum += f->u[m * N + i] * f->u[m * N + k] * h;
        }
        if (i == 0 && j == 0) unit = sum; /* a power of two */
        assert_true(fabs(sum / unit - (i == j ? 1.0 : 0.0)) < 1e-11);
      }
    assert_true(f->coupled);
    assert_true(f->damp == 0.1);
    ptq_gptq_factor_free(f);
  }
  layer_release(&l);
}

static void columns_go_by_descending_diagonal_then_index(void **state) {
  (void)state;
  double h[25] = {0};
  const double diagonal[5] = {2.0, 5.0, 2.0, 0.0, 5.0}; /* dead counts as 1 */
  const int64_t expected[5] = {1, 4, 0, 2, 3};
  for (int i = 0; i < 5; i++) h[6 * i] = diagonal[i];
  ptq_gptq_factor *f = NULL;
  assert_int_equal(ptq_gptq_factor_create(h, 5, 0.0, true, 1, &f, NULL),
                   PTQ_OK);
  for (int i = 0; i < 5; i++) assert_int_equal(f->order[i], expected[i]);
  for (int i = 0; i < 5; i++) assert_int_equal(f->dead[i], i == 3);
  assert_false(f->coupled);
  ptq_gptq_factor_free(f);
}

static void damping_grows_until_it_helps_and_is_reported(void **state) {
  (void)state;
  /* eigenvalues 1 + c and 1 - c, mean diagonal 1 */
  static const struct {
    double off, damp, used;
  } cases[] = {{0.5, 0.01, 0.01},
               {1.05, 0.01, 0.1},
               {1.5, 0.01, 1.0},
               {1.0005, 0.0, 1e-3},
               {1.7, 0.3, 1.0}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const double c = cases[i].off, h[4] = {1.0, c, c, 1.0};
    ptq_gptq_factor *f = NULL;
    assert_int_equal(
        ptq_gptq_factor_create(h, 2, cases[i].damp, false, 1, &f, NULL),
        PTQ_OK);
    if (fabs(f->damp - cases[i].used) > 1e-12)
      fail_msg("case %d: damped by %g", (int)i, f->damp);
    ptq_gptq_factor_free(f);
  }
}

static void a_moment_beyond_damping_fails_by_name(void **state) {
  (void)state;
  const double h[3][4] = {
      {1.0, 2.5, 2.5, 1.0}, {1.0, NAN, NAN, 1.0}, {1.0, 0.0, 0.0, INFINITY}};
  for (int i = 0; i < 3; i++) {
    ptq_gptq_factor *f = NULL;
    ptq_err err = {0};
    assert_int_equal(ptq_gptq_factor_create(h[i], 2, 0.01, false, 1, &f, &err),
                     PTQ_E_NUMERIC);
    assert_non_null(strstr(err.msg, "second moment of 2 inputs"));
    assert_null(f);
  }
}

static void a_cache_gives_the_same_codes_and_forgets_when_told(void **state) {
  (void)state;
  layer l = layer_random(20, 64, 2);
  layer_quantize(&l, "gptq", "", "int4", 32);
  layer_keep(&l);
  assert_int_equal(ptq_factor_cache_create(&l.cache, NULL), PTQ_OK);
  const ptq_gptq_factor *first, *again, *other;
  for (int i = 0; i < 2; i++) {
    layer_quantize(&l, "gptq", "", "int4", 32);
    assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
    layer_quantize(&l, "gptq", "damp=0.5", "int4", 32);
    assert_memory_not_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
  }
  assert_int_equal(
      ptq_factor_cache_get(l.cache, 0, l.h, 64, 0.01, false, 1, &first, NULL),
      PTQ_OK);
  assert_int_equal(
      ptq_factor_cache_get(l.cache, 0, l.h, 64, 0.01, false, 1, &again, NULL),
      PTQ_OK);
  assert_ptr_equal(first, again);
  assert_int_equal(
      ptq_factor_cache_get(l.cache, 0, l.h, 64, 0.01, true, 1, &other, NULL),
      PTQ_OK);
  assert_ptr_not_equal(first, other);
  assert_int_equal(
      ptq_factor_cache_get(l.cache, 1, l.h, 64, 0.01, false, 1, &other, NULL),
      PTQ_OK);
  assert_ptr_not_equal(first, other);
  /* another H behind the site, allowed once everything is forgotten */
  ptq_factor_cache_reset(l.cache);
  for (int64_t i = 0; i < 64; i++) l.h[i * 65] *= 3.0;
  layer_quantize(&l, "gptq", "", "int4", 32);
  assert_memory_not_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
  ptq_factor_cache_free(l.cache);
  ptq_factor_cache_free(NULL);
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_factor_inverts_the_damped_moment),
      cmocka_unit_test(columns_go_by_descending_diagonal_then_index),
      cmocka_unit_test(damping_grows_until_it_helps_and_is_reported),
      cmocka_unit_test(a_moment_beyond_damping_fails_by_name),
      cmocka_unit_test(a_cache_gives_the_same_codes_and_forgets_when_told),
  };
  return cmocka_run_group_tests_name("quant/gptq_factor", tests, layer_set_up,
                                     NULL);
}
