/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Descent on codes and scales: never worse than its start, where it stops no
 * single step helps, and what it hands out is what the format can store. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "layer.h"
#include "moment_shrink.h"

static int64_t group_count(const layer *l, int64_t group) {
  return ptq_dtype_groups(l->cols, group);
}

static ptq_group_params params_at(const layer *l, int64_t group, int64_t r,
                                  int64_t c) {
  if (group == PTQ_GROUP_TENSOR) return l->params[0];
  const int64_t k = group > 0 ? c / group : 0;
  return l->params[r * group_count(l, group) + k];
}

/* The layer with H shrunk as the method shrinks it by default. */
static void shrink_moment(layer *l, double damp, double power) {
  double *h = layer_room(l->cols * l->cols, sizeof *h);
  ptq_err err = {0};
  ptq_spectrum spectrum;
  if (ptq_spectrum_init(&spectrum, l->h, l->cols, damp, &err) != PTQ_OK ||
      ptq_spectrum_power(&spectrum, power, h, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_spectrum_release(&spectrum);
  ptq_free(l->h);
  l->h = h;
}

static layer shrunk_layer(int64_t rows, int64_t cols, uint64_t seed) {
  layer l = layer_random(rows, cols, seed);
  shrink_moment(&l, 0.01, 0.75);
  return l;
}

/* e'He of one row. */
static double row_error(const layer *l, int64_t r, const float *y) {
  double sum = 0.0;
  for (int64_t i = 0; i < l->cols; i++)
    for (int64_t j = 0; j < l->cols; j++) {
      const int64_t a = r * l->cols + i, b = r * l->cols + j;
      sum += ((double)l->w[a] - (double)y[a]) * l->h[i * l->cols + j] *
             ((double)l->w[b] - (double)y[b]);
    }
  return sum;
}

/* Every weight is the value of a code of the format, and parameters are ones
 * it can store. */
static void check_storable(const layer *l, const char *name, int64_t group) {
  ptq_dtype plain, dt;
  ptq_dtype_matrix state;
  assert_int_equal(ptq_dtype_parse(name, &plain, NULL), PTQ_OK);
  assert_int_equal(ptq_dtype_prepare(&plain, l->w, l->rows, l->cols, group,
                                     &state, &dt, NULL),
                   PTQ_OK);
  const bool mx = strncmp(name, "mx", 2) == 0;
  const bool integer = strncmp(name, "int", 3) == 0;
  for (int64_t r = 0; r < l->rows; r++)
    for (int64_t c = 0; c < l->cols; c++) {
      const int64_t i = r * l->cols + c;
      const ptq_group_params p = params_at(l, group, r, c);
      assert_true(l->y[i] == ptq_dtype_value(&dt, &p, l->q[i]));
      if (integer) assert_in_range(l->q[i], 0, (1 << dt.bits) - 1);
      int exponent;
      if (mx && p.scale != 0.0F) /* 0: all codes are */
        assert_true(frexpf(p.scale, &exponent) == 0.5F);
      ptq_group_params stored = p;
      stored.scale = fabsf(stored.scale);
      ptq_dtype_snap(&dt, r, c, &stored);
      assert_true(stored.scale == fabsf(p.scale));
    }
  ptq_dtype_matrix_release(&state);
}

static void never_worse_than_its_start(void **state) {
  (void)state;
  static const char *const dtypes[] = {"int2",   "int4",  "int3:asym", "mxint3",
                                       "mxint6", "mxfp4", "fp8_e4m3",  NULL};
  static const int64_t groups[] = {16, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
  layer l = shrunk_layer(24, 80, 5);
  for (int d = 0; dtypes[d] != NULL; d++)
    for (int k = 0; k < 3; k++) {
      layer_quantize(&l, "descent", "damp=0,passes=0,shrink=1,sweeps=0",
                     dtypes[d], groups[k]);
      layer_keep(&l);
      layer_quantize(&l, "descent", "damp=0,shrink=1", dtypes[d], groups[k]);
      for (int64_t r = 0; r < l.rows; r++)
        if (!(row_error(&l, r, l.y) <= row_error(&l, r, l.kept_y) * 1.000001))
          fail_msg("%s: row %d is worse", dtypes[d], (int)r);
      assert_true(memcmp(l.y, l.kept_y, sizeof(float) * 24 * 80) != 0);
      check_storable(&l, dtypes[d], groups[k]);
    }
  layer_release(&l);
}

/* More starts leave no row worse, judged by the second one's moment. */
static void starts_compete_row_by_row(void **state) {
  (void)state;
  layer one = layer_random(40, 64, 31), four = layer_random(40, 64, 31);
  int64_t better = 0;
  layer_quantize(&one, "descent", "", "int3", 16);
  layer_quantize(&four, "descent", "starts=4", "int3", 16);
  check_storable(&four, "int3", 16);
  shrink_moment(&one, 0.01, 0.85);
  for (int64_t r = 0; r < 40; r++) {
    const double was = row_error(&one, r, one.y);
    const double now = row_error(&one, r, four.y);
    assert_true(now <= was * (1.0 + 1e-12));
    better += now < was;
  }
  assert_true(better > 20);
  layer_release(&one);
  layer_release(&four);
}

/* A power of a moment: 1/2 twice is what it was, and 1 is the damped one. */
static void powers_of_a_moment(void **state) {
  (void)state;
  layer l = layer_random(1, 20, 8), k = layer_random(1, 20, 8);
  shrink_moment(&l, 0.1, 0.5);
  shrink_moment(&k, 0.1, 1.0);
  double mean = 0.0;
  for (int i = 0; i < 20; i++) mean += k.h[i * 21] / 20.0 / 1.1;
  for (int i = 0; i < 20; i++)
    for (int j = 0; j < 20; j++) {
      double square = 0.0;
      for (int m = 0; m < 20; m++) square += l.h[i * 20 + m] * l.h[m * 20 + j];
      assert_true(fabs(square / mean - k.h[i * 20 + j]) < 1e-9 * mean);
    }
  layer_release(&l);
  layer_release(&k);
}

static void much_better_than_gptq(void **state) {
  (void)state;
  static const char *const dtypes[] = {"int3", "int4", "mxint3", NULL};
  layer l = layer_random(48, 128, 9);
  for (int d = 0; dtypes[d] != NULL; d++) {
    layer_quantize(&l, "gptq", "hessian=static", dtypes[d], 32);
    const double reference = layer_error(&l);
    const double bits = l.storage_bits;
    layer_quantize(&l, "descent", "", dtypes[d], 32);
    assert_true(layer_error(&l) < 0.85 * reference); /* 0.7 dB */
    assert_true(l.storage_bits == bits);
    assert_true(l.damp == 0.01);
  }
  layer_release(&l);
}

/* Least e'He over all codes of columns from `c` on, the rest as in y. */
static double brute_force(const layer *l, const ptq_dtype *dt, float *y,
                          int64_t c) {
  if (c == l->cols) return row_error(l, 0, y);
  double least = (double)INFINITY;
  const ptq_group_params p = l->params[0];
  for (int code = 0; code < 1 << dt->bits; code++) {
    y[c] = ptq_dtype_value(dt, &p, code);
    least = fmin(least, brute_force(l, dt, y, c + 1));
  }
  return least;
}

/* Tiny problems: no single code improves on the result, and the result is the
 * best of all 4^6 more often than GPTQ's, with the same scale. */
static void tiny_problems_against_all_codes(void **state) {
  (void)state;
  int optimal = 0, started = 0;
  enum { TRIES = 60 };
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse("int2", &dt, NULL), PTQ_OK);
  for (int k = 0; k < TRIES; k++) {
    layer l = shrunk_layer(1, 6, 100 + (uint64_t)k);
    float y[6];
    layer_quantize(&l, "descent", "damp=0,passes=0,shrink=1,sweeps=0", "int2",
                   PTQ_GROUP_ROW);
    layer_keep(&l);
    layer_quantize(&l, "descent", "damp=0,passes=20,shrink=1,sweeps=0", "int2",
                   PTQ_GROUP_ROW);
    const double found = row_error(&l, 0, l.y);
    const double best = brute_force(&l, &dt, y, 0);
    assert_true(found >= best * (1.0 - 1e-9));
    optimal += found <= best * (1.0 + 1e-9);
    started += row_error(&l, 0, l.kept_y) <= best * (1.0 + 1e-9);
    for (int c = 0; c < 6; c++)
      for (int code = 0; code < 4; code++) {
        memcpy(y, l.y, sizeof y);
        y[c] = ptq_dtype_value(&dt, &l.params[0], code);
        assert_true(row_error(&l, 0, y) >= found * (1.0 - 1e-6));
      }
    layer_release(&l);
  }
  assert_true(optimal >= started);
  assert_true(optimal > TRIES / 2);
}

/* After a sweep over one group the scale is the least-squares one of its codes:
 * y'H (w - y) = 0. */
static void scales_solve_the_normal_equation(void **state) {
  (void)state;
  layer l = shrunk_layer(16, 40, 21);
  layer_quantize(&l, "descent", "damp=0,passes=0,shrink=1,sweeps=1", "int3",
                 PTQ_GROUP_ROW);
  for (int64_t r = 0; r < l.rows; r++) {
    double yhe = 0.0, yhy = 0.0;
    for (int64_t i = 0; i < l.cols; i++)
      for (int64_t j = 0; j < l.cols; j++) {
        const double y = (double)l.y[r * l.cols + i];
        const double z = (double)l.y[r * l.cols + j];
        const double w = (double)l.w[r * l.cols + j];
        yhe += y * l.h[i * l.cols + j] * (w - z);
        yhy += y * l.h[i * l.cols + j] * z;
      }
    assert_true(fabs(yhe) < 1e-5 * yhy);
  }
  layer_release(&l);
}

static void bits_do_not_depend_on_threads_or_cache(void **state) {
  (void)state;
  layer l = layer_random(600, 48, 3);
  ptq_factor_cache *cache = NULL;
  layer_quantize(&l, "descent", "starts=2", "int3", 16);
  layer_keep(&l);
  l.threads = 3;
  assert_int_equal(ptq_factor_cache_create(&cache, NULL), PTQ_OK);
  l.cache = cache;
  for (int k = 0; k < 2; k++) {
    layer_quantize(&l, "gptq", "", "int3", 16); /* another factor beside */
    layer_quantize(&l, "descent", "starts=2", "int3", 16);
    assert_memory_equal(l.y, l.kept_y, sizeof(float) * 600 * 48);
    assert_memory_equal(l.q, l.kept_q, sizeof(int16_t) * 600 * 48);
  }
  ptq_factor_cache_free(cache);
  layer_release(&l);
}

/* Rows do not see each other: alone, a row gets the same. */
static void edges(void **state) {
  (void)state;
  static const struct {
    int64_t rows, cols, group;
  } sizes[] = {{1, 40, 16},
               {3, 37, 16},
               {5, 1, 16},
               {1, 1, PTQ_GROUP_ROW},
               {4, 33, PTQ_GROUP_ROW},
               {4, 33, PTQ_GROUP_TENSOR},
               {4, 64, 1}};
  static const char *const dtypes[] = {"int2", "int4:asym", "mxint2", "mxint4"};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
      layer l = layer_random(sizes[s].rows, sizes[s].cols, 77 + s);
      for (int64_t c = 0; c < l.cols; c += 5) { /* dead columns */
        for (int64_t j = 0; j < l.cols; j++)
          l.h[c * l.cols + j] = l.h[j * l.cols + c] = 0.0;
      }
      if (l.rows > 2) /* a row of zeros */
        memset(l.w + l.cols, 0, (size_t)l.cols * sizeof *l.w);
      layer_quantize(&l, "descent", "", dtypes[d], sizes[s].group);
      check_storable(&l, dtypes[d], sizes[s].group);
      for (int64_t c = 0; l.rows > 2 && c < l.cols; c++)
        assert_true(l.y[l.cols + c] == 0.0F);
      for (int64_t r = 0; r < l.rows; r++)
        for (int64_t c = 0; c < l.cols; c += 5)
          assert_true(l.y[r * l.cols + c] == 0.0F);
      layer_release(&l);
    }
}

static void no_inputs_at_all_is_rounding_zeros(void **state) {
  (void)state;
  layer l = layer_random(4, 16, 1);
  memset(l.h, 0, 256 * sizeof *l.h);
  layer_quantize(&l, "descent", "", "int4", 8);
  for (int i = 0; i < 64; i++) assert_true(l.y[i] == 0.0F);
  layer_release(&l);
}

/* The unit of H does not matter. */
static void units_of_h(void **state) {
  (void)state;
  layer l = layer_random(8, 32, 2);
  layer_quantize(&l, "descent", "", "int3", 16);
  layer_keep(&l);
  for (int i = 0; i < 32 * 32; i++) l.h[i] *= 0x1p-60;
  layer_quantize(&l, "descent", "", "int3", 16);
  int64_t other = 0;
  for (int i = 0; i < 8 * 32; i++) other += l.q[i] != l.kept_q[i];
  assert_int_equal(other, 0);
  layer_release(&l);
}

static void bad_input_is_refused(void **state) {
  (void)state;
  layer l = layer_random(2, 8, 1);
  ptq_err err = {0};
  assert_int_equal(layer_try(&l, "descent", "shrink=2", "int4", 8, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "shrink"));
  err = (ptq_err){0};
  assert_int_equal(layer_try(&l, "descent", "sweep=2", "int4", 8, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "sweeps"));
  l.h[9] = (double)NAN;
  err = (ptq_err){0};
  assert_int_equal(layer_try(&l, "descent", "", "int4", 8, &err),
                   PTQ_E_NUMERIC);
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(never_worse_than_its_start),
      cmocka_unit_test(starts_compete_row_by_row),
      cmocka_unit_test(powers_of_a_moment),
      cmocka_unit_test(much_better_than_gptq),
      cmocka_unit_test(tiny_problems_against_all_codes),
      cmocka_unit_test(scales_solve_the_normal_equation),
      cmocka_unit_test(bits_do_not_depend_on_threads_or_cache),
      cmocka_unit_test(edges),
      cmocka_unit_test(no_inputs_at_all_is_rounding_zeros),
      cmocka_unit_test(units_of_h),
      cmocka_unit_test(bad_input_is_refused),
  };
  return cmocka_run_group_tests(tests, layer_set_up, NULL);
}
