/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file store_suite.h
 * Tests of a store that all ranks of a job have open: each begins without one,
 * and leaves no HDF5 id open.
 */
#ifndef PTQ_TESTS_STORE_SUITE_H
#define PTQ_TESTS_STORE_SUITE_H

#include <signal.h>
#include <unistd.h>

#include "store_fixture.h"

enum { N = 24 }; /* points */

static int rank, size;
static char dir[64], path[96];
static fixture fx;
static const ptq_store_layout *layout;
static long long ids_before;

static inline int fresh(void **state) {
  (void)state;
  if (rank == 0) unlink(path);
  MPI_Barrier(MPI_COMM_WORLD);
  fx = fixture_create(N);
  layout = fixture_layout(&fx, N);
  ids_before = open_ids();
  return 0;
}

static inline int cleanup(void **state) {
  (void)state;
  MPI_Barrier(MPI_COMM_WORLD);
  fixture_free(&fx);
  if (open_ids() != ids_before) {
    fprintf(stderr, "rank %d: %lld HDF5 ids left open\n", rank,
            open_ids() - ids_before);
    return -1;
  }
  return 0;
}

static inline ptq_store *must_open(void) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  if (ptq_store_open(MPI_COMM_WORLD, path, layout, &st, &err) != PTQ_OK)
    fail_msg("rank %d: %s", rank, err.msg);
  return st;
}

/* Close everywhere before anyone looks. */
static inline void close_all(ptq_store *st) {
  ptq_err err = {0};
  if (ptq_store_close(st, &err) != PTQ_OK) fail_msg("%s", err.msg);
  MPI_Barrier(MPI_COMM_WORLD);
}

static inline void must_refuse(ptq_status code, const char *why,
                               const char *remedy) {
  ptq_store *st = NULL;
  ptq_err err = {0};
  const ptq_status rc = ptq_store_open(MPI_COMM_WORLD, path, layout, &st, &err);
  assert_null(st);
  if (rc != code && rc != PTQ_E_PEER)
    fail_msg("rank %d: %s: %s", rank, ptq_status_str(rc), err.msg);
  if (rank == 0) assert_int_equal(rc, code);
  if (strstr(err.msg, why) == NULL || strstr(err.msg, remedy) == NULL)
    fail_msg("rank %d: '%s' lacks '%s' or '%s'", rank, err.msg, why, remedy);
}

static inline void suite_begin(int *argc, char ***argv) {
  MPI_Init(argc, argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  signal(SIGXFSZ, SIG_IGN);
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  strcpy(dir, "ptqstore-XXXXXX");
  if (rank == 0 && mkdtemp(dir) == NULL) MPI_Abort(MPI_COMM_WORLD, 1);
  MPI_Bcast(dir, sizeof dir, MPI_CHAR, 0, MPI_COMM_WORLD);
  snprintf(path, sizeof path, "%s/s.h5", dir);
}

static inline void suite_end(void) {
  MPI_Barrier(MPI_COMM_WORLD);
  if (rank == 0) {
    char lock[128];
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(path);
    unlink(lock);
    rmdir(dir);
  }
  ptq_store_shutdown();
  MPI_Finalize();
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, cleanup)

#endif /* PTQ_TESTS_STORE_SUITE_H */
