/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 2
 *
 * How long a rank may be silent, and how it comes and goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mpi.h>

#include "roster.h"

static int open_roster(void **state) {
  static ptq_roster r;
  static ptq_peer peers[2];
  ptq_peer_self(&peers[0]);
  peers[1] = peers[0];
  const ptq_dist_options options = {
      .heartbeat_s = 2.0, .silence_factor = 10.0, .silence_min_s = 30.0};
  if (ptq_roster_init(&r, MPI_COMM_WORLD, peers, &options, 100.0, NULL) !=
      PTQ_OK)
    return -1;
  *state = &r;
  return 0;
}

static int close_roster(void **state) {
  ptq_roster_release(*state);
  return 0;
}

/** A rank that works, without sending anything. */
static void pretend_busy(ptq_roster *r, double predicted_s) {
  ptq_rank *it = &r->ranks[1];
  it->state = PTQ_RANK_BUSY;
  it->has_task = true;
  it->task = (ptq_task){.seconds = predicted_s};
  it->task_id = 5;
  r->n_busy = 1;
}

static void an_idle_rank_is_held_to_its_heartbeat(void **state) {
  ptq_roster *r = *state;
  r->ranks[1].state = PTQ_RANK_IDLE;
  assert_true(ptq_roster_limit(r, 1, 1.0) == 30.0);
  r->heartbeat_s = 5.0;
  assert_true(ptq_roster_limit(r, 1, 1.0) == 50.0);
}

static void a_busy_rank_is_held_to_the_rhythm_of_its_task(void **state) {
  ptq_roster *r = *state;
  pretend_busy(r, 600.0);
  /* Nothing known: it may be silent until the end. */
  assert_true(ptq_roster_limit(r, 1, 1.0) == 6000.0);
  assert_true(ptq_roster_limit(r, 1, 0.5) == 3000.0);
  ptq_roster_learn(r, 0.1, 0.1); /* too short to tell */
  assert_true(ptq_roster_limit(r, 1, 1.0) == 6000.0);
  ptq_roster_learn(r, 100.0, 5.0);
  ptq_roster_learn(r, 100.0, 2.0); /* the largest share counts */
  assert_true(ptq_roster_limit(r, 1, 1.0) == 300.0);
  /* It has been seen to be slower than that. */
  assert_false(ptq_roster_heard(r, 1, 5, 145.0));
  assert_true(ptq_roster_limit(r, 1, 1.0) == 450.0);
}

static void a_lost_rank_that_speaks_is_back_without_its_task(void **state) {
  ptq_roster *r = *state;
  pretend_busy(r, 1.0);
  ptq_roster_lose(r, 1);
  ptq_roster_lose(r, 1); /* once is enough */
  assert_int_equal(r->n_live, 0);
  assert_int_equal(r->n_busy, 0);
  assert_true(ptq_roster_heard(r, 1, 5, 200.0));
  assert_int_equal(r->n_live, 1);
  assert_int_equal(r->n_busy, 1);
  assert_false(r->ranks[1].has_task);
  ptq_roster_idle(r, 1);
  assert_int_equal(r->n_busy, 0);
  ptq_roster_lose(r, 1);
  assert_true(ptq_roster_heard(r, 1, 0, 300.0));
  assert_int_equal(r->ranks[1].state, PTQ_RANK_IDLE);
}

static void a_dead_rank_gets_no_work_whatever_it_had_said(void **state) {
  ptq_roster *r = *state;
  assert_true(r->ranks[1].watchable); /* before it says anything */
  r->ranks[1].state = PTQ_RANK_IDLE;
  assert_true(ptq_roster_is_free(r, 1));
  r->ranks[1].gone = true;
  assert_false(ptq_roster_is_free(r, 1));
}

/* More points than there is memory for their message. */
static void a_task_that_was_not_sent_keeps_nobody_busy(void **state) {
  ptq_roster *r = *state;
  const ptq_task task = {.n = (int64_t)1 << 58, .seconds = 1.0};
  ptq_err err = {0};
  r->ranks[1].state = PTQ_RANK_IDLE;
  assert_int_equal(ptq_roster_give(r, 1, &task, NULL, 100.0, &err),
                   PTQ_E_NOMEM);
  assert_int_equal(r->ranks[1].state, PTQ_RANK_IDLE);
  assert_int_equal(r->n_busy, 0);
  assert_false(r->ranks[1].has_task);
}

static void a_suspended_coordinator_blames_nobody(void **state) {
  ptq_roster *r = *state;
  ptq_roster_excuse(r, 3600.0);
  assert_true(r->ranks[1].heard_s == 3700.0);
}

int main(int argc, char **argv) {
#define WITH_ROSTER(name) \
  cmocka_unit_test_setup_teardown(name, open_roster, close_roster)
  const struct CMUnitTest tests[] = {
      WITH_ROSTER(an_idle_rank_is_held_to_its_heartbeat),
      WITH_ROSTER(a_busy_rank_is_held_to_the_rhythm_of_its_task),
      WITH_ROSTER(a_lost_rank_that_speaks_is_back_without_its_task),
      WITH_ROSTER(a_dead_rank_gets_no_work_whatever_it_had_said),
      WITH_ROSTER(a_task_that_was_not_sent_keeps_nobody_busy),
      WITH_ROSTER(a_suspended_coordinator_blames_nobody),
  };
  MPI_Init(&argc, &argv);
  const int failed =
      cmocka_run_group_tests_name("dist/roster", tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
