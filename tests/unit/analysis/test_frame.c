/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/analysis/feature.h"
#include "tables.h"

static tables table;
static const synthetic_law law = {
    .intercept = -4.0, .noise = 0.1, .floor = 0.002};

static void every_point_has_one_use_and_is_counted(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  table.states[0] = PTQ_STATE_FAILED;
  table.states[1] = PTQ_STATE_PENDING;
  table.states[2] = PTQ_STATE_STARTED;
  table.points[3].nll = table.models[0].nll_unigram;
  table.points[4].nll = INFINITY;
  table.points[5].dnll = NAN;
  table.points[6].dnll = INFINITY;
  (void)ptq_text_copy(table.points[7].dtype, 64, "mixed:probe.3-0");
  (void)ptq_text_copy(table.models[9].provenance, 16, "dequantized");
  table.models[8].nll_unigram = NAN;
  const ptq_frame_source source = tables_source(&table);
  ptq_frame f;
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(f.n, 320);
  assert_int_equal(f.count[PTQ_USE_FAILED], 1);
  assert_int_equal(f.count[PTQ_USE_PENDING], 2);
  assert_int_equal(f.count[PTQ_USE_COLLAPSED], 2);
  assert_int_equal(f.count[PTQ_USE_DEQUANTIZED], 32);
  assert_int_equal(f.count[PTQ_USE_INCOMPLETE], 34);
  assert_int_equal(f.count[PTQ_USE_PROBE], 1);
  assert_int_equal(f.count[PTQ_USE_OK], 320 - 72);
  assert_int_equal(f.obs[3].use, PTQ_USE_COLLAPSED);
  for (int u = 0; u < PTQ_USE_COUNT; u++) {
    assert_true(ptq_use_name((ptq_use)u)[0] != '\0');
    assert_true(ptq_use_text((ptq_use)u)[0] != '\0');
  }
  ptq_frame_release(&f);
}

static void errors_of_layers_are_averaged_in_logarithms(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  table.n_points = 2;
  ptq_layer_row layers[3] = {
      {.err_hessian = 1e-2}, {.err_hessian = 1e-4}, {.err_hessian = 0.5}};
  const int64_t first[3] = {0, 2, 3};
  ptq_frame_source source = tables_source(&table);
  source.layers = layers;
  source.first_layer = first;
  ptq_frame f;
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(f.obs[0].n_layers, 2);
  assert_true(fabs(f.obs[0].log_err_hessian - log(1e-3)) < 1e-12);
  assert_true(fabs(f.obs[1].log_err_hessian - log(0.5)) < 1e-12);
  ptq_frame_release(&f);
}

/* v_r = r^-2 of 100: trace, entropy and slope are sums one can write down. */
static void spectrum_is_summed_up_by_its_definitions(void **state) {
  (void)state;
  double v[2 * 100], trace = 0.0, entropy = 0.0;
  for (int i = 0; i < 200; i++) v[i] = pow(i % 100 + 1.0, -2.0);
  for (int i = 0; i < 100; i++) trace += v[i];
  for (int i = 0; i < 100; i++) entropy -= v[i] / trace * log(v[i] / trace);
  const ptq_spectrum_traits t = ptq_spectrum_traits_of(v, 100);
  assert_true(fabs(t.log_trace - log(trace / 100.0)) < 1e-12);
  assert_true(fabs(t.top_share - 1.0 / trace) < 1e-12);
  assert_true(fabs(t.rank - exp(entropy) / 100.0) < 1e-12);
  assert_true(fabs(t.log_cond - 2.0 * log(91.0)) < 1e-12);
  assert_true(fabs(t.tail - 2.0) < 1e-12);
  const ptq_view_spectrum spectra[2] = {{.site = "attn_in",
                                         .subject = 1,
                                         .n_blocks = 2,
                                         .d = 100,
                                         .n_tokens = 10,
                                         .values = v},
                                        {.site = "attn_in_nofirst",
                                         .subject = 0,
                                         .n_blocks = 1,
                                         .d = 100,
                                         .n_tokens = 0,
                                         .values = v}};
  ptq_model_traits m[2];
  ptq_model_traits_of(spectra, 2, m, 2);
  assert_true(fabs(m[1].all.tail - 2.0) < 1e-12);
  assert_true(isnan(m[0].all.tail) && isnan(m[0].nofirst.tail));
  v[50] = NAN; /* half of the spectrum is no spectrum */
  assert_true(isnan(ptq_spectrum_traits_of(v, 102).tail));
}

static void rounded_twin_lends_its_sqnr(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  const ptq_frame_source source = tables_source(&table);
  ptq_frame f;
  (void)ptq_text_copy(table.points[4].dtype, 48, "int9"); /* rtn, alone */
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  for (int64_t i = 0; i < f.n; i++) {
    const ptq_point_row *p = f.obs[i].point;
    if (strcmp(p->method, "rtn") == 0)
      assert_true(f.obs[i].sqnr_rtn == p->sqnr_weight);
    else if (i > 10) /* rtn's two groups stand before gptq's two */
      assert_true(f.obs[i].sqnr_rtn == p[-2].sqnr_weight);
  }
  assert_true(isnan(f.obs[6].sqnr_rtn)); /* its twin has become int9 */
  ptq_frame_release(&f);
}

static void covariates_are_numbers_or_unknown(void **state) {
  (void)state;
  ptq_model_row m = {.covariates = "train=1,train_tokens=3e9,lr_state=wsd"};
  assert_true(ptq_covariate(&m, "train_tokens") == 3e9);
  assert_true(ptq_covariate(&m, "train") == 1.0);
  assert_true(isnan(ptq_covariate(&m, "tokens")));
  assert_true(isnan(ptq_covariate(&m, "lr_state")));
  const ptq_obs o = {.model = &m};
  char text[PTQ_LEVEL_MAX];
  ptq_factor_find("lr_state")->get(&o, text, sizeof text);
  assert_string_equal(text, "wsd");
  m.covariates[0] = '\0';
  ptq_factor_find("lr_state")->get(&o, text, sizeof text);
  assert_string_equal(text, "?");
}

static void point_of_no_model_is_refused(void **state) {
  (void)state;
  tables_synthetic(&table, &law, 1);
  table.subject[7] = 99;
  const ptq_frame_source source = tables_source(&table);
  ptq_frame f;
  ptq_err err = {0};
  assert_int_equal(ptq_frame_build(&source, &f, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "point 7: subject 99"));
  assert_null(f.obs);
}

static void empty_store_is_an_empty_frame(void **state) {
  (void)state;
  const ptq_frame_source source = {0};
  ptq_frame f;
  assert_int_equal(ptq_frame_build(&source, &f, NULL), PTQ_OK);
  assert_int_equal(f.n, 0);
  ptq_frame_release(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_point_has_one_use_and_is_counted),
      cmocka_unit_test(errors_of_layers_are_averaged_in_logarithms),
      cmocka_unit_test(spectrum_is_summed_up_by_its_definitions),
      cmocka_unit_test(rounded_twin_lends_its_sqnr),
      cmocka_unit_test(covariates_are_numbers_or_unknown),
      cmocka_unit_test(point_of_no_model_is_refused),
      cmocka_unit_test(empty_store_is_an_empty_frame),
  };
  return cmocka_run_group_tests_name("analysis/frame", tests, NULL, NULL);
}
