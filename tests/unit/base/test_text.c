/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/base/text.h"

static void a_text_grows_as_it_is_added_to(void **state) {
  (void)state;
  ptq_text t = {0};
  assert_string_equal(ptq_text_str(&t), "");
  for (int i = 0; i < 1000; i++) ptq_text_addf(&t, "%03d,", i);
  assert_int_equal(t.rc, PTQ_OK);
  assert_int_equal(t.len, 4000);
  assert_memory_equal(t.buf + 3996, "999,", 5);
  ptq_text_release(&t);
  assert_null(t.buf);
}

static void a_number_keeps_to_its_column(void **state) {
  (void)state;
  static const struct {
    double v;
    const char *want;
  } rows[] = {{1.25, "  1.2500"},      {-0.00004, " -0.0000"},
              {999.99996, "   1e+03"}, {282.0, "282.0000"},
              {2.82e32, "2.82e+32"},   {-1234567.0, "-1.23e+06"},
              {NAN, "     nan"},       {INFINITY, "     inf"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    ptq_text t = {0};
    ptq_text_column(&t, 8, 4, rows[i].v);
    assert_string_equal(ptq_text_str(&t), rows[i].want);
    ptq_text_release(&t);
  }
}

static void a_field_is_padded_and_says_when_it_is_cut(void **state) {
  (void)state;
  char field[8];
  memset(field, 'z', sizeof field);
  assert_true(ptq_text_copy(field, sizeof field, "ab"));
  assert_memory_equal(field, "ab\0\0\0\0\0\0", 8);
  assert_true(ptq_text_copy(field, sizeof field, "1234567"));
  assert_false(ptq_text_copy(field, sizeof field, "12345678"));
  assert_string_equal(field, "1234567");
}

static void the_nearest_name_is_suggested_and_nothing_far(void **state) {
  (void)state;
  const char *const names[] = {"dtype", "method", "group"};
  assert_string_equal(ptq_text_nearest("dtpye", names, 3), "dtype");
  assert_string_equal(ptq_text_nearest("groups", names, 3), "group");
  assert_null(ptq_text_nearest("zzzzzzzz", names, 3));
  assert_null(ptq_text_nearest("x", names, 0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_text_grows_as_it_is_added_to),
      cmocka_unit_test(a_number_keeps_to_its_column),
      cmocka_unit_test(a_field_is_padded_and_says_when_it_is_cut),
      cmocka_unit_test(the_nearest_name_is_suggested_and_nothing_far),
  };
  return cmocka_run_group_tests_name("base/text", tests, NULL, NULL);
}
