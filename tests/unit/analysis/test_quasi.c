/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Quasi-likelihood where near-lossless points were measured below zero. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/fit.h"
#include "tables.h"

static tables table;

/* A few points of one model: two thirds of the widest formats seem to gain,
 * by more than windows explain. */
static void half_a_study(void) {
  static const struct {
    double bits, dnll, se;
  } measured[] = {
      {2.5, 0.84, 0.01},  {2.5, 0.70, 0.01},  {3.5, 0.110, 4e-3},
      {3.5, 0.090, 4e-3}, {4.5, 0.021, 2e-3}, {4.5, 0.016, 2e-3},
      {6.5, 8e-4, 3e-4},  {6.5, -2e-4, 3e-4}, {8.5, -4e-4, 6e-5},
      {8.5, -3e-4, 6e-5}, {8.5, 1e-4, 6e-5},  {8.25, -2.4e-4, 6e-5}};
  memset(&table, 0, sizeof table);
  ptq_model_row *m = tables_model(&table, "llama-25k", "llama");
  m->params = m->params_nonembedding = 25000;
  m->nll = 3.5;
  m->nll_unigram = 6.0;
  for (size_t i = 0; i < sizeof measured / sizeof *measured; i++) {
    ptq_point_row *p = tables_point(&table, m, "int4", "rtn", 32);
    p->bits_per_weight = measured[i].bits;
    p->dnll = measured[i].dnll;
    p->dnll_se = measured[i].se;
    p->nll = m->nll + p->dnll;
  }
}

static ptq_status fit(double power, ptq_fit *out, ptq_frame *frame,
                      ptq_err *err) {
  const ptq_estimator *quasi = NULL;
  const ptq_fit_options options = {.power = power};
  const ptq_frame_source source = tables_source(&table);
  ptq_formula f;
  assert_int_equal(ptq_estimator_find("quasi", &quasi, err), PTQ_OK);
  assert_int_equal(ptq_formula_parse("bits_per_weight", &f, err), PTQ_OK);
  assert_int_equal(ptq_frame_build(&source, frame, err), PTQ_OK);
  return ptq_fit_frame(quasi, &f, &options, frame, out, err);
}

static void the_power_falls_where_two_has_no_maximum(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_fit f, one;
  ptq_err err = {0};
  half_a_study();
  if (fit(0.0, &f, &frame, &err) != PTQ_OK) fail_msg("%s", err.msg);
  assert_true(f.power_lowered && f.power == 1.0);
  assert_int_equal(f.matrix.n, table.n_points);
  ptq_frame_release(&frame);
  /* the same as when it is asked for */
  if (fit(1.0, &one, &frame, &err) != PTQ_OK) fail_msg("%s", err.msg);
  assert_false(one.power_lowered);
  for (int64_t j = 0; j < f.matrix.k; j++) {
    assert_true(f.coef[j].estimate == one.coef[j].estimate);
    assert_true(f.coef[j].std_error == one.coef[j].std_error);
  }
  assert_true(f.coef[1].estimate < -1.0 && f.coef[1].estimate > -3.0);
  ptq_frame_release(&frame);
  ptq_fit_release(&f);
  ptq_fit_release(&one);
}

static void a_power_that_was_asked_for_stays(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_fit f;
  ptq_err err = {0};
  half_a_study();
  assert_int_equal(fit(2.0, &f, &frame, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "--power 1"));
  ptq_frame_release(&frame);
}

static void sound_points_keep_the_default(void **state) {
  (void)state;
  ptq_frame frame;
  ptq_fit f;
  ptq_err err = {0};
  half_a_study();
  for (int64_t i = 0; i < table.n_points; i++)
    table.points[i].dnll = exp(2.0 - 1.2 * table.points[i].bits_per_weight +
                               (i % 2 == 0 ? 0.1 : -0.1));
  if (fit(0.0, &f, &frame, &err) != PTQ_OK) fail_msg("%s", err.msg);
  assert_true(!f.power_lowered && f.power == PTQ_POWER_DEFAULT);
  ptq_fit_release(&f);
  ptq_frame_release(&frame);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_power_falls_where_two_has_no_maximum),
      cmocka_unit_test(a_power_that_was_asked_for_stays),
      cmocka_unit_test(sound_points_keep_the_default),
  };
  return cmocka_run_group_tests_name("analysis/quasi", tests, NULL, NULL);
}
