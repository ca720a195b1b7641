/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every method on layers and moments that are degenerate or broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "layer.h"

enum { MOST = 200 };

/* A layer with everything that any method may ask for. */
typedef struct full {
  layer l;
  double *cross; /* owned; [cols, cols] */
  float *gain;   /* owned; [cols] */
  ptq_module_loss loss;
} full;

/* Stands for a module: the weights' own squared error. */
static ptq_status squared_error(void *ctx, float *const *w, double *loss,
                                ptq_err *err) {
  const layer *l = ctx;
  (void)err;
  *loss = 0.0;
  for (int64_t i = 0; i < l->rows * l->cols; i++)
    *loss += (double)(w[0][i] - l->w[i]) * (double)(w[0][i] - l->w[i]);
  return PTQ_OK;
}

static void make(full *f, int64_t rows, int64_t cols) {
  *f = (full){.l = layer_random(rows, cols, 31)};
  f->cross = layer_room(cols * cols, sizeof *f->cross);
  f->gain = layer_room(cols, sizeof *f->gain);
  for (int64_t i = 0; i < cols; i++) {
    f->gain[i] = 1.0F + 0.01F * (float)i;
    f->l.mean_abs[i] = sqrt(f->l.h[i * cols + i]);
    for (int64_t j = 0; j < cols; j++)
      f->cross[i * cols + j] = 0.05 * f->l.h[i * cols + j];
  }
  f->loss = (ptq_module_loss){.ctx = &f->l, .eval = squared_error};
  f->l.more = (ptq_quant_input){.layer = "model.layers.0.mlp.up_proj.weight",
                                .reads_stream = true,
                                .foldable = true,
                                .norm_w = f->gain,
                                .h_train = f->l.h,
                                .h_holdout = f->l.h,
                                .cross = f->cross,
                                .module = &f->loss};
}

static void drop(full *f) {
  ptq_free(f->cross);
  ptq_free(f->gain);
  layer_release(&f->l);
}

/* A dtype that the method takes with this group. */
static const char *dtype_for(const ptq_method_family *f, int64_t group) {
  static const char *const names[] = {"mxint4", "int4", "int4:asym"};
  ptq_method m;
  ptq_dtype dt;
  assert_int_equal(ptq_method_parse(f->name, NULL, 0, &m, NULL), PTQ_OK);
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    assert_int_equal(ptq_dtype_parse(names[i], &dt, NULL), PTQ_OK);
    if (f->accepts(&m, &dt, group, NULL) == PTQ_OK) return names[i];
  }
  return NULL;
}

static bool is_calibrated(const ptq_method_family *f) {
  ptq_method m;
  assert_int_equal(ptq_method_parse(f->name, NULL, 0, &m, NULL), PTQ_OK);
  return f->mode(&m) != PTQ_CALIB_NONE;
}

static void check_finite(const char *method, const char *what, const layer *l) {
  for (int64_t i = 0; i < l->rows * l->cols; i++)
    if (!isfinite(l->y[i]))
      fail_msg("%s, %s: weight %lld is %g", method, what, (long long)i,
               (double)l->y[i]);
  if (!(l->storage_bits > 0.0)) fail_msg("%s, %s: no bits", method, what);
}

/* Quantize with every method and look that the result is finite. */
static void all_methods(full *f, int64_t group, const char *what) {
  for (const ptq_method_family *const *m = ptq_method_families(); *m; m++) {
    const char *dtype = dtype_for(*m, group);
    if (dtype == NULL) continue;
    layer_quantize(&f->l, (*m)->name, "", dtype, group);
    check_finite((*m)->name, what, &f->l);
  }
}

static void the_smallest_layers_are_quantized(void **state) {
  (void)state;
  static const int64_t sizes[][2] = {{1, 1}, {1, 33}, {5, 1}, {1, MOST}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    full f;
    make(&f, sizes[i][0], sizes[i][1]);
    all_methods(&f, 16, "few rows or columns");
    all_methods(&f, PTQ_GROUP_ROW, "few rows or columns");
    all_methods(&f, PTQ_GROUP_TENSOR, "few rows or columns");
    drop(&f);
  }
}

static void a_group_need_not_divide_the_width(void **state) {
  (void)state;
  full f;
  make(&f, 6, 50);
  all_methods(&f, 16, "a short last group");
  all_methods(&f, 49, "a last group of one");
  drop(&f);
}

static void zero_weights_and_dead_inputs_are_no_failure(void **state) {
  (void)state;
  full f;
  make(&f, 6, 48);
  for (int64_t i = 0; i < 48; i++) {
    f.l.w[2 * 48 + i] = 0.0F;
    for (int64_t k = 16; k < 34; k++) /* a whole group among them */
      f.l.h[k * 48 + i] = f.l.h[i * 48 + k] = f.cross[i * 48 + k] = 0.0;
  }
  for (int64_t k = 16; k < 34; k++) f.l.mean_abs[k] = 0.0;
  all_methods(&f, 16, "dead inputs");
  for (int64_t i = 0; i < 6 * 48; i++) f.l.w[i] = 0.0F;
  all_methods(&f, 16, "zero weights");
  for (int64_t i = 0; i < 6 * 48; i++) assert_true(f.l.y[i] == 0.0F);
  drop(&f);
}

static void a_singular_moment_is_damped(void **state) {
  (void)state;
  full f;
  make(&f, 6, 48);
  for (int64_t i = 0; i < 48; i++) /* one token ever */
    for (int64_t j = 0; j < 48; j++)
      f.l.h[i * 48 + j] = (1.0 + (double)i) * (1.0 + (double)j) / 500.0;
  all_methods(&f, 16, "a moment of rank 1");
  layer_quantize(&f.l, "gptq", "damp=0", "int4", 16);
  assert_true(f.l.damp > 0.0); /* grown, and recorded */
  check_finite("gptq", "no damping asked for", &f.l);
  drop(&f);
}

static void a_moment_that_is_not_finite_is_a_numerical_failure(void **state) {
  (void)state;
  static const double bad[] = {NAN, INFINITY};
  static const int64_t at[] = {0, 5 * 48 + 7};
  for (int k = 0; k < 4; k++) {
    full f;
    make(&f, 6, 48);
    const int64_t i = at[k / 2] / 48, j = at[k / 2] % 48;
    f.l.h[i * 48 + j] = f.l.h[j * 48 + i] = bad[k % 2];
    if (i == j) f.l.mean_abs[i] = bad[k % 2];
    for (const ptq_method_family *const *m = ptq_method_families(); *m; m++) {
      ptq_err err = {0};
      if (!is_calibrated(*m)) continue;
      const ptq_status rc =
          layer_try(&f.l, (*m)->name, "", dtype_for(*m, 16), 16, &err);
      if (rc != PTQ_E_NUMERIC)
        fail_msg("%s with %g in its moment: %s (%s)", (*m)->name, bad[k % 2],
                 ptq_status_str(rc), err.msg);
      assert_true(strlen(err.msg) > 0);
    }
    drop(&f);
  }
}

/* One format with every method that takes it; how many do. */
static int with_all_methods(full *f, const char *dtype, int64_t group) {
  int taken = 0;
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse(dtype, &dt, NULL), PTQ_OK);
  for (const ptq_method_family *const *m = ptq_method_families(); *m; m++) {
    ptq_method parsed;
    ptq_err err = {0};
    assert_int_equal(ptq_method_parse((*m)->name, NULL, 0, &parsed, NULL),
                     PTQ_OK);
    if ((*m)->accepts(&parsed, &dt, group, &err) != PTQ_OK) {
      assert_true(strlen(err.msg) > 0);
      continue;
    }
    taken++;
    if (layer_try(&f->l, (*m)->name, "", dtype, group, &err) != PTQ_OK)
      fail_msg("%s with %s, group %lld: %s", (*m)->name, dtype,
               (long long)group, err.msg);
    check_finite((*m)->name, dtype, &f->l);
  }
  return taken;
}

static void every_format_goes_with_a_method_or_is_refused(void **state) {
  (void)state;
  static const int64_t groups[] = {16, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
  full f;
  make(&f, 4, 40);
  for (const ptq_dtype_family *const *d = ptq_dtype_families(); *d; d++)
    for (int k = 0; k < 2; k++) {
      char name[PTQ_DTYPE_NAME_MAX];
      ptq_dtype_spelling(*d, k == 0 ? (*d)->min_bits : (*d)->max_bits, name);
      for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++)
        if (with_all_methods(&f, name, groups[g]) < 3)
          fail_msg("%s, group %lld: hardly a method takes it", name,
                   (long long)groups[g]);
    }
  drop(&f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_smallest_layers_are_quantized),
      cmocka_unit_test(a_group_need_not_divide_the_width),
      cmocka_unit_test(zero_weights_and_dead_inputs_are_no_failure),
      cmocka_unit_test(a_singular_moment_is_damped),
      cmocka_unit_test(every_format_goes_with_a_method_or_is_refused),
      cmocka_unit_test(a_moment_that_is_not_finite_is_a_numerical_failure),
  };
  return cmocka_run_group_tests_name("quant/method_edges", tests, layer_set_up,
                                     NULL);
}
