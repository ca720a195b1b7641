/* SPDX-License-Identifier: GPL-3.0-or-later */
/* EoRA and LQER: against decompositions in numpy (tests/golden/low_rank), and
 * what they promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layer.h"
#include "low_rank.h"
#include "ptq/base/npy.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/"

static ptq_npy load(const char *path, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, PTQ_NPY_F32, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

static layer golden_layer(void) {
  ptq_npy w = load(GOLDEN "gptq/w.npy", 2), h = load(GOLDEN "gptq/h.npy", 2);
  layer l = layer_room_for(w.dims[0], w.dims[1]);
  memcpy(l.w, w.data, (size_t)w.n * sizeof *l.w);
  for (int64_t i = 0; i < h.n; i++) l.h[i] = (double)((float *)h.data)[i];
  for (int64_t i = 0; i < l.cols; i++)
    l.mean_abs[i] = 0.8 * sqrt(l.h[i * l.cols + i]);
  ptq_npy_release(&w);
  ptq_npy_release(&h);
  return l;
}

/* tr(E M E') under LQER's metric. */
static double scaled_error(const layer *l) {
  double sum = 0.0;
  for (int64_t i = 0; i < l->rows * l->cols; i++) {
    const double e = ((double)l->w[i] - (double)l->y[i]) *
                     fmax(l->mean_abs[i % l->cols], 1e-4);
    sum += e * e;
  }
  return sum;
}

static void weights_are_those_of_a_singular_value_decomposition(void **state) {
  (void)state;
  layer l = golden_layer();
  ptq_npy y = load(GOLDEN "low_rank/y.npy", 3);
  FILE *f = fopen(GOLDEN "low_rank/cases.txt", "r");
  assert_non_null(f);
  char method[16], dtype[16], options[64];
  long long group, rank;
  double least, before;
  int64_t n = 0;
  const int64_t size = l.rows * l.cols;
  for (; fscanf(f, "%15s %15s %lld %lld %lf %lf", method, dtype, &group, &rank,
                &least, &before) == 6;
       n++) {
    const bool eora = strcmp(method, "eora") == 0;
    snprintf(options, sizeof options, "base=rtn,precision=f32,rank=%lld", rank);
    layer_quantize(&l, method, options, dtype, group);
    const double error = eora ? layer_error(&l) : scaled_error(&l);
    /* Weights are rounded to float32: of relative size 2^-24, each adds about
     * that times itself to a residual of similar size; rank 24 leaves nothing
     * but these roundings. */
    if (!(fabs(error - least) < 1e-5 * least + 1e-10 * before))
      fail_msg("%s rank %lld: %.12g, not %.12g", method, rank, error, least);
    for (int64_t i = 0; i < size; i++) {
      const float theirs = ((float *)y.data)[n * size + i];
      const float off = fabsf(l.y[i] - theirs);
      /* the least direction that eigh keeps is 1e-12 of the first, which
       * amplifies 2^-53 to 1e-4 of the error (0.01) in the dead column */
      if (!(off < 2e-6F) && l.h[(i % l.cols) * (l.cols + 1)] > 0.0)
        fail_msg("%s rank %lld, weight %lld: %g, not %g", method, rank,
                 (long long)i, (double)l.y[i], (double)theirs);
    }
  }
  fclose(f);
  assert_int_equal(n, y.dims[0]);
  layer_release(&l);
  ptq_npy_release(&y);
}

static void more_rank_is_less_error_and_more_bits(void **state) {
  (void)state;
  layer l = layer_random(48, 64, 3);
  static const char *const ranks[] = {"rank=1", "rank=4", "rank=16"};
  layer_quantize(&l, "gptq", "", "int3", 32);
  double last = layer_error(&l);
  const double bits = l.storage_bits, damp = l.damp;
  for (int i = 0; i < 3; i++) {
    layer_quantize(&l, "eora", ranks[i], "int3", 32);
    assert_true(layer_error(&l) < last);
    last = layer_error(&l);
    const double rank = i == 0 ? 1.0 : i == 1 ? 4.0 : 16.0;
    assert_true(l.storage_bits == bits + 16.0 * rank * (48 + 64));
    assert_true(l.damp == damp);
  }
  layer_release(&l);
}

static void a_rank_beyond_the_layer_is_cut_to_it(void **state) {
  (void)state;
  layer l = layer_random(5, 32, 4);
  layer_quantize(&l, "rtn", "", "int2", 16);
  const double bits = l.storage_bits;
  layer_quantize(&l, "eora", "base=rtn,rank=500,precision=f32", "int2", 16);
  assert_true(l.storage_bits == bits + 32.0 * 5 * (5 + 32));
  for (int64_t i = 0; i < 5 * 32; i++) /* full rank gives all back */
    assert_true(fabsf(l.y[i] - l.w[i]) < 1e-7F);
  layer_release(&l);
}

static void codes_stay_the_bases(void **state) {
  (void)state;
  layer l = layer_random(20, 64, 5);
  layer_quantize(&l, "gptq", "damp=0.05,act_order=true", "int4", 32);
  layer_keep(&l);
  layer_quantize(&l, "eora", "damp=0.05,act_order=true,rank=2", "int4", 32);
  assert_memory_equal(l.q, l.kept_q, 20 * 64 * sizeof *l.q);
  assert_true(memcmp(l.y, l.kept_y, 20 * 64 * sizeof *l.y) != 0);
  assert_true(l.extra_hash != 0 && l.damp == 0.05);
  layer_release(&l);
}

static void an_exact_base_is_left_alone(void **state) {
  (void)state;
  layer l = layer_random(8, 16, 6);
  memset(l.w, 0, 8 * 16 * sizeof *l.w);
  layer_quantize(&l, "eora", "base=rtn,rank=3", "int4", 16);
  for (int i = 0; i < 8 * 16; i++) assert_true(l.y[i] == 0.0F);
  layer_quantize(&l, "lqer", "rank=3", "int4", 16);
  for (int i = 0; i < 8 * 16; i++) assert_true(l.y[i] == 0.0F);
  layer_release(&l);
}

static void inputs_that_are_not_finite_are_refused(void **state) {
  (void)state;
  layer l = layer_random(8, 16, 8);
  ptq_err err = {0};
  l.mean_abs[5] = NAN;
  assert_int_equal(layer_try(&l, "lqer", "", "int4", 16, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "input 5 is"));
  err = (ptq_err){0};
  l.h[3 * 16 + 7] = l.h[7 * 16 + 3] = INFINITY;
  assert_int_equal(layer_try(&l, "eora", "base=rtn", "int4", 16, &err),
                   PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "NaN or Inf"));
  layer_release(&l);
}

static void precisions_round_to_nearest_even(void **state) {
  (void)state;
  assert_true(ptq_factor_round(PTQ_FACTOR_F16, 1.0 + 0x1p-11) == 1.0);
  assert_true(ptq_factor_round(PTQ_FACTOR_F16, 1.0 + 3 * 0x1p-11) ==
              1.0 + 0x1p-9);
  assert_true(ptq_factor_round(PTQ_FACTOR_F16, 0x1.8p-25) == 0x1p-24);
  assert_true(ptq_factor_round(PTQ_FACTOR_F16, 65519.0) == 65504.0);
  assert_true(isinf(ptq_factor_round(PTQ_FACTOR_F16, -65520.0)));
  assert_true(ptq_factor_round(PTQ_FACTOR_BF16, 1.0 + 0x1p-8) == 1.0);
  assert_true(ptq_factor_round(PTQ_FACTOR_F32, 0.1) == (double)0.1F);
  assert_true(ptq_factor_round(PTQ_FACTOR_F32, 1e-45) == (double)1e-45F);
}

static void finer_factors_lose_less(void **state) {
  (void)state;
  layer l = layer_random(32, 64, 7);
  layer_quantize(&l, "eora", "rank=8,precision=bf16", "int2", 32);
  const double bf16 = layer_error(&l);
  layer_quantize(&l, "eora", "rank=8,precision=f16", "int2", 32);
  const double f16 = layer_error(&l);
  layer_quantize(&l, "eora", "rank=8,precision=f32", "int2", 32);
  const double f32 = layer_error(&l);
  assert_true(f32 < f16 && f16 < bf16 && bf16 < 1.01 * f32);
  layer_release(&l);
}

static void bases_and_options_are_spelled_together(void **state) {
  (void)state;
  static const struct {
    const char *name;
    ptq_method_option options[4];
    size_t n;
    const char *spelled;
    ptq_calibration_mode mode;
  } cases[] = {
      {"eora", {{"rank", "32"}}, 1, "", PTQ_CALIB_SEQUENTIAL},
      {"eora",
       {{"rank", "8"}, {"base", "gptq"}, {"hessian", "static"}},
       3,
       "hessian=static,rank=8",
       PTQ_CALIB_STATIC},
      {"eora",
       {{"precision", "bf16"}, {"base", "rtn"}, {"hessian", "static"}},
       3,
       "base=rtn,precision=bf16",
       PTQ_CALIB_STATIC},
      {"lqer", {{"base", "rtn"}}, 1, "", PTQ_CALIB_STATIC},
      {"lqer",
       {{"hessian", "sequential"}, {"rank", "4"}},
       2,
       "hessian=sequential,rank=4",
       PTQ_CALIB_SEQUENTIAL},
      {"lqer",
       {{"rank", "4"}, {"damp", "0.1"}, {"base", "gptq"}},
       3,
       "base=gptq,damp=0.1,rank=4",
       PTQ_CALIB_SEQUENTIAL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_method m;
    ptq_err err = {0};
    if (ptq_method_parse(cases[i].name, cases[i].options, cases[i].n, &m,
                         &err) != PTQ_OK)
      fail_msg("%s", err.msg);
    assert_string_equal(m.options, cases[i].spelled);
    assert_int_equal(m.family->mode(&m), cases[i].mode);
  }
}

static void bad_bases_and_options_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *name;
    ptq_method_option option;
    const char *says;
  } cases[] = {
      {"eora", {"base", "lqer"}, "'base' is one of rtn, gptq"},
      {"eora", {"rank", "0"}, "'rank' is an integer from 1"},
      {"eora", {"precision", "fp8"}, "one of f32, f16, bf16"},
      {"eora", {"rnk", "1"}, "own options: base, precision, rank"},
      {"lqer", {"damp", "0.1"}, "over its base: method 'rtn' has no option"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_method m;
    ptq_err err = {0};
    assert_int_equal(
        ptq_method_parse(cases[i].name, &cases[i].option, 1, &m, &err),
        PTQ_E_ARG);
    if (strstr(err.msg, cases[i].says) == NULL)
      fail_msg("case %d says: %s", (int)i, err.msg);
  }
}

static void dtypes_are_the_bases(void **state) {
  (void)state;
  ptq_method m;
  ptq_dtype dt;
  const ptq_method_option hqq = {"base", "hqq"};
  assert_int_equal(ptq_method_parse("eora", &hqq, 1, &m, NULL), PTQ_OK);
  assert_int_equal(ptq_dtype_parse("mxint4", &dt, NULL), PTQ_OK);
  assert_int_equal(m.family->accepts(&m, &dt, 32, NULL), PTQ_E_ARG);
  assert_int_equal(ptq_dtype_parse("int4:asym", &dt, NULL), PTQ_OK);
  assert_int_equal(m.family->accepts(&m, &dt, 32, NULL), PTQ_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(weights_are_those_of_a_singular_value_decomposition),
      cmocka_unit_test(more_rank_is_less_error_and_more_bits),
      cmocka_unit_test(a_rank_beyond_the_layer_is_cut_to_it),
      cmocka_unit_test(codes_stay_the_bases),
      cmocka_unit_test(an_exact_base_is_left_alone),
      cmocka_unit_test(inputs_that_are_not_finite_are_refused),
      cmocka_unit_test(precisions_round_to_nearest_even),
      cmocka_unit_test(finer_factors_lose_less),
      cmocka_unit_test(bases_and_options_are_spelled_together),
      cmocka_unit_test(bad_bases_and_options_are_refused),
      cmocka_unit_test(dtypes_are_the_bases),
  };
  return cmocka_run_group_tests_name("quant/low_rank", tests, layer_set_up,
                                     NULL);
}
