/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "tiles.h"

enum { N = 500 };

typedef struct work {
  int done[N];
  int64_t bad_from; /* pieces from here on fail */
} work;

static ptq_status piece(void *ctx, int64_t index, ptq_err *err) {
  work *w = ctx;
  w->done[index]++;
  if (index < w->bad_from) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_NUMERIC, "piece %d", (int)index);
}

static void every_piece_runs_once(void **state) {
  (void)state;
  static const int64_t counts[] = {0, 1, 2, N};
  for (int threads = 1; threads < 6; threads++)
    for (int k = 0; k < 4; k++) {
      work w = {.bad_from = N};
      assert_int_equal(ptq_tiles_run(counts[k], threads, piece, &w, NULL),
                       PTQ_OK);
      for (int64_t i = 0; i < N; i++)
        assert_int_equal(w.done[i], i < counts[k]);
    }
}

static void the_first_failure_by_index_is_the_one_told(void **state) {
  (void)state;
  for (int threads = 1; threads < 6; threads++) {
    work w = {.bad_from = 123};
    ptq_err err = {0};
    assert_int_equal(ptq_tiles_run(N, threads, piece, &w, &err), PTQ_E_NUMERIC);
    assert_string_equal(err.msg, "piece 123");
    for (int i = 0; i <= 123; i++) assert_int_equal(w.done[i], 1);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_piece_runs_once),
      cmocka_unit_test(the_first_failure_by_index_is_the_one_told),
  };
  return cmocka_run_group_tests_name("quant/tiles", tests, NULL, NULL);
}
