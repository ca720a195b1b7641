/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

static void numbers_are_spelled_shortest_and_read_back(void **state) {
  (void)state;
  static const double values[] = {0.0, 0.1, 1.0 / 3.0, 5e-324, 128.0, 65536.0};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    ptq_method m = {.name = "gptq"};
    assert_int_equal(ptq_method_add_number(&m, "k", values[i], NULL), PTQ_OK);
    assert_true(strtod(m.options + 2, NULL) == values[i]);
  }
  ptq_method m = {.name = "gptq"};
  assert_int_equal(ptq_method_add_number(&m, "a", 0.1, NULL), PTQ_OK);
  assert_int_equal(ptq_method_add_number(&m, "b", 65536.0, NULL), PTQ_OK);
  assert_string_equal(m.options, "a=0.1,b=65536");
}

static void options_that_do_not_fit_are_refused(void **state) {
  (void)state;
  ptq_method m = {.name = "gptq"};
  ptq_err err = {0};
  int added = 0;
  while (ptq_method_add_option(&m, "key", "value", &err) == PTQ_OK) added++;
  assert_int_equal(added, 9); /* 9 texts of 9 and 8 commas in 95 */
  assert_int_equal(err.code, PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "longer than 95 characters at 'key=value'"));
}

static void bounds_are_inclusive(void **state) {
  (void)state;
  ptq_method_option o = {"k", "3"};
  int64_t i = 0;
  double d = 0.0;
  assert_int_equal(ptq_option_int(&o, 3, 5, &i, NULL), PTQ_OK);
  assert_int_equal(ptq_option_int(&o, 4, 5, &i, NULL), PTQ_E_ARG);
  assert_int_equal(i, 3);
  assert_int_equal(ptq_option_double(&o, 1.0, 3.0, &d, NULL), PTQ_OK);
  assert_int_equal(ptq_option_double(&o, 1.0, 2.9, &d, NULL), PTQ_E_ARG);
  assert_true(d == 3.0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(numbers_are_spelled_shortest_and_read_back),
      cmocka_unit_test(options_that_do_not_fit_are_refused),
      cmocka_unit_test(bounds_are_inclusive),
  };
  return cmocka_run_group_tests_name("quant/options", tests, NULL, NULL);
}
