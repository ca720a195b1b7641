/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every allocation of GPTQ fails once; a child a time, because the count of
 * operations is the process's. */
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

/* In a child: quantize a layer whose allocations came before the count. */
static int quantize_with_fault(int nth) {
  char text[16];
  snprintf(text, sizeof text, "%d", nth);
  if (setenv("PTQ_FAIL_NTH", text, 1) != 0) return WRONG;
  static float w[300 * 24], y[300 * 24];
  static int16_t q[300 * 24];
  static ptq_group_params params[300 * 2];
  static double h[24 * 24];
  for (int i = 0; i < 300 * 24; i++) w[i] = (float)(i % 37) - 18.0F;
  for (int i = 0; i < 24 * 24; i++) h[i] = i % 25 == 0 ? 1.0 : 0.5;
  layer l = {.rows = 300,
             .cols = 24,
             .w = w,
             .y = y,
             .q = q,
             .params = params,
             .h = h,
             .threads = 2};
  ptq_err err = {0};
  ptq_status rc = ptq_factor_cache_create(&l.cache, &err);
  for (int i = 0; i < 2 && rc == PTQ_OK; i++)
    rc =
        layer_try(&l, "gptq", i == 0 ? "" : "act_order=true", "int4", 16, &err);
  ptq_factor_cache_free(l.cache);
  if (rc == PTQ_OK) return ALL_WELL;
  return rc == PTQ_E_NOMEM && strlen(err.msg) > 0 ? NO_MEMORY : WRONG;
}

static void a_failing_allocation_is_reported_and_leaks_nothing(void **state) {
  (void)state;
  int nth = 1;
  for (int result = NO_MEMORY; result == NO_MEMORY; nth++) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) exit(quantize_with_fault(nth));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    result = WEXITSTATUS(status);
    if (result != NO_MEMORY && result != ALL_WELL)
      fail_msg("failing allocation %d ends with status %d", nth, result);
    assert_true(nth < 500);
  }
  assert_true(nth > 20); /* or nothing was made to fail */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_failing_allocation_is_reported_and_leaks_nothing),
  };
  return cmocka_run_group_tests_name("quant/gptq_faults", tests, NULL, NULL);
}
