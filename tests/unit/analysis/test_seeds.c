/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/summary.h"
#include "tables.h"

static tables table;

/* A finished point above noise of a calibration label. */
static ptq_point_row *point(const char *dtype, const char *method,
                            const char *calibration, double dnll) {
  ptq_model_row *m = tables_model(&table, "a-1", "a");
  m->nll = 3.0;
  m->nll_unigram = 6.0;
  ptq_point_row *p = tables_point(&table, m, dtype, method, 32);
  (void)ptq_text_copy(p->calibration, sizeof p->calibration, calibration);
  (void)ptq_text_copy(p->evaluation, sizeof p->evaluation, "test.txt:8x256");
  p->dnll = dnll;
  p->dnll_se = 0.01;
  p->nll = 3.0 + dnll;
  return p;
}

static void measure(ptq_frame *f, ptq_seeds *s) {
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, f, NULL), PTQ_OK);
  assert_int_equal(ptq_seeds_measure(f, s, NULL), PTQ_OK);
}

static void release(ptq_frame *f, ptq_seeds *s) {
  ptq_seeds_release(s);
  ptq_frame_release(f);
  table = (tables){0};
}

/* Sets (0.1, 0.2, 0.4) and (0.3, 0.6) of gptq at 3 bits, by hand: of ln the
 * squares are 2 ln(2)^2 and ln(2)^2 / 2 with 2 + 1 degrees of freedom. */
static void variances_are_pooled_over_sets(void **state) {
  (void)state;
  (void)point("int3", "gptq", "train.txt:4x256@1", 0.1);
  (void)point("mxint3", "gptq", "train.txt:4x256@2", 0.6);
  (void)point("int3", "gptq", "train.txt:4x256@2", 0.4);
  (void)point("int3", "rtn", "train.txt:4x256@1", 0.5);
  (void)point("int3", "gptq", "train.txt:4x256@30", 0.2);
  (void)point("int3", "rtn", "train.txt:4x256@2", 0.5);
  (void)point("mxint3", "gptq", "train.txt:4x256@1", 0.3);
  ptq_frame f;
  ptq_seeds s;
  measure(&f, &s);
  assert_int_equal(s.n, 2);
  const ptq_seed_spread *r = &s.row[0];
  assert_string_equal(r->method, "gptq");
  assert_true(r->bits == 3.0);
  assert_int_equal(r->n_sets, 2);
  assert_int_equal(r->n_points, 5);
  assert_int_equal(r->df, 3);
  assert_true(fabs(r->sd_log - log(2.0) * sqrt(2.5 / 3.0)) < 1e-12);
  assert_true(r->low < r->sd_log && r->sd_log < r->high);
  /* qchisq(0.975, 3) = 9.348404 */
  assert_true(fabs(r->low - log(2.0) * sqrt(2.5 / 9.348404)) < 1e-6);
  const double nats = (0.14 / 3.0 + 0.045) / 3.0;
  assert_true(fabs(r->sd_nats - sqrt(nats)) < 1e-12);
  assert_true(fabs(r->rms_se - 0.01) < 1e-15);
  assert_string_equal(s.row[1].method, "rtn");
  assert_true(s.row[1].sd_log == 0.0 && s.row[1].sd_nats == 0.0);
  ptq_text text = {0};
  ptq_seeds_text(&s, &text);
  assert_non_null(strstr(ptq_text_str(&text), "gptq"));
  ptq_text_release(&text);
  release(&f, &s);
}

static void what_differs_in_more_than_the_seed_is_no_set(void **state) {
  (void)state;
  ptq_frame f;
  ptq_seeds s;
  (void)point("int3", "gptq", "train.txt:4x256@1", 0.1);
  (void)point("int3", "gptq", "train.txt:8x256@2", 0.2); /* more windows */
  (void)point("int3", "gptq", "train.txt:4x256", 0.3);   /* the first ones */
  (void)point("int4", "gptq", "train.txt:4x256@3", 0.2);
  (void)ptq_text_copy(point("int3", "gptq", "train.txt:4x256@4", 0.2)->options,
                      96, "hessian=static");
  (void)ptq_text_copy(
      point("int3", "gptq", "train.txt:4x256@5", 0.2)->evaluation, 96,
      "other.txt:8x256");
  point("int3", "gptq", "train.txt:4x256@6", 0.2)->group = 128;
  (void)point("int3", "gptq", "train.txt:4x256@7", 0.2);
  table.states[table.n_points - 1] = PTQ_STATE_FAILED;
  measure(&f, &s);
  assert_int_equal(s.n, 0);
  ptq_text text = {0};
  ptq_seeds_text(&s, &text);
  assert_int_equal(text.len, 0);
  release(&f, &s);
}

static void a_set_near_zero_counts_in_nats_alone(void **state) {
  (void)state;
  ptq_frame f;
  ptq_seeds s;
  (void)point("int8", "gptq", "train.txt:4x256@1", 0.001);
  (void)point("int8", "gptq", "train.txt:4x256@2", -0.003);
  measure(&f, &s);
  assert_int_equal(s.n, 1);
  assert_int_equal(s.row[0].n_log_sets, 0);
  assert_true(isnan(s.row[0].sd_log));
  assert_true(fabs(s.row[0].sd_nats - 0.004 / sqrt(2.0)) < 1e-12);
  release(&f, &s);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(variances_are_pooled_over_sets),
      cmocka_unit_test(what_differs_in_more_than_the_seed_is_no_set),
      cmocka_unit_test(a_set_near_zero_counts_in_nats_alone),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
