/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The formats against their own tools: tests/golden/formats/make.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/num/dtype.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/formats/"

static ptq_npy load(const char *path, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, PTQ_NPY_F32, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

static int64_t group_of(const char *text) {
  if (strcmp(text, "row") == 0) return PTQ_GROUP_ROW;
  if (strcmp(text, "tensor") == 0) return PTQ_GROUP_TENSOR;
  return strtoll(text, NULL, 10);
}

static void check_cases(const char *input, const char *cases,
                        const char *values) {
  ptq_npy x = load(input, 2);
  ptq_npy expected = load(values, 3);
  const int64_t rows = x.dims[0], cols = x.dims[1];
  float *y = NULL;
  ptq_err err = {0};
  assert_int_equal(ptq_alloc(&y, x.n, sizeof *y, "y", &err), PTQ_OK);
  FILE *f = fopen(cases, "r");
  assert_non_null(f);
  char dtype[48], group[32];
  int64_t n = 0;
  for (; fscanf(f, "%47s %31s", dtype, group) == 2; n++) {
    assert_true(n < expected.dims[0]);
    const float *theirs = (const float *)expected.data + n * x.n;
    ptq_dtype dt;
    if (ptq_dtype_parse(dtype, &dt, &err) != PTQ_OK ||
        ptq_dtype_round_matrix(&dt, x.data, rows, cols, group_of(group), y,
                               NULL, NULL, &err) != PTQ_OK)
      fail_msg("%s %s: %s", dtype, group, err.msg);
    for (int64_t i = 0; i < x.n; i++) /* memcmp: -0 is not 0 */
      if (memcmp(&y[i], &theirs[i], sizeof y[i]) != 0)
        fail_msg("%s %s, row %d, column %d: %a is %a, not %a", dtype, group,
                 (int)(i / cols), (int)(i % cols),
                 (double)((const float *)x.data)[i], (double)y[i],
                 (double)theirs[i]);
  }
  fclose(f);
  assert_int_equal(n, expected.dims[0]);
  ptq_free(y);
  ptq_npy_release(&x);
  ptq_npy_release(&expected);
}

static void values_are_the_tools_bit_for_bit(void **state) {
  (void)state;
  check_cases(GOLDEN "input.npy", GOLDEN "cases.txt", GOLDEN "expected.npy");
}

/* tests/golden/formats/make_mx.py */
static void microscaling_floats_are_microxcalings_and_torchaos(void **state) {
  (void)state;
  check_cases(GOLDEN "input.npy", GOLDEN "mx_cases.txt",
              GOLDEN "mx_expected.npy");
}

/* tests/golden/formats/make_fp8.py */
static void fp8_is_pytorchs(void **state) {
  (void)state;
  check_cases(GOLDEN "input.npy", GOLDEN "fp8_cases.txt",
              GOLDEN "fp8_expected.npy");
}

/* tests/golden/formats/make_dialects.py */
static void check_set(const char *name) {
  char input[512], cases[512], values[512];
  snprintf(input, sizeof input, GOLDEN "%s_input.npy", name);
  snprintf(cases, sizeof cases, GOLDEN "%s_cases.txt", name);
  snprintf(values, sizeof values, GOLDEN "%s_expected.npy", name);
  check_cases(input, cases, values);
}

#define GOLDEN_SET(test, set)      \
  static void test(void **state) { \
    (void)state;                   \
    check_set(set);                \
  }
GOLDEN_SET(full_range_and_kept_scales_are_auto_rounds, "auto_round")
GOLDEN_SET(searched_scales_are_the_gptq_references, "searched")
GOLDEN_SET(mxint_and_bfp_are_dmx_compressors, "dmx_blocks")
GOLDEN_SET(asymmetric_bfp_is_dmx_compressors, "dmx_asym")
GOLDEN_SET(sbfp12_is_dmx_compressors, "dmx_scaled")
GOLDEN_SET(floats_to_480_are_dmx_compressors, "dmx_floats")
GOLDEN_SET(rounded_once_mxint_is_microxcalings, "mx_int")
GOLDEN_SET(mxint_under_torchaos_scales_is_microxcalings, "mx_int_scales")
GOLDEN_SET(codebooks_are_bitsandbytes, "codebook")
GOLDEN_SET(nested_scales_are_bitsandbytes, "nested")
GOLDEN_SET(nvfp4_is_torchaos_and_auto_rounds, "nvfp4")
GOLDEN_SET(nvfp4_of_small_groups_is_theirs, "nvfp4_small")
GOLDEN_SET(nvfp4_of_large_weights_is_theirs, "nvfp4_far")
GOLDEN_SET(ternary_is_bitnets_and_gptqs, "ternary")

/* MT19937 (Matsumoto and Nishimura 1998), the generator behind PyTorch's. */
typedef struct twister {
  uint32_t s[624];
  int at;
} twister;

static void twister_init(twister *t, uint32_t seed) {
  t->s[0] = seed;
  for (uint32_t i = 1; i < 624; i++)
    t->s[i] = 1812433253U * (t->s[i - 1] ^ (t->s[i - 1] >> 30)) + i;
  t->at = 624;
}

static uint32_t twister_next(twister *t) {
  if (t->at == 624) {
    for (int i = 0; i < 624; i++) {
      const uint32_t v =
          (t->s[i] & 0x80000000U) | (t->s[(i + 1) % 624] & 0x7FFFFFFFU);
      t->s[i] =
          t->s[(i + 397) % 624] ^ (v >> 1) ^ ((v & 1U) != 0 ? 0x9908B0DFU : 0U);
    }
    t->at = 0;
  }
  uint32_t v = t->s[t->at++];
  v ^= v >> 11;
  v ^= (v << 7) & 0x9D2C5680U;
  v ^= (v << 15) & 0xEFC60000U;
  return v ^ (v >> 18);
}

/* torch.randn(n, generator=torch.Generator().manual_seed(seed)) but for last
 * bits: uniform numbers of 24 bits, then Box and Muller in runs of 16, the
 * radius from the first half, the angle from the second. n % 16 == 0. */
static void torch_randn(uint32_t seed, float *x, int64_t n) {
  twister t;
  twister_init(&t, seed);
  for (int64_t i = 0; i < n; i++)
    x[i] = (float)(twister_next(&t) & 0xFFFFFFU) * 0x1p-24F;
  for (int64_t i = 0; i < n; i += 16)
    for (int64_t j = i; j < i + 8; j++) {
      const double r = sqrt(-2.0 * log(1.0 - (double)x[j]));
      const double angle = 6.283185307179586 * (double)x[j + 8];
      x[j] = (float)(r * cos(angle));
      x[j + 8] = (float)(r * sin(angle));
    }
}

static double sqnr(const float *x, const float *y, int64_t n) {
  double signal = 0.0, noise = 0.0;
  for (int64_t i = 0; i < n; i++) {
    const double e = (double)x[i] - (double)y[i];
    signal += (double)x[i] * (double)x[i];
    noise += e * e;
  }
  return 10.0 * log10(signal / noise);
}

/* dB of dmx-compressor 0.1.11 on randn(64, 4096), seed 0. */
static void sqnr_of_gaussian_weights_is_dmx_compressors(void **state) {
  (void)state;
  enum { ROWS = 64, COLS = 4096 };
  static const struct {
    const char *dtype;
    double db[4];
  } table[] = {{"mxint2", {6.325, 5.420, 4.892, 4.721}},
               {"mxint3", {12.537, 11.502, 10.904, 10.699}},
               {"mxint4", {18.620, 17.543, 16.933, 16.714}},
               {"mxint6", {30.714, 29.591, 28.964, 28.744}},
               {"mxint8", {42.762, 41.638, 40.998, 40.777}}};
  static const int64_t groups[4] = {16, 32, 64, 128};
  float *x = NULL, *y = NULL;
  const int64_t n = (int64_t)ROWS * COLS;
  assert_int_equal(ptq_alloc(&x, n, sizeof *x, "x", NULL), PTQ_OK);
  assert_int_equal(ptq_alloc(&y, n, sizeof *y, "y", NULL), PTQ_OK);
  torch_randn(0, x, n);
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += (double)x[i];
  assert_true(fabs(sum - -888.9204999630147) < 1e-2);
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
    for (int g = 0; g < 4; g++) {
      ptq_dtype dt;
      assert_int_equal(ptq_dtype_parse(table[i].dtype, &dt, NULL), PTQ_OK);
      assert_int_equal(ptq_dtype_round_matrix(&dt, x, ROWS, COLS, groups[g], y,
                                              NULL, NULL, NULL),
                       PTQ_OK);
      const double db = sqnr(x, y, n);
      if (fabs(db - table[i].db[g]) > 6e-4) /* the table has three digits */
        fail_msg("%s group %d: %.4f dB, not %.3f", table[i].dtype,
                 (int)groups[g], db, table[i].db[g]);
    }
  ptq_free(x);
  ptq_free(y);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(microscaling_floats_are_microxcalings_and_torchaos),
      cmocka_unit_test(fp8_is_pytorchs),
      cmocka_unit_test(values_are_the_tools_bit_for_bit),
      cmocka_unit_test(full_range_and_kept_scales_are_auto_rounds),
      cmocka_unit_test(searched_scales_are_the_gptq_references),
      cmocka_unit_test(mxint_and_bfp_are_dmx_compressors),
      cmocka_unit_test(asymmetric_bfp_is_dmx_compressors),
      cmocka_unit_test(sbfp12_is_dmx_compressors),
      cmocka_unit_test(floats_to_480_are_dmx_compressors),
      cmocka_unit_test(rounded_once_mxint_is_microxcalings),
      cmocka_unit_test(mxint_under_torchaos_scales_is_microxcalings),
      cmocka_unit_test(codebooks_are_bitsandbytes),
      cmocka_unit_test(nested_scales_are_bitsandbytes),
      cmocka_unit_test(nvfp4_is_torchaos_and_auto_rounds),
      cmocka_unit_test(nvfp4_of_small_groups_is_theirs),
      cmocka_unit_test(nvfp4_of_large_weights_is_theirs),
      cmocka_unit_test(ternary_is_bitnets_and_gptqs),
      cmocka_unit_test(sqnr_of_gaussian_weights_is_dmx_compressors),
  };
  return cmocka_run_group_tests_name("num/dtype_golden", tests, NULL, NULL);
}
