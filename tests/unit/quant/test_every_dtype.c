/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every dtype, in every dialect that tests walk, with every method: finite
 * results that codes and parameters restore, or a refusal that says why. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layer.h"

/* A column without input, a row of zeros, an outlier; and odd shapes. */
static layer hard_layer(int64_t rows, int64_t cols) {
  layer l = layer_random(rows, cols, 31);
  const int64_t dead = cols / 3;
  for (int64_t i = 0; cols > 2 && i < cols; i++)
    l.h[dead * cols + i] = l.h[i * cols + dead] = 0.0;
  if (cols > 2) l.mean_abs[dead] = 0.0;
  if (rows > 1) memset(l.w + (rows - 1) * cols, 0, (size_t)cols * sizeof *l.w);
  l.w[0] = -1.5F;
  return l;
}

/* Module output's error, as far as a test needs one: of the weights. */
static ptq_status weights_loss(void *ctx, float *const *w, double *loss,
                               ptq_err *err) {
  const layer *l = ctx;
  (void)err;
  *loss = 0.0;
  for (int64_t i = 0; i < l->rows * l->cols; i++) {
    const double e = (double)l->w[i] - (double)w[0][i];
    *loss += e * e;
  }
  return PTQ_OK;
}

typedef struct counts {
  int run, refused;
} counts;

static void check_restored(const layer *l, const ptq_dtype *dt, int64_t group,
                           const char *what) {
  const int64_t n = ptq_dtype_groups(l->cols, group);
  for (int64_t r = 0; r < l->rows; r++)
    for (int64_t c = 0; c < l->cols; c++) {
      const int64_t i = r * l->cols + c;
      const ptq_group_params *p =
          group == PTQ_GROUP_TENSOR
              ? l->params
              : l->params + r * n + (group > 0 ? c / group : 0);
      if (l->extra_hash == 0 && l->y[i] != ptq_dtype_value(dt, p, l->q[i]))
        fail_msg("%s: row %d, column %d is %g, its code %d says %g", what,
                 (int)r, (int)c, (double)l->y[i], l->q[i],
                 (double)ptq_dtype_value(dt, p, l->q[i]));
      if (!isfinite(l->y[i]))
        fail_msg("%s: row %d, column %d is %g", what, (int)r, (int)c,
                 (double)l->y[i]);
    }
}

static void run_one(layer *l, const ptq_method_family *f, const ptq_dtype *dt,
                    int64_t group, counts *n) {
  char what[160];
  ptq_err err = {0};
  ptq_method m;
  snprintf(what, sizeof what, "%s with %s, group %lld, %lld x %lld", f->name,
           dt->name, (long long)group, (long long)l->rows, (long long)l->cols);
  assert_int_equal(ptq_method_parse(f->name, NULL, 0, &m, NULL), PTQ_OK);
  if (f->accepts(&m, dt, group, &err) != PTQ_OK) {
    if (err.code != PTQ_E_ARG || strstr(err.msg, f->name) == NULL ||
        strlen(err.msg) < 20)
      fail_msg("%s is refused with '%s'", what, err.msg);
    n->refused++;
    return;
  }
  for (int64_t i = 0; i < l->rows * l->cols; i++) l->y[i] = NAN;
  if (layer_try(l, f->name, "", dt->name, group, &err) != PTQ_OK)
    fail_msg("%s: %s", what, err.msg);
  check_restored(l, dt, group, what);
  if (!(l->storage_bits > 0.0)) fail_msg("%s takes no storage", what);
  n->run++;
}

static void run_methods(layer *l, const char *spelling, int n_groups,
                        counts *n) {
  static const int64_t groups[] = {8, PTQ_GROUP_TENSOR, PTQ_GROUP_ROW};
  ptq_dtype dt;
  ptq_err err = {0};
  if (ptq_dtype_parse(spelling, &dt, &err) != PTQ_OK) return; /* a width's no */
  for (const ptq_method_family *const *f = ptq_method_families(); *f; f++)
    for (int g = 0; g < n_groups; g++) run_one(l, *f, &dt, groups[g], n);
}

/* Every width on a layer worth it, dialects and small layers at two. */
static void run_dtypes(layer *l, counts *n) {
  char plain[PTQ_DTYPE_NAME_MAX], spelling[2 * PTQ_DTYPE_NAME_MAX];
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++)
    for (int bits = (*f)->min_bits; bits <= (*f)->max_bits; bits++) {
      const bool often = bits == (*f)->min_bits || bits == 4;
      if (l->rows <= 3 && !often) continue;
      ptq_dtype_spelling(*f, bits, plain);
      run_methods(l, plain, 3, n);
      const bool walk = l->rows > 3 && often;
      for (const char *const *d = (*f)->dialects; walk && d && *d; d++) {
        snprintf(spelling, sizeof spelling, "%s:%s", plain, *d);
        run_methods(l, spelling, 2, n);
      }
    }
}

static void every_pair_works_or_says_why(void **state) {
  (void)state;
  static const int64_t shapes[][2] = {{5, 20}, {1, 20}, {3, 1}};
  counts n = {0};
  for (int s = 0; s < 3; s++) {
    layer l = hard_layer(shapes[s][0], shapes[s][1]);
    const ptq_module_loss loss = {.ctx = &l, .eval = weights_loss};
    float gain[20];
    double cross[20 * 20];
    for (int i = 0; i < 20; i++) gain[i] = 0.5F + 0.1F * (float)i;
    for (int64_t i = 0; i < l.cols * l.cols; i++) cross[i] = 0.05 * l.h[i];
    l.more = (ptq_quant_input){.layer = "a.layer",
                               .reads_stream = s != 1,
                               .writes_stream = s == 1,
                               .stream_centred = s == 1,
                               .norm_w = s != 1 ? gain : NULL,
                               .h_train = l.h,
                               .h_holdout = l.h,
                               .cross = cross,
                               .module = &loss};
    run_dtypes(&l, &n);
    layer_release(&l);
  }
  print_message("%d pairs ran, %d were refused\n", n.run, n.refused);
  assert_true(n.run > 1000);
}

/* Methods over methods: all that may stand below another do their work. */
static void every_base_works_or_is_refused(void **state) {
  (void)state;
  static const char *const upper[] = {"eora", "lqer", "rht", "quarot"};
  int n = 0;
  layer l = hard_layer(5, 20);
  const ptq_module_loss loss = {.ctx = &l, .eval = weights_loss};
  double cross[20 * 20];
  for (int i = 0; i < 20 * 20; i++) cross[i] = 0.05 * l.h[i];
  l.more = (ptq_quant_input){.reads_stream = true,
                             .h_train = l.h,
                             .h_holdout = l.h,
                             .cross = cross,
                             .module = &loss};
  for (int u = 0; u < 4; u++)
    for (const ptq_method_family *const *f = ptq_method_families(); *f; f++) {
      char option[48];
      ptq_err err = {0};
      snprintf(option, sizeof option, "base=%s", (*f)->name);
      const ptq_status rc =
          layer_try(&l, upper[u], option, "int4:asym", 8, &err);
      if (rc == PTQ_E_ARG) continue;
      if (rc != PTQ_OK) fail_msg("%s %s: %s", upper[u], option, err.msg);
      for (int i = 0; i < 5 * 20; i++) assert_true(isfinite(l.y[i]));
      n++;
    }
  assert_true(n >= 4 * 4); /* rtn, gptq, descent and hqq below each */
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_pair_works_or_says_why),
      cmocka_unit_test(every_base_works_or_is_refused),
  };
  return cmocka_run_group_tests_name("quant/every_dtype", tests, layer_set_up,
                                     NULL);
}
