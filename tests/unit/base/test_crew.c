/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdbool.h>
#include <time.h>

#include "ptq/base/crew.h"

enum { N = 60, PLACES = 3, THREADS = 6 };

typedef struct work {
  int ran[N];
  bool hand[THREADS];
  int64_t at[PLACES][N]; /* the pieces in the order of their turns */
  int64_t n[PLACES];
  int64_t leaves_out; /* a piece that takes no turn at place 1; -1: none */
  int64_t bad_from;   /* pieces from here on fail, before place 1 */
} work;

static const work empty = {.leaves_out = -1, .bad_from = N};

/* Pieces take unequal times. */
static void dawdle(int64_t index) {
  const struct timespec t = {.tv_nsec = index % 7 == 0 ? 300000 : 10000};
  (void)nanosleep(&t, NULL);
}

static ptq_status piece(void *ctx, int hand, int64_t index, ptq_order *order,
                        ptq_err *err) {
  work *w = ctx;
  ptq_status rc = PTQ_OK;
  w->ran[index]++;
  w->hand[hand] = true;
  for (int64_t place = 0; place < PLACES; place++) {
    dawdle(index + place);
    if (place == 1 && index == w->leaves_out) continue;
    if (place == 1 && index >= w->bad_from)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "piece %d", (int)index));
    PTQ_TRY(ptq_order_wait(order, place, index, err));
    w->at[place][w->n[place]++] = index;
    ptq_order_pass(order, place, index);
  }
done:
  return rc;
}

static void pieces_take_their_turns(void **state) {
  (void)state;
  for (int threads = 1; threads <= THREADS; threads++) {
    work w = empty;
    assert_int_equal(
        ptq_crew_run_ordered(threads, 0, N, PLACES, piece, &w, NULL), PTQ_OK);
    for (int i = 0; i < N; i++) {
      assert_int_equal(w.ran[i], 1);
      for (int p = 0; p < PLACES; p++) assert_int_equal(w.at[p][i], i);
    }
    for (int h = threads; h < THREADS; h++) assert_false(w.hand[h]);
  }
}

static void ranges_begin_where_they_are_told_to(void **state) {
  (void)state;
  work w = empty;
  assert_int_equal(
      ptq_crew_run_ordered(THREADS, 5, 17, PLACES, piece, &w, NULL), PTQ_OK);
  for (int i = 0; i < N; i++) assert_int_equal(w.ran[i], i >= 5 && i < 17);
  for (int i = 0; i < 12; i++) assert_int_equal(w.at[2][i], 5 + i);
}

static void a_turn_left_out_holds_nobody_up(void **state) {
  (void)state;
  for (int64_t out = 0; out < N; out += N - 1) {
    work w = empty;
    w.leaves_out = out;
    assert_int_equal(
        ptq_crew_run_ordered(THREADS, 0, N, PLACES, piece, &w, NULL), PTQ_OK);
    assert_int_equal(w.n[1], N - 1);
    for (int i = 0; i < N - 1; i++)
      assert_int_equal(w.at[1][i], i + (i >= out));
  }
}

static void the_lowest_failure_is_told_and_ends_the_rest(void **state) {
  (void)state;
  for (int threads = 1; threads <= THREADS; threads++) {
    work w = empty;
    ptq_err err = {0};
    w.bad_from = 20;
    assert_int_equal(
        ptq_crew_run_ordered(threads, 0, N, PLACES, piece, &w, &err),
        PTQ_E_NUMERIC);
    assert_string_equal(err.msg, "piece 20");
    for (int i = 0; i < 20; i++) assert_int_equal(w.at[2][i], i);
    assert_int_equal(w.n[2], 20);
    assert_int_equal(w.ran[N - 1], 0);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(pieces_take_their_turns),
      cmocka_unit_test(ranges_begin_where_they_are_told_to),
      cmocka_unit_test(a_turn_left_out_holds_nobody_up),
      cmocka_unit_test(the_lowest_failure_is_told_and_ends_the_rest),
  };
  return cmocka_run_group_tests_name("base/crew", tests, NULL, NULL);
}
