/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/feature.h"
#include "ptq/analysis/layers.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "tables.h"

/* One model of six layers, uniform points on the evaluation text, probes on the
 * selection text; true sensitivities span three orders. */
enum { N_LAYERS = 6, UNIFORM = 8, PROBES = N_LAYERS };
static const double truth[N_LAYERS] = {2.0, 0.002, 0.5, 0.05, 1.0, 0.01};
#define LAW_A (-0.5)
#define LAW_B 1.1

static tables table;
static ptq_layer_row layers[(UNIFORM + PROBES + 1) * N_LAYERS];
static int64_t first[UNIFORM + PROBES + 2];
static ptq_frame frame;
static ptq_layer_source source;

static double error_of(int layer, double bits) {
  return 0.3 * (1.0 + 0.2 * layer) * pow(4.0, 2.0 - bits);
}

/* One point whose layers have `bits`. */
static void add_layers(const char *const *dtype, const double *bits,
                       int64_t group) {
  const int n = (int)table.n_points - 1;
  for (int l = 0; l < N_LAYERS; l++) {
    ptq_layer_row *row = &layers[n * N_LAYERS + l];
    memset(row, 0, sizeof *row);
    row->point = n;
    (void)snprintf(row->layer, sizeof row->layer, "layers.%d.weight", l);
    (void)ptq_text_copy(row->layer_dtype, sizeof row->layer_dtype, dtype[l]);
    row->layer_group = group;
    row->weights = 1000 * (l + 1);
    row->layer_bits = bits[l];
    row->sqnr_output = -10.0 * log10(error_of(l, bits[l]));
    row->err_hessian = error_of(l, bits[l]);
  }
  first[n + 1] = (n + 1) * N_LAYERS;
}

static double sum_of(const double *bits) {
  double sum = 0.0;
  for (int l = 0; l < N_LAYERS; l++) sum += truth[l] * error_of(l, bits[l]);
  return sum;
}

static void add_uniform(ptq_model_row *m, int i) {
  const char *dtypes[N_LAYERS];
  double bits[N_LAYERS];
  char name[16];
  (void)snprintf(name, sizeof name, "int%d", 2 + i / 2);
  for (int l = 0; l < N_LAYERS; l++) {
    dtypes[l] = name;
    bits[l] = 2.0 + i / 2 + (i % 2 ? 0.25 : 0.5);
  }
  ptq_point_row *p = tables_point(&table, m, name, "rtn", i % 2 ? 128 : 64);
  p->bits_per_weight = bits[0];
  p->dnll = exp(LAW_A) * pow(sum_of(bits), LAW_B);
  p->dnll_se = 1e-9;
  p->nll = m->nll + p->dnll;
  add_layers(dtypes, bits, p->group);
}

/* Layer `which` at two bits, all others at eight. */
static void add_probe(ptq_model_row *m, int which, double noise) {
  const char *dtypes[N_LAYERS];
  double bits[N_LAYERS];
  char name[64];
  (void)snprintf(name, sizeof name, "mixed:probe.%d-00000000", which);
  for (int l = 0; l < N_LAYERS; l++) {
    dtypes[l] = l == which ? "int2" : "int8";
    bits[l] = l == which ? 2.5 : 8.5;
  }
  ptq_point_row *p = tables_point(&table, m, name, "rtn", 64);
  p->kl = sum_of(bits) * (1.0 + noise);
  p->kl_se = 0.01 * p->kl;
  p->dnll = p->kl;
  p->nll = m->nll + p->kl;
  p->bits_per_weight = 8.0;
  add_layers(dtypes, bits, 64);
}

static void build_frame(void) {
  ptq_frame_source s = tables_source(&table);
  s.layers = layers;
  s.first_layer = first;
  assert_int_equal(ptq_frame_build(&s, &frame, NULL), PTQ_OK);
  source = (ptq_layer_source){&frame, layers, first};
}

static void build(int probes, double noise) {
  memset(&table, 0, sizeof table);
  first[0] = 0;
  ptq_model_row *eval = tables_model(&table, "m", "f");
  (void)ptq_text_copy(eval->selection, sizeof eval->selection, "s.txt:2x8");
  (void)ptq_text_copy(eval->evaluation, sizeof eval->evaluation, "e.txt:4x8");
  eval->nll = 3.0;
  eval->nll_unigram = 9.0;
  for (int i = 0; i < UNIFORM; i++) add_uniform(eval, i);
  ptq_model_row *select = tables_model(&table, "m2", "f");
  *select = *eval;
  (void)ptq_text_copy(select->evaluation, sizeof select->evaluation,
                      "s.txt:16x8");
  for (int i = 0; i < probes; i++) add_probe(select, i, i % 2 ? noise : -noise);
  build_frame();
}

static const ptq_layer_query query = {
    .model = "m", .method = "rtn", .options = "", .group = PTQ_ANY_GROUP};

static void a_table_holds_what_uniform_points_say(void **state) {
  (void)state;
  ptq_layer_table t;
  build(PROBES, 0.0);
  assert_int_equal(ptq_layer_table_build(&source, &query, &t, NULL), PTQ_OK);
  assert_int_equal(t.n_layers, N_LAYERS);
  assert_int_equal(t.n_options, UNIFORM);
  assert_string_equal(t.option[3].dtype, "int3");
  assert_int_equal(t.option[3].group, 128);
  assert_string_equal(t.name[2], "layers.2.weight");
  assert_true(t.weights[2] == 3000.0);
  assert_true(t.bits[2 * UNIFORM + 3] == 3.25);
  assert_true(fabs(t.error[2 * UNIFORM + 3] / error_of(2, 3.25) - 1.0) < 1e-12);
  for (int l = 0; l < N_LAYERS; l++) assert_true(t.sensitivity[l] == 1.0);
  ptq_layer_table_release(&t);
  ptq_frame_release(&frame);
}

static void formats_and_groups_can_be_narrowed(void **state) {
  (void)state;
  static const char *const formats[] = {"int3", "int5", "int8"};
  ptq_layer_table t;
  ptq_layer_query q = query;
  build(0, 0.0);
  q.formats = formats;
  q.n_formats = 3;
  q.group = 64;
  assert_int_equal(ptq_layer_table_build(&source, &q, &t, NULL), PTQ_OK);
  assert_int_equal(t.n_options, 2);
  assert_string_equal(t.option[1].dtype, "int5");
  ptq_layer_table_release(&t);
  ptq_frame_release(&frame);
}

static void probes_give_the_sensitivities_back(void **state) {
  (void)state;
  ptq_layer_table t;
  build(PROBES, 0.02);
  assert_int_equal(ptq_layer_table_build(&source, &query, &t, NULL), PTQ_OK);
  assert_int_equal(ptq_layer_sensitivities(&source, "m", &t, NULL), PTQ_OK);
  assert_int_equal(t.n_probes, PROBES);
  assert_int_equal(t.n_probed, N_LAYERS);
  /* the truth, 2 % of noise, and a tenth on top */
  for (int l = 0; l < N_LAYERS; l++)
    if (!(t.sensitivity[l] > 1.05 * truth[l] &&
          t.sensitivity[l] < 1.2 * truth[l]))
      fail_msg("layer %d: %g, true %g", l, t.sensitivity[l], truth[l]);
  ptq_layer_table_release(&t);
  ptq_frame_release(&frame);
}

static void layers_without_a_probe_are_not_taken_for_insensitive(void **state) {
  (void)state;
  ptq_layer_table t;
  build(3, 0.0); /* layers 0 to 2 */
  assert_int_equal(ptq_layer_table_build(&source, &query, &t, NULL), PTQ_OK);
  assert_int_equal(ptq_layer_sensitivities(&source, "m", &t, NULL), PTQ_OK);
  assert_int_equal(t.n_probed, 3);
  assert_true(t.sensitivity[1] < 0.003);
  for (int l = 3; l < N_LAYERS; l++) {
    assert_false(t.probed[l]);
    assert_true(t.sensitivity[l] > 0.5);
  }
  ptq_layer_table_release(&t);
  ptq_frame_release(&frame);
}

static void results_are_counted_on_the_text_that_selects_nothing(void **state) {
  (void)state;
  build(PROBES, 0.0);
  for (int64_t i = 0; i < table.n_points; i++)
    (void)ptq_text_copy(table.points[i].evaluation, 96,
                        i == 0 ? "s.txt:16x8" : "e.txt:4x8");
  assert_string_equal(ptq_result_text(&frame, "m"), "e.txt:4x8");
  for (int64_t i = 0; i < table.n_points; i++)
    (void)ptq_text_copy(table.points[i].evaluation, 96, "s.txt:16x8");
  assert_string_equal(ptq_result_text(&frame, "m"), "s.txt:16x8");
  assert_string_equal(ptq_result_text(&frame, "none"), "");
  assert_true(ptq_same_text("s.txt:2x8@1", "s.txt:16x8"));
  assert_false(ptq_same_text("s.txt:2x8", "s.txt2:2x8"));
  ptq_frame_release(&frame);
}

static void results_are_no_probes(void **state) {
  (void)state;
  ptq_layer_table t;
  build(0, 0.0);
  assert_int_equal(ptq_layer_table_build(&source, &query, &t, NULL), PTQ_OK);
  assert_int_equal(ptq_layer_sensitivities(&source, "m", &t, NULL), PTQ_OK);
  assert_int_equal(t.n_probes, 0);
  assert_true(t.sensitivity[1] == 1.0);
  ptq_layer_table_release(&t);
  ptq_frame_release(&frame);
  build(PROBES, 0.0);
  for (int64_t i = 0; i < table.n_points; i++) /* mixtures of other names */
    if (ptq_obs_is_probe(&frame.obs[i]))
      (void)ptq_text_copy(table.points[i].dtype, sizeof table.points[i].dtype,
                          "mixed:other-00000000");
  ptq_frame_release(&frame);
  build_frame();
  assert_int_equal(ptq_layer_table_build(&source, &query, &t, NULL), PTQ_OK);
  assert_int_equal(ptq_layer_sensitivities(&source, "m", &t, NULL), PTQ_OK);
  assert_int_equal(t.n_probes, 0);
  ptq_layer_table_release(&t);
  ptq_frame_release(&frame);
}

static void the_law_of_a_model_is_found(void **state) {
  (void)state;
  ptq_layer_table t;
  ptq_layer_law law;
  build(0, 0.0);
  assert_int_equal(ptq_layer_table_build(&source, &query, &t, NULL), PTQ_OK);
  for (int l = 0; l < N_LAYERS; l++) t.sensitivity[l] = truth[l];
  assert_int_equal(ptq_layer_law_fit(&source, "m", &t, &law, NULL), PTQ_OK);
  assert_int_equal(law.n, UNIFORM);
  assert_true(fabs(law.a - LAW_A) < 1e-9 && fabs(law.b - LAW_B) < 1e-9);
  const ptq_prediction p = ptq_layer_law_predict(&law, 0.01);
  assert_true(fabs(p.dnll / (exp(LAW_A) * pow(0.01, LAW_B)) - 1.0) < 1e-9);
  assert_true(p.low <= p.dnll && p.dnll <= p.high);
  assert_non_null(ptq_layer_law_predict(&law, 0.0).why);
  const ptq_layer_law none = {.sigma = NAN};
  assert_true(isnan(ptq_layer_law_predict(&none, 1.0).dnll));
  assert_true(fabs(ptq_layer_sum(&source, 0, &t) / 0.2 - 1.0) < 20.0);
  ptq_layer_table_release(&t);
  ptq_frame_release(&frame);
}

static void what_is_missing_is_said(void **state) {
  (void)state;
  ptq_layer_table t;
  ptq_err err = {0};
  ptq_layer_query q = query;
  build(PROBES, 0.0);
  q.method = "gptq";
  assert_int_equal(ptq_layer_table_build(&source, &q, &t, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "model 'm' has no finished uniform point of "
                                  "method 'gptq' in these formats (0 of the "
                                  "method, 8 of the model)"));
  assert_null(t.name);
  err = (ptq_err){0};
  layers[0].layer_bits = NAN;
  layers[0].weights = 0;
  assert_int_equal(ptq_layer_table_build(&source, &query, &t, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "have no sizes"));
  ptq_frame_release(&frame);
}

/* Half of the weights at 2 bits and groups of 64, half at 8 in rows. */
static void features_of_mixed_points_are_means_over_weights(void **state) {
  (void)state;
  ptq_layer_row two[2] = {
      {.weights = 100, .layer_bits = 2.5, .layer_group = 64, .sqnr_output = 10},
      {.weights = 300, .layer_bits = 8.1, .layer_group = -1, .sqnr_output = 9}};
  (void)ptq_text_copy(two[0].layer_dtype, 64, "int2");
  (void)ptq_text_copy(two[1].layer_dtype, 64, "mxint8:scale=floor");
  const ptq_layer_traits l = ptq_layer_traits_of(two, 2);
  assert_true(l.bits == (2.0 * 100 + 8.0 * 300) / 400);
  assert_true(l.row_share == 0.75);
  assert_true(fabs(l.log_group - log(64.0)) < 1e-12);
  ptq_point_row p = {.bits_per_weight = 6.7, .group = 64};
  ptq_model_row m = {.d_model = 128,
                     .d_ff = 128,
                     .n_blocks = 1,
                     .params_quantizable = 1000000};
  const ptq_obs o = {.point = &p, .model = &m, .layers = l};
  (void)ptq_text_copy(p.dtype, sizeof p.dtype, "mixed:b3-0123abcd");
  assert_true(ptq_obs_is_mixed(&o));
  assert_true(ptq_feature_find("bits")->get(&o) == 6.5);
  assert_int_equal(ptq_nominal_bits(&o), 7);
  assert_true(fabs(ptq_effective_group(&o) -
                   pow(64.0, 0.25) * pow(128.0, 0.75)) < 1e-9);
  char label[PTQ_LEVEL_MAX];
  ptq_factor_find("element")->get(&o, label, sizeof label);
  assert_string_equal(label, "mixed");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_table_holds_what_uniform_points_say),
      cmocka_unit_test(formats_and_groups_can_be_narrowed),
      cmocka_unit_test(probes_give_the_sensitivities_back),
      cmocka_unit_test(layers_without_a_probe_are_not_taken_for_insensitive),
      cmocka_unit_test(results_are_counted_on_the_text_that_selects_nothing),
      cmocka_unit_test(results_are_no_probes),
      cmocka_unit_test(the_law_of_a_model_is_found),
      cmocka_unit_test(what_is_missing_is_said),
      cmocka_unit_test(features_of_mixed_points_are_means_over_weights),
  };
  return cmocka_run_group_tests_name("analysis/layers", tests, NULL, NULL);
}
