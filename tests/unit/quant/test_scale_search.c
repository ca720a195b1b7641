/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Scales by weighted least squares: at least as good as the fitted one and as
 * any scale of a fine grid nearly, the least-squares one of their own codes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "layer.h"
#include "scale_search.h"

enum { ROWS = 20, COLS = 32 };

typedef struct problem {
  layer l;
  double weight[COLS];
  unsigned char dead[COLS];
  ptq_dtype dt;
} problem;

static problem problem_for(const char *dtype) {
  problem p = {.l = layer_random(ROWS, COLS, 17)};
  for (int c = 0; c < COLS; c++) p.weight[c] = 0.1 + (double)(c * 7 % 13);
  assert_int_equal(ptq_dtype_parse(dtype, &p.dt, NULL), PTQ_OK);
  return p;
}

static void solve(problem *p, int64_t group, bool search) {
  const ptq_scale_search s = {.w = p->l.w,
                              .rows = ROWS,
                              .cols = COLS,
                              .dtype = &p->dt,
                              .group = group,
                              .weight = p->weight,
                              .dead = p->dead,
                              .search = search,
                              .threads = 2,
                              .params = p->l.params};
  ptq_err err = {0};
  if (ptq_scale_search_run(&s, &err) != PTQ_OK) fail_msg("%s", err.msg);
}

/* Weighted error of row r in one group with parameters q; the best factor of
 * its scale goes to *refit. */
static double error_of(problem *p, int64_t r, ptq_group_params q,
                       double *refit) {
  float y[COLS];
  double sum = 0.0, num = 0.0, den = 0.0;
  p->dt.family->round(&p->dt, p->l.w + r * COLS, COLS, &q, 0, y, NULL);
  for (int c = 0; c < COLS; c++) {
    const double w = (double)p->l.w[r * COLS + c], v = (double)y[c];
    sum += p->weight[c] * (w - v) * (w - v);
    num += p->weight[c] * w * v;
    den += p->weight[c] * v * v;
  }
  *refit = num / den;
  return sum;
}

static void near_the_best_of_a_fine_grid(void **state) {
  (void)state;
  problem p = problem_for("int3");
  ptq_group_params fitted[ROWS];
  double refit;
  solve(&p, PTQ_GROUP_ROW, false);
  memcpy(fitted, p.l.params, sizeof fitted);
  solve(&p, PTQ_GROUP_ROW, true);
  for (int64_t r = 0; r < ROWS; r++) {
    const double found = error_of(&p, r, p.l.params[r], &refit);
    assert_true(found <= error_of(&p, r, fitted[r], &refit));
    double best = (double)INFINITY;
    for (int k = -1200; k <= 1200; k++) {
      ptq_group_params q = fitted[r];
      q.scale *= (float)k / 1000.0F;
      if (k > 300 || k < -300) best = fmin(best, error_of(&p, r, q, &refit));
    }
    assert_true(found <= 1.03 * best);
  }
  layer_release(&p.l);
}

/* The weighted normal equation y'D (w - y) = 0 nearly holds: one more refit
 * moves the scale by little and codes not at all, or it would have won. */
static void scales_are_those_of_their_codes(void **state) {
  (void)state;
  problem p = problem_for("int4");
  double refit;
  solve(&p, PTQ_GROUP_ROW, true);
  for (int64_t r = 0; r < ROWS; r++) {
    (void)error_of(&p, r, p.l.params[r], &refit);
    assert_true(fabs(refit - 1.0) < 0.02);
  }
  layer_release(&p.l);
}

/* int2 has codes -2 .. 1: a lone positive outlier wants a negative scale. */
static void the_longer_tail_gets_the_extra_code(void **state) {
  (void)state;
  problem p = problem_for("int2");
  for (int64_t r = 0; r < ROWS; r++)
    for (int c = 0; c < COLS; c++) {
      const float sign = r % 2 == 0 ? 1.0F : -1.0F;
      const float w = c == 3 ? 2.0F : c % 2 == 0 ? 1.0F : -1.0F;
      p.l.w[r * COLS + c] = sign * w;
    }
  p.weight[3] = 50.0;
  solve(&p, PTQ_GROUP_ROW, true);
  double refit;
  for (int64_t r = 0; r < ROWS; r++) {
    assert_true(p.l.params[r].scale == (r % 2 == 0 ? -1.0F : 1.0F));
    assert_true(error_of(&p, r, p.l.params[r], &refit) == 0.0);
  }
  layer_release(&p.l);
}

static void powers_of_two_stay(void **state) {
  (void)state;
  problem p = problem_for("mxint3");
  assert_true(ptq_scale_is_coarse(&p.dt));
  assert_false(ptq_scale_has_sign(&p.dt));
  solve(&p, 16, true);
  int exponent;
  for (int64_t i = 0; i < ROWS * 2; i++)
    assert_true(frexpf(p.l.params[i].scale, &exponent) == 0.5F);
  layer_release(&p.l);
  p = problem_for("int4:asym");
  assert_false(ptq_scale_is_coarse(&p.dt));
  layer_release(&p.l);
}

static void zeros_and_dead_columns(void **state) {
  (void)state;
  problem p = problem_for("int4"), alive = problem_for("int4");
  memset(p.l.w, 0, COLS * sizeof *p.l.w); /* row 0 */
  memset(alive.l.w, 0, COLS * sizeof *alive.l.w);
  for (int64_t r = 0; r < ROWS; r++) {
    p.l.w[r * COLS + 5] = 1e6F; /* counts as 0 */
    alive.l.w[r * COLS + 5] = 0.0F;
  }
  p.dead[5] = 1;
  solve(&p, 16, true);
  solve(&alive, 16, true);
  assert_memory_equal(p.l.params, alive.l.params,
                      2 * ROWS * sizeof *p.l.params);
  layer_release(&p.l);
  layer_release(&alive.l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(near_the_best_of_a_fine_grid),
      cmocka_unit_test(scales_are_those_of_their_codes),
      cmocka_unit_test(the_longer_tail_gets_the_extra_code),
      cmocka_unit_test(powers_of_two_stay),
      cmocka_unit_test(zeros_and_dead_columns),
  };
  return cmocka_run_group_tests(tests, layer_set_up, NULL);
}
