/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The coordinator's books, task by task. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "board.h"
#include "fake.h"

static const ptq_dist_options two_deaths = {.max_attempts = 2};

typedef struct books {
  fake f;
  ptq_dist_ops ops;
  ptq_board b;
} books;

/* Two batches of three points (rows 5 4 3 and 2 1 0) and a subject's own
 * item (subject 2). */
static int open_books(void **state) {
  static books k;
  ptq_err err = {0};
  if (fake_init(&k.f, 2, 3, 1, 3.0, &err) != PTQ_OK) return -1;
  k.ops = fake_ops(&k.f);
  if (ptq_board_init(&k.b, &k.f.plan, &k.ops, &two_deaths, &err) != PTQ_OK)
    return -1;
  *state = &k;
  return 0;
}

static int close_books(void **state) {
  books *k = *state;
  ptq_board_release(&k->b);
  fake_release(&k->f);
  return 0;
}

static ptq_task next(books *k) {
  ptq_task task;
  assert_true(ptq_board_next(&k->b, INFINITY, &task));
  return task;
}

static void finish(books *k, const ptq_task *task) {
  const ptq_task_end end = {.seconds = 1.0};
  for (int64_t i = 0; i < task->n; i++)
    ptq_board_point(&k->b, task->first + i, PTQ_STATE_DONE);
  ptq_board_end(&k->b, task, &end);
}

static void a_vanished_batch_waits_again_singly_without_what_is_finished(
    void **state) {
  books *k = *state;
  const ptq_task batch = next(k);
  ptq_board_point(&k->b, 1, PTQ_STATE_DONE);
  ptq_board_vanished(&k->b, &batch, "rank 1 died");
  assert_int_equal(k->b.queue.n_waiting, 2 + 2);
  const ptq_task first = next(k), second = next(k);
  assert_int_equal(first.n, 1);
  assert_int_equal(second.n, 1);
  assert_int_equal(first.first, 0);
  assert_int_equal(second.first, 2);
  assert_int_equal(first.deaths, 0); /* not held against it */
  assert_true(first.seconds == batch.seconds);
}

static void only_deaths_alone_are_held_against_a_point(void **state) {
  books *k = *state;
  const ptq_task batch = next(k);
  ptq_board_vanished(&k->b, &batch, "rank 1 died");
  ptq_task alone = next(k);
  ptq_board_vanished(&k->b, &alone, "rank 2 died");
  assert_int_equal(k->b.points_failed, 0);
  do { /* it waits behind its equals */
    alone = next(k);
  } while (alone.deaths == 0);
  ptq_board_vanished(&k->b, &alone, "rank 3 died");
  assert_int_equal(k->b.points_failed, 1);
  assert_int_equal(k->f.given_up[k->f.plan.order[alone.first]], 1);
  assert_non_null(strstr(k->f.why, "vanished 2 times"));
  assert_non_null(strstr(k->f.why, "rank 3 died"));
}

static void a_subject_s_item_is_given_up_too(void **state) {
  books *k = *state;
  ptq_task own;
  do own = next(k);
  while (own.n > 0);
  ptq_board_vanished(&k->b, &own, "rank 1 died");
  own = next(k);
  assert_int_equal(own.n, 0);
  assert_int_equal(own.deaths, 1);
  ptq_board_vanished(&k->b, &own, "rank 1 died");
  assert_int_equal(k->f.subjects_given_up, 1);
  assert_int_equal(k->b.subjects_failed, 1);
}

/* A rank thought lost finishes its batch: the retries have nothing to do. */
static void late_results_count_and_spare_the_retry(void **state) {
  books *k = *state;
  const ptq_task batch = next(k), other = next(k), own = next(k);
  ptq_board_vanished(&k->b, &batch, "rank 1 is silent");
  finish(k, &other);
  finish(k, &own);
  for (int64_t i = 0; i < 3; i++)
    ptq_board_point(&k->b, batch.first + i, PTQ_STATE_DONE);
  ptq_task task;
  assert_false(ptq_board_next(&k->b, INFINITY, &task));
  ptq_dist_summary sum = {0};
  ptq_board_summary(&k->b, &sum);
  assert_int_equal(sum.points_done, 6);
  assert_false(sum.stopped);
}

static void repeated_and_impossible_reports_are_ignored(void **state) {
  books *k = *state;
  ptq_board_point(&k->b, 4, PTQ_STATE_DONE);
  ptq_board_point(&k->b, 4, PTQ_STATE_FAILED);
  ptq_board_point(&k->b, -1, PTQ_STATE_DONE);
  ptq_board_point(&k->b, 6, PTQ_STATE_DONE);
  assert_int_equal(k->b.points_done, 1);
  assert_int_equal(k->b.points_failed, 0);
}

static void a_point_that_work_forgot_is_failed(void **state) {
  books *k = *state;
  const ptq_task batch = next(k);
  const ptq_task_end end = {.seconds = 1.0};
  ptq_board_point(&k->b, batch.first, PTQ_STATE_DONE);
  ptq_board_end(&k->b, &batch, &end);
  assert_int_equal(k->b.points_failed, 2);
  assert_non_null(strstr(k->f.why, "without a result"));
}

static void a_failed_sink_ends_the_run_but_fails_no_point(void **state) {
  books *k = *state;
  const ptq_task batch = next(k);
  const ptq_task_end end = {.status = PTQ_E_IO,
                            .sink_failed = true,
                            .text = "store 'x.h5': no space left"};
  ptq_board_end(&k->b, &batch, &end);
  assert_int_equal(k->b.fatal.code, PTQ_E_IO);
  assert_string_equal(k->b.fatal.msg, "store 'x.h5': no space left");
  assert_int_equal(k->b.points_failed, 0);
}

static void a_dropped_task_leaves_the_run_stopped(void **state) {
  books *k = *state;
  const ptq_task a = next(k), b = next(k), c = next(k);
  const ptq_task_end dropped = {.status = PTQ_E_STOPPED, .text = "stopped"};
  finish(k, &a);
  finish(k, &c);
  ptq_board_end(&k->b, &b, &dropped);
  ptq_dist_summary sum = {0};
  ptq_board_summary(&k->b, &sum);
  assert_true(sum.stopped);
  assert_int_equal(sum.points_failed, 0);
}

/* Items of 3 and 2 predicted seconds took 1 each: 0.4 of the prediction. */
static void finished_tasks_correct_the_predictions(void **state) {
  books *k = *state;
  assert_true(ptq_board_correction(&k->b) == 1.0);
  ptq_task task;
  assert_false(ptq_board_next(&k->b, 0.9, &task));
  for (int i = 0; i < 2; i++) {
    const ptq_task done = next(k);
    finish(k, &done);
  }
  assert_true(fabs(ptq_board_correction(&k->b) - 0.4) < 1e-12);
  assert_true(ptq_board_next(&k->b, 0.5, &task)); /* predicted 1 s */
}

int main(void) {
#define WITH_BOOKS(name) \
  cmocka_unit_test_setup_teardown(name, open_books, close_books)
  const struct CMUnitTest tests[] = {
      WITH_BOOKS(a_vanished_batch_waits_again_singly_without_what_is_finished),
      WITH_BOOKS(only_deaths_alone_are_held_against_a_point),
      WITH_BOOKS(a_subject_s_item_is_given_up_too),
      WITH_BOOKS(late_results_count_and_spare_the_retry),
      WITH_BOOKS(repeated_and_impossible_reports_are_ignored),
      WITH_BOOKS(a_point_that_work_forgot_is_failed),
      WITH_BOOKS(a_failed_sink_ends_the_run_but_fails_no_point),
      WITH_BOOKS(a_dropped_task_leaves_the_run_stopped),
      WITH_BOOKS(finished_tasks_correct_the_predictions),
  };
  return cmocka_run_group_tests_name("dist/board", tests, NULL, NULL);
}
