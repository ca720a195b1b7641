/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/statement.h"
#include "tables.h"

static tables table;
static ptq_statements result;

static const ptq_statement *row(const char *name) {
  for (int i = 0; i < result.n; i++)
    if (strcmp(result.row[i].name, name) == 0) return &result.row[i];
  fail_msg("no statement is called '%s'", name);
  return NULL;
}

static void test(const synthetic_law *law, int64_t n_points) {
  ptq_frame f;
  tables_synthetic(&table, law, 5);
  table.n_points = n_points;
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(ptq_statements_test(&f, &result, NULL), PTQ_OK);
  ptq_frame_release(&f);
}

/* 0.01, 0.04, 0.03, 0.005 of Holm's own step-down: times 4, 3, 2, 1 from the
 * least, never falling. */
static void holm_is_the_step_down_procedure(void **state) {
  (void)state;
  const double p[5] = {0.01, 0.04, NAN, 0.03, 0.005};
  const double want[5] = {0.03, 0.06, NAN, 0.06, 0.02};
  double out[5];
  ptq_holm(p, 5, out);
  for (int i = 0; i < 5; i++)
    assert_true(isnan(want[i]) ? isnan(out[i])
                               : fabs(out[i] - want[i]) < 1e-15);
  const double ties[3] = {0.6, 0.6, 0.6};
  ptq_holm(ties, 3, out);
  for (int i = 0; i < 3; i++) assert_true(out[i] == 1.0);
}

static void known_law_is_shown_and_its_opposite_refuted(void **state) {
  (void)state;
  synthetic_law law = {.intercept = 6.0,
                       .params = -0.25,
                       .bits = -1.3,
                       .group = 0.15,
                       .gptq = -0.4,
                       .noise = 0.1,
                       .noise_model = 0.05,
                       .floor = 0.002};
  test(&law, 320);
  assert_int_equal(row("size")->verdict, PTQ_VERDICT_SHOWN);
  assert_int_equal(row("gptq-loss")->verdict, PTQ_VERDICT_SHOWN);
  assert_int_equal(row("rtn-sqnr")->verdict, PTQ_VERDICT_SHOWN);
  /* weights of GPTQ lose 0.8 dB, outputs gain 2.8 - 0.5 on top */
  const ptq_statement *db = row("gptq-sqnr");
  assert_int_equal(db->verdict, PTQ_VERDICT_SHOWN);
  assert_true(fabs(db->estimate - 1.5) < 0.2);
  assert_true(db->low < db->estimate && db->estimate < db->high);
  assert_int_equal(db->n_models, 10);
  assert_true(row("size")->p_holm >= row("size")->p);
  assert_int_equal(row("spectrum")->verdict, PTQ_VERDICT_UNTESTED);
  assert_non_null(strstr(row("spectrum")->why, "h_rank_nofirst"));
  assert_int_equal(row("flatter")->verdict, PTQ_VERDICT_UNTESTED);
  assert_int_equal(row("landscape")->verdict, PTQ_VERDICT_UNTESTED);
  assert_non_null(strstr(row("landscape")->why, "a measured landscape"));
  law.params = 0.25;
  law.intercept = 0.0;
  law.gptq = 0.4;
  test(&law, 320);
  assert_int_equal(row("size")->verdict, PTQ_VERDICT_REFUTED);
  assert_int_equal(row("gptq-loss")->verdict, PTQ_VERDICT_REFUTED);
}

/* Of the first `plain` GPTQ points none has options; then two in three have
 * the first options, the others the second. */
static void test_levels(int64_t plain, const char *method) {
  const synthetic_law law = {.intercept = 6.0,
                             .params = -0.25,
                             .bits = -1.3,
                             .group = 0.15,
                             .gptq = -0.4,
                             .noise = 0.1,
                             .floor = 0.002};
  ptq_frame f;
  int64_t n = 0;
  tables_synthetic(&table, &law, 5);
  for (int64_t i = 0; i < table.n_points; i++) {
    ptq_point_row *p = &table.points[i];
    if (strcmp(p->method, "gptq") != 0 || n++ < plain) continue;
    (void)ptq_text_copy(p->method, sizeof p->method, method);
    (void)ptq_text_copy(p->options, sizeof p->options,
                        n % 3 == 0 ? "order=act" : "hessian=static");
  }
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(ptq_statements_test(&f, &result, NULL), PTQ_OK);
  ptq_frame_release(&f);
}

static const char *const of_gptq[] = {"gptq-loss", "gptq-monotone",
                                      "gptq-sqnr"};

static void options_of_gptq_stand_for_it_where_it_has_no_points(void **state) {
  (void)state;
  test_levels(0, "gptq");
  for (int i = 0; i < 3; i++) {
    assert_true(row(of_gptq[i])->verdict != PTQ_VERDICT_UNTESTED);
    assert_non_null(strstr(row(of_gptq[i])->text,
                           "(here gptq(hessian=static): no point is of plain "
                           "gptq)"));
  }
  const ptq_statement *s = row("gptq-loss");
  assert_int_equal(s->verdict, PTQ_VERDICT_SHOWN);
  assert_true(s->low < -0.4 && -0.4 < s->high);
  assert_int_equal(row("gptq-sqnr")->n, 107); /* two in three of 160 */
  assert_int_equal(row("gptq-sqnr")->verdict, PTQ_VERDICT_SHOWN);
  assert_null(strstr(row("size")->text, "here"));
}

static void plain_gptq_is_tested_where_it_has_points(void **state) {
  (void)state;
  test_levels(60, "gptq");
  assert_string_equal(row("gptq-loss")->text, "GPTQ loses less than rounding");
  assert_int_equal(row("gptq-loss")->verdict, PTQ_VERDICT_SHOWN);
  assert_int_equal(row("gptq-sqnr")->n, 60);
}

static void reason_names_the_levels_that_are_there(void **state) {
  (void)state;
  test_levels(0, "other");
  for (int i = 0; i < 3; i++) {
    const ptq_statement *s = row(of_gptq[i]);
    assert_int_equal(s->verdict, PTQ_VERDICT_UNTESTED);
    if (strstr(s->why, "the points' methods: rtn, other(hessian=static), "
                       "other(order=act)") == NULL)
      fail_msg("%s: %s", s->name, s->why);
  }
}

static void two_models_are_no_sample(void **state) {
  (void)state;
  const synthetic_law law = {
      .intercept = 3.0, .bits = -1.3, .noise = 0.1, .floor = 0.002};
  test(&law, 64);
  for (int i = 0; i < result.n; i++) {
    assert_int_equal(result.row[i].verdict, PTQ_VERDICT_UNTESTED);
    assert_true(result.row[i].why[0] != '\0');
  }
}

/* GPTQ's gain in ln(dnll) is curve (x - turn)^2, x = ln(parameters). */
static void test_gain(double curve, double turn) {
  const synthetic_law law = {.intercept = 4.0,
                             .params = -0.25,
                             .bits = -1.3,
                             .group = 0.15,
                             .noise = 0.1,
                             .floor = 1e-4};
  ptq_frame f;
  tables_synthetic(&table, &law, 5);
  for (int64_t i = 0; i < table.n_points; i++) {
    ptq_point_row *p = &table.points[i];
    if (strcmp(p->method, "gptq") != 0) continue;
    const double x =
        log((double)table.models[table.subject[i]].params_nonembedding) - turn;
    p->dnll *= exp(-curve * x * x);
  }
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(ptq_statements_test(&f, &result, NULL), PTQ_OK);
  ptq_frame_release(&f);
}

/* Sizes are 25e3 to 3.6e6; the same curvature turns among them, below them,
 * above them. */
static void curved_gain_is_shown_only_where_it_turns(void **state) {
  (void)state;
  const ptq_statement *s = NULL;
  for (int sign = -1; sign <= 1; sign += 2) {
    test_gain(0.05 * sign, log(3e5));
    s = row("gptq-monotone");
    assert_true(s->p_holm < 0.01);
    assert_true(fabs(s->estimate + 0.05 * sign) < 0.01);
    assert_int_equal(s->verdict, PTQ_VERDICT_SHOWN);
    assert_string_equal(s->why, "");
    for (int above = 0; above < 2; above++) {
      test_gain(0.05 * sign, log(above ? 2e7 : 5e3));
      s = row("gptq-monotone");
      assert_true(s->p_holm < 0.01); /* as curved, yet monotone */
      assert_true(fabs(s->estimate + 0.05 * sign) < 0.01);
      assert_int_equal(s->verdict, PTQ_VERDICT_OPEN);
      assert_non_null(
          strstr(s->why, "outside of the points' 2.5e+04 to 3.6e+06"));
    }
  }
}

/* ln(basin_05) is slope ln(N) and what is the model's own, which takes effect
 * times itself from ln(dnll). */
static void test_landscape(double slope, double effect, int64_t n_models) {
  static ptq_landscape_traits traits[TABLE_MODELS];
  const synthetic_law law = {.intercept = 6.0,
                             .params = -0.25,
                             .bits = -1.3,
                             .noise = 0.1,
                             .floor = 1e-4};
  ptq_frame f;
  tables_synthetic(&table, &law, 5);
  table.n_points = 32 * n_models;
  for (int64_t m = 0; m < table.n_models; m++) {
    const double own = 0.3 * (double)(m * 7 % 5 - 2);
    traits[m].log_basin[1] =
        -3.0 + own + slope * log((double)table.models[m].params_nonembedding);
    for (int64_t i = 0; i < table.n_points; i++)
      if (table.subject[i] == m) table.points[i].dnll *= exp(-effect * own);
  }
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  for (int64_t i = 0; i < f.n; i++)
    f.obs[i].landscape = &traits[f.obs[i].subject];
  assert_int_equal(ptq_statements_test(&f, &result, NULL), PTQ_OK);
  ptq_frame_release(&f);
}

static void flat_landscapes_are_tested_where_they_were_measured(void **state) {
  (void)state;
  test_landscape(0.6, 0.8, 10);
  const ptq_statement *s = row("flatter");
  assert_int_equal(s->verdict, PTQ_VERDICT_SHOWN);
  assert_int_equal(s->n_models, 10);
  assert_true(s->low < 0.6 && 0.6 < s->high && s->low > 0.0);
  s = row("landscape");
  assert_int_equal(s->verdict, PTQ_VERDICT_SHOWN);
  assert_true(fabs(s->estimate + 0.8) < 0.1);
  test_landscape(-0.6, -0.8, 10);
  assert_int_equal(row("flatter")->verdict, PTQ_VERDICT_REFUTED);
  assert_int_equal(row("landscape")->verdict, PTQ_VERDICT_REFUTED);
  test_landscape(0.0, 0.0, 10);
  assert_int_equal(row("flatter")->verdict, PTQ_VERDICT_OPEN);
  assert_int_equal(row("landscape")->verdict, PTQ_VERDICT_OPEN);
  test_landscape(0.6, 0.8, 3);
  assert_int_equal(row("flatter")->verdict, PTQ_VERDICT_UNTESTED);
  assert_non_null(strstr(row("flatter")->why, "four models"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(holm_is_the_step_down_procedure),
      cmocka_unit_test(known_law_is_shown_and_its_opposite_refuted),
      cmocka_unit_test(options_of_gptq_stand_for_it_where_it_has_no_points),
      cmocka_unit_test(plain_gptq_is_tested_where_it_has_points),
      cmocka_unit_test(reason_names_the_levels_that_are_there),
      cmocka_unit_test(two_models_are_no_sample),
      cmocka_unit_test(flat_landscapes_are_tested_where_they_were_measured),
      cmocka_unit_test(curved_gain_is_shown_only_where_it_turns),
  };
  return cmocka_run_group_tests_name("analysis/statement", tests, NULL, NULL);
}
