/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Log-probabilities of targets against plain float64 loops. */
#include "ptq/eval/targets.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"

/* Two whole slices of the vocabulary and a part of one. */
enum { WIDTH = 12, ROWS = 7, VOCAB = 2 * PTQ_HEAD_SLICE + 300 };

typedef struct fixture {
  ptq_model_info info;
  ptq_head head;
  float h[ROWS * WIDTH];
  ptq_target_scorer *scorer;
} fixture;

static int setup(void **state) {
  fixture *f = NULL;
  ptq_rng rng;
  if (ptq_blas_init(NULL) != PTQ_OK ||
      ptq_alloc(&f, 1, sizeof *f, "fixture", NULL) != PTQ_OK)
    return -1;
  ptq_rng_init(&rng, 5);
  f->info = (ptq_model_info){.d_model = WIDTH, .vocab = VOCAB};
  if (ptq_alloc(&f->head.weight, (int64_t)VOCAB * WIDTH, sizeof(float), "head",
                NULL) != PTQ_OK ||
      ptq_target_scorer_create(&f->info, ROWS, &f->scorer, NULL) != PTQ_OK)
    return -1;
  for (int64_t i = 0; i < (int64_t)VOCAB * WIDTH; i++)
    f->head.weight[i] = (float)(4.0 * ptq_rng_unit(&rng) - 2.0);
  for (int i = 0; i < ROWS * WIDTH; i++)
    f->h[i] = (float)(2.0 * ptq_rng_unit(&rng) - 1.0);
  *state = f;
  return 0;
}

static int teardown(void **state) {
  fixture *f = *state;
  ptq_target_scorer_free(f->scorer);
  ptq_free(f->head.weight);
  ptq_free(f);
  return 0;
}

static double plain_logit(const fixture *f, int64_t row, int64_t token) {
  double sum = 0.0;
  for (int k = 0; k < WIDTH; k++)
    sum += (double)f->h[row * WIDTH + k] *
           (double)f->head.weight[token * WIDTH + k];
  return sum;
}

static double plain_logp(const fixture *f, const ptq_target *t, int64_t *top) {
  double max = -INFINITY, sum = 0.0;
  for (int64_t v = 0; v < VOCAB; v++) {
    const double x = plain_logit(f, t->row, v);
    if (x > max) *top = v;
    max = fmax(max, x);
  }
  for (int64_t v = 0; v < VOCAB; v++)
    sum += exp(plain_logit(f, t->row, v) - max);
  return plain_logit(f, t->row, t->token) - max - log(sum);
}

static void targets_equal_a_plain_softmax(void **state) {
  fixture *f = *state;
  /* Rows shared, left out and out of order; the ends of slices. */
  ptq_target t[] = {{0, 0},
                    {0, VOCAB - 1},
                    {5, PTQ_HEAD_SLICE},
                    {2, PTQ_HEAD_SLICE - 1},
                    {2, 17},
                    {6, 2 * PTQ_HEAD_SLICE},
                    {6, 0}};
  enum { N = sizeof t / sizeof t[0] };
  ptq_target_score s[N];
  int64_t top = 0;
  (void)plain_logp(f, &t[N - 1], &top);
  t[N - 1].token = (uint32_t)top; /* what row 6 holds most probable */
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS, t, N, s, NULL),
      PTQ_OK);
  for (int i = 0; i < N; i++) {
    const double want = plain_logp(f, &t[i], &top);
    /* Logits of 12 products of at most 2 in float32, a sum to 1.2e-7. */
    assert_true(fabs(s[i].logp - want) <= 5e-6);
    assert_int_equal(s[i].greedy, top == (int64_t)t[i].token);
  }
  assert_true(s[N - 1].greedy);
}

static void other_targets_do_not_change_bits(void **state) {
  fixture *f = *state;
  const ptq_target few[] = {{1, 3}, {4, 4000}};
  const ptq_target many[] = {{4, 4000}, {1, 9}, {1, 3}, {4, 1}};
  ptq_target_score a[2], b[4];
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS, few, 2, a, NULL),
      PTQ_OK);
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS, many, 4, b, NULL),
      PTQ_OK);
  assert_true(a[0].logp == b[2].logp && a[1].logp == b[0].logp);
}

static void nan_is_kept_to_its_row(void **state) {
  fixture *f = *state;
  const ptq_target t[] = {{3, 3}, {4, 3}};
  ptq_target_score s[2];
  const float before = f->h[3 * WIDTH];
  f->h[3 * WIDTH] = NAN;
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS, t, 2, s, NULL),
      PTQ_OK);
  f->h[3 * WIDTH] = before;
  assert_true(isnan(s[0].logp) && isfinite(s[1].logp));
}

static void what_does_not_fit_is_refused(void **state) {
  fixture *f = *state;
  ptq_err err = {0};
  ptq_target_score s;
  ptq_target t = {ROWS, 0};
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS, &t, 1, &s, &err),
      PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "target 0 is token 0 of row 7"));
  t = (ptq_target){0, VOCAB};
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS, &t, 1, &s, NULL),
      PTQ_E_ARG);
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS + 1, &t, 0, &s, NULL),
      PTQ_E_ARG);
  assert_int_equal(
      ptq_score_targets(f->scorer, &f->head, f->h, ROWS, &t, 0, &s, NULL),
      PTQ_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(targets_equal_a_plain_softmax),
      cmocka_unit_test(other_targets_do_not_change_bits),
      cmocka_unit_test(nan_is_kept_to_its_row),
      cmocka_unit_test(what_does_not_fit_is_refused),
  };
  return cmocka_run_group_tests_name("eval/targets", tests, setup, teardown);
}
