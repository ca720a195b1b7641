/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/num/dtype.h"

static ptq_dtype parsed(const char *text) {
  ptq_dtype dt;
  ptq_err err = {0};
  if (ptq_dtype_parse(text, &dt, &err) != PTQ_OK) fail_msg("%s", err.msg);
  return dt;
}

static void every_family_is_complete(void **state) {
  (void)state;
  int n = 0;
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++, n++) {
    assert_non_null((*f)->name);
    assert_non_null((*f)->suffix);
    assert_true(strlen((*f)->summary) > 0 && strlen((*f)->source) > 0);
    assert_true((*f)->min_bits >= 1 && (*f)->min_bits <= (*f)->max_bits);
    assert_non_null((*f)->fit);
    assert_non_null((*f)->round);
    assert_non_null((*f)->param_bits);
    assert_non_null((*f)->levels);
    assert_non_null((*f)->error_bound);
    assert_true(!(*f)->bare || (*f)->min_bits == (*f)->max_bits);
    assert_true(((*f)->fit64 == NULL) == ((*f)->round64 == NULL));
    assert_true(((*f)->fit64 == NULL) == ((*f)->shrink64 == NULL));
  }
  assert_int_equal(n, 16);
}

static void every_spelling_is_its_own_canonical_form(void **state) {
  (void)state;
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++)
    for (int b = (*f)->min_bits; b <= (*f)->max_bits; b++) {
      char text[PTQ_DTYPE_NAME_MAX];
      ptq_dtype_spelling(*f, b, text);
      const ptq_dtype dt = parsed(text);
      assert_ptr_equal(dt.family, *f);
      assert_int_equal(dt.bits, b);
      assert_string_equal(dt.name, text);
    }
}

static void defaults_are_left_out_of_the_canonical_form(void **state) {
  (void)state;
  assert_string_equal(parsed("int4:sym").name, "int4");
  assert_string_equal(parsed("int4:asym").name, "int4:asym");
  assert_string_equal(parsed("int4:keep=f16:full").name, "int4:full");
  assert_string_equal(parsed("int4:full:keep=f32").name, "int4:full:keep=f32");
  assert_string_equal(parsed("int4:full:dq=fp8").name, "int4:full:dq=fp8");
  assert_string_equal(parsed("mxfp4:scale=floor:round=even").name, "mxfp4");
  assert_string_equal(parsed("mxfp6_e3m2:exp=log2f:scale=rceil").name,
                      "mxfp6_e3m2:scale=rceil:exp=log2f");
}

static void bad_spellings_name_what_is_known(void **state) {
  (void)state;
  static const struct {
    const char *text, *says;
  } cases[] = {
      {"itn4", "did you mean 'int4'"},
      {"nvfp5", "did you mean 'nvfp4'; known: int2..int8, mxint2..mxint8"},
      {"", "unknown dtype ''"},
      {"int", "unknown dtype"},
      {"int4x", "unknown dtype 'int4x'"},
      {"int1", "2 to 8 bits"},
      {"int9", "2 to 8 bits"},
      {"int04", "2 to 8 bits"},
      {"int99999999999999999999", "2 to 8 bits"},
      {"mxint16", "2 to 8 bits"},
      {"int4:", "no option after the colon"},
      {"int4:zero", "no option 'zero'; known: [:sym|asym|full]"},
      {"mxfp5", "unknown dtype 'mxfp5'"},
      {"mxfp6", "did you mean 'mxfp"},
      {"mxfp8_e3m4", "did you mean 'mxfp6_e3m2'"},
      {"mxfp4:scale=up", "no option 'scale=up'; known: [:scale=floor|ceil"},
      {"mxfp4:scale=", "no option 'scale='"},
      {"mxfp4:scale=ceil:scale=even", "'scale=even' repeats an option"},
      {"mxfp4:scale=ceil:", "no option after the colon"},
      {"mxfp4:asym", "no option 'asym'"},
      {"fp8_e4m3:asym", "no option 'asym'; known: [:scale=absmax|mse]"},
      {"int4:keep=f16:dq=fp8", "'dq=fp8' repeats an option"},
      {"mxint4:asym",
       "no option 'asym'; known: [:scale=floor|ceil|even|rceil]"},
      {"mxint4:dq=fp8", "no option 'dq=fp8': its scales have 8 bits already"},
      {"mxint4:exp=log2f", "add round=even or round=away"},
      {"mxint4:scale=ceil", "add round=even or round=away"},
      {"int4:full:dq=bnb", "scales of both signs"},
      {"int4:full:asym", "'asym' repeats an option"},
      {"mxfp4:sat=dmx:scale=even", "leave sat=dmx or the others out"},
      {"mxfp4:sat=dmx:round=away", "leave sat=dmx or the others out"},
      {"nvfp4:keep=f16", "its scales have 8 bits already; known:"},
      {"ternary:trits:dq=fp8", "take trits=sym"},
      {"nf5", "2 to 4 bits"},
      {"ternary2", "did you mean 'ternary'"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_dtype dt;
    ptq_err err = {0};
    assert_int_equal(ptq_dtype_parse(cases[i].text, &dt, &err), PTQ_E_ARG);
    if (strstr(err.msg, cases[i].says) == NULL)
      fail_msg("'%s' says: %s", cases[i].text, err.msg);
    assert_null(dt.family);
  }
}

static void a_short_last_group_counts_as_one(void **state) {
  (void)state;
  assert_int_equal(ptq_dtype_groups(128, 32), 4);
  assert_int_equal(ptq_dtype_groups(129, 32), 5);
  assert_int_equal(ptq_dtype_groups(7, 32), 1);
  assert_int_equal(ptq_dtype_groups(129, PTQ_GROUP_ROW), 1);
  assert_int_equal(ptq_dtype_groups(129, PTQ_GROUP_TENSOR), 1);
}

static double bits(const char *dtype, int64_t rows, int64_t cols, int64_t g) {
  const ptq_dtype dt = parsed(dtype);
  return ptq_dtype_storage_bits(&dt, rows, cols, g);
}

static void storage_counts_codes_and_parameters(void **state) {
  (void)state;
  assert_true(bits("int4", 2, 64, 32) == 2 * 64 * 4 + 4 * 32);
  assert_true(bits("int4", 2, 65, 32) == 2 * 65 * 4 + 6 * 32);
  assert_true(bits("int3:asym", 2, 64, 32) == 2 * 64 * 3 + 4 * (32 + 3));
  assert_true(bits("int8", 2, 64, PTQ_GROUP_ROW) == 2 * 64 * 8 + 2 * 32);
  assert_true(bits("int8", 2, 64, PTQ_GROUP_TENSOR) == 2 * 64 * 8 + 32);
  assert_true(bits("mxint3", 1, 128, 128) / 128 == 3.0625);
  assert_true(bits("mxint4", 1, 16, 16) / 16 == 4.5);
  assert_true(bits("mxfp4", 1, 32, 32) / 32 == 4.25);
  assert_true(bits("mxfp6_e2m3", 1, 32, 32) / 32 == 6.25);
  assert_true(bits("mxfp8_e5m2", 1, 32, 32) / 32 == 8.25);
  assert_true(bits("int4:full", 1, 32, 32) / 32 == 4.5);
  assert_true(bits("int4:asym:keep=bf16", 1, 32, 32) == 32 * 4 + 16 + 4);
  assert_true(bits("nvfp4", 2, 32, 16) == 2 * 32 * 4 + 4 * 8 + 32);
  assert_true(bits("nf4", 1, 64, 64) / 64 == 4.5);
  assert_true(bits("nf4:dq=bnb", 512, 64, 64) == 512 * (64 * 4 + 8) + 3 * 32);
  assert_true(bits("fp4_bnb:dq=fp8", 2, 64, 64) == 2 * (64 * 4 + 8) + 32);
  assert_true(bits("ternary", 1, 100, PTQ_GROUP_TENSOR) == 100 * 1.6 + 32);
  assert_true(bits("ternary:trits", 1, 100, PTQ_GROUP_ROW) == 100 * 1.6 + 64);
  assert_true(bits("bfp12", 1, 64, 64) / 64 == 12.125);
  assert_true(bits("sbfp12", 1, 16, 16) / 16 == 4.5);
  assert_true(bits("fp8_e4m3", 2, 32, PTQ_GROUP_ROW) == 2 * 32 * 8 + 2 * 32);
  /* int64 would overflow */
  assert_true(bits("int4", 3000000000, 3000000000, PTQ_GROUP_TENSOR) > 3e19);
}

static void nan_and_inf_are_named_with_row_and_column(void **state) {
  (void)state;
  static const struct {
    float value;
    int at;
    const char *says;
  } cases[] = {{NAN, 0, "row 0, column 0 is NaN"},
               {INFINITY, 38, "row 1, column 18 is Inf"},
               {-INFINITY, 59, "row 2, column 19 is Inf"}};
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++)
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
      char text[PTQ_DTYPE_NAME_MAX];
      ptq_dtype_spelling(*f, (*f)->max_bits, text);
      const ptq_dtype dt = parsed(text);
      float w[60] = {0}, y[60];
      w[cases[i].at] = cases[i].value;
      ptq_err err = {0};
      assert_int_equal(
          ptq_dtype_round_matrix(&dt, w, 3, 20, 16, y, NULL, NULL, &err),
          PTQ_E_NUMERIC);
      assert_non_null(strstr(err.msg, cases[i].says));
    }
}

static void an_overflowing_scale_is_named(void **state) {
  (void)state;
  static const struct {
    const char *dtype;
    float value;
    ptq_status expected;
  } cases[] = {{"int4", 0x1p126F, PTQ_OK},
               {"int4", 3.0e38F, PTQ_E_NUMERIC},
               {"int4:asym", 3.0e38F, PTQ_OK},
               {"mxint4", 0x1.fffffep125F, PTQ_OK},
               {"mxint4", 0x1p126F, PTQ_E_NUMERIC},
               {"mxfp4", 0x1.fffffep127F, PTQ_OK},
               {"mxfp4:scale=ceil", 0x1.fffffep127F, PTQ_E_NUMERIC},
               {"mxfp4:exp=log2f", 0x1.fffffep127F, PTQ_E_NUMERIC}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    const ptq_dtype dt = parsed(cases[i].dtype);
    float w[2 * 40] = {0}, y[2 * 40];
    w[40 + 33] = -cases[i].value;
    ptq_err err = {0};
    assert_int_equal(
        ptq_dtype_round_matrix(&dt, w, 2, 40, 16, y, NULL, NULL, &err),
        cases[i].expected);
    if (cases[i].expected == PTQ_OK)
      assert_true(isfinite(y[40 + 33]));
    else
      assert_non_null(strstr(err.msg, "row 1, column 32 overflows as"));
  }
}

static void outputs_may_be_left_out_or_be_the_input(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("int3");
  float w[2 * 37], y[2 * 37];
  int16_t q[2 * 37], again[2 * 37];
  for (int i = 0; i < 2 * 37; i++) w[i] = sinf((float)i);
  ptq_group_params p[6];
  ptq_err err = {0};
  assert_int_equal(ptq_dtype_round_matrix(&dt, w, 2, 37, 16, y, q, p, &err),
                   PTQ_OK);
  for (int i = 0; i < 2 * 37; i++) {
    const ptq_group_params g = p[i / 37 * 3 + i % 37 / 16];
    assert_true(y[i] == g.scale * ((float)q[i] - g.zero));
  }
  assert_int_equal(
      ptq_dtype_round_matrix(&dt, w, 2, 37, 16, NULL, again, NULL, &err),
      PTQ_OK);
  assert_memory_equal(q, again, sizeof q);
  assert_int_equal(
      ptq_dtype_round_matrix(&dt, w, 2, 37, 16, w, NULL, NULL, &err), PTQ_OK);
  assert_memory_equal(w, y, sizeof w);
}

static void an_empty_matrix_is_no_error(void **state) {
  (void)state;
  const ptq_dtype dt = parsed("mxint4");
  float w[1] = {1.0F};
  assert_int_equal(ptq_dtype_round_matrix(&dt, w, 0, 16, PTQ_GROUP_TENSOR, w,
                                          NULL, NULL, NULL),
                   PTQ_OK);
  assert_true(w[0] == 1.0F);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_family_is_complete),
      cmocka_unit_test(every_spelling_is_its_own_canonical_form),
      cmocka_unit_test(defaults_are_left_out_of_the_canonical_form),
      cmocka_unit_test(bad_spellings_name_what_is_known),
      cmocka_unit_test(a_short_last_group_counts_as_one),
      cmocka_unit_test(storage_counts_codes_and_parameters),
      cmocka_unit_test(nan_and_inf_are_named_with_row_and_column),
      cmocka_unit_test(an_overflowing_scale_is_named),
      cmocka_unit_test(outputs_may_be_left_out_or_be_the_input),
      cmocka_unit_test(an_empty_matrix_is_no_error),
  };
  return cmocka_run_group_tests_name("num/dtype", tests, NULL, NULL);
}
