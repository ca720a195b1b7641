/* SPDX-License-Identifier: GPL-3.0-or-later */
/* HQQ against its own package, in float32: tests/golden/hqq/make.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "ptq/base/npy.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/"

static ptq_npy load(const char *path, ptq_npy_type type, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, type, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

static int64_t group_of(const char *text) {
  if (strcmp(text, "row") == 0) return PTQ_GROUP_ROW;
  if (strcmp(text, "tensor") == 0) return PTQ_GROUP_TENSOR;
  return strtoll(text, NULL, 10);
}

static double mean_error(const layer *l) {
  double sum = 0.0;
  for (int64_t i = 0; i < l->rows * l->cols; i++)
    sum += fabs((double)l->w[i] - (double)l->y[i]);
  return sum / (double)(l->rows * l->cols);
}

/* A weight is scale * (code - zero) of the parameters handed out. */
static void check_restored(const layer *l, int64_t group) {
  const int64_t n = ptq_dtype_groups(l->cols, group);
  for (int64_t r = 0; r < l->rows; r++)
    for (int64_t c = 0; c < l->cols; c++) {
      const int64_t i = r * l->cols + c;
      const ptq_group_params *p =
          group == PTQ_GROUP_TENSOR
              ? l->params
              : l->params + r * n + (group > 0 ? c / group : 0);
      assert_true(l->y[i] == p->scale * ((float)l->q[i] - p->zero));
    }
}

static void codes_are_the_references(void **state) {
  (void)state;
  ptq_npy w = load(GOLDEN "gptq/w.npy", PTQ_NPY_F32, 2);
  ptq_npy codes = load(GOLDEN "hqq/codes.npy", PTQ_NPY_U8, 3);
  layer l = layer_room_for(w.dims[0], w.dims[1]);
  FILE *f = fopen(GOLDEN "hqq/cases.txt", "r");
  assert_non_null(f);
  char group[32], options[96], dtype[32];
  int bits, factor;
  double error;
  int64_t n = 0;
  for (; fscanf(f, "%d %31s %d %95s %lf", &bits, group, &factor, options,
                &error) == 5;
       n++) {
    assert_true(n < codes.dims[0]);
    for (int64_t i = 0; i < w.n; i++)
      l.w[i] = ((const float *)w.data)[i] * (float)factor;
    snprintf(dtype, sizeof dtype, "int%d:asym", bits);
    if (strcmp(options, "-") == 0) options[0] = '\0';
    layer_quantize(&l, "hqq", options, dtype, group_of(group));
    const uint8_t *theirs = (const uint8_t *)codes.data + n * w.n;
    int64_t equal = 0;
    for (int64_t i = 0; i < w.n; i++) equal += l.q[i] == theirs[i];
    const double ratio = mean_error(&l) / error - 1.0;
    /* of 4608 codes: all but four */
    if ((double)equal < 0.999 * (double)w.n || fabs(ratio) > 1e-4)
      fail_msg("%s %s %s times %d: %lld of %lld codes, error %+.4f %%", dtype,
               group, options, factor, (long long)equal, (long long)w.n,
               100.0 * ratio);
    check_restored(&l, group_of(group));
  }
  fclose(f);
  assert_int_equal(n, codes.dims[0]);
  layer_release(&l);
  ptq_npy_release(&w);
  ptq_npy_release(&codes);
}

static void zeros_and_short_groups_are_restored(void **state) {
  (void)state;
  layer l = layer_random(3, 40, 5);
  memset(l.w, 0, 40 * sizeof *l.w);
  layer_quantize(&l, "hqq", "", "int3:asym", 16);
  check_restored(&l, 16);
  for (int64_t i = 0; i < 40; i++) assert_true(l.y[i] == 0.0F);
  /* three codes of bits, three groups a row with 64 bits each */
  assert_true(l.storage_bits == 3.0 * 40 * 3 + 3.0 * 3 * 64);
  assert_true(isnan(l.damp));
  layer_release(&l);
}

static void the_solver_lowers_the_error(void **state) {
  (void)state;
  layer l = layer_random(16, 128, 6);
  layer_quantize(&l, "hqq", "optimize=false", "int3:asym", 32);
  const double before = mean_error(&l);
  layer_quantize(&l, "hqq", "", "int3:asym", 32);
  assert_true(mean_error(&l) < before);
  layer_release(&l);
}

static void bits_do_not_depend_on_threads(void **state) {
  (void)state;
  layer l = layer_random(200, 96, 7);
  layer_quantize(&l, "hqq", "", "int4:asym", 32);
  layer_keep(&l);
  l.threads = 3;
  layer_quantize(&l, "hqq", "", "int4:asym", 32);
  const size_t n = (size_t)(l.rows * l.cols);
  assert_memory_equal(l.y, l.kept_y, n * sizeof *l.y);
  assert_memory_equal(l.q, l.kept_q, n * sizeof *l.q);
  layer_release(&l);
}

static void a_range_that_overflows_names_its_group(void **state) {
  (void)state;
  layer l = layer_random(2, 32, 8);
  l.w[32 + 17] = FLT_MAX;
  l.w[32 + 18] = -FLT_MAX;
  ptq_err err = {0};
  assert_int_equal(layer_try(&l, "hqq", "", "int4:asym", 16, &err),
                   PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "row 1, column 16"));
  layer_release(&l);
}

static void other_formats_are_refused_with_the_reason(void **state) {
  (void)state;
  static const char *const cases[][2] = {
      {"int4", "write 'int4:asym', not 'int4'"},
      {"mxint4", "scale and a zero point, which 'mxint4' does not have"},
      {"mxfp4", "int2:asym to int8:asym"},
  };
  ptq_method m;
  assert_int_equal(ptq_method_parse("hqq", NULL, 0, &m, NULL), PTQ_OK);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_dtype dt;
    ptq_err err = {0};
    assert_int_equal(ptq_dtype_parse(cases[i][0], &dt, NULL), PTQ_OK);
    assert_int_equal(m.family->accepts(&m, &dt, 32, &err), PTQ_E_ARG);
    if (strstr(err.msg, cases[i][1]) == NULL) fail_msg("%s", err.msg);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(codes_are_the_references),
      cmocka_unit_test(zeros_and_short_groups_are_restored),
      cmocka_unit_test(the_solver_lowers_the_error),
      cmocka_unit_test(bits_do_not_depend_on_threads),
      cmocka_unit_test(a_range_that_overflows_names_its_group),
      cmocka_unit_test(other_formats_are_refused_with_the_reason),
  };
  return cmocka_run_group_tests_name("quant/method_hqq", tests, layer_set_up,
                                     NULL);
}
