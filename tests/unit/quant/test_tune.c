/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tune.h"
#include "layer.h"

/* The same in plain loops, a row at a time. */
static void plain_descent(const layer *l, const ptq_dtype *dt, int64_t group,
                          int passes, float *y, int16_t *q) {
  const int64_t n = l->cols, groups = ptq_dtype_groups(n, group);
  for (int64_t r = 0; r < l->rows; r++)
    for (int64_t step = 0; step < passes * n; step++) {
      const int64_t k = n - 1 - step % n;
      double v = 0.0;
      for (int64_t j = 0; j < n; j++)
        v += ((double)l->w[r * n + j] - (double)y[r * n + j]) * l->h[j * n + k];
      if (!(l->h[k * n + k] > 0.0)) continue;
      const float x = (float)((double)y[r * n + k] + v / l->h[k * n + k]);
      dt->family->round(dt, &x, 1, &l->params[r * groups + k / group], 0,
                        &y[r * n + k], &q[r * n + k]);
    }
}

static void descend(layer *l, const ptq_dtype *dt, int64_t group, int passes) {
  const ptq_tune_job job = {.w = l->w,
                            .rows = l->rows,
                            .cols = l->cols,
                            .dtype = dt,
                            .group = group,
                            .h = l->h,
                            .params = l->params,
                            .passes = passes,
                            .threads = l->threads,
                            .y = l->y,
                            .q = l->q};
  assert_int_equal(ptq_tune(&job, NULL), PTQ_OK);
}

static void passes_are_those_of_plain_loops(void **state) {
  (void)state;
  static const char *const dtypes[] = {"int3:asym", "mxint4", "mxfp4"};
  layer l = layer_random(9, 150, 21); /* two blocks and a short one */
  for (int64_t i = 0; i < 150; i++) l.h[40 * 150 + i] = l.h[i * 150 + 40] = 0.0;
  for (int i = 0; i < 3; i++) {
    ptq_dtype dt;
    assert_int_equal(ptq_dtype_parse(dtypes[i], &dt, NULL), PTQ_OK);
    layer_quantize(&l, "rtn", "", dtypes[i], 32);
    layer_keep(&l);
    plain_descent(&l, &dt, 32, 2, l.kept_y, l.kept_q);
    const double before = layer_error(&l);
    descend(&l, &dt, 32, 2);
    assert_true(layer_error(&l) < 0.8 * before);
    /* sums in another order: no tie is near in these layers */
    assert_memory_equal(l.q, l.kept_q, 9 * 150 * sizeof *l.q);
    assert_memory_equal(l.y, l.kept_y, 9 * 150 * sizeof *l.y);
  }
  layer_release(&l);
}

static void no_pass_changes_nothing(void **state) {
  (void)state;
  layer l = layer_random(4, 32, 22);
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse("int4", &dt, NULL), PTQ_OK);
  layer_quantize(&l, "rtn", "", "int4", 32);
  layer_keep(&l);
  descend(&l, &dt, 32, 0);
  assert_memory_equal(l.y, l.kept_y, 4 * 32 * sizeof *l.y);
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(passes_are_those_of_plain_loops),
      cmocka_unit_test(no_pass_changes_nothing),
  };
  return cmocka_run_group_tests_name("quant/tune", tests, layer_set_up, NULL);
}
