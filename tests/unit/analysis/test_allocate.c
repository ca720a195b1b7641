/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/allocate.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"

enum { LAYERS_MAX = 300, OPTIONS = 4 };

/* A table of the test's own arrays. */
typedef struct stage {
  double weights[LAYERS_MAX], sensitivity[LAYERS_MAX];
  double bits[LAYERS_MAX * OPTIONS], error[LAYERS_MAX * OPTIONS];
  ptq_layer_table t;
} stage;

static ptq_layer_table *set(stage *s, int64_t n_layers, int64_t n_options) {
  s->t = (ptq_layer_table){.n_layers = n_layers,
                           .n_options = n_options,
                           .weights = s->weights,
                           .sensitivity = s->sensitivity,
                           .bits = s->bits,
                           .error = s->error};
  return &s->t;
}

static ptq_layer_table *draw(stage *s, int64_t n_layers, int64_t n_options,
                             uint64_t seed) {
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  for (int64_t l = 0; l < n_layers; l++) {
    s->weights[l] = (double)(1 + ptq_rng_below(&rng, 5)) * 1024.0;
    s->sensitivity[l] = exp(4.0 * ptq_rng_unit(&rng));
    for (int64_t k = 0; k < n_options; k++) {
      const double b = 2.25 + (double)k + 0.25 * ptq_rng_unit(&rng);
      s->bits[l * n_options + k] = b;
      s->error[l * n_options + k] = pow(4.0, -b) * (0.5 + ptq_rng_unit(&rng));
    }
  }
  return set(s, n_layers, n_options);
}

/* The least cost of all choices. */
static double exhaust(const ptq_layer_table *t, double budget) {
  int choice[8] = {0};
  double best = INFINITY;
  for (;;) {
    double bits = 0.0, cost = 0.0;
    ptq_allocation_judge(t, choice, &bits, &cost);
    if (bits <= budget * (1.0 + 1e-12) && cost < best) best = cost;
    int64_t l = 0;
    while (l < t->n_layers && ++choice[l] == t->n_options) choice[l++] = 0;
    if (l == t->n_layers) return best;
  }
}

/* Budgets in 2^15 steps cost at most a few steps a layer; what the exact
 * optimum needs may lie just above, so it is compared with one that has so much
 * less. */
static void no_choice_is_better(void **state) {
  (void)state;
  static stage s;
  for (uint64_t seed = 1; seed <= 60; seed++) {
    const ptq_layer_table *t = draw(&s, 3 + (int64_t)seed % 5, 3, seed);
    for (double budget = 2.6; budget < 5.0; budget += 0.3) {
      ptq_allocation a;
      ptq_err err = {0};
      if (ptq_allocate(t, budget, &a, &err) != PTQ_OK) fail_msg("%s", err.msg);
      double bits = 0.0, cost = 0.0;
      ptq_allocation_judge(t, a.choice, &bits, &cost);
      assert_true(bits == a.bits && cost == a.cost);
      assert_true(a.bits <= budget * (1.0 + 1e-12));
      const double rounding = budget * (double)t->n_layers / 32768.0;
      assert_true(a.cost <= exhaust(t, budget - rounding) * (1.0 + 1e-12));
      assert_true(a.cost >= exhaust(t, budget) * (1.0 - 1e-12));
      assert_true(a.bound <= exhaust(t, budget) * (1.0 + 1e-12));
      ptq_allocation_release(&a);
    }
  }
}

/* Groups' bits: many layers, any budget, the optimum of a program in them. */
static void whole_bits_are_allocated_exactly(void **state) {
  (void)state;
  enum { N = 24, UNIT = 256, CELLS = 2600 };
  static stage s;
  static double least[CELLS + 1], next[CELLS + 1];
  ptq_rng rng;
  ptq_rng_init(&rng, 9);
  for (int draws = 0; draws < 40; draws++) {
    double all = 0.0;
    for (int64_t l = 0; l < N; l++) {
      s.weights[l] = (double)(1 + ptq_rng_below(&rng, 5)) * 1024.0;
      s.sensitivity[l] = exp(3.0 * ptq_rng_unit(&rng));
      all += s.weights[l];
      for (int64_t k = 0; k < OPTIONS; k++) {
        const double b = 2.25 + (double)k + 0.25 * (double)(k % 2);
        s.bits[l * OPTIONS + k] = b;
        s.error[l * OPTIONS + k] = pow(4.0, -b) * (0.5 + ptq_rng_unit(&rng));
      }
    }
    const ptq_layer_table *t = set(&s, N, OPTIONS);
    const double bits = 2.3 + 2.5 * ptq_rng_unit(&rng);
    const int64_t room = (int64_t)floor(bits * all / UNIT);
    assert_true(room <= CELLS);
    memset(least, 0, sizeof least);
    for (int64_t l = 0; l < N; l++) {
      for (int64_t c = 0; c <= room; c++) next[c] = INFINITY;
      for (int64_t k = 0; k < OPTIONS; k++) {
        const int64_t need =
            (int64_t)(s.weights[l] * s.bits[l * OPTIONS + k]) / UNIT;
        for (int64_t c = need; c <= room; c++)
          next[c] =
              fmin(next[c], least[c - need] +
                                s.sensitivity[l] * s.error[l * OPTIONS + k]);
      }
      memcpy(least, next, sizeof least);
    }
    ptq_allocation a;
    assert_int_equal(ptq_allocate(t, bits, &a, NULL), PTQ_OK);
    assert_true(a.bits <= bits);
    assert_true(fabs(a.cost / least[room] - 1.0) < 1e-12);
    assert_true(a.bound <= a.cost * (1.0 + 1e-12));
    ptq_allocation_release(&a);
  }
}

static void many_layers_come_close_to_the_bound(void **state) {
  (void)state;
  static stage s;
  const ptq_layer_table *t = draw(&s, LAYERS_MAX, OPTIONS, 7);
  for (double budget = 2.75; budget < 5.0; budget += 0.5) {
    ptq_allocation a;
    assert_int_equal(ptq_allocate(t, budget, &a, NULL), PTQ_OK);
    assert_true(a.bound > 0.0 && a.cost >= a.bound * (1.0 - 1e-9));
    assert_true(a.cost < 1.005 * a.bound);
    assert_true(a.bits > budget - 0.01);
    ptq_allocation_release(&a);
  }
}

static void a_budget_is_met_to_the_last_digit(void **state) {
  (void)state;
  static stage s;
  ptq_allocation a;
  ptq_err err = {0};
  for (int l = 0; l < 3; l++) {
    s.weights[l] = 1000.0;
    s.sensitivity[l] = 1.0 + l;
    for (int k = 0; k < 2; k++) {
      s.bits[l * 2 + k] = 3.0 + k + 1.0 / 3.0;
      s.error[l * 2 + k] = k == 0 ? 0.1 : 0.01;
    }
  }
  const ptq_layer_table *t = set(&s, 3, 2);
  const double least = 3.0 + 1.0 / 3.0;
  assert_int_equal(ptq_allocate(t, least, &a, &err), PTQ_OK);
  for (int l = 0; l < 3; l++) assert_int_equal(a.choice[l], 0);
  ptq_allocation_release(&a);
  /* one layer more: the most sensitive one */
  assert_int_equal(ptq_allocate(t, least + 1.0 / 3.0, &a, &err), PTQ_OK);
  assert_int_equal(a.choice[2], 1);
  assert_int_equal(a.choice[0] + a.choice[1], 0);
  ptq_allocation_release(&a);
  /* more than everything */
  assert_int_equal(ptq_allocate(t, 60.0, &a, &err), PTQ_OK);
  for (int l = 0; l < 3; l++) assert_int_equal(a.choice[l], 1);
  assert_true(a.cost == a.bound);
  ptq_allocation_release(&a);
}

static void a_budget_that_nothing_fits_is_refused(void **state) {
  (void)state;
  static stage s;
  ptq_allocation a;
  ptq_err err = {0};
  const ptq_layer_table *t = draw(&s, 5, 3, 3);
  assert_int_equal(ptq_allocate(t, 2.0, &a, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "no choice has 2 bits a weight or less; the "
                                  "narrowest formats of these points take 2."));
  assert_null(a.choice);
}

/* A layer of no error takes the narrowest format: bits are for others. */
static void bits_go_where_they_are_worth_something(void **state) {
  (void)state;
  static stage s;
  ptq_allocation a;
  ptq_layer_table *t = draw(&s, 6, 3, 11);
  s.sensitivity[2] = 0.0;
  assert_int_equal(ptq_allocate(t, 3.2, &a, NULL), PTQ_OK);
  assert_int_equal(a.choice[2], 0);
  ptq_allocation_release(&a);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_choice_is_better),
      cmocka_unit_test(whole_bits_are_allocated_exactly),
      cmocka_unit_test(many_layers_come_close_to_the_bound),
      cmocka_unit_test(a_budget_is_met_to_the_last_digit),
      cmocka_unit_test(a_budget_that_nothing_fits_is_refused),
      cmocka_unit_test(bits_go_where_they_are_worth_something),
  };
  return cmocka_run_group_tests_name("analysis/allocate", tests, NULL, NULL);
}
