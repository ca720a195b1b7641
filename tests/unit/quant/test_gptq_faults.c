/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every allocation of GPTQ, GPTAQ and AWQ fails once; a child a time, because
 * the count of operations is the process's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <string.h>

#include "layer.h"

enum { ALL_WELL = 0, NO_MEMORY = 1, WRONG = 2 };

static const struct {
  const char *method, *options, *dtype;
} cases[] = {{"gptq", "act_order=true", "int4"},
             {"gptq", "damp=search", "int4"},
             {"gptaq", "", "int4"},
             {"awq", "objective=site,scaling=duo", "int4:asym"}};
enum { CASES = sizeof cases / sizeof cases[0] };

/* In a child: quantize a layer whose allocations came before the count. */
static int quantize_with_fault(int k, int nth) {
  char text[16];
  snprintf(text, sizeof text, "%d", nth);
  if (setenv("PTQ_FAIL_NTH", text, 1) != 0) return WRONG;
  static float w[300 * 24], y[300 * 24];
  static int16_t q[300 * 24];
  static ptq_group_params params[300 * 2];
  static double h[24 * 24];
  for (int i = 0; i < 300 * 24; i++) w[i] = (float)(i % 37) - 18.0F;
  for (int i = 0; i < 24 * 24; i++) h[i] = i % 25 == 0 ? 1.0 : 0.5;
  static double means[24];
  for (int i = 0; i < 24; i++) means[i] = 1.0 + i;
  layer l = {
      .rows = 300,
      .cols = 24,
      .w = w,
      .y = y,
      .q = q,
      .params = params,
      .h = h,
      .mean_abs = means,
      .more = {.cross = h, .h_train = h, .h_holdout = h, .foldable = true},
      .threads = k == 0 ? 2 : 1};
  ptq_err err = {0};
  ptq_status rc = ptq_factor_cache_create(&l.cache, &err);
  if (rc == PTQ_OK)
    rc = layer_try(&l, cases[k].method, cases[k].options, cases[k].dtype, 16,
                   &err);
  ptq_factor_cache_free(l.cache);
  if (rc == PTQ_OK) return ALL_WELL;
  return rc == PTQ_E_NOMEM && strlen(err.msg) > 0 ? NO_MEMORY : WRONG;
}

static void fail_each(int k) {
  int nth = 1;
  for (int result = NO_MEMORY; result == NO_MEMORY; nth++) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) exit(quantize_with_fault(k, nth));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    result = WEXITSTATUS(status);
    if (result != NO_MEMORY && result != ALL_WELL)
      fail_msg("%s %s: failing allocation %d ends with status %d",
               cases[k].method, cases[k].options, nth, result);
    assert_true(nth < 500);
  }
  assert_true(nth > 8); /* or nothing was made to fail */
}

static void a_failing_allocation_is_reported_and_leaks_nothing(void **state) {
  (void)state;
  for (int k = 0; k < CASES; k++) fail_each(k);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_failing_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests_name("quant/gptq_faults", tests, NULL, NULL);
}
