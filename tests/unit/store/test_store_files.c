/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 2 4 */
/* Places, files and disks that cannot hold a store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "store_suite.h"

static void places_that_cannot_hold_a_store_are_named(void **state) {
  (void)state;
  char keep[96];
  memcpy(keep, path, sizeof keep);
  snprintf(path, sizeof path, "%s/none/s.h5", dir);
  must_refuse(PTQ_E_IO, "no directory", "-o");
  snprintf(path, sizeof path, "%s", dir);
  must_refuse(PTQ_E_IO, "not a regular file", "");
  memcpy(path, keep, sizeof keep);
}

/* As nobody, since nothing is read-only to root. */
static void a_read_only_directory_is_named(void **state) {
  (void)state;
  char keep[96], locked[80];
  memcpy(keep, path, sizeof keep);
  snprintf(locked, sizeof locked, "%s/ro", dir);
  if (rank == 0) {
    assert_int_equal(chmod(dir, 0711), 0);
    assert_int_equal(mkdir(locked, 0555), 0);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  snprintf(path, sizeof path, "%s/s.h5", locked);
  const bool root = geteuid() == 0;
  if (root) assert_int_equal(seteuid(65534), 0);
  must_refuse(PTQ_E_IO, locked, "-o");
  if (root) assert_int_equal(seteuid(0), 0);
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) rmdir(locked);
  memcpy(path, keep, sizeof keep);
}

static void files_that_are_no_store_are_named(void **state) {
  (void)state;
  if (rank == 0) {
    FILE *f = fopen(path, "wb");
    fputs("key,model\n", f);
    fclose(f);
  }
  MPI_Barrier(MPI_COMM_WORLD);
  must_refuse(PTQ_E_FORMAT, "not an HDF5 file", "");
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) {
    unlink(path);
    H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  must_refuse(PTQ_E_FORMAT, "not one of ptqsweep", "");
}

static void a_truncated_store_is_named(void **state) {
  (void)state;
  close_all(must_open());
  struct stat st;
  if (rank == 0 &&
      (stat(path, &st) != 0 || truncate(path, st.st_size / 2) != 0))
    fail();
  MPI_Barrier(MPI_COMM_WORLD);
  must_refuse(PTQ_E_FORMAT, "truncated", path);
}

static void a_file_that_outgrows_its_limit_fails_at_creation(void **state) {
  (void)state;
  struct rlimit old, small;
  getrlimit(RLIMIT_FSIZE, &old);
  /* From nothing at all up to almost enough. */
  for (rlim_t limit = 0; limit <= 262144; limit = limit ? limit * 4 : 1024) {
    small = (struct rlimit){limit, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    ptq_store *st = NULL;
    ptq_err err = {0};
    const ptq_status rc =
        ptq_store_open(MPI_COMM_WORLD, path, layout, &st, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    if (rc == PTQ_OK) fail_msg("limit %llu", (unsigned long long)limit);
    assert_int_equal(rc, rank == 0 ? PTQ_E_IO : PTQ_E_PEER);
    assert_int_not_equal(access(path, F_OK), 0);
  }
  close_all(must_open());
}

static void a_full_disk_at_a_write_leaves_the_row_not_done(void **state) {
  (void)state;
  ptq_store *st = must_open();
  ptq_err err = {0};
  struct rlimit old, small;
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) {
    assert_int_equal(fixture_put_point(&fx, st, 0, &err), PTQ_OK);
    getrlimit(RLIMIT_FSIZE, &old);
    small = (struct rlimit){4096, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const ptq_status rc = fixture_put_point(&fx, st, 1, &err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(rc, PTQ_E_IO);
    assert_non_null(strstr(err.msg, path));
  }
  close_all(st);
  int points[N], subjects[FX_SUBJECTS];
  int64_t attempts[N], bad = -1;
  st = must_open();
  assert_int_equal(ptq_store_states(st, points, attempts, subjects, &bad, NULL),
                   PTQ_OK);
  assert_int_equal(points[0], PTQ_STATE_DONE);
  assert_int_not_equal(points[1], PTQ_STATE_DONE);
  assert_int_equal(bad, 0);
  close_all(st);
}

static void remains_of_killed_creations_are_removed(void **state) {
  (void)state;
  char stale[128];
  snprintf(stale, sizeof stale, "%s.new-dead", path);
  if (rank == 0) fclose(fopen(stale, "wb"));
  MPI_Barrier(MPI_COMM_WORLD);
  close_all(must_open());
  assert_int_not_equal(access(stale, F_OK), 0);
  snprintf(stale, sizeof stale, "%s.lock", path);
  if (size == 1) assert_int_not_equal(access(stale, F_OK), 0);
}

int main(int argc, char **argv) {
  suite_begin(&argc, &argv);
  const struct CMUnitTest tests[] = {
      CASE(places_that_cannot_hold_a_store_are_named),
      CASE(a_read_only_directory_is_named),
      CASE(files_that_are_no_store_are_named),
      CASE(a_truncated_store_is_named),
      CASE(a_file_that_outgrows_its_limit_fails_at_creation),
      CASE(a_full_disk_at_a_write_leaves_the_row_not_done),
      CASE(remains_of_killed_creations_are_removed),
  };
  const int failed =
      cmocka_run_group_tests_name("store/store_files", tests, NULL, NULL);
  suite_end();
  return failed;
}
