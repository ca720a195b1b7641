/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Any dtype with any method: quantized, or refused with the reason. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layer.h"

static const int64_t groups[] = {16, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
enum { N_GROUPS = sizeof groups / sizeof groups[0] };

typedef void visit_fn(layer *l, const ptq_dtype *dt);

static void visit(layer *l, const ptq_dtype_family *f, int bits,
                  const char *dialect, visit_fn *fn) {
  char plain[PTQ_DTYPE_NAME_MAX], text[2 * PTQ_DTYPE_NAME_MAX];
  ptq_dtype dt;
  ptq_err err = {0};
  ptq_dtype_spelling(f, bits, plain);
  snprintf(text, sizeof text, "%s%s%s", plain, dialect[0] != '\0' ? ":" : "",
           dialect);
  if (ptq_dtype_parse(text, &dt, &err) != PTQ_OK) fail_msg("%s", err.msg);
  fn(l, &dt);
}

/* Every family, at its least and its largest width, in every dialect. */
static void for_each_dtype(layer *l, visit_fn *fn) {
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++)
    for (int bits = (*f)->min_bits; bits <= (*f)->max_bits;) {
      visit(l, *f, bits, "", fn);
      for (const char *const *d = (*f)->dialects; d != NULL && *d != NULL; d++)
        visit(l, *f, bits, *d, fn);
      bits = bits == (*f)->max_bits ? bits + 1 : (*f)->max_bits;
    }
}

static ptq_group_params params_at(const layer *l, int64_t i, int64_t group) {
  const int64_t row = i / l->cols, col = i % l->cols;
  if (group == PTQ_GROUP_TENSOR) return l->params[0];
  if (group == PTQ_GROUP_ROW) return l->params[row];
  return l->params[row * ptq_dtype_groups(l->cols, group) + col / group];
}

/* Weights are what their codes stand for, to the bit but for signs of 0. */
static void check_restored(const layer *l, const ptq_dtype *dt, int64_t group,
                           const char *method) {
  for (int64_t i = 0; i < l->rows * l->cols; i++) {
    const ptq_group_params p = params_at(l, i, group);
    if (!(l->y[i] == ptq_dtype_value(dt, &p, l->q[i])))
      fail_msg("%s, %s: code %d is %a, not %a", method, dt->name, l->q[i],
               (double)ptq_dtype_value(dt, &p, l->q[i]), (double)l->y[i]);
  }
}

static void check_codes(layer *l, const ptq_dtype *dt) {
  for (int g = 0; g < N_GROUPS; g++) {
    layer_quantize(l, "rtn", "", dt->name, groups[g]);
    check_restored(l, dt, groups[g], "rtn");
    const double rtn = layer_error(l);
    layer_quantize(l, "gptq", "", dt->name, groups[g]);
    check_restored(l, dt, groups[g], "gptq");
    const double gptq = layer_error(l);
    if (!(gptq < rtn)) fail_msg("%s: gptq %g, rtn %g", dt->name, gptq, rtn);
  }
}

static void codes_restore_the_weights_of_every_dtype(void **state) {
  (void)state;
  layer l = layer_random(20, 72, 31);
  for_each_dtype(&l, check_codes);
  layer_release(&l);
}

/* tr(W H W'): the error of zeros. */
static double layer_signal(const layer *l) {
  layer zeros = *l;
  zeros.y = layer_room(l->rows * l->cols, sizeof *zeros.y);
  const double signal = layer_error(&zeros);
  ptq_free(zeros.y);
  return signal;
}

static void check_methods(layer *l, const ptq_dtype *dt) {
  const ptq_method_family *const *f = ptq_method_families();
  for (; *f != NULL; f++) {
    ptq_err err = {0};
    ptq_method m;
    assert_int_equal(ptq_method_parse((*f)->name, NULL, 0, &m, &err), PTQ_OK);
    if ((*f)->accepts(&m, dt, 16, &err) != PTQ_OK) {
      assert_int_equal(err.code, PTQ_E_ARG);
      assert_true(strlen(err.msg) > 20);
      continue;
    }
    if ((*f)->needs != NULL && (*f)->needs(&m) & ~(unsigned)PTQ_NEED_MEAN_ABS)
      continue; /* needs a model: tests of their own */
    layer_quantize(l, (*f)->name, "", dt->name, 16);
    for (int64_t i = 0; i < l->rows * l->cols; i++)
      if (!isfinite(l->y[i]))
        fail_msg("%s, %s: weight %d", (*f)->name, dt->name, (int)i);
    if (!(layer_error(l) < 0.8 * layer_signal(l)))
      fail_msg("%s, %s: error %g of %g", (*f)->name, dt->name, layer_error(l),
               layer_signal(l));
    assert_true(l->storage_bits > 0.0);
    if (l->extra_hash == 0) check_restored(l, dt, 16, (*f)->name);
  }
}

static void every_method_takes_a_dtype_or_says_why_not(void **state) {
  (void)state;
  layer l = layer_random(16, 48, 32);
  for_each_dtype(&l, check_methods);
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(codes_restore_the_weights_of_every_dtype),
      cmocka_unit_test(every_method_takes_a_dtype_or_says_why_not),
  };
  return cmocka_run_group_tests_name("quant/method_dtypes", tests, NULL, NULL);
}
