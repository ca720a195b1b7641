/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layer.h"

/* LDLQ is GPTQ in the opposite order: the same frame, and an error nearby. */
static void gptq_in_the_frame_is_about_ldlq(void **state) {
  (void)state;
  layer l = layer_random(64, 96, 41);
  layer_quantize(&l, "quip", "tune=0", "int4", 32);
  const double ldlq = layer_error(&l);
  const uint64_t hash = l.extra_hash;
  layer_quantize(&l, "rht", "static_groups=true", "int4", 32);
  const double gptq = layer_error(&l);
  assert_true(gptq > 0.8 * ldlq && gptq < 1.25 * ldlq);
  assert_true(hash != 0 && l.extra_hash != 0);
  layer_release(&l);
}

static void outliers_are_spread_for_any_base(void **state) {
  (void)state;
  static const char *const bases[] = {"rtn", "gptq", "descent"};
  layer l = layer_random(64, 128, 42);
  for (int64_t r = 0; r < 64; r += 3) l.w[r * 128 + (r * 7) % 128] = 1.5F;
  for (int i = 0; i < 3; i++) {
    char option[32];
    snprintf(option, sizeof option, "base=%s", bases[i]);
    layer_quantize(&l, bases[i], "", "int3", 64);
    const double plain = layer_error(&l), bits = l.storage_bits;
    layer_quantize(&l, "rht", option, "int3", 64);
    if (!(layer_error(&l) < 0.85 * plain))
      fail_msg("%s: %g, then %g", bases[i], plain, layer_error(&l));
    assert_true(l.storage_bits == bits);
  }
  layer_release(&l);
}

static void fine_codes_lose_little(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{24, 36}, {1, 33}, {33, 1}, {7, 92}};
  for (int i = 0; i < 4; i++) {
    layer l = layer_random(shapes[i][0], shapes[i][1], 43);
    layer_quantize(&l, "rht", "base=rtn", "mxint8", 16);
    for (int64_t k = 0; k < l.rows * l.cols; k++)
      assert_true(fabsf(l.y[k] - l.w[k]) < 0.01F);
    layer_release(&l);
  }
}

static void bits_do_not_depend_on_threads(void **state) {
  (void)state;
  layer l = layer_random(300, 96, 44);
  const size_t size = 300 * 96 * sizeof *l.y;
  layer_quantize(&l, "rht", "", "int4", 32);
  layer_keep(&l);
  l.threads = 3;
  layer_quantize(&l, "rht", "", "int4", 32);
  assert_memory_equal(l.y, l.kept_y, size);
  layer_quantize(&l, "rht", "seed=1", "int4", 32);
  assert_true(memcmp(l.y, l.kept_y, size) != 0);
  layer_release(&l);
}

static void options_are_the_bases_and_its_own(void **state) {
  (void)state;
  const ptq_method_option options[] = {
      {"seed", "3"}, {"base", "descent"}, {"sweeps", "1"}};
  ptq_method m;
  ptq_err err = {0};
  assert_int_equal(ptq_method_parse("rht", options, 3, &m, NULL), PTQ_OK);
  assert_string_equal(m.options, "base=descent,seed=3,sweeps=1");
  assert_int_equal(m.family->mode(&m), PTQ_CALIB_STATIC);
  const ptq_method_option bad[] = {{"base", "gptaq"}};
  assert_int_equal(ptq_method_parse("rht", bad, 1, &m, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "asks for more of the inputs"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gptq_in_the_frame_is_about_ldlq),
      cmocka_unit_test(outliers_are_spread_for_any_base),
      cmocka_unit_test(fine_codes_lose_little),
      cmocka_unit_test(bits_do_not_depend_on_threads),
      cmocka_unit_test(options_are_the_bases_and_its_own),
  };
  return cmocka_run_group_tests_name("quant/method_rht", tests, layer_set_up,
                                     NULL);
}
