/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every allocation of every method fails once; a child a time, because the
 * count of operations is the process's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <string.h>

#include "layer.h"

enum { ALL_WELL = 0, NO_MEMORY = 1, WRONG = 2 };
enum { ROWS = 12, COLS = 24 };

static ptq_status no_loss(void *ctx, float *const *w, double *loss,
                          ptq_err *err) {
  (void)ctx, (void)w, (void)err;
  *loss = 1.0;
  return PTQ_OK;
}

static ptq_status flat_loss(void *ctx, const int64_t *at, int64_t count,
                            float *const *w, float *const *g, double *loss,
                            ptq_err *err) {
  (void)ctx, (void)at, (void)count, (void)w, (void)g, (void)err;
  *loss = 1.0;
  return PTQ_OK;
}

/* What comes before the sites of a block of one layer. */
static ptq_status tune(const layer *l, const char *method, ptq_tuning *t,
                       ptq_err *err) {
  static const ptq_method_option few = {"iters", "2"};
  const ptq_block_loss loss = {.windows = 3, .eval = flat_loss};
  ptq_method m;
  ptq_dtype dt;
  *t = (ptq_tuning){0};
  ptq_status rc = ptq_method_parse(method, &few, 1, &m, NULL);
  if (rc != PTQ_OK || m.family->tune_block == NULL) return PTQ_OK;
  rc = ptq_dtype_parse("int4:asym", &dt, err);
  if (rc != PTQ_OK) return rc;
  const ptq_quant_input in = {.w = l->w,
                              .rows = l->rows,
                              .cols = l->cols,
                              .dtype = &dt,
                              .group = 16,
                              .threads = l->threads};
  return ptq_method_tune_block(&m, &in, (float *const *)&l->y, 1, &loss, t,
                               err);
}

/* In a child: quantize a layer whose room is not counted. */
static int quantize_with_fault(const char *method, const char *options,
                               int nth) {
  static float w[ROWS * COLS], y[ROWS * COLS], gain[COLS];
  static int16_t q[ROWS * COLS];
  static ptq_group_params params[ROWS * COLS];
  static double h[COLS * COLS], cross[COLS * COLS], mean_abs[COLS];
  const ptq_module_loss loss = {.eval = no_loss};
  for (int i = 0; i < ROWS * COLS; i++) w[i] = (float)(i % 37) - 18.0F;
  for (int i = 0; i < COLS * COLS; i++) h[i] = i % (COLS + 1) == 0 ? 1.0 : 0.5;
  for (int i = 0; i < COLS; i++) gain[i] = (float)(mean_abs[i] = 1.0);
  layer l = {.rows = ROWS,
             .cols = COLS,
             .w = w,
             .y = y,
             .q = q,
             .params = params,
             .h = h,
             .mean_abs = mean_abs,
             .threads = 2,
             .more = {.reads_stream = true,
                      .norm_w = gain,
                      .h_train = h,
                      .h_holdout = h,
                      .cross = cross,
                      .module = &loss}};
  char text[16];
  snprintf(text, sizeof text, "%d", nth);
  if (setenv("PTQ_FAIL_NTH", text, 1) != 0) return WRONG;
  ptq_err err = {0};
  ptq_tuning tuning;
  ptq_status rc = tune(&l, method, &tuning, &err);
  if (tuning.offset != NULL) l.more.tuning = &tuning;
  if (rc == PTQ_OK) rc = layer_try(&l, method, options, "int4:asym", 16, &err);
  ptq_tuning_release(&tuning);
  if (rc == PTQ_OK) return ALL_WELL;
  return rc == PTQ_E_NOMEM && strlen(err.msg) > 0 ? NO_MEMORY : WRONG;
}

/* How many allocations were made to fail. */
static int fail_each(const char *method, const char *options) {
  for (int nth = 1;; nth++) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) exit(quantize_with_fault(method, options, nth));
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == ALL_WELL) return nth - 1;
    if (WEXITSTATUS(status) != NO_MEMORY)
      fail_msg("%s: failing allocation %d ends with status %d", method, nth,
               WEXITSTATUS(status));
    assert_true(nth < 500);
  }
}

static void failing_allocations_are_reported_and_leak_nothing(void **state) {
  (void)state;
  int n = 0;
  for (const ptq_method_family *const *f = ptq_method_families(); *f; f++)
    n += fail_each((*f)->name, "");
  n += fail_each("quip", "rescale=true,tune=1");
  n += fail_each("quarot", "base=gptq");
  n += fail_each("eora", "base=quip");
  assert_true(n > 50); /* or nothing was made to fail */
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(failing_allocations_are_reported_and_leak_nothing),
  };
  return cmocka_run_group_tests_name("quant/method_faults", tests, layer_set_up,
                                     NULL);
}
