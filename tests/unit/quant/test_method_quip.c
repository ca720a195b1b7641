/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Incoherence and LDLQ: against LDL in plain loops, and what they promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layer.h"
#include "rotation.h"

/* Unit lower L with H = L D L', in place of h. */
static void plain_ldl(double *h, int64_t n) {
  double *d = layer_room(n, sizeof *d);
  for (int64_t j = 0; j < n; j++) {
    for (int64_t i = j; i < n; i++) {
      double v = h[i * n + j];
      for (int64_t k = 0; k < j; k++) v -= h[i * n + k] * h[j * n + k] * d[k];
      if (i == j)
        d[j] = v;
      else
        h[i * n + j] = v / d[j];
    }
    h[j * n + j] = 1.0;
  }
  ptq_free(d);
}

/* h plus 0.01 of its mean diagonal, as the method damps it. */
static double *damped(const double *h, int64_t n) {
  double *to = layer_room(n * n, sizeof *to), mean = 0.0;
  for (int64_t i = 0; i < n; i++) mean += h[i * n + i] / (double)n;
  memcpy(to, h, (size_t)(n * n) * sizeof *h);
  for (int64_t i = 0; i < n; i++) to[i * n + i] += 0.01 * mean;
  return to;
}

static const ptq_group_params *params_at(const layer *l, int64_t group,
                                         int64_t r, int64_t c) {
  if (group == PTQ_GROUP_TENSOR) return l->params;
  const int64_t n = ptq_dtype_groups(l->cols, group);
  return l->params + r * n + (group > 0 ? c / group : 0);
}

/* The reference's loop on w with L: codes into q, values into y; parameters
 * of groups are those the method found. */
static void plain_ldlq(const layer *l, const float *w, const double *ldl,
                       const ptq_dtype *dt, int64_t group, double *y,
                       int16_t *q) {
  const int64_t n = l->cols;
  for (int64_t r = 0; r < l->rows; r++)
    for (int64_t k = n - 1; k >= 0; k--) {
      double v = (double)w[r * n + k];
      for (int64_t j = k + 1; j < n; j++)
        v += ((double)w[r * n + j] - y[r * n + j]) * ldl[j * n + k];
      const float x = (float)v;
      float rounded;
      dt->family->round(dt, &x, 1, params_at(l, group, r, k), 0, &rounded,
                        &q[r * n + k]);
      y[r * n + k] = (double)rounded;
    }
}

static double share_of_equal(const int16_t *a, const int16_t *b, int64_t n) {
  int64_t equal = 0;
  for (int64_t i = 0; i < n; i++) equal += a[i] == b[i];
  return (double)equal / (double)n;
}

/* GPTQ's factor of the reversed order does what LDL does. */
static void codes_are_those_of_ldl(void **state) {
  (void)state;
  static const struct {
    const char *dtype;
    int64_t group;
  } cases[] = {{"int4", 32},
               {"int3:asym", 32},
               {"mxint4", 32},
               {"mxfp4", 16},
               {"int4", 48},
               {"int4", PTQ_GROUP_ROW},
               {"mxint3", PTQ_GROUP_TENSOR}};
  layer l = layer_random(40, 160, 11);
  double *ldl = damped(l.h, l.cols), *y = layer_room(40 * 160, sizeof *y);
  plain_ldl(ldl, l.cols);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_dtype dt;
    assert_int_equal(ptq_dtype_parse(cases[i].dtype, &dt, NULL), PTQ_OK);
    layer_quantize(&l, "quip", "rht=false,tune=0", cases[i].dtype,
                   cases[i].group);
    plain_ldlq(&l, l.w, ldl, &dt, cases[i].group, y, l.kept_q);
    const double same = share_of_equal(l.q, l.kept_q, 40 * 160);
    if (same < 0.999) fail_msg("%s: %.3f %%", cases[i].dtype, 100.0 * same);
  }
  ptq_free(ldl);
  ptq_free(y);
  layer_release(&l);
}

/* The whole way: rotations as dense matrices, LDLQ, and back. */
static void rotated_weights_are_quantized_and_turned_back(void **state) {
  (void)state;
  enum { ROWS = 24, COLS = 72, N = ROWS * COLS }; /* 12 x 2 and 36 x 2 */
  layer l = layer_random(ROWS, COLS, 12);
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse("mxint4", &dt, NULL), PTQ_OK);
  layer_quantize(&l, "quip", "seed=5,tune=0", "mxint4", 24);
  ptq_rotation in, out;
  const uint64_t seeds[2] = {ptq_rotation_seed(5, NULL, "inputs"),
                             ptq_rotation_seed(5, NULL, "outputs")};
  assert_int_equal(ptq_rotation_init(&in, COLS, true, seeds[0], NULL), PTQ_OK);
  assert_int_equal(ptq_rotation_init(&out, ROWS, true, seeds[1], NULL), PTQ_OK);
  double *h = damped(l.h, COLS), *w = layer_room(N, sizeof *w);
  float *turned = layer_room(N, sizeof *turned);
  double *y = layer_room(N, sizeof *y);
  for (int i = 0; i < N; i++) w[i] = (double)l.w[i];
  assert_int_equal(ptq_rotate_rows(&in, false, h, COLS, NULL), PTQ_OK);
  assert_int_equal(ptq_rotate_columns(&in, false, h, COLS, NULL), PTQ_OK);
  assert_int_equal(ptq_rotate_columns(&out, false, w, COLS, NULL), PTQ_OK);
  assert_int_equal(ptq_rotate_rows(&in, false, w, ROWS, NULL), PTQ_OK);
  for (int i = 0; i < N; i++) turned[i] = (float)w[i];
  plain_ldl(h, COLS);
  plain_ldlq(&l, turned, h, &dt, 24, y, l.kept_q);
  assert_true(share_of_equal(l.q, l.kept_q, N) > 0.999);
  /* back from the method's own codes */
  for (int i = 0; i < N; i++)
    y[i] = (double)ptq_dtype_value(&dt, params_at(&l, 24, i / COLS, i % COLS),
                                   l.q[i]);
  assert_int_equal(ptq_rotate_rows(&in, true, y, ROWS, NULL), PTQ_OK);
  assert_int_equal(ptq_rotate_columns(&out, true, y, COLS, NULL), PTQ_OK);
  for (int i = 0; i < N; i++) assert_true(fabs(y[i] - (double)l.y[i]) < 1e-8);
  assert_true(l.extra_hash != 0);
  ptq_rotation_release(&in);
  ptq_rotation_release(&out);
  ptq_free(h);
  ptq_free(w);
  ptq_free(y);
  ptq_free(turned);
  layer_release(&l);
}

static void passes_lower_the_error(void **state) {
  (void)state;
  layer l = layer_random(70, 130, 13); /* short tiles and blocks */
  double last = INFINITY;
  static const char *const passes[] = {"rht=false,tune=0", "rht=false,tune=1",
                                       "rht=false,tune=10"};
  for (int i = 0; i < 3; i++) {
    layer_quantize(&l, "quip", passes[i], "int3", 32);
    assert_true(layer_error(&l) < last);
    last = layer_error(&l);
  }
  layer_release(&l);
}

/* A huge weight spoils its group; rotated, it is spread over all. */
static void rotations_help_outliers(void **state) {
  (void)state;
  layer l = layer_random(64, 128, 14);
  for (int64_t r = 0; r < 64; r += 3) l.w[r * 128 + (r * 7) % 128] = 1.5F;
  layer_quantize(&l, "quip", "rht=false", "int3", 64);
  const double plain = layer_error(&l);
  layer_quantize(&l, "quip", "", "int3", 64);
  assert_true(layer_error(&l) < 0.5 * plain);
  layer_release(&l);
}

static void seeds_and_layers_change_the_rotation(void **state) {
  (void)state;
  layer l = layer_random(16, 32, 15);
  const size_t size = 16 * 32 * sizeof *l.y;
  l.more.layer = "model.layers.0.o";
  layer_quantize(&l, "quip", "", "int4", 32);
  layer_keep(&l);
  layer_quantize(&l, "quip", "", "int4", 32);
  assert_memory_equal(l.y, l.kept_y, size);
  layer_quantize(&l, "quip", "seed=1", "int4", 32);
  assert_true(memcmp(l.y, l.kept_y, size) != 0);
  l.more.layer = "model.layers.1.o";
  layer_quantize(&l, "quip", "", "int4", 32);
  assert_true(memcmp(l.y, l.kept_y, size) != 0);
  layer_release(&l);
}

static void scales_of_columns_cost_bits(void **state) {
  (void)state;
  layer l = layer_random(32, 64, 16);
  layer_quantize(&l, "quip", "", "int4", 32);
  const double bits = l.storage_bits;
  assert_true(bits == 32 * 64 * 4.0 + 32 * 2 * 32.0);
  layer_quantize(&l, "quip", "rescale=true", "int4", 32);
  assert_true(l.storage_bits == bits + 64 * 32.0);
  double most = 0.0; /* weights are still those of the layer */
  for (int i = 0; i < 32 * 64; i++)
    most = fmax(most, fabs((double)l.y[i] - (double)l.w[i]));
  assert_true(most < 0.1);
  layer_release(&l);
}

static void any_width_is_rotated(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{1, 33}, {33, 1}, {7, 92}, {1, 1}};
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
    layer l = layer_random(shapes[i][0], shapes[i][1], 17);
    layer_quantize(&l, "quip", "", "mxint8", PTQ_GROUP_ROW);
    for (int64_t j = 0; j < l.rows * l.cols; j++)
      assert_true(fabsf(l.y[j] - l.w[j]) < 0.02F);
    layer_release(&l);
  }
}

static void bits_do_not_depend_on_threads(void **state) {
  (void)state;
  layer l = layer_random(520, 96, 18);
  layer_quantize(&l, "quip", "tune=2", "int4", 32);
  layer_keep(&l);
  l.threads = 3;
  layer_quantize(&l, "quip", "tune=2", "int4", 32);
  assert_memory_equal(l.y, l.kept_y, 520 * 96 * sizeof *l.y);
  assert_memory_equal(l.q, l.kept_q, 520 * 96 * sizeof *l.q);
  layer_release(&l);
}

static void a_singular_moment_is_damped_and_a_zero_one_refused(void **state) {
  (void)state;
  layer l = layer_random(8, 16, 19);
  for (int i = 0; i < 16; i++) l.h[3 * 16 + i] = l.h[i * 16 + 3] = 0.0;
  layer_quantize(&l, "quip", "", "int4", 16);
  assert_true(l.damp == 0.01);
  memset(l.h, 0, 16 * 16 * sizeof *l.h);
  l.h[0] = 1.0;
  layer_quantize(&l, "quip", "damp=0", "int4", 16);
  assert_true(l.damp > 0.0);
  l.h[0] = 0.0;
  ptq_err err = {0};
  assert_int_equal(layer_try(&l, "quip", "", "int4", 16, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "mean diagonal"));
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(codes_are_those_of_ldl),
      cmocka_unit_test(rotated_weights_are_quantized_and_turned_back),
      cmocka_unit_test(passes_lower_the_error),
      cmocka_unit_test(rotations_help_outliers),
      cmocka_unit_test(seeds_and_layers_change_the_rotation),
      cmocka_unit_test(scales_of_columns_cost_bits),
      cmocka_unit_test(any_width_is_rotated),
      cmocka_unit_test(bits_do_not_depend_on_threads),
      cmocka_unit_test(a_singular_moment_is_damped_and_a_zero_one_refused),
  };
  return cmocka_run_group_tests_name("quant/method_quip", tests, layer_set_up,
                                     NULL);
}
