/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/layer_ranks.h"

enum { LAYERS = 6, SUMS = 4 };

/* Two models, each at two dtypes; proxies are NaN but where a test fills
 * them. */
typedef struct example {
  ptq_direction_row of[SUMS];
  ptq_sensitivity_row rows[SUMS * LAYERS];
  ptq_interaction sums[SUMS];
  ptq_sensitivities all;
} example;

static void begin(example *x, int64_t layers) {
  memset(x, 0, sizeof *x);
  for (int64_t k = 0; k < SUMS; k++) {
    x->of[k].subject = k / 2;
    x->sums[k] =
        (ptq_interaction){.row = &x->of[k], .model = k / 2, .layers = layers};
    for (int64_t i = 0; i < layers; i++) {
      ptq_sensitivity_row *r = &x->rows[k * layers + i];
      ptq_row_clear(ptq_sensitivity_table(), r);
      r->alone = (double)((i * 5) % 7) + 0.1 * (double)k;
      r->restored = 2.0 * r->alone + (i == 2 ? 50.0 : 0.0);
      r->interaction = r->restored - r->alone;
    }
  }
  x->all = (ptq_sensitivities){
      .rows = x->rows, .n = SUMS * layers, .sums = x->sums, .n_sums = SUMS};
}

static const ptq_rank *rank(example *x, const char *name, ptq_rank_target t) {
  if (ptq_sensitivities_rank(&x->all, NULL) != PTQ_OK) fail();
  for (int p = 0; p < PTQ_LAYER_PROXIES; p++)
    if (strcmp(ptq_layer_proxy(p)->name, name) == 0) return &x->all.rank[p][t];
  fail_msg("no proxy '%s'", name);
  return NULL;
}

static void a_monotone_number_ranks_layers_as_they_are(void **state) {
  (void)state;
  example x;
  begin(&x, LAYERS);
  for (int64_t i = 0; i < x.all.n; i++) {
    x.rows[i].trace = exp(x.rows[i].alone);
    x.rows[i].size_top = -x.rows[i].alone;
  }
  const ptq_rank *r = rank(&x, "trace", PTQ_RANK_ALONE);
  assert_true(r->rho == 1.0 && r->low == 1.0 && r->high == 1.0);
  assert_int_equal(r->n_models, 2);
  assert_int_equal(r->n_layers, SUMS * LAYERS);
  assert_true(rank(&x, "size_top", PTQ_RANK_ALONE)->rho == -1.0);
  /* Restored, one layer in the middle counts most. */
  assert_true(rank(&x, "trace", PTQ_RANK_RESTORED)->rho < 0.9);
  /* What was not measured is not told. */
  assert_true(isnan(rank(&x, "fisher", PTQ_RANK_ALONE)->rho));
  assert_int_equal(rank(&x, "fisher", PTQ_RANK_ALONE)->n_models, 0);
}

/* The mean of models with rho 1 and -1 of both dtypes: Student's interval on
 * one degree of freedom, 12.7 times an error of 1, is all of -1 to 1. */
static void models_are_the_sample(void **state) {
  (void)state;
  example x;
  begin(&x, LAYERS);
  for (int64_t i = 0; i < x.all.n; i++)
    x.rows[i].trace = i < 2 * LAYERS ? x.rows[i].alone : -x.rows[i].alone;
  const ptq_rank *r = rank(&x, "trace", PTQ_RANK_ALONE);
  assert_true(fabs(r->rho) < 1e-12);
  assert_true(r->low == -1.0 && r->high == 1.0);
  /* Without one dtype's numbers a model still counts once. */
  x.rows[0].trace = (double)NAN;
  assert_int_equal(rank(&x, "trace", PTQ_RANK_ALONE)->n_models, 2);
  assert_int_equal(rank(&x, "trace", PTQ_RANK_ALONE)->n_layers, 3 * LAYERS);
}

static void texts_of_a_model_are_no_models(void **state) {
  (void)state;
  example x;
  begin(&x, LAYERS);
  for (int64_t k = 0; k < SUMS; k++) {
    x.of[k].subject = k; /* four texts */
    x.sums[k].model = 0; /* of one model */
    for (int64_t i = 0; i < LAYERS; i++)
      x.rows[k * LAYERS + i].trace =
          (k % 2 ? -1.0 : 1.0) * x.rows[k * LAYERS + i].alone;
  }
  const ptq_rank *r = rank(&x, "trace", PTQ_RANK_ALONE);
  assert_true(fabs(r->rho) < 1e-12);
  assert_int_equal(r->n_models, 1);
  assert_int_equal(r->n_layers, SUMS * LAYERS);
  assert_true(isnan(r->low) && isnan(r->high));
  /* A second model on one of four texts weighs as much as the first. */
  x.sums[1].model = 1;
  r = rank(&x, "trace", PTQ_RANK_ALONE);
  assert_int_equal(r->n_models, 2);
  assert_true(fabs(r->rho - (1.0 / 3.0 - 1.0) / 2.0) < 1e-12);
}

static void four_layers_are_too_few(void **state) {
  (void)state;
  example x;
  begin(&x, 4);
  for (int64_t i = 0; i < x.all.n; i++) x.rows[i].trace = x.rows[i].alone;
  assert_true(isnan(rank(&x, "trace", PTQ_RANK_ALONE)->rho));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_monotone_number_ranks_layers_as_they_are),
      cmocka_unit_test(models_are_the_sample),
      cmocka_unit_test(texts_of_a_model_are_no_models),
      cmocka_unit_test(four_layers_are_too_few),
  };
  return cmocka_run_group_tests_name("analysis/layer_ranks", tests, NULL, NULL);
}
