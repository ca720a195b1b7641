/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "collect.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/llama-25k"
#define MIXTURE PTQ_SOURCE_DIR "/tests/golden/architectures/olmoe"

enum {
  WINDOWS = 7,
  LENGTH = 20,
  SITE = PTQ_SITE_ATTN_OUT,
  BOTH = PTQ_COLLECT_MOMENTS | PTQ_COLLECT_ERRORS,
  ALL = PTQ_NEED_MEAN_ABS | PTQ_NEED_HOLDOUT | PTQ_NEED_CROSS
};

typedef struct fixture {
  ptq_model *model;           /* owned */
  const ptq_model_info *info; /* borrowed */
  ptq_collected c;            /* owned */
  float *x, *fp;              /* owned; [WINDOWS * LENGTH, d] */
  int64_t d;
} fixture;

static const ptq_room memory = {.hands = 1};

static void set_up(fixture *f, const char *model, ptq_room room,
                   unsigned needs) {
  ptq_err err = {0};
  *f = (fixture){0};
  if (ptq_model_open(model, &f->model, &err) != PTQ_OK) fail_msg("%s", err.msg);
  f->info = ptq_model_get_info(f->model);
  if (ptq_collected_open(&f->c, f->info, room, BOTH, needs, WINDOWS, LENGTH,
                         &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  f->d = ptq_site_width(f->info, SITE);
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
  ptq_free(f->x);
  ptq_free(f->fp);
  ptq_model_close(f->model);
}

#define MUST(call)                                \
  do {                                            \
    ptq_err e_ = {0};                             \
    if ((call) != PTQ_OK) fail_msg("%s", e_.msg); \
  } while (0)

static ptq_status window(void *ctx, int hand, int64_t i, ptq_order *order,
                         ptq_err *err) {
  fixture *f = ctx;
  const int64_t at = i * LENGTH * f->d;
  ptq_collector w = ptq_collect_window(&f->c, hand, i, order);
  ptq_status rc = PTQ_OK;
  if (f->c.needs & PTQ_NEED_CROSS) {
    PTQ_TRY(ptq_collect_reference(&w, SITE, f->fp + at, LENGTH, f->d, err));
    PTQ_TRY(ptq_collect_reference_end(&w, err));
  }
  PTQ_TRY(ptq_collect_input(&w, SITE, f->x + at, LENGTH, f->d, err));
  /* another site, which is not asked for */
  PTQ_TRY(ptq_collect_input(&w, 0, f->x, LENGTH, f->d, err));
  PTQ_TRY(ptq_collect_window_end(&w, err));
done:
  return rc;
}

static void pass(fixture *f) {
  MUST(ptq_collect_pass(&f->c, (ptq_site)SITE, (ptq_site)SITE, window, f, &e_));
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

static void check_moments(const fixture *f, const ptq_site_moments *m) {
  const int64_t all = WINDOWS * LENGTH, train = (WINDOWS - 1) * LENGTH;
  assert_int_equal(m->n_tokens, all);
  for (int64_t i = 0; i < f->d; i++) {
    double mean = 0.0;
    for (int64_t t = 0; t < all; t++)
      mean += (double)fabsf(f->x[t * f->d + i]) / (double)all;
    assert_true(fabs(m->mean_abs[i] - mean) < 1e-12);
    for (int64_t j = 0; j < f->d; j++) {
      const int64_t k = i * f->d + j;
      const double h = mean_product(f, f->x, f->x, i, j, 0, all);
      const double t = mean_product(f, f->x, f->x, i, j, 0, train);
      const double o = mean_product(f, f->x, f->x, i, j, train, all);
      const double d = mean_product(f, f->fp, f->x, i, j, 0, all) - h;
      assert_true(fabs(m->h[k] - h) < bound);
      assert_true(fabs(m->h_train[k] - t) < bound);
      assert_true(fabs(m->h_holdout[k] - o) < 2.0 * bound);
      assert_true(fabs(m->cross[k] - d) < 2.0 * bound);
    }
  }
}

static void means_and_moments_are_those_of_the_windows(void **state) {
  (void)state;
  fixture f;
  const ptq_site_moments *m = NULL;
  set_up(&f, ZOO, memory, ALL);
  assert_false(f.c.keeps[SITE]); /* 140 tokens, fewer inputs */
  for (int round = 0; round < 2; round++) pass(&f); /* starts over */
  MUST(ptq_collected_site(&f.c, SITE, &m, &e_));
  check_moments(&f, m);
  tear_down(&f);
}

static int64_t square(const fixture *f) {
  return f->d * f->d * (int64_t)sizeof(double);
}

/* As if the text were shorter than the site is wide. */
static void keep_rows(fixture *f, ptq_room room) {
  ptq_kept *kept[] = {&f->c.kept[SITE], &f->c.reference[SITE]};
  for (int i = 0; i < 2; i++) {
    ptq_kept_close(kept[i]);
    MUST(ptq_kept_open(kept[i], room, f->info, (ptq_site)SITE, WINDOWS, LENGTH,
                       f->d, &e_));
  }
  f->c.keeps[SITE] = true;
}

static void error_of(fixture *f, const float *a, double *error) {
  float scratch[PTQ_CREW_MAX][512], *hands[PTQ_CREW_MAX];
  for (int h = 0; h < PTQ_CREW_MAX; h++) hands[h] = scratch[h];
  const ptq_error_job job = {
      .c = &f->c, .site = SITE, .e = a, .rows = 3, .out = error};
  MUST(ptq_collected_errors(&job, 1, hands, &e_));
}

/* Whether rows are summed as they come or kept and summed later, in memory or
 * in a file, on however many threads, moments are the same bits; errors are
 * those of the definition. */
static void kept_rows_and_threads_give_the_same_moments(void **state) {
  (void)state;
  enum { WAYS = 3, HANDS = 4, N = WAYS * HANDS };
  static const char *const scratch[] = {NULL, NULL, "/tmp"};
  fixture f[N];
  const ptq_site_moments *m[N];
  for (int i = 0; i < N; i++) {
    const int way = i / HANDS;
    const ptq_room room = {.scratch = scratch[way], .hands = 1 + i % HANDS};
    set_up(&f[i], ZOO, room, ALL);
    if (way > 0) keep_rows(&f[i], room);
    for (int round = 0; round < 5; round++) { /* luck differs */
      pass(&f[i]);
      MUST(ptq_collected_site(&f[i].c, SITE, &m[i], &e_));
      assert_int_equal(ptq_collected_tokens(&f[i].c, SITE), WINDOWS * LENGTH);
      const size_t size = (size_t)square(&f[0]);
      assert_memory_equal(m[i]->h, m[0]->h, size);
      assert_memory_equal(m[i]->h_train, m[0]->h_train, size);
      assert_memory_equal(m[i]->h_holdout, m[0]->h_holdout, size);
      assert_memory_equal(m[i]->cross, m[0]->cross, size);
      assert_memory_equal(m[i]->mean_abs, m[0]->mean_abs,
                          (size_t)f[0].d * sizeof(double));
    }
  }
  check_moments(&f[N - 1], m[N - 1]);
  float *a = f[0].fp; /* [3, d] */
  double error[N];
  for (int i = 0; i < N; i++) error_of(&f[i], a, &error[i]);
  double want = 0.0;
  for (int64_t t = 0; t < WINDOWS * LENGTH; t++)
    for (int64_t r = 0; r < 3; r++) {
      double y = 0.0;
      for (int64_t i = 0; i < f[0].d; i++)
        y += (double)a[r * f[0].d + i] * (double)f[0].x[t * f[0].d + i];
      want += y * y / (WINDOWS * LENGTH);
    }
  for (int i = 0; i < N; i++) {
    assert_true(error[i] == error[i < HANDS ? 0 : HANDS]);
    assert_true(fabs(error[i] / want - 1.0) < 1e-5);
    tear_down(&f[i]);
  }
}

static void what_is_not_asked_for_is_not_there(void **state) {
  (void)state;
  fixture f;
  const ptq_site_moments *m = NULL;
  set_up(&f, ZOO, memory, 0);
  pass(&f);
  MUST(ptq_collected_site(&f.c, SITE, &m, &e_));
  assert_non_null(m->h);
  assert_null(m->h_train);
  assert_null(m->h_holdout);
  assert_null(m->cross);
  assert_null(m->mean_abs);
  for (unsigned bit = 1; bit < PTQ_NEED_MODULE_LOSS; bit *= 2) {
    const ptq_collected_size more = ptq_collected_bytes(
        f.info, memory, PTQ_COLLECT_MOMENTS, bit, WINDOWS, LENGTH);
    const ptq_collected_size less = ptq_collected_bytes(
        f.info, memory, PTQ_COLLECT_MOMENTS, 0, WINDOWS, LENGTH);
    assert_true(more.fixed > less.fixed);
    assert_true(more.sums == 0 && less.kept[SITE] == 0);
  }
  /* For errors alone sums go, and short texts are kept as they are. */
  assert_true(ptq_collected_bytes(f.info, memory, PTQ_COLLECT_ERRORS, 0,
                                  WINDOWS, LENGTH)
                  .sums > 0);
  const ptq_collected_size short_text =
      ptq_collected_bytes(f.info, memory, PTQ_COLLECT_ERRORS, 0, 1, 2);
  assert_true(short_text.sums == 0 && short_text.kept[SITE] > 0 &&
              short_text.built[SITE] == 0);
  tear_down(&f);
}

/* Expert 1 alone has tokens. */
static ptq_status expert_window(void *ctx, int hand, int64_t i,
                                ptq_order *order, ptq_err *err) {
  fixture *f = ctx;
  static const int32_t tokens[2] = {4, 9};
  const int own = ptq_site_of(PTQ_SITE_MLP_IN, 1);
  const int64_t d = ptq_site_width(f->info, own);
  ptq_collector w = ptq_collect_window(&f->c, hand, i, order);
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_collect_routed(&w, 1, tokens, 2, err));
  PTQ_TRY(ptq_collect_reference(&w, own, f->fp, 2, d, err));
  PTQ_TRY(ptq_collect_reference_end(&w, err));
  PTQ_TRY(ptq_collect_input(&w, own, f->x, 2, d, err));
  PTQ_TRY(ptq_collect_window_end(&w, err));
done:
  return rc;
}

/* An expert that no token came to counts every input alike. */
static void an_expert_without_tokens_has_the_identity(void **state) {
  (void)state;
  fixture f;
  const ptq_site_moments *m = NULL;
  const int site = ptq_site_of(PTQ_SITE_MLP_IN, 3);
  set_up(&f, MIXTURE, memory, ALL);
  const int64_t d = ptq_site_width(f.info, site);
  MUST(ptq_collect_pass(&f.c, PTQ_SITE_MLP_IN, PTQ_SITE_MLP_IN, expert_window,
                        &f, &e_));
  assert_int_equal(ptq_collected_tokens(&f.c, site), 0);
  assert_int_equal(ptq_collected_tokens(&f.c, ptq_site_of(PTQ_SITE_MLP_IN, 1)),
                   2 * WINDOWS);
  MUST(ptq_collected_site(&f.c, site, &m, &e_));
  for (int64_t i = 0; i < d; i++) {
    assert_true(m->mean_abs[i] == 1.0);
    for (int64_t j = 0; j < d; j++) {
      const double one = i == j ? 1.0 : 0.0;
      assert_true(m->h[i * d + j] == one && m->h_train[i * d + j] == one &&
                  m->h_holdout[i * d + j] == one);
      assert_true(m->cross[i * d + j] == 0.0);
    }
  }
  double error = 1.0;
  float scratch[4096], *hands[] = {scratch};
  const ptq_error_job job = {
      .c = &f.c, .site = site, .e = f.x, .rows = 2, .out = &error};
  MUST(ptq_collected_errors(&job, 1, hands, &e_));
  assert_true(error == 0.0);
  tear_down(&f);
}

/* Tokens that only one of two models gives to an expert have no part in the
 * cross moment. */
static void rows_are_paired_by_token(void **state) {
  (void)state;
  static const int32_t a[] = {1, 3, 4, 8}, b[] = {0, 3, 5, 8, 9};
  const ptq_kept_part x = {.tokens = a, .n = 4}, y = {.tokens = b, .n = 5};
  int64_t i = -1, j = -1;
  assert_true(ptq_kept_next(&x, &y, &i, &j));
  assert_true(i == 1 && j == 1);
  assert_true(ptq_kept_next(&x, &y, &i, &j));
  assert_true(i == 3 && j == 3);
  assert_false(ptq_kept_next(&x, &y, &i, &j));
  const ptq_kept_part all = {.n = 6}; /* tokens 0..5 */
  i = j = -1;
  assert_true(ptq_kept_next(&x, &all, &i, &j));
  assert_true(i == 0 && j == 1);
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(means_and_moments_are_those_of_the_windows),
      cmocka_unit_test(kept_rows_and_threads_give_the_same_moments),
      cmocka_unit_test(what_is_not_asked_for_is_not_there),
      cmocka_unit_test(an_expert_without_tokens_has_the_identity),
      cmocka_unit_test(rows_are_paired_by_token),
  };
  return cmocka_run_group_tests_name("sweep/collect", tests, blas, NULL);
}
