/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model_fixture.h"

#include <math.h>

#include "safetensors.h"

static const char FILE_NAME[] = "model.safetensors";

static ptq_status open_it(const fx_model *m, ptq_safetensors *st,
                          ptq_err *err) {
  char path[FX_PATH + FX_NAME];
  fx_path(m, FILE_NAME, path);
  return ptq_safetensors_open(path, st, err);
}

static void a_good_header_is_read(void **state) {
  (void)state;
  fx_model m;
  ptq_safetensors st;
  fx_start(&m);
  fx_write_header(&m, FILE_NAME,
                  "{\"__metadata__\":{\"format\":\"pt\"},"
                  "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],"
                  "\"data_offsets\":[4,16]},"
                  "\"empty\":{\"dtype\":\"I64\",\"shape\":[0,7],"
                  "\"data_offsets\":[4,4]},"
                  "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],"
                  "\"data_offsets\":[0,4]}}  ",
                  16);
  FX_MUST(open_it(&m, &st, &e_));
  assert_int_equal(st.n, 3);
  assert_string_equal(st.tensors[0].name, "b");
  assert_int_equal(st.tensors[0].n_dims, 2);
  assert_int_equal(st.tensors[0].dims[1], 3);
  assert_int_equal(st.tensors[0].bytes, 12);
  assert_int_equal(st.tensors[1].count, 0);
  assert_int_equal(st.tensors[2].n_dims, 0);
  assert_int_equal(st.tensors[2].count, 1);
  ptq_safetensors_close(&st);
  fx_end(&m);
}

typedef struct lie {
  const char *header;
  size_t data;
  const char *says; /* part of the message */
} lie;

#define ONE(dtype, shape, range)                     \
  "{\"w\":{\"dtype\":\"" dtype "\",\"shape\":" shape \
  ",\"data_offsets\":" range "}}"
#define TWO(range1, range2)                                          \
  "{\"v\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" range1 \
  "},\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" range2 "}}"

static const lie lies[] = {
    {"[1]", 0, "the header is not a JSON object"},
    {"{\"w\":", 0, "header, byte"},
    {"", 0, "header, byte"},
    {"{\"w\":3}", 0, "tensor 'w': its entry is not an object"},
    {"{\"w\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "has no 'dtype'"},
    {ONE("F99", "[1]", "[0,4]"), 4, "dtype 'F99' is not known"},
    {ONE("F32", "4", "[0,4]"), 4, "has no 'shape' array"},
    {ONE("F32", "[-1]", "[0,4]"), 4, "dimension 0 of its shape"},
    {ONE("F32", "[1,1.5]", "[0,4]"), 4, "dimension 1 of its shape"},
    {ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"), 4, "has 9 dimensions"},
    {ONE("F32", "[4294967296,4294967296]", "[0,4]"), 4, "shape overflows"},
    {ONE("F32", "[9223372036854775807]", "[0,4]"), 4, "shape overflows"},
    {ONE("F32", "[99999999999999999999]", "[0,4]"), 4, "too big integer"},
    {ONE("F32", "[1]", "[0]"), 4, "not a pair of integers"},
    {ONE("F32", "[1]", "[0,4,8]"), 4, "not a pair of integers"},
    {ONE("F32", "[1]", "[0,\"4\"]"), 4, "not a pair of integers"},
    {ONE("F32", "[1]", "[-4,0]"), 4, "data_offsets [-4, 0] is not a range"},
    {ONE("F32", "[1]", "[4,0]"), 4, "data_offsets [4, 0] is not a range"},
    {ONE("F32", "[2]", "[0,8]"), 4,
     "data_offsets end at 8 but the file has 4 bytes"},
    {ONE("F32", "[2]", "[9223372036854775799,9223372036854775807]"), 4,
     "but the file has 4 bytes"},
    {ONE("F32", "[2]", "[0,4]"), 4, "dtype F32 take 8 bytes, its"},
    {ONE("BF16", "[2]", "[0,8]"), 8, "dtype BF16 take 4 bytes, its"},
    {ONE("F32", "[1]", "[0,4]"), 8, "4 bytes behind the last tensor"},
    {TWO("[0,8]", "[4,12]"), 12, "'w': its data overlaps that of 'v'"},
    {TWO("[0,8]", "[0,8]"), 8, "overlaps"},
    {TWO("[0,8]", "[12,20]"), 20, "'w': 4 bytes before its data"},
    {"{\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
     "\"w\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
     8, "duplicate object key"},
};

static void every_lie_of_a_header_is_refused(void **state) {
  (void)state;
  fx_model m;
  fx_start(&m);
  for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
    ptq_safetensors st;
    ptq_err err = {0};
    fx_write_header(&m, FILE_NAME, lies[i].header, lies[i].data);
    assert_int_equal(open_it(&m, &st, &err), PTQ_E_FORMAT);
    assert_null(st.tensors);
    assert_null(st.file);
    if (strstr(err.msg, lies[i].says) == NULL ||
        strstr(err.msg, FILE_NAME) == NULL)
      fail_msg("%s: the message is: %s", lies[i].header, err.msg);
  }
  fx_end(&m);
}

static void a_wrong_header_length_is_refused(void **state) {
  (void)state;
  fx_model m;
  fx_start(&m);
  static const struct {
    unsigned char bytes[12];
    size_t size;
    const char *says;
  } cases[] = {
      {{0}, 0, "has 0 bytes: too short"},
      {{1, 2, 3}, 7, "has 7 bytes: too short"},
      {{5, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, 10, "header length 5 but the file"},
      {{0, 0, 0, 0, 1, 0, 0, 0}, 8, "header length 4294967296 exceeds"},
      {{255, 255, 255, 255, 255, 255, 255, 255},
       8,
       "header length 18446744073709551615 exceeds"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_safetensors st;
    ptq_err err = {0};
    fx_write_file(&m, FILE_NAME, cases[i].bytes, cases[i].size);
    assert_int_equal(open_it(&m, &st, &err), PTQ_E_FORMAT);
    if (strstr(err.msg, cases[i].says) == NULL) fail_msg("%s", err.msg);
  }
  fx_remove(&m, FILE_NAME);
  ptq_safetensors st;
  ptq_err err = {0};
  assert_int_equal(open_it(&m, &st, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, FILE_NAME));
  fx_end(&m);
}

/* Writes 65536 elements of two bytes, every bit pattern but those for which
 * skip() holds (written as zero), and reads them back. */
static float *read_patterns(const fx_model *m, const char *dtype,
                            uint32_t exponent_mask) {
  enum { N = 65536 };
  char header[256];
  snprintf(header, sizeof header,
           "{\"w\":{\"dtype\":\"%s\",\"shape\":[65536],"
           "\"data_offsets\":[0,131072]}}",
           dtype);
  const size_t n = strlen(header);
  unsigned char *all = calloc(8 + n + 2 * N, 1);
  float *out = calloc(N, sizeof *out);
  assert_non_null(all);
  assert_non_null(out);
  all[0] = (unsigned char)n;
  memcpy(all + 8, header, n);
  for (uint32_t i = 0; i < N; i++) {
    if ((i & exponent_mask) == exponent_mask) continue;
    all[8 + n + 2 * i] = (unsigned char)(i & 0xffU);
    all[8 + n + 2 * i + 1] = (unsigned char)(i >> 8);
  }
  fx_write_file(m, FILE_NAME, all, 8 + n + 2 * N);
  free(all);
  ptq_safetensors st;
  FX_MUST(open_it(m, &st, &e_));
  FX_MUST(ptq_tensor_read(&st.tensors[0], out, &e_));
  ptq_safetensors_close(&st);
  return out;
}

static void every_half_and_bfloat_has_its_value(void **state) {
  (void)state;
  fx_model m;
  fx_start(&m);
  static const struct {
    const char *dtype;
    int mantissa, bias;
    uint32_t exponents;
  } kinds[] = {{"F16", 10, 15, 0x7c00U}, {"BF16", 7, 127, 0x7f80U}};
  for (int k = 0; k < 2; k++) {
    float *got = read_patterns(&m, kinds[k].dtype, kinds[k].exponents);
    const int bits = kinds[k].mantissa;
    for (uint32_t i = 0; i < 65536; i++) {
      if ((i & kinds[k].exponents) == kinds[k].exponents) continue;
      const int e = (int)((i & kinds[k].exponents) >> bits);
      double v = (double)(i & ((1U << bits) - 1U));
      if (e > 0) v += (double)(1U << bits);
      v = ldexp(v, (e > 0 ? e : 1) - kinds[k].bias - bits);
      if (i & 0x8000U) v = -v;
      if ((double)got[i] != v || signbit(got[i]) != signbit((float)v))
        fail_msg("%s %04x is %g, expected %g", kinds[k].dtype, i,
                 (double)got[i], v);
    }
    free(got);
  }
  fx_end(&m);
}

static void doubles_are_rounded_and_overflow_is_refused(void **state) {
  (void)state;
  fx_model m;
  static const char header[] = ONE("F64", "[4]", "[0,32]");
  static const double values[4] = {1.0 / 3.0, -0.0, 1e-50, 3e38};
  unsigned char all[8 + sizeof header - 1 + sizeof values] = {sizeof header -
                                                              1};
  float out[4];
  ptq_safetensors st;
  ptq_err err = {0};
  fx_start(&m);
  memcpy(all + 8, header, sizeof header - 1);
  memcpy(all + 8 + sizeof header - 1, values, sizeof values);
  fx_write_file(&m, FILE_NAME, all, sizeof all);
  FX_MUST(open_it(&m, &st, &e_));
  FX_MUST(ptq_tensor_read(&st.tensors[0], out, &e_));
  for (int i = 0; i < 4; i++) assert_true(out[i] == (float)values[i]);
  assert_true(signbit(out[1]));
  ptq_safetensors_close(&st);
  const double big = 1e39;
  memcpy(all + 8 + sizeof header - 1 + 8, &big, sizeof big);
  fx_write_file(&m, FILE_NAME, all, sizeof all);
  FX_MUST(open_it(&m, &st, &e_));
  assert_int_equal(ptq_tensor_read(&st.tensors[0], out, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "element 1 is infinite"));
  ptq_safetensors_close(&st);
  fx_end(&m);
}

static void nan_and_infinity_are_named_with_their_index(void **state) {
  (void)state;
  fx_model m;
  fx_start(&m);
  fx_add(&m, "first", 3, 0, 0.0F);
  fx_add(&m, "second", 300, 1000, 0.0F); /* several reads long */
  static const int64_t places[] = {0, 1, 65535, 65536, 299999};
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  for (int p = 0; p < 5; p++)
    for (int k = 0; k < 3; k++) {
      float *x = &m.t[1].values[places[p]], keep = *x;
      *x = bad[k];
      fx_write_shard(&m, FILE_NAME, 0);
      *x = keep;
      ptq_safetensors st;
      ptq_err err = {0};
      char want[96];
      float *out = calloc(300000, sizeof *out);
      FX_MUST(open_it(&m, &st, &e_));
      FX_MUST(ptq_tensor_read(&st.tensors[0], out, &e_));
      assert_memory_equal(out, m.t[0].values, 3 * sizeof *out);
      assert_int_equal(ptq_tensor_read(&st.tensors[1], out, &err),
                       PTQ_E_NUMERIC);
      snprintf(want, sizeof want, "tensor 'second': element %d is %s",
               (int)places[p], k == 0 ? "NaN" : "infinite");
      if (strstr(err.msg, want) == NULL) fail_msg("%s", err.msg);
      free(out);
      ptq_safetensors_close(&st);
    }
  fx_end(&m);
}

static void a_file_cut_while_open_is_reported_as_truncated(void **state) {
  (void)state;
  fx_model m;
  char path[FX_PATH + FX_NAME];
  fx_start(&m);
  fx_add(&m, "w", 1000, 100, 0.0F);
  fx_write_shard(&m, FILE_NAME, 0);
  ptq_safetensors st;
  ptq_err err = {0};
  float *out = calloc(100000, sizeof *out);
  FX_MUST(open_it(&m, &st, &e_));
  fx_path(&m, FILE_NAME, path);
  assert_int_equal(truncate(path, 5000), 0);
  assert_int_equal(ptq_tensor_read(&st.tensors[0], out, &err), PTQ_E_FORMAT);
  assert_non_null(strstr(err.msg, "truncated"));
  assert_non_null(strstr(err.msg, "tensor '"));
  ptq_safetensors_close(&st);
  free(out);
  fx_end(&m);
}

static void dtypes_that_are_no_weights_are_refused_by_name(void **state) {
  (void)state;
  fx_model m;
  fx_start(&m);
  fx_write_header(&m, FILE_NAME, ONE("I64", "[1]", "[0,8]"), 8);
  ptq_safetensors st;
  ptq_err err = {0};
  float out = 0.0F;
  FX_MUST(open_it(&m, &st, &e_));
  assert_int_equal(ptq_tensor_read(&st.tensors[0], &out, &err),
                   PTQ_E_UNSUPPORTED);
  assert_non_null(strstr(err.msg, "tensor 'w' has dtype I64"));
  assert_non_null(strstr(err.msg, "F64, F32, F16, BF16"));
  ptq_safetensors_close(&st);
  fx_end(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_good_header_is_read),
      cmocka_unit_test(every_lie_of_a_header_is_refused),
      cmocka_unit_test(a_wrong_header_length_is_refused),
      cmocka_unit_test(every_half_and_bfloat_has_its_value),
      cmocka_unit_test(doubles_are_rounded_and_overflow_is_refused),
      cmocka_unit_test(nan_and_infinity_are_named_with_their_index),
      cmocka_unit_test(a_file_cut_while_open_is_reported_as_truncated),
      cmocka_unit_test(dtypes_that_are_no_weights_are_refused_by_name),
  };
  return cmocka_run_group_tests_name("model/safetensors", tests, NULL, NULL);
}
