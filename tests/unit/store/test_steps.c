/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rows of profiles before their direction is finished: kept with a checksum
 * each, and what does not hold is not there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mpi.h>
#include <unistd.h>

#include "store_fixture.h"

enum { N = 2, DIRECTIONS = 2, STEPS = 5, ROW_BYTES = 80 };

static fixture fx;
static char path[64];
static ptq_direction_row identity[DIRECTIONS];
static const int64_t steps[] = {STEPS, STEPS}, none[] = {0, 0};

static ptq_store *open_store(void) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  ptq_store_layout l = *fixture_layout(&fx, N);
  l.n_directions = DIRECTIONS;
  l.directions = identity;
  l.direction_steps = steps;
  l.direction_layers = none;
  l.direction_ritz = none;
  if (ptq_store_open(MPI_COMM_SELF, path, &l, &st, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return st;
}

static void close_store(ptq_store *st) {
  assert_int_equal(ptq_store_close(st, NULL), PTQ_OK);
}

static int fresh(void **state) {
  (void)state;
  unlink(path);
  fx = fixture_create(N);
  for (int i = 0; i < DIRECTIONS; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &identity[i]);
    snprintf(identity[i].key, sizeof identity[i].key, "%032d", i);
    (void)ptq_text_copy(identity[i].kind, sizeof identity[i].kind, "gaussian");
    identity[i].subject = i;
  }
  return 0;
}

static int cleanup(void **state) {
  (void)state;
  fixture_free(&fx);
  unlink(path);
  return 0;
}

/* The row of a step; its numbers tell which. */
static ptq_profile_row row_of(int64_t direction, int64_t step) {
  ptq_profile_row r;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), &r);
  r.direction = direction;
  r.step = step;
  r.nll = 3.0 + (double)(10 * direction + step);
  r.dnll = step == 4 ? (double)INFINITY : 0.125 * (double)step;
  return r;
}

static ptq_status put(ptq_store *st, int64_t direction, int64_t step,
                      const char *key, ptq_err *err) {
  ptq_profile_row r = row_of(direction, step);
  const ptq_steps s = {.direction = direction, .key = key, .rows = &r, .n = 1};
  return ptq_store_put_steps(st, &s, err);
}

/* "..x.." says which steps of a direction are left; their rows are right. */
static void expect_left(ptq_store *st, int64_t direction, const char *key,
                        const char *want) {
  ptq_profile_row rows[STEPS] = {{0}};
  bool there[STEPS] = {false};
  char got[STEPS + 1] = "";
  ptq_err err = {0};
  const ptq_steps s = {
      .direction = direction, .key = key, .rows = rows, .n = STEPS};
  for (int i = 0; i < STEPS; i++) rows[i].direction = direction;
  if (ptq_store_left_steps(st, &s, there, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  for (int64_t i = 0; i < STEPS; i++) {
    const ptq_profile_row right = row_of(direction, i);
    got[i] = there[i] ? 'x' : '.';
    if (there[i]) assert_memory_equal(&rows[i], &right, sizeof right);
    if (!there[i]) assert_true(rows[i].nll == 0.0);
  }
  assert_string_equal(got, want);
}

static void put_direction(ptq_store *st, int64_t direction) {
  ptq_profile_row rows[STEPS];
  ptq_err err = {0};
  for (int64_t i = 0; i < STEPS; i++) rows[i] = row_of(direction, i);
  const ptq_direction_result r = {.direction = direction,
                                  .state = PTQ_STATE_DONE,
                                  .row = identity[direction],
                                  .profile = rows,
                                  .n_profile = STEPS};
  if (ptq_store_put_direction(st, &r, &err) != PTQ_OK) fail_msg("%s", err.msg);
}

static int state_of(ptq_store *st, int64_t direction) {
  int states[DIRECTIONS];
  ptq_store_past past[DIRECTIONS];
  int64_t bad = 0;
  assert_int_equal(ptq_store_directions(st, states, past, &bad, NULL), PTQ_OK);
  assert_int_equal(bad, 0);
  return states[direction];
}

static int64_t verify(void) {
  ptq_view *v = NULL;
  int64_t checked = 0, bad = 0;
  assert_int_equal(ptq_view_open(path, &v, NULL), PTQ_OK);
  assert_int_equal(ptq_view_verify(v, NULL, NULL, &checked, &bad, NULL),
                   PTQ_OK);
  ptq_view_close(v);
  return bad;
}

/* Turn one bit of a dataset behind the store's back. */
static void turn(const char *name, int64_t byte, int bit) {
  unsigned char b = 0;
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  const long at = (long)H5Dget_offset(set) + (long)byte;
  H5Dclose(set);
  H5Fclose(file);
  FILE *f = fopen(path, "r+b");
  assert_non_null(f);
  assert_int_equal(fseek(f, at, SEEK_SET), 0);
  assert_int_equal(fread(&b, 1, 1, f), 1);
  b = (unsigned char)(b ^ (1U << bit));
  assert_int_equal(fseek(f, at, SEEK_SET), 0);
  assert_int_equal(fwrite(&b, 1, 1, f), 1);
  assert_int_equal(fclose(f), 0);
}

static void rows_are_left_to_the_next_attempt(void **state) {
  (void)state;
  ptq_store *st = open_store();
  assert_int_equal(ptq_store_begin_direction(st, 1, NULL), PTQ_OK);
  expect_left(st, 1, identity[1].key, ".....");
  assert_int_equal(put(st, 1, 0, identity[1].key, NULL), PTQ_OK);
  assert_int_equal(put(st, 1, 4, identity[1].key, NULL), PTQ_OK);
  assert_int_equal(put(st, 1, 2, identity[1].key, NULL), PTQ_OK);
  close_store(st);
  assert_int_equal(verify(), 0);
  st = open_store();
  assert_int_equal(state_of(st, 1), PTQ_STATE_PENDING);
  expect_left(st, 1, identity[1].key, "x.x.x");
  expect_left(st, 0, identity[0].key, ".....");
  put_direction(st, 1);
  assert_int_equal(state_of(st, 1), PTQ_STATE_DONE);
  expect_left(st, 1, identity[1].key, "xxxxx");
  close_store(st);
  assert_int_equal(verify(), 0);
}

static void another_key_has_no_rows(void **state) {
  (void)state;
  ptq_store *st = open_store();
  assert_int_equal(put(st, 0, 1, identity[0].key, NULL), PTQ_OK);
  expect_left(st, 0, identity[1].key, ".....");
  expect_left(st, 0, identity[0].key, ".x...");
  assert_int_equal(put(st, 0, 1, identity[1].key, NULL), PTQ_OK);
  expect_left(st, 0, identity[0].key, ".....");
  close_store(st);
}

/* Any bit of a row or of its checksum, also of one that there is not. */
static void a_flipped_bit_takes_the_row_away(void **state) {
  (void)state;
  ptq_store *st = open_store();
  const char *key = identity[0].key;
  assert_int_equal(put(st, 0, 1, key, NULL), PTQ_OK);
  assert_int_equal(put(st, 0, 3, key, NULL), PTQ_OK);
  close_store(st);
  for (int64_t bit = 0; bit < 8 * (ROW_BYTES + 4); bit += 5) {
    const bool sum = bit >= 8 * ROW_BYTES;
    const char *set =
        sum ? "landscape/profiles_checksum" : "landscape/profiles";
    const int64_t size = sum ? 4 : ROW_BYTES;
    const int64_t at = sum ? bit - 8 * ROW_BYTES : bit;
    turn(set, 1 * size + at / 8, (int)(at % 8));
    turn(set, 2 * size + at / 8, (int)(at % 8));
    st = open_store();
    expect_left(st, 0, key, "...x.");
    close_store(st);
    turn(set, 1 * size + at / 8, (int)(at % 8));
    turn(set, 2 * size + at / 8, (int)(at % 8));
  }
  st = open_store();
  expect_left(st, 0, key, ".x.x.");
  close_store(st);
}

/* Of finished directions verify sees it, and the next run makes it good. */
static void checksums_of_finished_directions_are_kept_right(void **state) {
  (void)state;
  ptq_store *st = open_store();
  put_direction(st, 0);
  close_store(st);
  for (int bit = 0; bit < 32; bit++) {
    assert_int_equal(verify(), 0);
    turn("landscape/profiles_checksum", 4 * 2 + bit / 8, bit % 8);
    assert_int_equal(verify(), 1);
    st = open_store();
    assert_int_equal(state_of(st, 0), PTQ_STATE_DONE);
    close_store(st);
  }
  assert_int_equal(verify(), 0);
}

static void a_finished_direction_takes_no_late_rows(void **state) {
  (void)state;
  ptq_store *st = open_store();
  ptq_profile_row late = row_of(0, 2);
  late.nll = -1.0;
  const ptq_steps s = {
      .direction = 0, .key = identity[0].key, .rows = &late, .n = 1};
  put_direction(st, 0);
  assert_int_equal(ptq_store_put_steps(st, &s, NULL), PTQ_OK);
  expect_left(st, 0, identity[0].key, "xxxxx");
  close_store(st);
  assert_int_equal(verify(), 0);
}

static void what_has_no_place_is_refused(void **state) {
  (void)state;
  ptq_store *st = open_store();
  ptq_profile_row rows[STEPS] = {{0}};
  bool there[STEPS] = {false};
  ptq_err err = {0};
  assert_int_equal(put(st, 0, STEPS, "k", &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "direction 0 has no place for"));
  assert_int_equal(put(st, 0, -1, "k", NULL), PTQ_E_ARG);
  assert_int_equal(put(st, DIRECTIONS, 0, "k", NULL), PTQ_E_ARG);
  assert_int_equal(put(st, -1, 0, "k", NULL), PTQ_E_ARG);
  ptq_steps s = {.direction = 0, .key = "k", .rows = rows, .n = STEPS - 1};
  err = (ptq_err){0};
  assert_int_equal(ptq_store_left_steps(st, &s, there, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "a profile of 4 steps where direction 0"));
  s.direction = DIRECTIONS;
  assert_int_equal(ptq_store_left_steps(st, &s, there, NULL), PTQ_E_ARG);
  rows[0].direction = 1; /* of another */
  s = (ptq_steps){.direction = 0, .key = "k", .rows = rows, .n = 1};
  assert_int_equal(ptq_store_put_steps(st, &s, NULL), PTQ_E_ARG);
  close_store(st);
}

#define CASE(test) cmocka_unit_test_setup_teardown(test, fresh, cleanup)

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  snprintf(path, sizeof path, "/tmp/test_steps-%d.h5", (int)getpid());
  const struct CMUnitTest tests[] = {
      CASE(rows_are_left_to_the_next_attempt),
      CASE(another_key_has_no_rows),
      CASE(a_flipped_bit_takes_the_row_away),
      CASE(checksums_of_finished_directions_are_kept_right),
      CASE(a_finished_direction_takes_no_late_rows),
      CASE(what_has_no_place_is_refused),
  };
  const int failed =
      cmocka_run_group_tests_name("store/steps", tests, NULL, NULL);
  char lock[80];
  snprintf(lock, sizeof lock, "%s.lock", path);
  unlink(lock);
  ptq_store_shutdown();
  MPI_Finalize();
  return failed;
}
