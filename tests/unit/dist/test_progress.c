/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "progress.h"

static void the_line_says_all_that_matters(void **state) {
  (void)state;
  char text[160];
  const ptq_progress_state s = {.points = 480,
                                .points_done = 117,
                                .points_failed = 3,
                                .items = 40,
                                .items_done = 9,
                                .ranks = 4,
                                .left_s = 4 * 3725.0};
  ptq_progress_text(text, sizeof text, &s, 60.0);
  assert_string_equal(text,
                      "120 of 480 points, 3 failed, 2/s, ETA 1:02:05, 4 ranks");
}

static void slow_runs_are_counted_by_the_minute_and_day(void **state) {
  (void)state;
  char text[160];
  const ptq_progress_state s = {
      .points = 10, .points_done = 1, .ranks = 1, .left_s = 200000.0};
  ptq_progress_text(text, sizeof text, &s, 120.0);
  assert_string_equal(text,
                      "1 of 10 points, 0 failed, 0.5/min, ETA 2d 7h, 1 rank");
}

static void without_points_items_are_counted(void **state) {
  (void)state;
  char text[160];
  ptq_progress_state s = {.items = 7, .items_done = 2, .items_failed = 1};
  ptq_progress_text(text, sizeof text, &s, 0.0);
  assert_string_equal(text, "2 of 7 items, 1 failed, ETA unknown, 0 ranks");
  s.points = 5;
  ptq_progress_text(text, sizeof text, &s, 0.0);
  assert_string_equal(text,
                      "0 of 5 points, 0 failed, 1 of the models' items failed, "
                      "ETA unknown, 0 ranks");
}

static void logs_get_a_line_every_ten_seconds(void **state) {
  (void)state;
  ptq_progress p;
  setenv("PTQSWEEP_TERMINAL", "0", 1);
  ptq_progress_init(&p, true, 100.0);
  assert_false(ptq_progress_due(&p, 109.9));
  assert_true(ptq_progress_due(&p, 110.0));
  setenv("PTQSWEEP_TERMINAL", "1", 1);
  ptq_progress_init(&p, true, 100.0);
  assert_true(ptq_progress_due(&p, 101.0));
  ptq_progress_init(&p, false, 100.0);
  assert_false(ptq_progress_due(&p, 1000.0));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_line_says_all_that_matters),
      cmocka_unit_test(slow_runs_are_counted_by_the_minute_and_day),
      cmocka_unit_test(without_points_items_are_counted),
      cmocka_unit_test(logs_get_a_line_every_ten_seconds),
  };
  return cmocka_run_group_tests_name("dist/progress", tests, NULL, NULL);
}
