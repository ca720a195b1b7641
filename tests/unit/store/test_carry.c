/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What is not finished outlives an extension and a merge: failures with their
 * attempts, and the rows of profiles, also under another number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mpi.h>
#include <unistd.h>

#include "ptq/store/merge.h"
#include "source.h"
#include "store_fixture.h"

enum { N = 2, MAX_DIRECTIONS = 6, STEPS = 5, ROW_BYTES = 80 };

static const char a[] = "carry-a.h5", b[] = "carry-b.h5", out[] = "carry-o.h5";
static fixture fx;

/* A store with a direction for each letter of `keys`. */
static ptq_store *open_store(const char *path, const char *keys, bool extend) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  ptq_direction_row rows[MAX_DIRECTIONS];
  int64_t steps[MAX_DIRECTIONS];
  const int64_t none[MAX_DIRECTIONS] = {0};
  ptq_store_layout l = *fixture_layout(&fx, N);
  l.n_directions = (int64_t)strlen(keys);
  for (int64_t i = 0; i < l.n_directions; i++) {
    steps[i] = STEPS;
    ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &rows[i]);
    snprintf(rows[i].key, sizeof rows[i].key, "%032d", keys[i]);
    rows[i].subject = 0;
  }
  l.directions = rows;
  l.direction_steps = steps;
  l.direction_layers = l.direction_ritz = none;
  l.extend = extend;
  if (ptq_store_open(MPI_COMM_SELF, path, &l, &st, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return st;
}

static void close_store(ptq_store *st) {
  assert_int_equal(ptq_store_close(st, NULL), PTQ_OK);
}

static void merge(const char *first, const char *second) {
  const char *const paths[2] = {first, second};
  const ptq_merge_options o = {.program_version = "0"};
  ptq_merge_summary sum;
  ptq_err err = {0};
  if (ptq_store_merge(out, paths, 2, &o, &sum, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static ptq_source read_store(const char *path) {
  ptq_source s;
  ptq_view *v = NULL;
  int64_t checked = 0, bad = 0;
  assert_int_equal(ptq_view_open(path, &v, NULL), PTQ_OK);
  assert_int_equal(ptq_view_verify(v, NULL, NULL, &checked, &bad, NULL),
                   PTQ_OK);
  assert_int_equal(bad, 0);
  ptq_view_close(v);
  assert_int_equal(ptq_source_open(path, &s, NULL), PTQ_OK);
  return s;
}

/* The row of a step; its numbers tell which. */
static ptq_profile_row row_of(int64_t direction, char key, int64_t step) {
  ptq_profile_row r;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), &r);
  r.direction = direction;
  r.step = step;
  r.nll = (double)(100 * key + step);
  return r;
}

static void put_step(ptq_store *st, int64_t direction, char letter,
                     int64_t step) {
  char key[PTQ_HASH_HEX];
  ptq_profile_row r = row_of(direction, letter, step);
  snprintf(key, sizeof key, "%032d", letter);
  const ptq_steps s = {.direction = direction, .key = key, .rows = &r, .n = 1};
  assert_int_equal(ptq_store_put_steps(st, &s, NULL), PTQ_OK);
}

/* "..x.." says which steps of a direction are left; their rows are right. */
static void expect_left(ptq_store *st, int64_t direction, char letter,
                        const char *want) {
  char key[PTQ_HASH_HEX], got[STEPS + 1] = "";
  ptq_profile_row rows[STEPS] = {{0}};
  bool there[STEPS] = {false};
  snprintf(key, sizeof key, "%032d", letter);
  const ptq_steps s = {
      .direction = direction, .key = key, .rows = rows, .n = STEPS};
  for (int i = 0; i < STEPS; i++) rows[i].direction = direction;
  assert_int_equal(ptq_store_left_steps(st, &s, there, NULL), PTQ_OK);
  for (int64_t i = 0; i < STEPS; i++) {
    const ptq_profile_row right = row_of(direction, letter, i);
    got[i] = there[i] ? 'x' : '.';
    if (there[i]) assert_memory_equal(&rows[i], &right, sizeof right);
  }
  assert_string_equal(got, want);
}

static void fail_subject(ptq_store *st, int64_t subject, const char *message) {
  ptq_subject_result r = {.subject = subject, .state = PTQ_STATE_FAILED};
  ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), &r.row);
  (void)ptq_text_copy(r.message, sizeof r.message, message);
  assert_int_equal(ptq_store_put_subject(st, &r, NULL), PTQ_OK);
}

static void put_direction(ptq_store *st, int64_t direction, char letter,
                          ptq_state state, const char *message) {
  ptq_profile_row rows[STEPS];
  for (int64_t i = 0; i < STEPS; i++) rows[i] = row_of(direction, letter, i);
  ptq_direction_result r = {
      .direction = direction, .state = state, .profile = rows};
  r.n_profile = state == PTQ_STATE_DONE ? STEPS : 0;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &r.row);
  (void)ptq_text_copy(r.message, sizeof r.message, message);
  assert_int_equal(ptq_store_put_direction(st, &r, NULL), PTQ_OK);
}

/* Store `a`: of models and of directions one failed, of which ranks died, and
 * one that waits, which killed a rank; directions "pqr", the last in flight. */
static void make_failures(void) {
  ptq_store *st = open_store(a, "pqr", false);
  assert_int_equal(ptq_store_begin_subject(st, 1, NULL), PTQ_OK);
  assert_int_equal(ptq_store_begin_direction(st, 0, NULL), PTQ_OK);
  assert_int_equal(ptq_store_begin_direction(st, 2, NULL), PTQ_OK);
  ptq_store_rest(st);
  assert_int_equal(ptq_store_died_subject(st, 0, 1, "killed one", NULL),
                   PTQ_OK);
  assert_int_equal(ptq_store_died_subject(st, 1, 2, "killed", NULL), PTQ_OK);
  assert_int_equal(ptq_store_died_direction(st, 0, 3, "killed", NULL), PTQ_OK);
  assert_int_equal(ptq_store_died_direction(st, 1, 1, "killed one", NULL),
                   PTQ_OK);
  fail_subject(st, 1, "rank vanished 2 times");
  put_step(st, 0, 'p', 1);
  put_direction(st, 0, 'p', PTQ_STATE_FAILED, "rank vanished 3 times");
  close_store(st);
}

static void expect_row(const ptq_attempt_row *row, int state, int want,
                       int64_t attempts, int64_t deaths, const char *message) {
  assert_int_equal(state, want);
  assert_int_equal(row->attempts, attempts);
  assert_int_equal(row->deaths, deaths);
  assert_string_equal(row->message, message);
}

/* The rows of make_failures(); direction "p" is number `at`. */
static void expect_failures(const char *path, int64_t at) {
  ptq_source s = read_store(path);
  const ptq_attempt_row *m = s.model_attempts, *d = s.direction_attempts + at;
  const unsigned char *state = s.direction_state + at;
  assert_int_equal(s.sets.n_subjects, FX_SUBJECTS);
  assert_int_equal(s.n_bad_models + s.n_bad_directions, 0);
  expect_row(&m[0], s.model_state[0], PTQ_STATE_PENDING, 0, 1, "killed one");
  expect_row(&m[1], s.model_state[1], PTQ_STATE_FAILED, 1, 2,
             "rank vanished 2 times");
  assert_string_equal(s.models[1].model, fx.subjects[1].model);
  expect_row(&d[0], state[0], PTQ_STATE_FAILED, 1, 3, "rank vanished 3 times");
  expect_row(&d[1], state[1], PTQ_STATE_PENDING, 0, 1, "killed one");
  expect_row(&d[2], state[2], PTQ_STATE_PENDING, 0, 0, "");
  ptq_source_close(&s);
}

static void failures_outlive_an_extension(void **state) {
  (void)state;
  make_failures();
  ptq_store *st = open_store(a, "zpqr", true);
  expect_left(st, 1, 'p', ".x...");
  close_store(st);
  expect_failures(a, 1);
}

static void failures_outlive_a_merge(void **state) {
  (void)state;
  make_failures();
  close_store(open_store(b, "zyr", false));
  merge(a, b);
  expect_failures(out, 0);
  assert_int_equal(unlink(out), 0);
  assert_int_equal(unlink(b), 0);
  close_store(open_store(b, "zy", false));
  merge(b, a); /* where both wait, the deaths count */
  expect_failures(out, 2);
}

/* Whichever store is first. */
static void a_finished_row_wins_over_a_failed_one(void **state) {
  (void)state;
  make_failures();
  ptq_store *st = open_store(b, "zp", false);
  assert_int_equal(fixture_put_subject(&fx, st, 1, NULL), PTQ_OK);
  put_direction(st, 1, 'p', PTQ_STATE_DONE, "");
  close_store(st);
  for (int i = 0; i < 2; i++) {
    merge(i == 0 ? a : b, i == 0 ? b : a);
    ptq_source s = read_store(out);
    const int64_t at = i == 0 ? 0 : 1;
    expect_row(&s.model_attempts[1], s.model_state[1], PTQ_STATE_DONE, 0, 0,
               "");
    expect_row(&s.direction_attempts[at], s.direction_state[at], PTQ_STATE_DONE,
               0, 0, "");
    ptq_source_close(&s);
    st = open_store(out, i == 0 ? "pqrz" : "zpqr", true);
    expect_left(st, at, 'p', "xxxxx");
    close_store(st);
    assert_int_equal(unlink(out), 0);
  }
}

/* A row whose checksum does not hold is measured again. */
static void rows_of_profiles_outlive_an_extension(void **state) {
  (void)state;
  ptq_store *st = open_store(a, "pq", false);
  for (int64_t i = 0; i < STEPS; i += 2) put_step(st, 0, 'p', i);
  for (int64_t i = 1; i < STEPS; i++) put_step(st, 1, 'q', i);
  close_store(st);
  flip(a, set_offset(a, "landscape/profiles") + 2 * ROW_BYTES + 20, 4);
  flip(a, set_offset(a, "landscape/profiles_checksum") + 4 * (STEPS + 1), 1);
  st = open_store(a, "zqyp", true);
  expect_left(st, 3, 'p', "x...x");
  expect_left(st, 1, 'q', "..xxx");
  expect_left(st, 0, 'z', ".....");
  expect_left(st, 2, 'y', ".....");
  put_direction(st, 3, 'p', PTQ_STATE_DONE, "");
  close_store(st);
  ptq_source s = read_store(a);
  assert_int_equal(s.direction_state[3], PTQ_STATE_DONE);
  assert_int_equal(s.direction_state[1], PTQ_STATE_PENDING);
  ptq_source_close(&s);
}

/* Of several stores all that there is, where they differ the first one's. */
static void rows_of_profiles_outlive_a_merge(void **state) {
  (void)state;
  ptq_store *st = open_store(a, "pq", false);
  put_step(st, 0, 'p', 0);
  put_step(st, 0, 'p', 4);
  put_step(st, 1, 'q', 3);
  close_store(st);
  st = open_store(b, "zqp", false);
  put_step(st, 2, 'p', 2);
  put_step(st, 2, 'p', 3);
  put_step(st, 2, 'p', 4);
  put_step(st, 0, 'z', 1);
  close_store(st);
  flip(b, set_offset(b, "landscape/profiles") + (2 * STEPS + 3) * ROW_BYTES, 1);
  merge(b, a);
  st = open_store(out, "zqp", true);
  expect_left(st, 2, 'p', "x.x.x");
  expect_left(st, 1, 'q', "...x.");
  expect_left(st, 0, 'z', ".x...");
  close_store(st);
}

static int setup(void **state) {
  (void)state;
  const char *const paths[] = {a, b, out};
  for (int i = 0; i < 3; i++) {
    char lock[32];
    snprintf(lock, sizeof lock, "%s.lock", paths[i]);
    (void)unlink(paths[i]);
    (void)unlink(lock);
  }
  return 0;
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, setup, setup)

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  const struct CMUnitTest tests[] = {
      CASE(failures_outlive_an_extension),
      CASE(failures_outlive_a_merge),
      CASE(a_finished_row_wins_over_a_failed_one),
      CASE(rows_of_profiles_outlive_an_extension),
      CASE(rows_of_profiles_outlive_a_merge),
  };
  fx = fixture_create(N);
  const int failed =
      cmocka_run_group_tests_name("store/carry", tests, NULL, NULL);
  fixture_free(&fx);
  ptq_store_shutdown();
  MPI_Finalize();
  return failed;
}
