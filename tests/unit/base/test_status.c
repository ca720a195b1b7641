/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "ptq/base/status.h"

static void every_code_has_its_own_text(void **state) {
  (void)state;
  for (int i = 0; i < PTQ_STATUS_COUNT; i++) {
    const char *text = ptq_status_str((ptq_status)i);
    assert_non_null(text);
    assert_true(strlen(text) > 0);
    for (int j = 0; j < i; j++)
      assert_string_not_equal(text, ptq_status_str((ptq_status)j));
  }
  assert_string_equal(ptq_status_str((ptq_status)-1), "unknown status");
  assert_string_equal(ptq_status_str(PTQ_STATUS_COUNT), "unknown status");
}

static void the_first_cause_wins(void **state) {
  (void)state;
  ptq_err err = {0};
  assert_int_equal(PTQ_FAIL(&err, PTQ_E_IO, "disk %d", 1), PTQ_E_IO);
  assert_int_equal(PTQ_FAIL(&err, PTQ_E_ARG, "later"), PTQ_E_ARG);
  assert_int_equal(err.code, PTQ_E_IO);
  assert_string_equal(err.msg, "disk 1");
}

static void a_long_message_is_cut_not_overrun(void **state) {
  (void)state;
  ptq_err err = {0};
  char word[1000];
  memset(word, 'x', sizeof word - 1);
  word[sizeof word - 1] = '\0';
  (void)PTQ_FAIL(&err, PTQ_E_IO, "%s", word);
  assert_int_equal(strlen(err.msg), sizeof err.msg - 1);
}

static void no_record_is_needed(void **state) {
  (void)state;
  assert_int_equal(PTQ_FAIL(NULL, PTQ_E_IO, "nobody reads this"), PTQ_E_IO);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_code_has_its_own_text),
      cmocka_unit_test(the_first_cause_wins),
      cmocka_unit_test(a_long_message_is_cut_not_overrun),
      cmocka_unit_test(no_record_is_needed),
  };
  return cmocka_run_group_tests_name("base/status", tests, NULL, NULL);
}
