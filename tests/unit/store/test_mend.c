/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What stands beside the results, damaged or left half written: found by
 * verify, and made good by the run that goes on with the store, which loses no
 * result over it. A damaged index is not gone on with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <mpi.h>
#include <unistd.h>

#include "logring.h"
#include "pack.h"
#include "store_fixture.h"

enum { N = 6, FAILED_POINT = 5 };

static fixture fx;
static char path[64];
static long long attempt_size;

static ptq_store *open_store(void) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  if (ptq_store_open(MPI_COMM_SELF, path, fixture_layout(&fx, N), &st, &err) !=
      PTQ_OK)
    fail_msg("%s", err.msg);
  return st;
}

/* Five finished points, a failed one, and more lines than the ring holds. */
static int make_store(void **state) {
  (void)state;
  ptq_err err = {0};
  ptq_store *st = open_store();
  ptq_status rc = PTQ_OK;
  for (int64_t p = 0; rc == PTQ_OK && p < FAILED_POINT; p++)
    rc = fixture_put_point(&fx, st, p, &err);
  if (rc == PTQ_OK)
    rc = ptq_store_mark(st, FAILED_POINT, PTQ_STATE_FAILED, "why", &err);
  for (int64_t s = 0; rc == PTQ_OK && s < FX_SUBJECTS; s++)
    rc = fixture_put_subject(&fx, st, s, &err);
  for (int i = 0; rc == PTQ_OK && i < 1500; i++)
    rc = ptq_store_log(st, "something happened", &err);
  if (rc == PTQ_OK) rc = ptq_store_close(st, &err);
  return rc == PTQ_OK ? 0 : -1;
}

static int remove_store(void **state) {
  (void)state;
  return unlink(path);
}

static int64_t count_bad(int64_t *checked) {
  ptq_view *v = NULL;
  int64_t bad = -1;
  if (ptq_view_open(path, &v, NULL) != PTQ_OK) return -1;
  assert_int_equal(ptq_view_verify(v, NULL, NULL, checked, &bad, NULL), PTQ_OK);
  ptq_view_close(v);
  return bad;
}

static void go_on(void) {
  int points[N], subjects[FX_SUBJECTS];
  int64_t attempts[N], bad = -1, checked = 0;
  ptq_store *st = open_store();
  assert_int_equal(ptq_store_states(st, points, attempts, subjects, &bad, NULL),
                   PTQ_OK);
  assert_int_equal(bad, 0);
  for (int p = 0; p < FAILED_POINT; p++)
    assert_int_equal(points[p], PTQ_STATE_DONE);
  assert_int_equal(points[FAILED_POINT], PTQ_STATE_FAILED);
  assert_int_equal(ptq_store_log(st, "and went on", NULL), PTQ_OK);
  assert_int_equal(ptq_store_close(st, NULL), PTQ_OK);
  assert_int_equal(count_bad(&checked), 0);
  assert_int_equal(checked, N + FX_SUBJECTS + FX_SPECTRA);
}

static void last_line_is(const char *text) {
  ptq_view *v = NULL;
  ptq_text log = {0};
  assert_int_equal(ptq_view_open(path, &v, NULL), PTQ_OK);
  assert_int_equal(ptq_view_log(v, 1, &log, NULL), PTQ_OK);
  assert_non_null(log.buf);
  assert_string_equal(log.buf, text);
  ptq_text_release(&log);
  ptq_view_close(v);
}

static void a_damaged_attempt_is_lost_alone(void **state) {
  (void)state;
  int64_t checked = 0;
  flip(path, set_offset(path, "attempts") + attempt_size * 2, 4);
  flip(path, set_offset(path, "models_attempts") + attempt_size + 9, 4);
  assert_int_equal(count_bad(&checked), 2);
  go_on();
  ptq_view *v = NULL;
  const void *rows = NULL;
  int64_t n = 0;
  assert_int_equal(ptq_view_open(path, &v, NULL), PTQ_OK);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_ATTEMPTS, &rows, &n, NULL),
                   PTQ_OK);
  const ptq_attempt_row *a = rows;
  assert_string_equal(a[2].message, "(this row was damaged)");
  assert_true(isnan(a[2].seconds));
  assert_true(a[1].seconds == 1.5);
  ptq_view_close(v);
}

/* As a writer leaves them that is killed between two writes. */
static void what_was_half_written_is_no_damage(void **state) {
  (void)state;
  int64_t checked = 0;
  const long long lines = PTQ_LOG_LINES;
  const char *const names[] = {"attempts_checksum", "log_checksum",
                               "log_checksum"};
  const long long rows[] = {FAILED_POINT, 1500 % lines, lines};
  for (int i = 0; i < 3; i++) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(
        fseek(f, (long)(set_offset(path, names[i]) + 4 * rows[i]), SEEK_SET),
        0);
    assert_int_equal(fwrite("\0\0\0\0", 1, 4, f), 4);
    assert_int_equal(fclose(f), 0);
  }
  assert_int_equal(count_bad(&checked), 0);
  go_on();
  /* And from now on it counts again. */
  flip(path, set_offset(path, "attempts") + attempt_size * FAILED_POINT, 4);
  assert_int_equal(count_bad(&checked), 1);
}

static void a_damaged_line_says_so(void **state) {
  (void)state;
  int64_t checked = 0;
  flip(path,
       set_offset(path, "log") + (1500 - 1) % PTQ_LOG_LINES * PTQ_LOG_LINE, 4);
  assert_int_equal(count_bad(&checked), 1);
  ptq_store *st = open_store();
  assert_int_equal(ptq_store_close(st, NULL), PTQ_OK);
  assert_int_equal(count_bad(&checked), 0);
  last_line_is("(this line was damaged)\n");
}

static void a_damaged_number_of_lines_begins_anew(void **state) {
  (void)state;
  int64_t checked = 0;
  flip(path, set_offset(path, "log_next"), 1);
  assert_int_equal(count_bad(&checked), 1);
  go_on();
  last_line_is("and went on\n");
}

static void a_damaged_index_is_not_gone_on_with(void **state) {
  (void)state;
  ptq_store *st = NULL;
  ptq_err err = {0};
  int64_t checked = 0;
  const long long at = set_offset(path, "index/first_window") + 8;
  flip(path, at, 1);
  assert_true(count_bad(&checked) >= 1);
  assert_int_equal(
      ptq_store_open(MPI_COMM_SELF, path, fixture_layout(&fx, N), &st, &err),
      PTQ_E_FORMAT);
  assert_non_null(strstr(err.msg, "'index/first_window' is damaged"));
  assert_non_null(strstr(err.msg, "merge"));
  flip(path, at, 1);
  go_on();
}

/* An attribute, say: nothing that the run needs. */
static void damage_elsewhere_is_warned_of(void **state) {
  (void)state;
  int64_t checked = 0;
  char bytes[65536];
  FILE *f = fopen(path, "rb");
  assert_non_null(f);
  const size_t n = fread(bytes, 1, sizeof bytes, f);
  assert_int_equal(fclose(f), 0);
  long long at = -1;
  for (size_t i = 0; at < 0 && i + 20 < n; i++)
    if (memcmp(bytes + i, "one row a grid point", 20) == 0) at = (long long)i;
  assert_true(at > 0);
  flip(path, at, 4);
  assert_int_equal(count_bad(&checked), 1);
  ptq_store *st = open_store();
  assert_int_equal(ptq_store_close(st, NULL), PTQ_OK);
  assert_int_equal(count_bad(&checked), 1);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  fx = fixture_create(N);
  attempt_size = (long long)ptq_pack_size(ptq_table_get(PTQ_TABLE_ATTEMPTS));
  snprintf(path, sizeof path, "mend-%ld.h5", (long)getpid());
#define CASE(name) \
  cmocka_unit_test_setup_teardown(name, make_store, remove_store)
  const struct CMUnitTest tests[] = {
      CASE(a_damaged_attempt_is_lost_alone),
      CASE(what_was_half_written_is_no_damage),
      CASE(a_damaged_line_says_so),
      CASE(a_damaged_number_of_lines_begins_anew),
      CASE(a_damaged_index_is_not_gone_on_with),
      CASE(damage_elsewhere_is_warned_of),
  };
  const int failed =
      cmocka_run_group_tests_name("store/mend", tests, NULL, NULL);
  fixture_free(&fx);
  MPI_Finalize();
  return failed;
}
