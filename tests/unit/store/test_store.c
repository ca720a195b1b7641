/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 2 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store_suite.h"

static void write_everything(ptq_store *st) {
  ptq_err err = {0};
  for (int64_t p = rank; p < N; p += size) {
    assert_int_equal(ptq_store_begin(st, &p, 1, &err), PTQ_OK);
    if (fixture_put_point(&fx, st, p, &err) != PTQ_OK) fail_msg("%s", err.msg);
  }
  for (int64_t s = rank; s < FX_SUBJECTS; s += size)
    if (fixture_put_subject(&fx, st, s, &err) != PTQ_OK)
      fail_msg("%s", err.msg);
}

static int count_bad(char *lines, size_t lines_size, int64_t *checked);

static void a_new_store_is_pending_and_unchecked(void **state) {
  (void)state;
  ptq_store *st = must_open();
  int points[N], subjects[FX_SUBJECTS];
  int64_t attempts[N], bad = -1;
  ptq_err err = {0};
  assert_false(ptq_store_resumed(st));
  assert_int_equal(ptq_store_states(st, points, attempts, subjects, &bad, &err),
                   PTQ_OK);
  for (int i = 0; i < N; i++) {
    assert_int_equal(points[i], PTQ_STATE_PENDING);
    assert_int_equal(attempts[i], 0);
  }
  assert_int_equal(subjects[1], PTQ_STATE_PENDING);
  assert_int_equal(bad, 0);
  close_all(st);
  int64_t checked = -1;
  assert_int_equal(count_bad(NULL, 0, &checked), 0);
  assert_int_equal(checked, 0);
}

static void every_rank_writes_and_a_reader_sees_all(void **state) {
  (void)state;
  ptq_store *st = must_open();
  write_everything(st);
  close_all(st);
  ptq_view *v = NULL;
  ptq_err err = {0};
  if (ptq_view_open(path, &v, &err) != PTQ_OK) fail_msg("%s", err.msg);
  const int *points, *subjects;
  int64_t n, m;
  assert_int_equal(ptq_view_states(v, &points, &n, &subjects, &m, &err),
                   PTQ_OK);
  assert_int_equal(n, N);
  assert_int_equal(m, FX_SUBJECTS);
  for (int64_t p = 0; p < N; p++) {
    assert_int_equal(points[p], PTQ_STATE_DONE);
    if (!fixture_point_is_right(v, &fx, p)) fail_msg("point %d", (int)p);
  }
  assert_int_equal(subjects[0], PTQ_STATE_DONE);
  const ptq_view_spectrum *spectra;
  assert_int_equal(ptq_view_spectra(v, &spectra, &m, &err), PTQ_OK);
  assert_int_equal(m, FX_SPECTRA);
  assert_string_equal(spectra[2].site, "mlp_in");
  assert_int_equal(spectra[2].n_tokens, 1002);
  assert_true(spectra[2].values[11] == 200.0 - 11.0);
  ptq_view_close(v);
  int64_t checked = 0;
  assert_int_equal(count_bad(NULL, 0, &checked), 0);
  assert_int_equal(checked, N + FX_SUBJECTS + FX_SPECTRA);
}

static void keep_line(void *ctx, const char *line) {
  ptq_text_add(ctx, line);
  ptq_text_add(ctx, "\n");
}

static int count_bad(char *lines, size_t lines_size, int64_t *checked) {
  ptq_view *v = NULL;
  ptq_err err = {0};
  int64_t bad = -1;
  ptq_text text = {0};
  if (ptq_view_open(path, &v, &err) != PTQ_OK ||
      ptq_view_verify(v, keep_line, &text, checked, &bad, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  if (lines != NULL)
    (void)ptq_text_copy(lines, lines_size, ptq_text_str(&text));
  ptq_text_release(&text);
  ptq_view_close(v);
  return (int)bad;
}

static void resuming_keeps_states_and_attempts(void **state) {
  (void)state;
  ptq_store *st = must_open();
  ptq_err err = {0};
  const int64_t both[2] = {2, 3};
  if (rank == 0) {
    assert_int_equal(ptq_store_begin(st, both, 2, &err), PTQ_OK);
    assert_int_equal(ptq_store_begin(st, both, 1, &err), PTQ_OK);
    assert_int_equal(fixture_put_point(&fx, st, 2, &err), PTQ_OK);
    assert_int_equal(fixture_put_subject(&fx, st, 1, &err), PTQ_OK);
  }
  close_all(st);
  st = must_open();
  assert_true(ptq_store_resumed(st));
  int points[N], subjects[FX_SUBJECTS];
  int64_t attempts[N], bad = -1;
  assert_int_equal(ptq_store_states(st, points, attempts, subjects, &bad, &err),
                   PTQ_OK);
  assert_int_equal(points[2], PTQ_STATE_DONE);
  /* In flight when the run ended: it waits again, and nothing is counted. */
  assert_int_equal(points[3], PTQ_STATE_PENDING);
  assert_int_equal(points[4], PTQ_STATE_PENDING);
  assert_int_equal(attempts[2], 2);
  assert_int_equal(attempts[3], 0);
  assert_int_equal(subjects[0], PTQ_STATE_PENDING);
  assert_int_equal(subjects[1], PTQ_STATE_DONE);
  assert_int_equal(bad, 0);
  close_all(st);
}

/* The store is refused on every rank, and some rank says why. */
static void another_sweep_is_refused_with_the_remedy(void **state) {
  (void)state;
  close_all(must_open());
  fx.layout.fingerprint[0] = 'f';
  must_refuse(PTQ_E_ARG, "another sweep", "-o");
  fx.layout.fingerprint[0] = '0';
  fx.layers[5]++;
  must_refuse(PTQ_E_ARG, "'layers' has", "-o");
  fx.layers[5]--;
  close_all(must_open());
}

static void other_numerics_are_refused_before_the_fingerprint(void **state) {
  (void)state;
  close_all(must_open());
  fx.layout.numerics = "OpenBLAS other";
  fx.layout.fingerprint[0] = 'f'; /* keys hold the numerics too */
  must_refuse(PTQ_E_ARG, "other numerics", "OPENBLAS_CORETYPE");
}

static void a_layout_without_points_is_refused(void **state) {
  (void)state;
  fx.layout.n_points = 0;
  must_refuse(PTQ_E_ARG, "no grid points", "");
  assert_int_not_equal(access(path, F_OK), 0);
}

static void only_one_rank_with_a_bad_layout_is_refused_everywhere(
    void **state) {
  (void)state;
  if (rank == size - 1) fx.subject[3] = 99;
  ptq_store *st = NULL;
  ptq_err err = {0};
  const ptq_status rc = ptq_store_open(MPI_COMM_WORLD, path, layout, &st, &err);
  assert_int_equal(rc, rank == size - 1 ? PTQ_E_ARG : PTQ_E_PEER);
  assert_non_null(strstr(err.msg, "layout of point 3"));
}

static void a_flipped_bit_is_pending_again_and_mended(void **state) {
  (void)state;
  ptq_store *st = must_open();
  write_everything(st);
  close_all(st);
  if (rank == 0) {
    flip(path, set_offset(path, "layers") + 70, 4); /* of point 0 */
    flip(path, set_offset(path, "spectra/opt/mlp_in") + 9, 1);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  int points[N], subjects[FX_SUBJECTS];
  int64_t attempts[N], bad = -1, checked = 0;
  ptq_err err = {0};
  st = must_open();
  assert_int_equal(ptq_store_states(st, points, attempts, subjects, &bad, &err),
                   PTQ_OK);
  assert_int_equal(bad, 2);
  assert_int_equal(points[0], PTQ_STATE_PENDING);
  assert_int_equal(points[1], PTQ_STATE_DONE);
  assert_int_equal(subjects[0], PTQ_STATE_DONE);
  assert_int_equal(subjects[1], PTQ_STATE_PENDING);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) {
    assert_int_equal(fixture_put_point(&fx, st, 0, &err), PTQ_OK);
    assert_int_equal(fixture_put_subject(&fx, st, 1, &err), PTQ_OK);
  }
  close_all(st);
  assert_int_equal(count_bad(NULL, 0, &checked), 0);
  assert_int_equal(checked, N + FX_SUBJECTS + FX_SPECTRA);
}

static void failures_are_recorded_and_never_replace_a_result(void **state) {
  (void)state;
  ptq_store *st = must_open();
  ptq_err err = {0};
  if (rank == 0) {
    ptq_point_result r = {.point = 4, .state = PTQ_STATE_FAILED};
    (void)ptq_text_copy(r.message, sizeof r.message, "NaN in 'blocks.0'");
    assert_int_equal(ptq_store_put_point(st, &r, &err), PTQ_OK);
    assert_int_equal(
        ptq_store_mark(st, 5, PTQ_STATE_FAILED, "rank vanished", &err), PTQ_OK);
    assert_int_equal(fixture_put_point(&fx, st, 6, &err), PTQ_OK);
    assert_int_equal(ptq_store_mark(st, 6, PTQ_STATE_FAILED, "too late", &err),
                     PTQ_OK);
    assert_int_equal(ptq_store_mark(st, 7, PTQ_STATE_PENDING, "stopped", &err),
                     PTQ_OK);
    r.point = 6;
    assert_int_equal(ptq_store_put_point(st, &r, &err), PTQ_OK);
    /* A late success does replace a failure. */
    assert_int_equal(ptq_store_mark(st, 8, PTQ_STATE_FAILED, "silent", &err),
                     PTQ_OK);
    assert_int_equal(fixture_put_point(&fx, st, 8, &err), PTQ_OK);
    /* An attempt at a finished point leaves it finished. */
    const int64_t again = 6;
    assert_int_equal(ptq_store_begin(st, &again, 1, &err), PTQ_OK);
  }
  close_all(st);
  ptq_view *v = NULL;
  const int *points, *subjects;
  const void *rows, *attempts;
  int64_t n, m, checked = 0;
  assert_int_equal(ptq_view_open(path, &v, &err), PTQ_OK);
  assert_int_equal(ptq_view_states(v, &points, &n, &subjects, &m, &err),
                   PTQ_OK);
  const int expect[5] = {PTQ_STATE_FAILED, PTQ_STATE_FAILED, PTQ_STATE_DONE,
                         PTQ_STATE_PENDING, PTQ_STATE_DONE};
  for (int i = 0; i < 5; i++) assert_int_equal(points[4 + i], expect[i]);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &n, &err),
                   PTQ_OK);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_ATTEMPTS, &attempts, &n, &err),
                   PTQ_OK);
  assert_string_equal(((const ptq_point_row *)rows)[4].key, fx.points[4].key);
  assert_true(isnan(((const ptq_point_row *)rows)[4].nll));
  const ptq_attempt_row *a = attempts;
  assert_string_equal(a[4].message, "NaN in 'blocks.0'");
  assert_string_equal(a[5].message, "rank vanished");
  assert_string_equal(a[6].message, "");
  assert_true(fixture_point_is_right(v, &fx, 6));
  assert_true(fixture_point_is_right(v, &fx, 8));
  ptq_view_close(v);
  assert_int_equal(count_bad(NULL, 0, &checked), 0);
  assert_int_equal(checked, 4);
}

static void results_that_do_not_fit_are_refused(void **state) {
  (void)state;
  ptq_store *st = must_open();
  ptq_point_result r = {.point = 1, .state = PTQ_STATE_DONE};
  ptq_err err = {0};
  r.row = fx.points[1];
  assert_int_equal(ptq_store_put_point(st, &r, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "'layers'"));
  r.row = fx.points[2];
  r.state = PTQ_STATE_FAILED;
  err = (ptq_err){0};
  assert_int_equal(ptq_store_put_point(st, &r, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, fx.points[1].key));
  r.point = N;
  assert_int_equal(ptq_store_put_point(st, &r, NULL), PTQ_E_ARG);
  r.point = -1;
  assert_int_equal(ptq_store_put_point(st, &r, NULL), PTQ_E_ARG);
  assert_int_equal(ptq_store_mark(st, N, PTQ_STATE_FAILED, "", NULL),
                   PTQ_E_ARG);
  assert_int_equal(ptq_store_mark(st, 0, PTQ_STATE_DONE, "", NULL), PTQ_E_ARG);
  ptq_subject_result s = {.subject = FX_SUBJECTS, .state = PTQ_STATE_DONE};
  assert_int_equal(ptq_store_put_subject(st, &s, NULL), PTQ_E_ARG);
  s.subject = 0;
  assert_int_equal(ptq_store_put_subject(st, &s, NULL), PTQ_E_ARG);
  close_all(st);
}

static void missing_answers_are_refused(void **state) {
  (void)state;
  ptq_store *st = must_open();
  ptq_err err = {0};
  ptq_baseline_row windows[4] = {{0, 0, 0, 0, 0, 0.0}};
  ptq_subject_result s = {.subject = 0,
                          .state = PTQ_STATE_DONE,
                          .windows = windows,
                          .n_windows = 4};
  assert_int_equal(ptq_store_put_subject(st, &s, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "0 rows of 'baseline_answers' for row 0, "
                                  "place for 6"));
  close_all(st);
}

static void a_missing_spectrum_is_refused(void **state) {
  (void)state;
  ptq_store *st = must_open();
  ptq_err err = {0};
  ptq_baseline_row windows[4] = {{0, 0, 0, 0, 0, 0.0}};
  ptq_baseline_answer_row answers[6] = {{0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0}};
  ptq_subject_result s = {.subject = 0,
                          .state = PTQ_STATE_DONE,
                          .windows = windows,
                          .n_windows = 4,
                          .answers = answers,
                          .n_answers = 6};
  assert_int_equal(ptq_store_put_subject(st, &s, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "llama-25k/attn_in"));
  close_all(st);
}

static void the_log_keeps_the_last_lines(void **state) {
  (void)state;
  ptq_store *st = must_open();
  ptq_err err = {0};
  if (rank == 0)
    for (int i = 0; i < 1030; i++) {
      char line[32];
      snprintf(line, sizeof line, "line %d", i);
      assert_int_equal(ptq_store_log(st, line, &err), PTQ_OK);
    }
  close_all(st);
  ptq_view *v = NULL;
  ptq_text text = {0};
  assert_int_equal(ptq_view_open(path, &v, &err), PTQ_OK);
  assert_int_equal(ptq_view_log(v, 2, &text, &err), PTQ_OK);
  assert_string_equal(text.buf, "line 1028\nline 1029\n");
  ptq_text_release(&text);
  assert_int_equal(ptq_view_log(v, 5000, &text, &err), PTQ_OK);
  assert_int_equal(strncmp(text.buf, "line 6\n", 7), 0);
  ptq_text_release(&text);
  ptq_view_close(v);
}

static void a_long_sweep_file_survives(void **state) {
  (void)state;
  char *text = calloc(1, 150001);
  memset(text, 'x', 150000);
  text[149999] = 'y';
  fx.layout.spec_text = text;
  close_all(must_open());
  ptq_view *v = NULL;
  assert_int_equal(ptq_view_open(path, &v, NULL), PTQ_OK);
  assert_string_equal(ptq_view_attribute(v, "spec_text"), text);
  assert_string_equal(ptq_view_attribute(v, "bootstrap"), "seed 1");
  assert_string_equal(ptq_view_attribute(v, "none"), "");
  assert_int_equal(strlen(ptq_view_attribute(v, "uuid")), 36);
  ptq_view_close(v);
  free(text);
}

int main(int argc, char **argv) {
  suite_begin(&argc, &argv);
  const struct CMUnitTest tests[] = {
      CASE(a_new_store_is_pending_and_unchecked),
      CASE(every_rank_writes_and_a_reader_sees_all),
      CASE(resuming_keeps_states_and_attempts),
      CASE(another_sweep_is_refused_with_the_remedy),
      CASE(other_numerics_are_refused_before_the_fingerprint),
      CASE(a_layout_without_points_is_refused),
      CASE(only_one_rank_with_a_bad_layout_is_refused_everywhere),
      CASE(a_flipped_bit_is_pending_again_and_mended),
      CASE(failures_are_recorded_and_never_replace_a_result),
      CASE(results_that_do_not_fit_are_refused),
      CASE(missing_answers_are_refused),
      CASE(a_missing_spectrum_is_refused),
      CASE(the_log_keeps_the_last_lines),
      CASE(a_long_sweep_file_survives),
  };
  const int failed =
      cmocka_run_group_tests_name("store/store", tests, NULL, NULL);
  suite_end();
  return failed;
}
