/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Rows of a landscape: put, read, refused, kept and counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hdf5.h>
#include <mpi.h>
#include <unistd.h>

#include "store_fixture.h"

#include "ptq/base/mem.h"

enum { N = 2, DIRECTIONS = 3, STEPS = 4, LAYERS = 2, RITZ = 5 };

static fixture fx;
static char path[64];
static ptq_direction_row identity[DIRECTIONS];
/* A profile with layers, a Hessian, a sensitivity. */
static const int64_t steps[] = {STEPS, 0, 0}, layers[] = {LAYERS, LAYERS, 1},
                     ritz[] = {0, RITZ, 0};

static ptq_store *open_store(void) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  ptq_store_layout l = *fixture_layout(&fx, N);
  l.n_directions = DIRECTIONS;
  l.directions = identity;
  l.direction_steps = steps;
  l.direction_layers = layers;
  l.direction_ritz = ritz;
  if (ptq_store_open(MPI_COMM_SELF, path, &l, &st, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return st;
}

static void close_store(ptq_store *st) {
  assert_int_equal(ptq_store_close(st, NULL), PTQ_OK);
}

static int fresh(void **state) {
  static const char *const kinds[] = {"rtn", "hessian", "sensitivity"};
  (void)state;
  unlink(path);
  fx = fixture_create(N);
  for (int i = 0; i < DIRECTIONS; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &identity[i]);
    snprintf(identity[i].key, sizeof identity[i].key, "%032d", i);
    (void)ptq_text_copy(identity[i].kind, sizeof identity[i].kind, kinds[i]);
    identity[i].subject = i % 2;
  }
  return 0;
}

static int cleanup(void **state) {
  (void)state;
  fixture_free(&fx);
  unlink(path);
  return 0;
}

/* What a worker hands over; numbers tell the row. */
typedef struct parts {
  ptq_profile_row steps[STEPS];
  ptq_direction_layer_row layers[LAYERS];
  ptq_ritz_row ritz[RITZ];
} parts;

static ptq_direction_result result_of(int64_t d, parts *p) {
  ptq_direction_result r = {.direction = d,
                            .state = PTQ_STATE_DONE,
                            .row = identity[d],
                            .profile = p->steps,
                            .n_profile = steps[d],
                            .layers = p->layers,
                            .n_layers = layers[d],
                            .ritz = p->ritz,
                            .n_ritz = ritz[d],
                            .seconds = 2.5};
  for (int i = 0; i < STEPS; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), &p->steps[i]);
    p->steps[i].direction = d;
    p->steps[i].nll = i == 3 ? (double)INFINITY : 3.0 + i;
    p->steps[i].dnll_quadratic = 0.5 * i;
  }
  for (int i = 0; i < LAYERS; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTION_LAYERS), &p->layers[i]);
    p->layers[i].direction = d;
    p->layers[i].alone = -0.25 * i;
  }
  for (int i = 0; i < RITZ; i++)
    p->ritz[i] = (ptq_ritz_row){d, 0, i, -1.5 * i, 0.2, 1e-9};
  r.row.slope = -7.0 - (double)d;
  return r;
}

static ptq_status put(ptq_store *st, int64_t d, ptq_err *err) {
  parts p;
  const ptq_direction_result r = result_of(d, &p);
  return ptq_store_put_direction(st, &r, err);
}

static void states_of(ptq_store *st, int *state, ptq_store_past *past,
                      int64_t *n_bad) {
  assert_int_equal(ptq_store_directions(st, state, past, n_bad, NULL), PTQ_OK);
}

static void what_was_put_is_read(void **state) {
  (void)state;
  ptq_store *st = open_store();
  for (int64_t d = 0; d < DIRECTIONS; d++) {
    assert_int_equal(ptq_store_begin_direction(st, d, NULL), PTQ_OK);
    assert_int_equal(put(st, d, NULL), PTQ_OK);
  }
  close_store(st);
  ptq_view *v = NULL;
  ptq_view_landscape l;
  const void *rows, *profile, *of_layers, *values;
  int64_t n, checked, bad;
  assert_int_equal(ptq_view_open(path, &v, NULL), PTQ_OK);
  ptq_view_directions(v, &l);
  assert_int_equal(l.n, DIRECTIONS);
  for (int i = 0; i < DIRECTIONS; i++)
    assert_int_equal(l.state[i], PTQ_STATE_DONE);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &n, NULL),
                   PTQ_OK);
  assert_true(((const ptq_direction_row *)rows)[2].slope == -9.0);
  assert_string_equal(((const ptq_direction_row *)rows)[2].kind, "sensitivity");
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_PROFILES, &profile, &n, NULL),
                   PTQ_OK);
  assert_int_equal(n, STEPS);
  assert_true(((const ptq_profile_row *)profile)[2].dnll_quadratic == 1.0);
  assert_true(isinf(((const ptq_profile_row *)profile)[3].nll));
  assert_int_equal(
      ptq_view_table(v, PTQ_TABLE_DIRECTION_LAYERS, &of_layers, &n, NULL),
      PTQ_OK);
  assert_int_equal(n, 2 * LAYERS + 1);
  assert_int_equal(l.first_layer[2], 2 * LAYERS);
  assert_true(((const ptq_direction_layer_row *)of_layers)[3].alone == -0.25);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_RITZ, &values, &n, NULL),
                   PTQ_OK);
  assert_int_equal(n, RITZ);
  assert_true(((const ptq_ritz_row *)values)[4].value == -6.0);
  assert_int_equal(ptq_view_verify(v, NULL, NULL, &checked, &bad, NULL),
                   PTQ_OK);
  assert_int_equal(checked, DIRECTIONS);
  assert_int_equal(bad, 0);
  ptq_view_close(v);
}

static void expect_refused(ptq_store *st, const ptq_direction_result *r,
                           const char *why) {
  ptq_err err = {0};
  assert_int_equal(ptq_store_put_direction(st, r, &err), PTQ_E_ARG);
  if (strstr(err.msg, why) == NULL) fail_msg("'%s' lacks '%s'", err.msg, why);
}

static void what_does_not_fit_is_refused(void **state) {
  (void)state;
  parts p;
  int states[DIRECTIONS];
  ptq_store_past past[DIRECTIONS];
  int64_t bad;
  ptq_store *st = open_store();
  ptq_direction_result r = result_of(0, &p);
  r.n_profile--;
  expect_refused(st, &r, "3 rows of 'landscape/profiles' for row 0, place for");
  r = result_of(1, &p);
  r.n_layers++;
  expect_refused(st, &r, "3 rows of 'landscape/layers' for row 1");
  r = result_of(1, &p);
  r.n_ritz = 0;
  expect_refused(st, &r, "0 rows of 'landscape/ritz' for row 1");
  r = result_of(0, &p);
  r.direction = DIRECTIONS;
  expect_refused(st, &r, "direction 3 in state done");
  r.direction = -1;
  expect_refused(st, &r, "direction -1 in state done");
  r.direction = 0;
  r.state = PTQ_STATE_STARTED;
  expect_refused(st, &r, "direction 0 in state started");
  states_of(st, states, past, &bad);
  for (int i = 0; i < DIRECTIONS; i++)
    assert_int_equal(states[i], PTQ_STATE_PENDING);
  close_store(st);
}

/* A failure has no numbers, and never takes the place of any. */
static void failures_are_kept_until_there_is_a_result(void **state) {
  (void)state;
  parts p;
  int states[DIRECTIONS];
  ptq_store_past past[DIRECTIONS];
  int64_t bad;
  ptq_store *st = open_store();
  ptq_direction_result r = result_of(0, &p);
  r.state = PTQ_STATE_FAILED;
  r.n_profile = r.n_layers = 0;
  (void)ptq_text_copy(r.message, sizeof r.message, "no tokens");
  assert_int_equal(ptq_store_put_direction(st, &r, NULL), PTQ_OK);
  states_of(st, states, past, &bad);
  assert_int_equal(states[0], PTQ_STATE_FAILED);
  assert_int_equal(put(st, 0, NULL), PTQ_OK);
  assert_int_equal(ptq_store_put_direction(st, &r, NULL), PTQ_OK);
  states_of(st, states, past, &bad);
  assert_int_equal(states[0], PTQ_STATE_DONE);
  close_store(st);
  st = open_store();
  assert_true(ptq_store_resumed(st));
  states_of(st, states, past, &bad);
  assert_int_equal(states[0], PTQ_STATE_DONE);
  assert_int_equal(bad, 0);
  close_store(st);
}

static void what_was_in_flight_waits_again(void **state) {
  (void)state;
  int states[DIRECTIONS];
  ptq_store_past past[DIRECTIONS];
  int64_t bad;
  ptq_store *st = open_store();
  assert_int_equal(ptq_store_begin_direction(st, 1, NULL), PTQ_OK);
  assert_int_equal(ptq_store_begin_direction(st, DIRECTIONS, NULL), PTQ_E_ARG);
  assert_int_equal(ptq_store_died_direction(st, 2, 2, "a rank died", NULL),
                   PTQ_OK);
  close_store(st);
  st = open_store();
  states_of(st, states, past, &bad);
  assert_int_equal(states[1], PTQ_STATE_PENDING);
  assert_int_equal(past[1].deaths, 0);
  assert_int_equal(past[2].deaths, 2);
  assert_true(past[2].suspect && !past[1].suspect);
  assert_int_equal(ptq_store_forgive_direction(st, 2, NULL), PTQ_OK);
  states_of(st, states, past, &bad);
  assert_int_equal(past[2].deaths, 0);
  close_store(st);
}

/* All rows of a dataset, as they are in the file; *n of *size bytes. */
static char *read_raw(hid_t file, const char *name, int64_t *n, size_t *size) {
  hsize_t dims[1];
  char *rows = NULL;
  const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  if (set < 0) fail_msg("no %s", name);
  const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
  assert_int_equal(H5Sget_simple_extent_dims(space, dims, NULL), 1);
  *n = (int64_t)dims[0];
  *size = H5Tget_size(type);
  assert_int_equal(ptq_alloc(&rows, *n, *size, "rows", NULL), PTQ_OK);
  assert_true(H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, rows) >= 0);
  assert_true(H5Aexists(set, "units") > 0);
  (void)H5Tclose(type);
  (void)H5Sclose(space);
  (void)H5Dclose(set);
  return rows;
}

/* A view's rows are rows of the table: `at`[n]. */
static void check_view(hid_t file, const char *group, const char *table,
                       const int64_t *at, int64_t n) {
  char name[128];
  int64_t rows, all;
  size_t size, width;
  snprintf(name, sizeof name, "landscape/%s", table);
  char *whole = read_raw(file, name, &all, &width);
  snprintf(name, sizeof name, "landscape/%s/%s", group, table);
  char *view = read_raw(file, name, &rows, &size);
  assert_int_equal(rows, n);
  assert_int_equal(size, width);
  for (int64_t i = 0; i < n; i++)
    assert_memory_equal(view + (size_t)i * size, whole + (size_t)at[i] * size,
                        size);
  ptq_free(whole);
  ptq_free(view);
}

/* The first model's directions are not neighbours; the other's name is that of
 * a table. */
static void a_model_has_its_rows_in_a_group(void **state) {
  (void)state;
  static const int64_t directions[] = {0, 2}, profile[] = {0, 1, 2, 3};
  static const int64_t of_layers[] = {0, 1, 4}, hessian[] = {1};
  static const int64_t hessian_layers[] = {2, 3}, values[] = {0, 1, 2, 3, 4};
  (void)ptq_text_copy(fx.subjects[1].model, sizeof fx.subjects[1].model,
                      "ritz");
  ptq_store *st = open_store();
  for (int64_t d = 0; d < DIRECTIONS; d++)
    assert_int_equal(put(st, d, NULL), PTQ_OK);
  close_store(st);
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_true(file >= 0);
  check_view(file, "llama-25k", "directions", directions, 2);
  check_view(file, "llama-25k", "profiles", profile, 4);
  check_view(file, "llama-25k", "layers", of_layers, 3);
  assert_int_equal(H5Lexists(file, "landscape/llama-25k/ritz", H5P_DEFAULT), 0);
  check_view(file, "ritz@1", "directions", hessian, 1);
  check_view(file, "ritz@1", "layers", hessian_layers, 2);
  check_view(file, "ritz@1", "ritz", values, 5);
  assert_true(H5Fclose(file) >= 0);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  snprintf(path, sizeof path, "/tmp/test_directions-%d.h5", (int)getpid());
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(what_was_put_is_read, fresh, cleanup),
      cmocka_unit_test_setup_teardown(what_does_not_fit_is_refused, fresh,
                                      cleanup),
      cmocka_unit_test_setup_teardown(failures_are_kept_until_there_is_a_result,
                                      fresh, cleanup),
      cmocka_unit_test_setup_teardown(what_was_in_flight_waits_again, fresh,
                                      cleanup),
      cmocka_unit_test_setup_teardown(a_model_has_its_rows_in_a_group, fresh,
                                      cleanup),
  };
  const int failed =
      cmocka_run_group_tests_name("store/directions", tests, NULL, NULL);
  char lock[80];
  snprintf(lock, sizeof lock, "%s.lock", path);
  unlink(lock);
  ptq_store_shutdown();
  MPI_Finalize();
  return failed;
}
