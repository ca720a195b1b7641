/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 2 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "ptq/comm/nap.h"
#include "protocol.h"

static void a_report_travels_whole_and_no_longer_than_its_text(void **state) {
  (void)state;
  int rank, size, source = -1, bytes = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const int to = (rank + 1) % size, from = (rank + size - 1) % size;
  ptq_wire_report out = {.head = ptq_wire_make_head(PTQ_WIRE_DONE, 7),
                         .status = PTQ_E_IO,
                         .text = "torn"};
  ptq_wire_report in = {0};
  ptq_err err = {0};
  assert_int_equal(ptq_wire_report_size(&out),
                   offsetof(ptq_wire_report, text) + 5);
  assert_int_equal(ptq_wire_send(MPI_COMM_WORLD, to, &out,
                                 ptq_wire_report_size(&out), 10.0, &err),
                   PTQ_OK);
  const double start = ptq_nap_clock();
  while (source < 0 && ptq_nap_clock() - start < 10.0)
    assert_int_equal(
        ptq_wire_probe(MPI_COMM_WORLD, from, &source, &bytes, &err), PTQ_OK);
  assert_int_equal(source, from);
  assert_int_equal(
      ptq_wire_receive(MPI_COMM_WORLD, source, &in, bytes, 10.0, &err), PTQ_OK);
  assert_int_equal(ptq_wire_check(&in.head, bytes, source, &err), PTQ_OK);
  assert_int_equal(in.head.task_id, 7);
  assert_int_equal(in.status, PTQ_E_IO);
  assert_string_equal(in.text, "torn");
}

static void another_version_is_refused(void **state) {
  (void)state;
  ptq_err err = {0};
  ptq_wire_head head = ptq_wire_make_head(PTQ_WIRE_CANCEL, 1);
  assert_int_equal(ptq_wire_check(&head, (int)sizeof head, 3, &err), PTQ_OK);
  head.version++;
  assert_int_equal(ptq_wire_check(&head, (int)sizeof head, 3, &err),
                   PTQ_E_PEER);
  assert_non_null(strstr(err.msg, "rank 3 speaks another version"));
}

static void cut_and_unknown_messages_are_refused(void **state) {
  (void)state;
  ptq_wire_head head = ptq_wire_make_head(PTQ_WIRE_HELLO, 0);
  assert_int_equal(ptq_wire_check(&head, (int)sizeof head, 1, NULL),
                   PTQ_E_PEER);
  assert_int_equal(ptq_wire_check(&head, 3, 1, NULL), PTQ_E_PEER);
  head.kind = 99;
  assert_int_equal(ptq_wire_check(&head, 4096, 1, NULL), PTQ_E_PEER);
}

/* Nobody sends: the wait is bounded. */
static void waiting_for_a_silent_rank_ends(void **state) {
  (void)state;
  static char never[8]; /* the request outlives the call */
  ptq_err err = {0};
  const double start = ptq_nap_clock();
  assert_int_equal(ptq_wire_receive(MPI_COMM_SELF, 0, never, 8, 0.1, &err),
                   PTQ_E_PEER);
  assert_true(ptq_nap_clock() - start < 5.0);
  assert_non_null(strstr(err.msg, "fell silent"));
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_report_travels_whole_and_no_longer_than_its_text),
      cmocka_unit_test(another_version_is_refused),
      cmocka_unit_test(cut_and_unknown_messages_are_refused),
      cmocka_unit_test(waiting_for_a_silent_rank_ends),
  };
  MPI_Init(&argc, &argv);
  const int failed =
      cmocka_run_group_tests_name("dist/protocol", tests, NULL, NULL);
  MPI_Finalize();
  return failed;
}
