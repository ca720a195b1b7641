/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/matrix.h"
#include "ptq/analysis/validate.h"
#include "tables.h"

static tables table;
static const synthetic_law law = {.intercept = 6.0,
                                  .params = -0.25,
                                  .bits = -1.3,
                                  .noise = 0.1,
                                  .floor = 0.002};

typedef struct fixture {
  ptq_frame frame;
  const ptq_obs *obs[TABLE_MAX];
  ptq_matrix m;
} fixture;
static fixture fx;

static void lay_out(const char *text) {
  ptq_formula f;
  ptq_err err = {0};
  const ptq_frame_source source = tables_source(&table);
  assert_int_equal(ptq_frame_build(&source, &fx.frame, &err), PTQ_OK);
  for (int64_t i = 0; i < fx.frame.n; i++) fx.obs[i] = &fx.frame.obs[i];
  assert_int_equal(ptq_formula_parse(text, &f, &err), PTQ_OK);
  if (ptq_matrix_build(&f, fx.obs, fx.frame.n, &fx.m, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void clear(void) {
  ptq_matrix_release(&fx.m);
  ptq_frame_release(&fx.frame);
}

static void star_is_the_parts_and_their_interaction(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  lay_out("bits*method + log(params)*square(bits)");
  static const char *const want[] = {"(intercept)",
                                     "bits",
                                     "method[gptq]",
                                     "bits:method[gptq]",
                                     "log(params)",
                                     "square(bits)",
                                     "log(params):square(bits)"};
  assert_int_equal(fx.m.k, 7);
  for (int j = 0; j < 7; j++)
    assert_string_equal(fx.m.columns[j].name, want[j]);
  clear();
  lay_out("inverse(bits) + exp(bits) + log10(params) + log1p(bits)");
  const double *x = fx.m.x + 3 * fx.m.k, bits = ptq_nominal_bits(fx.m.obs[3]);
  assert_true(x[1] == 1.0 / bits && x[2] == exp(bits));
  assert_true(x[3] == log10((double)fx.m.obs[3]->model->params));
  assert_true(x[4] == log1p(bits));
  clear();
  ptq_formula f;
  ptq_err err = {0};
  assert_int_equal(ptq_formula_parse("bits*method:group", &f, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "in one term"));
}

static void columns_are_named_and_rtn_is_the_reference(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  lay_out("log(params) + method + bits + element:bits");
  assert_int_equal(fx.m.k, 5);
  assert_string_equal(fx.m.columns[0].name, "(intercept)");
  assert_string_equal(fx.m.columns[1].name, "log(params)");
  assert_string_equal(fx.m.columns[2].name, "method[gptq]");
  assert_string_equal(fx.m.columns[3].name, "bits");
  assert_string_equal(fx.m.columns[4].name, "element[mxint]:bits");
  for (int64_t i = 0; i < fx.m.n; i++) {
    const ptq_point_row *p = fx.m.obs[i]->point;
    const double *x = fx.m.x + i * fx.m.k;
    assert_true(x[0] == 1.0);
    assert_true(x[2] == (strcmp(p->method, "gptq") == 0 ? 1.0 : 0.0));
    assert_true(x[4] ==
                (p->dtype[0] == 'm' ? (double)(p->dtype[5] - '0') : 0.0));
  }
  clear();
}

static void interaction_without_its_margin_has_every_level(void **state) {
  (void)state;
  static const struct {
    const char *text, *columns[6];
  } rows[] = {
      {"sqnr_output:method",
       {"(intercept)", "sqnr_output:method[gptq]", "sqnr_output:method[rtn]"}},
      {"method:sqnr_output + sqnr_output",
       {"(intercept)", "method[gptq]:sqnr_output", "sqnr_output"}},
      {"method + method:element",
       {"(intercept)", "method[gptq]", "method[gptq]:element[mxint]",
        "method[rtn]:element[mxint]"}},
      {"element:method:bits",
       {"(intercept)", "element[int]:method[gptq]:bits",
        "element[int]:method[rtn]:bits", "element[mxint]:method[gptq]:bits",
        "element[mxint]:method[rtn]:bits"}},
  };
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    int64_t n = 0;
    tables_synthetic(&table, &law, 1);
    lay_out(rows[i].text);
    for (; n < 6 && rows[i].columns[n] != NULL; n++) {
      assert_true(n < fx.m.k);
      assert_string_equal(fx.m.columns[n].name, rows[i].columns[n]);
    }
    assert_int_equal(fx.m.k, n);
    assert_int_equal(fx.m.n_dropped, 0);
    clear();
  }
}

static void constant_and_collinear_columns_are_dropped_by_name(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  for (int64_t i = 0; i < table.n_points; i++) {
    table.points[i].group = 32;
    table.points[i].sqnr_weight = 3.0 * table.points[i].bits_per_weight - 7.0;
    (void)ptq_text_copy(table.points[i].method, 32, "rtn");
  }
  lay_out("bits_per_weight + log(group) + sqnr_weight + method");
  assert_int_equal(fx.m.k, 2);
  assert_int_equal(fx.m.n, table.n_points);
  assert_int_equal(fx.m.n_dropped, 3);
  assert_string_equal(fx.m.dropped[0].name, "method");
  assert_non_null(strstr(fx.m.dropped[0].why, "every point has 'rtn'"));
  assert_string_equal(fx.m.dropped[1].name, "log(group)");
  assert_non_null(strstr(fx.m.dropped[1].why, "constant: 3.46574"));
  assert_string_equal(fx.m.dropped[2].name, "sqnr_weight");
  assert_non_null(strstr(fx.m.dropped[2].why, "linear combination"));
  clear();
}

static void points_without_a_value_are_counted_by_column(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  table.points[3].sqnr_output = NAN;
  table.points[4].sqnr_output = INFINITY;
  table.points[4].bits_per_weight = NAN;
  lay_out("bits_per_weight + sqnr_output + sqnr_output:bits_per_weight");
  assert_int_equal(fx.m.n, table.n_points - 2);
  assert_int_equal(fx.m.n_lost, 2);
  assert_int_equal(fx.m.n_unusable, 2);
  for (int64_t i = 0; i < 2; i++) {
    const bool sqnr = strcmp(fx.m.unusable[i].name, "sqnr_output") == 0;
    assert_int_equal(fx.m.unusable[i].n, sqnr ? 2 : 1);
  }
  double row[PTQ_COLUMN_MAX];
  const char *why = NULL;
  assert_false(ptq_matrix_row(&fx.m, &fx.frame.obs[3], row, &why));
  assert_string_equal(why, "value");
  clear();
}

static void unseen_level_is_not_taken_for_the_reference(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  lay_out("bits_per_weight + family + method");
  ptq_point_row other = table.points[0];
  (void)ptq_text_copy(other.family, sizeof other.family, "mamba");
  const ptq_obs o = {.point = &other, .model = &table.models[0]};
  double row[PTQ_COLUMN_MAX];
  const char *why = NULL;
  assert_false(ptq_matrix_row(&fx.m, &o, row, &why));
  assert_string_equal(why, "level");
  assert_true(ptq_matrix_row(&fx.m, &fx.frame.obs[0], row, &why));
  clear();
}

static void bad_formulas_name_the_word_and_what_is_near(void **state) {
  (void)state;
  static const struct {
    const char *text, *want;
  } bad[] = {
      {"bits_per_wieght", "did you mean 'bits_per_weight'"},
      {"cube(params)", "unknown transform 'cube'"},
      {"log(method)", "'method' is a factor"},
      {"log(params", "')' missing"},
      {"params +", "ends where a term should be"},
      {"params bits", "'+' expected before 'bits'"},
      {"params & bits", "'&' is not understood"},
      {"params × bits", "'×' is not understood"},
      {"params + \U0001f600", "'\U0001f600' is not understood"},
      {"params \xc3", "'\xc3' is not understood"},
      {"params ++ bits", "'+' where a column should be"},
      {"log(*)", "'*' where a column should be"},
      {"nll ~ params", "left side is dnll"},
      {"bits:bits:bits:bits", "at most 3"},
      {"bits + method:element", "write 'element + method:element'"},
      {"bits + method:bits:element", "write 'bits:element + method:bits:elem"},
      {"", "ends where a term should be"},
  };
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    ptq_formula f;
    ptq_err err = {0};
    assert_int_equal(ptq_formula_parse(bad[i].text, &f, &err), PTQ_E_ARG);
    if (strstr(err.msg, bad[i].want) == NULL)
      fail_msg("'%s': %s", bad[i].text, err.msg);
  }
}

static void every_named_law_and_feature_can_be_parsed(void **state) {
  (void)state;
  ptq_formula f;
  for (size_t i = 0; ptq_law_at(i) != NULL; i++)
    assert_int_equal(ptq_formula_parse(ptq_law_at(i)->formula, &f, NULL),
                     PTQ_OK);
  for (size_t i = 0; ptq_feature_at(i) != NULL; i++) {
    assert_int_equal(ptq_formula_parse(ptq_feature_at(i)->name, &f, NULL),
                     PTQ_OK);
    assert_ptr_equal(ptq_feature_find(ptq_feature_at(i)->name),
                     ptq_feature_at(i));
    assert_true(ptq_feature_at(i)->tier < PTQ_TIER_COUNT);
  }
  for (size_t i = 0; ptq_factor_at(i) != NULL; i++)
    assert_ptr_equal(ptq_factor_find(ptq_factor_at(i)->name), ptq_factor_at(i));
}

static void row_and_tensor_groups_get_the_layers_mean_size(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  ptq_point_row p = table.points[0];
  ptq_model_row m = table.models[0];
  ptq_obs o = {.point = &p, .model = &m, .n_layers = 14};
  p.group = 64;
  assert_true(ptq_effective_group(&o) == 64.0);
  /* one block: four 32 x 32, and up and down of width 128: the down
   * projection is 4096 of 12288 weights */
  m.n_blocks = 1;
  m.d_model = 32;
  m.d_ff = 128;
  m.params_quantizable = 4 * 1024 + 2 * 4096;
  p.group = -1;
  assert_true(
      fabs(ptq_effective_group(&o) - 32.0 * pow(4.0, 4096.0 / 12288.0)) < 1e-9);
  p.group = 0;
  assert_true(fabs(ptq_effective_group(&o) - 12288.0 / 14.0) < 1e-9);
}

static void bits_come_from_the_elements_name(void **state) {
  (void)state;
  static const struct {
    const char *dtype;
    int bits;
  } rows[] = {{"mxint3", 3},
              {"int4:asym", 4},
              {"mxfp6_e2m3", 6},
              {"int8:clip=mse20", 8},
              {"ternary", 2}};
  ptq_point_row p;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), &p);
  p.bits_per_weight = 1.7;
  const ptq_obs o = {.point = &p};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    (void)ptq_text_copy(p.dtype, sizeof p.dtype, rows[i].dtype);
    assert_int_equal(ptq_nominal_bits(&o), rows[i].bits);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(star_is_the_parts_and_their_interaction),
      cmocka_unit_test(columns_are_named_and_rtn_is_the_reference),
      cmocka_unit_test(interaction_without_its_margin_has_every_level),
      cmocka_unit_test(constant_and_collinear_columns_are_dropped_by_name),
      cmocka_unit_test(points_without_a_value_are_counted_by_column),
      cmocka_unit_test(unseen_level_is_not_taken_for_the_reference),
      cmocka_unit_test(bad_formulas_name_the_word_and_what_is_near),
      cmocka_unit_test(every_named_law_and_feature_can_be_parsed),
      cmocka_unit_test(row_and_tensor_groups_get_the_layers_mean_size),
      cmocka_unit_test(bits_come_from_the_elements_name),
  };
  return cmocka_run_group_tests_name("analysis/matrix", tests, NULL, NULL);
}
