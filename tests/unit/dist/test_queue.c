/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue.h"

static void add(ptq_queue *q, int64_t subject, double seconds) {
  const ptq_task task = {.subject = subject, .seconds = seconds};
  assert_int_equal(ptq_queue_add(q, &task, NULL), PTQ_OK);
}

static int64_t take(ptq_queue *q, double budget_s) {
  ptq_task task;
  return ptq_queue_take(q, budget_s, &task) ? task.subject : -1;
}

static void tasks_leave_longest_first_and_equals_in_order(void **state) {
  (void)state;
  ptq_queue q;
  assert_int_equal(ptq_queue_init(&q, 2, NULL), PTQ_OK); /* it grows */
  add(&q, 0, 3.0);
  add(&q, 1, 5.0);
  add(&q, 2, 3.0);
  add(&q, 3, 9.0);
  add(&q, 4, 1.0);
  assert_true(fabs(q.seconds_waiting - 21.0) < 1e-12);
  assert_int_equal(take(&q, INFINITY), 3);
  assert_int_equal(take(&q, INFINITY), 1);
  assert_int_equal(take(&q, INFINITY), 0);
  assert_int_equal(take(&q, INFINITY), 2);
  assert_int_equal(take(&q, INFINITY), 4);
  assert_int_equal(take(&q, INFINITY), -1);
  assert_int_equal(q.n_waiting, 0);
  ptq_queue_release(&q);
}

static void the_largest_that_fits_leaves(void **state) {
  (void)state;
  ptq_queue q;
  assert_int_equal(ptq_queue_init(&q, 8, NULL), PTQ_OK);
  for (int64_t i = 0; i < 8; i++) add(&q, i, (double)(8 - i));
  assert_int_equal(take(&q, 5.5), 3); /* 5 s */
  assert_int_equal(take(&q, 5.5), 4);
  assert_int_equal(take(&q, 5.0), 5);
  assert_int_equal(take(&q, 0.5), -1);
  assert_true(ptq_queue_shortest(&q) == 1.0);
  assert_int_equal(take(&q, INFINITY), 0); /* the long ones still wait */
  assert_int_equal(take(&q, 1.0), 7);
  assert_true(ptq_queue_shortest(&q) == 2.0);
  assert_int_equal(q.n_waiting, 3);
  ptq_queue_release(&q);
}

/* A retry that is longer than all that waits goes to the front, even among
 * places whose tasks have left. */
static void added_later_they_find_their_place(void **state) {
  (void)state;
  ptq_queue q;
  assert_int_equal(ptq_queue_init(&q, 4, NULL), PTQ_OK);
  for (int64_t i = 0; i < 4; i++) add(&q, i, (double)(4 - i));
  assert_int_equal(take(&q, INFINITY), 0);
  assert_int_equal(take(&q, 2.0), 2);
  add(&q, 10, 4.0);
  add(&q, 11, 1.5);
  assert_int_equal(take(&q, INFINITY), 10);
  assert_int_equal(take(&q, INFINITY), 1);
  assert_int_equal(take(&q, INFINITY), 11);
  assert_int_equal(take(&q, INFINITY), 3);
  assert_int_equal(take(&q, INFINITY), -1);
  ptq_queue_release(&q);
}

static void add_of(ptq_queue *q, ptq_turn turn, int64_t subject,
                   double seconds) {
  const ptq_task task = {.subject = subject, .seconds = seconds, .turn = turn};
  assert_int_equal(ptq_queue_add(q, &task, NULL), PTQ_OK);
}

/* However short; also when it is tried again behind others, and unless it does
 * not fit. */
static void an_earlier_turn_goes_first(void **state) {
  (void)state;
  ptq_queue q;
  assert_int_equal(ptq_queue_init(&q, 2, NULL), PTQ_OK);
  add_of(&q, PTQ_TURN_LATE, 20, 30.0);
  add_of(&q, PTQ_TURN_MAIN, 10, 9.0);
  add_of(&q, PTQ_TURN_BASELINE, 1, 1.0);
  add_of(&q, PTQ_TURN_MAIN, 12, 7.0);
  add_of(&q, PTQ_TURN_BASELINE, 3, 2.0);
  add_of(&q, PTQ_TURN_LATE, 21, 0.5);
  assert_true(ptq_queue_shortest(&q) == 0.5);
  assert_int_equal(take(&q, INFINITY), 3);
  assert_int_equal(take(&q, INFINITY), 1);
  assert_int_equal(take(&q, 1.0), 21);
  assert_true(ptq_queue_shortest(&q) == 7.0);
  assert_int_equal(take(&q, INFINITY), 10);
  add_of(&q, PTQ_TURN_BASELINE, 3, 2.0);
  add_of(&q, PTQ_TURN_MAIN, 13, 1.5);
  assert_int_equal(take(&q, 1.75), 13);
  assert_true(ptq_queue_shortest(&q) == 2.0);
  assert_int_equal(take(&q, INFINITY), 3);
  assert_int_equal(take(&q, 6.0), -1);
  assert_int_equal(take(&q, INFINITY), 12);
  assert_true(ptq_queue_shortest(&q) == 30.0);
  assert_int_equal(take(&q, INFINITY), 20);
  assert_int_equal(take(&q, INFINITY), -1);
  assert_int_equal(q.n_waiting, 0);
  ptq_queue_release(&q);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tasks_leave_longest_first_and_equals_in_order),
      cmocka_unit_test(the_largest_that_fits_leaves),
      cmocka_unit_test(added_later_they_find_their_place),
      cmocka_unit_test(an_earlier_turn_goes_first),
  };
  return cmocka_run_group_tests_name("dist/queue", tests, NULL, NULL);
}
