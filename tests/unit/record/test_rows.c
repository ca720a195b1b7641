/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/record/rows.h"

/* Every byte of a row belongs to one column or is padding before an aligned
 * one, and every column is documented. */
static void every_column_lies_in_its_row_and_says_what_it_means(void **state) {
  (void)state;
  for (int id = 0; id < PTQ_TABLE_COUNT; id++) {
    const ptq_table *t = ptq_table_get((ptq_table_id)id);
    assert_non_null(t->name);
    size_t end = 0;
    for (size_t i = 0; i < t->n_fields; i++) {
      const ptq_field *f = &t->fields[i];
      if (f->offset < end || f->offset - end >= 8 ||
          f->offset + f->size > t->row_size || strlen(f->text) < 4)
        fail_msg("%s.%s: offset %zu size %zu after %zu, text '%s'", t->name,
                 f->name, f->offset, f->size, end, f->text);
      if (f->kind != PTQ_KIND_TEXT) assert_int_equal(f->size, 8);
      assert_ptr_equal(ptq_table_field(t, f->name), f);
      end = f->offset + f->size;
    }
    assert_true(t->row_size - end < 8);
  }
}

static void an_unknown_column_is_null(void **state) {
  (void)state;
  assert_null(ptq_table_field(ptq_table_get(PTQ_TABLE_POINTS), "nope"));
}

static void a_cleared_row_is_empty_nan_and_zero(void **state) {
  (void)state;
  ptq_point_row row;
  memset(&row, 0x5a, sizeof row);
  ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), &row);
  assert_string_equal(row.key, "");
  assert_int_equal(row.options[sizeof row.options - 1], 0);
  assert_int_equal(row.group, 0);
  assert_true(isnan(row.nll));
  assert_true(isnan(row.sqnr_output_prop));
}

static void states_have_names(void **state) {
  (void)state;
  assert_string_equal(ptq_state_name(PTQ_STATE_PENDING), "pending");
  assert_string_equal(ptq_state_name(PTQ_STATE_STARTED), "started");
  assert_string_equal(ptq_state_name(PTQ_STATE_DONE), "done");
  assert_string_equal(ptq_state_name(PTQ_STATE_FAILED), "failed");
  assert_string_equal(ptq_state_name(4), "unknown");
  assert_string_equal(ptq_state_name(-1), "unknown");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_column_lies_in_its_row_and_says_what_it_means),
      cmocka_unit_test(an_unknown_column_is_null),
      cmocka_unit_test(a_cleared_row_is_empty_nan_and_zero),
      cmocka_unit_test(states_have_names),
  };
  return cmocka_run_group_tests_name("record/rows", tests, NULL, NULL);
}
