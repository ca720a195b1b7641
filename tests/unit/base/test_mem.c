/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"

static void a_block_is_zero_and_aligned(void **state) {
  (void)state;
  unsigned char *p = NULL;
  for (int64_t n = 0; n < 200; n += 7) {
    assert_int_equal(ptq_alloc(&p, n, 3, "test", NULL), PTQ_OK);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    for (int64_t i = 0; i < 3 * n; i++) assert_int_equal(p[i], 0);
    ptq_free(p);
  }
}

static void an_impossible_size_is_named_not_wrapped(void **state) {
  (void)state;
  void *p = &p;
  ptq_err err = {0};
  assert_int_equal(ptq_alloc(&p, INT64_MAX, 16, "weights", &err), PTQ_E_NOMEM);
  assert_null(p);
  assert_non_null(strstr(err.msg, "weights"));
  assert_int_equal(ptq_alloc(&p, -1, 1, "weights", NULL), PTQ_E_NOMEM);
}

static void growing_keeps_the_contents_and_clears_the_tail(void **state) {
  (void)state;
  int *p = NULL;
  assert_int_equal(ptq_grow(&p, 0, 4, sizeof *p, "test", NULL), PTQ_OK);
  for (int i = 0; i < 4; i++) p[i] = i + 1;
  assert_int_equal(ptq_grow(&p, 4, 100, sizeof *p, "test", NULL), PTQ_OK);
  for (int i = 0; i < 4; i++) assert_int_equal(p[i], i + 1);
  for (int i = 4; i < 100; i++) assert_int_equal(p[i], 0);
  ptq_free(p);
}

static void the_chosen_allocation_fails_and_only_that(void **state) {
  (void)state;
  void *p = NULL;
  int failed = 0;
  for (int i = 1; i <= 40; i++) {
    const ptq_status rc = ptq_alloc(&p, 8, 1, "test", NULL);
    failed += rc == PTQ_E_NOMEM;
    ptq_free(p);
  }
  assert_int_equal(failed, 1);
}

int main(void) {
  /* The counter is read at the first allocation, so it is set before any; the
   * other tests allocate 31 times before the last one looks for it. */
  setenv("PTQ_FAIL_NTH", "40", 1);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_block_is_zero_and_aligned),
      cmocka_unit_test(an_impossible_size_is_named_not_wrapped),
      cmocka_unit_test(growing_keeps_the_contents_and_clears_the_tail),
      cmocka_unit_test(the_chosen_allocation_fails_and_only_that),
  };
  return cmocka_run_group_tests_name("base/mem", tests, NULL, NULL);
}
