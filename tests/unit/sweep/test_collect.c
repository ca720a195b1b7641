/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#include "collect.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"

enum { WINDOWS = 7, LENGTH = 20, ALL = 15, SITE = PTQ_SITE_ATTN_OUT };

typedef struct fixture {
  ptq_model *model; /* owned */
  ptq_collected c;  /* owned */
  ptq_moment moment[PTQ_SITE_COUNT];
  float *x, *fp; /* owned; [WINDOWS * LENGTH, d] */
  int64_t d;
} fixture;

static void set_up(fixture *f, unsigned needs) {
  ptq_err err = {0};
  *f = (fixture){0};
  if (ptq_model_open(ZOO "llama-25k", &f->model, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  const ptq_model_info *info = ptq_model_get_info(f->model);
  assert_int_equal(ptq_collected_open(&f->c, info, needs, LENGTH, &err),
                   PTQ_OK);
  for (int s = 0; s < PTQ_SITE_COUNT; s++)
    assert_int_equal(
        ptq_moment_init(&f->moment[s], ptq_site_width(info, (ptq_site)s), &err),
        PTQ_OK);
  f->d = ptq_site_width(info, (ptq_site)SITE);
  const int64_t n = WINDOWS * LENGTH * f->d;
  assert_int_equal(ptq_alloc(&f->x, n, sizeof *f->x, "x", &err), PTQ_OK);
  assert_int_equal(ptq_alloc(&f->fp, n, sizeof *f->fp, "x", &err), PTQ_OK);
  ptq_rng r;
  ptq_rng_init(&r, 3);
  for (int64_t i = 0; i < n; i++) {
    f->x[i] = (float)ptq_rng_unit(&r) - 0.5F;
    f->fp[i] = f->x[i] + 0.1F * (float)ptq_rng_unit(&r);
  }
}

static void tear_down(fixture *f) {
  ptq_collected_close(&f->c);
  for (int s = 0; s < PTQ_SITE_COUNT; s++) ptq_moment_release(&f->moment[s]);
  ptq_free(f->x);
  ptq_free(f->fp);
  ptq_model_close(f->model);
}

static void pass(fixture *f) {
  ptq_collector c = ptq_collect_begin(&f->c, f->moment, (ptq_site)SITE,
                                      (ptq_site)SITE, WINDOWS);
  for (int64_t i = 0; i < WINDOWS; i++) {
    const int64_t at = i * LENGTH * f->d;
    if (f->c.needs & PTQ_NEED_CROSS)
      (void)ptq_collect_reference(&c, (ptq_site)SITE, f->fp + at, LENGTH, f->d,
                                  NULL);
    (void)ptq_collect_input(&c, (ptq_site)SITE, f->x + at, LENGTH, f->d, NULL);
    /* another site, which is not asked for */
    (void)ptq_collect_input(&c, (ptq_site)0, f->x, LENGTH, f->d, NULL);
    ptq_collect_window(&c, i);
  }
}

/* Mean over tokens [first, last) of a_i b_j. */
static double mean_product(const fixture *f, const float *a, const float *b,
                           int64_t i, int64_t j, int64_t first, int64_t last) {
  double sum = 0.0;
  for (int64_t t = first; t < last; t++)
    sum += (double)a[t * f->d + i] * (double)b[t * f->d + j];
  return sum / (double)(last - first);
}

/* Products of a window are float32 sums of LENGTH products of at most 0.36:
 * rounded LENGTH times to 2^-24 of at most 0.36 LENGTH. */
static const double bound = 0.36 * LENGTH * LENGTH * 0x1p-24;

static void means_and_moments_are_those_of_the_windows(void **state) {
  (void)state;
  fixture f;
  set_up(&f, ALL);
  for (int round = 0; round < 2; round++) pass(&f); /* starts over */
  const int64_t all = WINDOWS * LENGTH, train = (WINDOWS - 1) * LENGTH;
  for (int64_t i = 0; i < f.d; i++) {
    double mean = 0.0;
    for (int64_t t = 0; t < all; t++)
      mean += (double)fabsf(f.x[t * f.d + i]) / (double)all;
    assert_true(fabs(f.c.mean_abs[SITE][i] - mean) < 1e-12);
    for (int64_t j = 0; j < f.d; j++) {
      const int64_t k = i * f.d + j;
      const double h = mean_product(&f, f.x, f.x, i, j, 0, all);
      const double t = mean_product(&f, f.x, f.x, i, j, 0, train);
      const double o = mean_product(&f, f.x, f.x, i, j, train, all);
      const double d = mean_product(&f, f.fp, f.x, i, j, 0, all) - h;
      assert_true(fabs(f.c.h[SITE][k] - h) < bound);
      assert_true(fabs(f.c.h_train[SITE][k] - t) < bound);
      assert_true(fabs(f.c.h_holdout[SITE][k] - o) < 2.0 * bound);
      assert_true(fabs(f.c.cross[SITE][k] - d) < 2.0 * bound);
    }
  }
  tear_down(&f);
}

static void what_is_not_asked_for_is_not_there(void **state) {
  (void)state;
  fixture f;
  set_up(&f, 0);
  pass(&f);
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    assert_non_null(f.c.h[s]);
    assert_null(f.c.h_train[s]);
    assert_null(f.c.h_holdout[s]);
    assert_null(f.c.cross[s]);
    assert_null(f.c.mean_abs[s]);
  }
  const ptq_model_info *info = ptq_model_get_info(f.model);
  for (unsigned bit = 1; bit < PTQ_NEED_MODULE_LOSS; bit *= 2)
    assert_true(ptq_collected_bytes(info, bit, LENGTH) >
                ptq_collected_bytes(info, 0, LENGTH));
  tear_down(&f);
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(means_and_moments_are_those_of_the_windows),
      cmocka_unit_test(what_is_not_asked_for_is_not_there),
  };
  return cmocka_run_group_tests_name("sweep/collect", tests, blas, NULL);
}
