/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stores that say different things of one key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <hdf5.h>
#include <math.h>
#include <mpi.h>
#include <unistd.h>

#include "fixed.h"
#include "ptq/store/merge.h"
#include "store_fixture.h"

enum { N = 4 };

static fixture fx;
static char lines[2048];

static void keep_line(void *ctx, const char *line) {
  (void)ctx;
  const size_t used = strlen(lines);
  snprintf(lines + used, sizeof lines - used, "%s\n", line);
}

/* Points [0, n_done) finished; `wrong` has another last layer's number, and
 * -1 is none. */
static void make(const char *path, const char *numerics, int n_done,
                 int64_t wrong, double off) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  ptq_store_layout layout = *fixture_layout(&fx, N);
  layout.numerics = numerics;
  (void)unlink(path);
  if (ptq_store_open(MPI_COMM_SELF, path, &layout, &st, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  for (int64_t i = 0; i < n_done; i++) {
    if (i != wrong) {
      assert_int_equal(fixture_put_point(&fx, st, i, &err), PTQ_OK);
      continue;
    }
    ptq_layer_row layers[FX_MAX_LAYERS];
    ptq_window_row windows[FX_MAX_WINDOWS];
    ptq_answer_row answers[FX_MAX_ANSWERS];
    ptq_point_result r = {.point = i,
                          .state = PTQ_STATE_DONE,
                          .row = fx.points[i],
                          .layers = layers,
                          .n_layers = fx.layers[i],
                          .windows = windows,
                          .n_windows = fx.windows[i],
                          .answers = answers,
                          .n_answers = fx.answers[i]};
    r.row.nll = 3.0 + 0.001 * (double)i + off;
    r.row.dnll = -0.25;
    r.row.kl = 1.0 / (double)(i + 3);
    for (int64_t k = 0; k < r.n_layers; k++) {
      ptq_row_clear(ptq_table_get(PTQ_TABLE_LAYERS), &layers[k]);
      layers[k].point = i;
      snprintf(layers[k].layer, sizeof layers[k].layer, "blocks.%d", (int)k);
      layers[k].sqnr_weight = 20.0 + (double)k + 0.01 * (double)i;
    }
    if (off == 0.0) layers[r.n_layers - 1].sqnr_weight += 1e-12;
    for (int64_t k = 0; k < r.n_windows; k++)
      windows[k] =
          (ptq_window_row){i, k, 100.0 + (double)(i * 8 + k), 0.5, 10.0};
    fixture_answers(i, r.n_answers, answers);
    assert_int_equal(ptq_store_put_point(st, &r, &err), PTQ_OK);
  }
  assert_int_equal(fixture_put_subject(&fx, st, 0, &err), PTQ_OK);
  assert_int_equal(ptq_store_close(st, &err), PTQ_OK);
}

static const char *const pair[2] = {"merge-a.h5", "merge-b.h5"};

static ptq_status merge(double tolerance, bool keep_first,
                        ptq_merge_summary *sum, ptq_err *err) {
  const ptq_merge_options o = {.program_version = "0",
                               .tolerance = tolerance,
                               .keep_first = keep_first,
                               .report = keep_line};
  lines[0] = '\0';
  *err = (ptq_err){0};
  (void)unlink("merge-out.h5");
  return ptq_store_merge("merge-out.h5", pair, 2, &o, sum, err);
}

static void one_bit_of_one_layer_is_found(void **state) {
  (void)state;
  ptq_merge_summary sum;
  ptq_err err;
  make(pair[0], "one", 3, -1, 0.0);
  make(pair[1], "one", 4, 2, 0.0);
  assert_int_equal(merge(1.0, false, &sum, &err), PTQ_E_ARG);
  assert_int_equal(sum.n_disagree, 1);
  assert_int_equal(sum.n_equal, 2 + 1); /* two points and a model */
  assert_non_null(strstr(lines, "'sqnr_weight' of row 2 of its layers"));
  assert_non_null(strstr(err.msg, "disagree in 1 rows"));
  assert_int_not_equal(access("merge-out.h5", F_OK), 0);
}

static void a_tolerance_is_for_other_numerics_alone(void **state) {
  (void)state;
  ptq_merge_summary sum;
  ptq_err err;
  make(pair[0], "one", 3, -1, 0.0);
  make(pair[1], "one", 3, 1, 1e-6);
  assert_int_equal(merge(1e-3, false, &sum, &err), PTQ_E_ARG);
  assert_non_null(strstr(lines, "nll is 3.00"));
  make(pair[1], "two", 3, 1, 1e-6);
  assert_int_equal(merge(1e-3, false, &sum, &err), PTQ_OK);
  assert_int_equal(sum.n_close, 3 + 1);
  assert_int_equal(sum.n_disagree, 0);
  assert_int_equal(merge(1e-9, false, &sum, &err), PTQ_E_ARG);
  assert_int_equal(sum.n_disagree, 1);
}

static void the_first_store_s_row_is_kept_when_asked(void **state) {
  (void)state;
  ptq_merge_summary sum;
  ptq_err err;
  make(pair[0], "one", 3, -1, 0.0);
  make(pair[1], "one", 4, 1, 0.5);
  assert_int_equal(merge(0.0, true, &sum, &err), PTQ_OK);
  assert_int_equal(sum.n_points, 4);
  assert_int_equal(sum.n_finished, 4);
  ptq_view *v = NULL;
  int64_t checked = 0, bad = -1;
  assert_int_equal(ptq_view_open("merge-out.h5", &v, &err), PTQ_OK);
  for (int64_t i = 0; i < 4; i++)
    assert_true(fixture_point_is_right(v, &fx, i));
  assert_int_equal(ptq_view_verify(v, NULL, NULL, &checked, &bad, &err),
                   PTQ_OK);
  assert_int_equal(bad, 0);
  assert_int_equal(checked, 4 + 1 + 2); /* and a model and its spectra */
  ptq_view_close(v);
  assert_int_equal(open_ids(), 0);
}

/* A store whose one direction has `half` as a number of schema 5. */
static void make_direction(const char *path, double half) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  ptq_direction_row row;
  ptq_profile_row step;
  const int64_t one = 1;
  ptq_store_layout layout = *fixture_layout(&fx, N);
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &row);
  ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), &step);
  snprintf(row.key, sizeof row.key, "%032d", 7);
  layout.n_directions = 1;
  layout.directions = &row;
  layout.direction_steps = layout.direction_layers = layout.direction_ritz =
      &one;
  (void)unlink(path);
  assert_int_equal(ptq_store_open(MPI_COMM_SELF, path, &layout, &st, &err),
                   PTQ_OK);
  ptq_direction_layer_row layer;
  ptq_ritz_row ritz;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTION_LAYERS), &layer);
  ptq_row_clear(ptq_table_get(PTQ_TABLE_RITZ), &ritz);
  const ptq_direction_result r = {.state = PTQ_STATE_DONE,
                                  .row = row,
                                  .profile = &step,
                                  .n_profile = 1,
                                  .layers = &layer,
                                  .n_layers = 1,
                                  .ritz = &ritz,
                                  .n_ritz = 1};
  ptq_direction_result done = r;
  done.row.curvature = 2.0;
  done.row.gauss_newton = layer.gauss_newton = half;
  assert_int_equal(ptq_store_put_direction(st, &done, &err), PTQ_OK);
  assert_int_equal(ptq_store_close(st, &err), PTQ_OK);
}

/* As if it had been made before the columns of schema 5. */
static void make_older(const char *path) {
  const long long older = 4;
  ptq_sets sets;
  ptq_err err = {0};
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  const hid_t at = H5Aopen(file, "schema_version", H5P_DEFAULT);
  assert_true(H5Awrite(at, H5T_NATIVE_LLONG, &older) >= 0);
  (void)H5Aclose(at);
  (void)H5Fclose(file);
  const hid_t fapl = ptq_h5_plain_access();
  ptq_sets_init(&sets);
  assert_int_equal(ptq_sets_open(path, H5F_ACC_RDWR, fapl, &sets, &err),
                   PTQ_OK);
  assert_int_equal(ptq_fixed_seal(&sets, &err), PTQ_OK);
  assert_int_equal(ptq_sets_close(&sets, &err), PTQ_OK);
  (void)H5Pclose(fapl);
}

static double joined_number(void) {
  ptq_view *v = NULL;
  const void *rows = NULL;
  int64_t n = 0;
  assert_int_equal(ptq_view_open("merge-out.h5", &v, NULL), PTQ_OK);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_DIRECTIONS, &rows, &n, NULL),
                   PTQ_OK);
  assert_int_equal(n, 1);
  const double half = ((const ptq_direction_row *)rows)->gauss_newton;
  ptq_view_close(v);
  return half;
}

/* What an older store cannot know is no disagreement, and the newer row is
 * kept, whichever is first. */
static void columns_that_a_store_lacks_do_not_count(void **state) {
  (void)state;
  ptq_merge_summary sum;
  ptq_err err;
  make_direction(pair[0], (double)NAN);
  make_direction(pair[1], 0.5);
  assert_int_equal(merge(0.0, false, &sum, &err), PTQ_E_ARG);
  assert_non_null(strstr(lines, "gauss_newton is nan and 0.5"));
  make_older(pair[0]);
  assert_int_equal(merge(0.0, false, &sum, &err), PTQ_OK);
  assert_int_equal(sum.n_equal, 1);
  assert_true(joined_number() == 0.5);
  make_direction(pair[0], 0.5);
  make_direction(pair[1], (double)NAN);
  make_older(pair[1]);
  assert_int_equal(merge(0.0, false, &sum, &err), PTQ_OK);
  assert_true(joined_number() == 0.5);
}

static int clean(void **state) {
  (void)state;
  (void)unlink(pair[0]);
  (void)unlink(pair[1]);
  (void)unlink("merge-out.h5");
  return 0;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_teardown(one_bit_of_one_layer_is_found, clean),
      cmocka_unit_test_teardown(a_tolerance_is_for_other_numerics_alone, clean),
      cmocka_unit_test_teardown(the_first_store_s_row_is_kept_when_asked,
                                clean),
      cmocka_unit_test_teardown(columns_that_a_store_lacks_do_not_count, clean),
  };
  MPI_Init(&argc, &argv);
  fx = fixture_create(N);
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  fixture_free(&fx);
  ptq_store_shutdown();
  MPI_Finalize();
  return failed;
}
