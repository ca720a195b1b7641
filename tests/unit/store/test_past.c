/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Attempts and deaths, across runs. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mpi.h>
#include <unistd.h>

#include "ptq/base/mem.h"
#include "store_fixture.h"

enum { N = 6 };

static fixture fx;
static char path[64];
static volatile sig_atomic_t n_caught;

static void count(int number) {
  (void)number;
  n_caught++;
}

static ptq_store *open_store(void) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  if (ptq_store_open(MPI_COMM_SELF, path, fixture_layout(&fx, N), &st, &err) !=
      PTQ_OK)
    fail_msg("%s", err.msg);
  return st;
}

static void close_store(ptq_store *st) {
  assert_int_equal(ptq_store_close(st, NULL), PTQ_OK);
}

typedef struct past {
  int state[N], subject_state[FX_SUBJECTS];
  int64_t attempts[N];
  ptq_store_past points[N], subjects[FX_SUBJECTS];
} past;

static past read_past(ptq_store *st) {
  past p;
  int64_t bad;
  assert_int_equal(
      ptq_store_states(st, p.state, p.attempts, p.subject_state, &bad, NULL),
      PTQ_OK);
  assert_int_equal(ptq_store_history(st, p.points, p.subjects, NULL), PTQ_OK);
  return p;
}

static ptq_store *reopen(ptq_store *st) {
  close_store(st);
  return open_store();
}

static int open_fresh(void **state) {
  snprintf(path, sizeof path, "past-%ld.h5", (long)getpid());
  fx = fixture_create(N);
  n_caught = 0;
  *state = NULL;
  return 0;
}

static int remove_file(void **state) {
  (void)state;
  fixture_free(&fx);
  return unlink(path);
}

static void what_was_in_flight_waits_again_and_is_not_counted(void **state) {
  (void)state;
  ptq_store *st = open_store();
  const int64_t batch[2] = {1, 4};
  assert_int_equal(ptq_store_begin(st, batch, 2, NULL), PTQ_OK);
  assert_int_equal(ptq_store_begin_subject(st, 0, NULL), PTQ_OK);
  assert_int_equal(fixture_put_point(&fx, st, 4, NULL), PTQ_OK);
  st = reopen(st);
  const past p = read_past(st);
  assert_int_equal(p.state[1], PTQ_STATE_PENDING);
  assert_int_equal(p.attempts[1], 0);
  assert_false(p.points[1].suspect);
  assert_int_equal(p.state[4], PTQ_STATE_DONE);
  assert_int_equal(p.attempts[4], 1);
  assert_int_equal(p.subject_state[0], PTQ_STATE_PENDING);
  close_store(st);
}

static void a_dropped_attempt_is_not_counted(void **state) {
  (void)state;
  ptq_store *st = open_store();
  const int64_t one = 3;
  assert_int_equal(ptq_store_begin(st, &one, 1, NULL), PTQ_OK);
  ptq_store_rest(st);
  assert_int_equal(ptq_store_drop(st, one, NULL), PTQ_OK);
  past p = read_past(st);
  assert_int_equal(p.state[3], PTQ_STATE_PENDING);
  assert_int_equal(p.attempts[3], 0);
  /* What is done stays done. */
  assert_int_equal(fixture_put_point(&fx, st, 5, NULL), PTQ_OK);
  assert_int_equal(ptq_store_drop(st, 5, NULL), PTQ_OK);
  assert_int_equal(ptq_store_drop(st, N, NULL), PTQ_E_ARG);
  p = read_past(st);
  assert_int_equal(p.state[5], PTQ_STATE_DONE);
  close_store(st);
}

static int64_t count_bad(void) {
  ptq_view *v = NULL;
  int64_t checked = 0, bad = -1;
  assert_int_equal(ptq_view_open(path, &v, NULL), PTQ_OK);
  assert_int_equal(ptq_view_verify(v, NULL, NULL, &checked, &bad, NULL),
                   PTQ_OK);
  ptq_view_close(v);
  return bad;
}

/* A failed row has a checksum; one that waits again has none. */
static void a_failed_point_that_waits_again_is_not_bad(void **state) {
  (void)state;
  ptq_store *st = open_store();
  const int64_t one = 3;
  ptq_subject_result model = {.subject = 1, .state = PTQ_STATE_FAILED};
  model.row = fx.subjects[1];
  assert_int_equal(ptq_store_mark(st, one, PTQ_STATE_FAILED, "why", NULL),
                   PTQ_OK);
  assert_int_equal(ptq_store_put_subject(st, &model, NULL), PTQ_OK);
  assert_int_equal(ptq_store_begin(st, &one, 1, NULL), PTQ_OK);
  assert_int_equal(ptq_store_drop(st, one, NULL), PTQ_OK);
  assert_int_equal(count_bad(), 0);
  /* And once more by a kill of the whole run. */
  assert_int_equal(ptq_store_mark(st, one, PTQ_STATE_FAILED, "why", NULL),
                   PTQ_OK);
  assert_int_equal(ptq_store_begin(st, &one, 1, NULL), PTQ_OK);
  assert_int_equal(ptq_store_begin_subject(st, 1, NULL), PTQ_OK);
  st = reopen(st);
  assert_int_equal(read_past(st).state[3], PTQ_STATE_PENDING);
  assert_int_equal(read_past(st).subject_state[1], PTQ_STATE_PENDING);
  assert_int_equal(count_bad(), 0);
  st = reopen(st);
  assert_int_equal(count_bad(), 0);
  close_store(st);
}

/* Each deadly signal, with a handler of others before ours: it is noted, and
 * handed on. */
static void a_deadly_signal_is_noted_and_handed_on(void **state) {
  (void)state;
  static const struct {
    int number;
    const char *name;
  } signals[] = {{SIGSEGV, "SIGSEGV"},
                 {SIGBUS, "SIGBUS"},
                 {SIGFPE, "SIGFPE"},
                 {SIGILL, "SIGILL"},
                 {SIGABRT, "SIGABRT"}};
  enum { N_SIGNALS = sizeof signals / sizeof signals[0] };
  struct sigaction own, old[N_SIGNALS];
  memset(&own, 0, sizeof own);
  own.sa_handler = count;
  sigemptyset(&own.sa_mask);
  for (int i = 0; i < N_SIGNALS; i++)
    sigaction(signals[i].number, &own, &old[i]);
  for (int i = 0; i < N_SIGNALS; i++) {
    char words[128];
    const int64_t alone = 2;
    ptq_store *st = open_store();
    assert_int_equal(ptq_store_begin(st, &alone, 1, NULL), PTQ_OK);
    raise(signals[i].number);
    assert_int_equal(n_caught, i + 1);
    assert_int_equal(ptq_store_last_words(st, alone, words, NULL), PTQ_OK);
    assert_int_equal(strncmp(words, signals[i].name, strlen(signals[i].name)),
                     0);
    st = reopen(st);
    const past p = read_past(st);
    assert_int_equal(p.points[2].deaths, i + 1);
    assert_true(p.points[2].suspect);
    assert_int_equal(p.attempts[2], i + 1); /* that one counts */
    assert_false(p.points[1].suspect);
    close_store(st);
  }
  for (int i = 0; i < N_SIGNALS; i++)
    sigaction(signals[i].number, &old[i], NULL);
}

static void a_death_in_a_batch_makes_its_points_suspect_only(void **state) {
  (void)state;
  struct sigaction own, old;
  memset(&own, 0, sizeof own);
  own.sa_handler = count;
  sigemptyset(&own.sa_mask);
  sigaction(SIGBUS, &own, &old);
  ptq_store *st = open_store();
  const int64_t batch[3] = {0, 2, 5};
  assert_int_equal(ptq_store_begin(st, batch, 3, NULL), PTQ_OK);
  assert_int_equal(fixture_put_point(&fx, st, 2, NULL), PTQ_OK);
  raise(SIGBUS);
  st = reopen(st);
  past p = read_past(st);
  for (int i = 0; i < N; i++) {
    assert_int_equal(p.points[i].deaths, 0);
    assert_int_equal(p.points[i].suspect, i == 0 || i == 5);
  }
  /* A new attempt forgets, and nothing is written when none runs. */
  assert_int_equal(ptq_store_begin(st, batch, 1, NULL), PTQ_OK);
  ptq_store_rest(st);
  raise(SIGBUS);
  st = reopen(st);
  p = read_past(st);
  assert_false(p.points[0].suspect);
  close_store(st);
  sigaction(SIGBUS, &old, NULL);
}

/* Rank 0's word for a rank that could not speak; its own words stay. */
static void a_vanished_rank_is_held_against_what_it_ran(void **state) {
  (void)state;
  ptq_store *st = open_store();
  const int64_t alone = 1;
  assert_int_equal(ptq_store_begin(st, &alone, 1, NULL), PTQ_OK);
  assert_int_equal(ptq_store_died(st, alone, 1, "rank 3 died", NULL), PTQ_OK);
  assert_int_equal(ptq_store_begin_subject(st, 1, NULL), PTQ_OK);
  assert_int_equal(ptq_store_died_subject(st, 1, 1, "rank 3 died", NULL),
                   PTQ_OK);
  st = reopen(st);
  char words[128];
  past p = read_past(st);
  assert_int_equal(p.points[1].deaths, 1);
  assert_int_equal(p.subjects[1].deaths, 1);
  assert_true(p.points[1].suspect);
  assert_int_equal(ptq_store_last_words(st, alone, words, NULL), PTQ_OK);
  assert_string_equal(words, ""); /* it left none */
  assert_int_equal(ptq_store_forgive(st, alone, NULL), PTQ_OK);
  assert_int_equal(ptq_store_forgive_subject(st, 1, NULL), PTQ_OK);
  p = read_past(st);
  assert_int_equal(p.points[1].deaths, 0);
  assert_int_equal(p.subjects[1].deaths, 0);
  close_store(st);
}

#define CASE(name) \
  cmocka_unit_test_setup_teardown(name, open_fresh, remove_file)

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      CASE(what_was_in_flight_waits_again_and_is_not_counted),
      CASE(a_dropped_attempt_is_not_counted),
      CASE(a_failed_point_that_waits_again_is_not_bad),
      CASE(a_deadly_signal_is_noted_and_handed_on),
      CASE(a_death_in_a_batch_makes_its_points_suspect_only),
      CASE(a_vanished_rank_is_held_against_what_it_ran),
  };
  MPI_Init(&argc, &argv);
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  ptq_store_shutdown();
  MPI_Finalize();
  return failed;
}
