/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 2 4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "ptq/comm/agree.h"

static int rank, size;

static void all_well_is_ok_everywhere(void **state) {
  (void)state;
  ptq_err err = {0};
  assert_int_equal(ptq_agree(MPI_COMM_WORLD, PTQ_OK, &err), PTQ_OK);
  assert_int_equal(err.code, PTQ_OK);
}

static void the_failing_rank_keeps_its_cause(void **state) {
  (void)state;
  ptq_err err = {0};
  ptq_status mine = PTQ_OK;
  if (rank == size - 1)
    mine = PTQ_FAIL(&err, PTQ_E_IO, "cannot read 'x' on the last rank");
  const ptq_status rc = ptq_agree(MPI_COMM_WORLD, mine, &err);
  assert_non_null(strstr(err.msg, "cannot read 'x' on the last rank"));
  if (rank == size - 1) {
    assert_int_equal(rc, PTQ_E_IO);
  } else {
    char who[32];
    (void)snprintf(who, sizeof who, "rank %d: ", size - 1);
    assert_int_equal(rc, PTQ_E_PEER);
    assert_int_equal(strncmp(err.msg, who, strlen(who)), 0);
  }
}

static void the_first_failing_rank_is_named(void **state) {
  (void)state;
  ptq_err err = {0};
  ptq_status mine = PTQ_OK;
  if (rank > 0) mine = PTQ_FAIL(&err, PTQ_E_NOMEM, "own cause %d", rank);
  const ptq_status rc = ptq_agree(MPI_COMM_WORLD, mine, &err);
  if (size == 1) {
    assert_int_equal(rc, PTQ_OK);
  } else if (rank == 0) {
    assert_int_equal(rc, PTQ_E_PEER);
    assert_string_equal(err.msg, "rank 1: own cause 1");
  } else {
    assert_int_equal(rc, PTQ_E_NOMEM);
  }
}

static void a_failure_without_record_still_reaches_all(void **state) {
  (void)state;
  ptq_err err = {0};
  const ptq_status mine = rank == 0 ? PTQ_E_FORMAT : PTQ_OK;
  const ptq_status rc =
      ptq_agree(MPI_COMM_WORLD, mine, rank == 0 ? NULL : &err);
  assert_int_equal(rc, rank == 0 ? PTQ_E_FORMAT : PTQ_E_PEER);
  if (rank > 0) assert_non_null(strstr(err.msg, "malformed file"));
}

static void equal_texts_agree(void **state) {
  (void)state;
  ptq_err err = {0};
  assert_int_equal(ptq_agree_text(MPI_COMM_WORLD, "openblas", "numerics", &err),
                   PTQ_OK);
  assert_int_equal(ptq_agree_text(MPI_COMM_WORLD, "", "numerics", &err),
                   PTQ_OK);
}

static void a_differing_text_is_shown_on_every_rank(void **state) {
  (void)state;
  ptq_err err = {0};
  const char *mine = size > 1 && rank == size - 1 ? "haswell and more" : "zen";
  const ptq_status rc = ptq_agree_text(MPI_COMM_WORLD, mine, "numerics", &err);
  if (size == 1) {
    assert_int_equal(rc, PTQ_OK);
    return;
  }
  assert_int_equal(rc, PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "numerics"));
  assert_non_null(strstr(err.msg, "'zen'"));
  assert_non_null(strstr(err.msg, "'haswell and more'"));
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_well_is_ok_everywhere),
      cmocka_unit_test(the_failing_rank_keeps_its_cause),
      cmocka_unit_test(the_first_failing_rank_is_named),
      cmocka_unit_test(a_failure_without_record_still_reaches_all),
      cmocka_unit_test(equal_texts_agree),
      cmocka_unit_test(a_differing_text_is_shown_on_every_rank),
  };
  const int failed =
      cmocka_run_group_tests_name("comm/agree", tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
