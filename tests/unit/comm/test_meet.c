/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 3 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "ptq/comm/meet.h"

static int rank, size;

static void everyone_has_the_roots_bytes(void **state) {
  (void)state;
  char text[16] = "nothing";
  if (rank == size - 1) strcpy(text, "a word");
  assert_int_equal(ptq_meet_bcast(MPI_COMM_WORLD, text, (int64_t)sizeof text,
                                  MPI_CHAR, size - 1, "a test", NULL),
                   PTQ_OK);
  assert_string_equal(text, "a word");
  assert_int_equal(
      ptq_meet_bcast(MPI_COMM_WORLD, text, 0, MPI_CHAR, 0, "a test", NULL),
      PTQ_OK);
}

static void numbers_are_joined_in_place(void **state) {
  (void)state;
  int v[2] = {rank, 7};
  assert_int_equal(ptq_meet_allreduce(MPI_COMM_WORLD, v, 2, MPI_INT, MPI_SUM,
                                      "a test", NULL),
                   PTQ_OK);
  assert_int_equal(v[0], size * (size - 1) / 2);
  assert_int_equal(v[1], 7 * size);
}

static void bytes_stand_in_the_order_of_ranks(void **state) {
  (void)state;
  char all[64] = "";
  const char mine[2] = {(char)('a' + rank), '.'};
  assert_true(size <= 32);
  assert_int_equal(
      ptq_meet_allgather(MPI_COMM_WORLD, mine, 2, all, "a test", NULL), PTQ_OK);
  for (int i = 0; i < size; i++) assert_int_equal(all[2 * i], 'a' + i);
}

static void a_duplicate_has_messages_of_its_own(void **state) {
  (void)state;
  MPI_Comm other = MPI_COMM_NULL;
  int relation = MPI_UNEQUAL;
  assert_int_equal(ptq_meet_dup(MPI_COMM_WORLD, &other, NULL), PTQ_OK);
  MPI_Comm_compare(MPI_COMM_WORLD, other, &relation);
  assert_int_equal(relation, MPI_CONGRUENT);
  MPI_Comm_free(&other);
}

static void what_mpi_refuses_is_told(void **state) {
  (void)state;
  ptq_err err = {0};
  int v = 0;
  MPI_Errhandler old;
  MPI_Comm_get_errhandler(MPI_COMM_WORLD, &old);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  assert_int_equal(
      ptq_meet_bcast(MPI_COMM_WORLD, &v, 1, MPI_INT, size, "a test", &err),
      PTQ_E_PEER);
  assert_int_equal(strncmp(err.msg, "a test: ", 8), 0);
  assert_true(strlen(err.msg) > 12);
  assert_int_equal(ptq_meet_failed(MPI_SUCCESS, "a test", NULL), PTQ_OK);
  assert_int_equal(ptq_meet_failed(-1, "a test", NULL), PTQ_E_PEER);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, old);
  MPI_Errhandler_free(&old);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(everyone_has_the_roots_bytes),
      cmocka_unit_test(numbers_are_joined_in_place),
      cmocka_unit_test(bytes_stand_in_the_order_of_ranks),
      cmocka_unit_test(a_duplicate_has_messages_of_its_own),
      cmocka_unit_test(what_mpi_refuses_is_told),
  };
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int failed = cmocka_run_group_tests_name("comm/meet", tests, NULL, NULL);
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return failed;
}
