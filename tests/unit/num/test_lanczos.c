/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/num/lanczos.h"

enum { N = 120 };

#define MUST(call)                                \
  do {                                            \
    ptq_err e_ = {0};                             \
    if ((call) != PTQ_OK) fail_msg("%s", e_.msg); \
  } while (0)

/* A dense symmetric matrix that knows how often it was asked. */
typedef struct dense {
  double *a; /* [N, N] */
  int64_t products, calls, widest;
  int64_t fail_at; /* this product is not finite; -1: none */
} dense;

static double *doubles(int64_t n) {
  double *x = NULL;
  MUST(ptq_alloc(&x, n, sizeof *x, "a test's array", &e_));
  return x;
}

static ptq_status apply(void *ctx, int64_t count, const double *const *x,
                        double *const *y, ptq_err *err) {
  dense *d = ctx;
  (void)err;
  d->calls++;
  if (count > d->widest) d->widest = count;
  for (int64_t j = 0; j < count; j++) {
    for (int64_t i = 0; i < N; i++) {
      y[j][i] = 0.0;
      for (int64_t k = 0; k < N; k++) y[j][i] += d->a[i * N + k] * x[j][k];
    }
    if (d->products++ == d->fail_at) y[j][N / 2] = NAN;
  }
  return PTQ_OK;
}

/* Q diag(w) Q' with a random reflection after another. */
static dense matrix_of(const double *w) {
  dense d = {.a = doubles(N * N), .fail_at = -1};
  ptq_rng rng;
  ptq_rng_init(&rng, 3);
  for (int i = 0; i < N; i++) d.a[i * N + i] = w[i];
  for (int turn = 0; turn < 3; turn++) {
    double v[N], av[N], square = 0.0, form = 0.0;
    for (int i = 0; i < N; i++) {
      v[i] = 2.0 * ptq_rng_unit(&rng) - 1.0;
      square += v[i] * v[i];
    }
    for (int i = 0; i < N; i++) {
      av[i] = 0.0;
      for (int k = 0; k < N; k++) av[i] += d.a[i * N + k] * v[k];
      form += av[i] * v[i];
    }
    const double f = 2.0 / square;
    for (int i = 0; i < N; i++)
      for (int k = 0; k < N; k++)
        d.a[i * N + k] +=
            -f * (v[i] * av[k] + av[i] * v[k]) + f * f * form * v[i] * v[k];
  }
  return d;
}

/* Two large, one negative, the rest between -0.5 and 1. */
static void spectrum(double *w) {
  for (int i = 0; i < N; i++) w[i] = -0.5 + 1.5 * i / (N - 1);
  w[0] = -3.0;
  w[1] = 10.0;
  w[2] = 7.0;
}

static ptq_operator operator_of(dense *d, int64_t width) {
  return (ptq_operator){.n = N, .width = width, .ctx = d, .apply = apply};
}

static void outer_eigenvalues_come_out_with_their_bounds(void **state) {
  (void)state;
  double w[N];
  spectrum(w);
  dense d = matrix_of(w);
  const ptq_operator a = operator_of(&d, 1);
  const ptq_lanczos_setup setup = {.n = N, .max_steps = 60};
  ptq_ritz r;
  MUST(ptq_lanczos_run(&a, &setup, 5, 2, 1, 1e-10, &r, &e_));
  assert_true(r.steps < 60);
  assert_int_equal(r.steps, d.products);
  assert_true(fabs(r.value[0] - 10.0) <= 1e-8);
  assert_true(fabs(r.value[1] - 7.0) <= 1e-8);
  assert_true(fabs(r.value[r.steps - 1] + 3.0) <= 1e-8);
  double sum = 0.0;
  for (int64_t i = 0; i < r.steps; i++) {
    double nearest = INFINITY;
    for (int k = 0; k < N; k++)
      nearest = fmin(nearest, fabs(r.value[i] - w[k]));
    assert_true(nearest <= r.bound[i] + 1e-12);
    sum += r.weight[i];
  }
  assert_true(fabs(sum - 1.0) <= 1e-12);
  ptq_ritz_release(&r);
  ptq_free(d.a);
}

static void all_steps_give_all_eigenvalues(void **state) {
  (void)state;
  double w[N];
  spectrum(w);
  dense d = matrix_of(w);
  const ptq_operator a = operator_of(&d, 1);
  const ptq_lanczos_setup setup = {.n = N, .max_steps = N + 5};
  ptq_ritz r;
  MUST(ptq_lanczos_run(&a, &setup, 5, N, 0, 0.0, &r, &e_));
  assert_int_equal(r.steps, N);
  MUST(ptq_eigenvalues(d.a, N, w, &e_));
  for (int i = 0; i < N; i++) assert_true(fabs(r.value[i] - w[i]) <= 1e-11);
  ptq_ritz_release(&r);
  ptq_free(d.a);
}

static void few_distinct_eigenvalues_need_few_steps(void **state) {
  (void)state;
  double w[N];
  for (int i = 0; i < N; i++) w[i] = i % 3;
  dense d = matrix_of(w);
  const ptq_operator a = operator_of(&d, 1);
  for (int single = 0; single < 2; single++) {
    const ptq_lanczos_setup setup = {
        .n = N, .max_steps = 20, .single = single == 1};
    ptq_ritz r;
    MUST(ptq_lanczos_run(&a, &setup, 5, 20, 0, 0.0, &r, &e_));
    /* A basis rounded to float32 leaves the invariant space by 1e-8. */
    if (single == 0) assert_int_equal(r.steps, 3);
    assert_true(fabs(r.value[0] - 2.0) <= (single == 1 ? 1e-6 : 1e-12));
    ptq_ritz_release(&r);
  }
  ptq_free(d.a);
}

static void a_basis_can_be_float32_or_in_a_file(void **state) {
  (void)state;
  double w[N];
  spectrum(w);
  dense d = matrix_of(w);
  const ptq_operator a = operator_of(&d, 1);
  ptq_ritz plain, r;
  ptq_lanczos_setup setup = {.n = N, .max_steps = 40};
  MUST(ptq_lanczos_run(&a, &setup, 5, 2, 1, 0.0, &plain, &e_));
  const int64_t in_memory = ptq_lanczos_bytes(&setup);
  setup.scratch = ".";
  assert_true(ptq_lanczos_bytes(&setup) < in_memory - 40 * N * 7);
  MUST(ptq_lanczos_run(&a, &setup, 5, 2, 1, 0.0, &r, &e_));
  assert_memory_equal(r.value, plain.value, 40 * sizeof(double));
  ptq_ritz_release(&r);
  setup.single = true;
  MUST(ptq_lanczos_run(&a, &setup, 5, 2, 1, 0.0, &r, &e_));
  assert_true(fabs(r.value[0] - 10.0) <= 1e-6);
  assert_true(fabs(r.value[39] + 3.0) <= 1e-6);
  ptq_ritz_release(&r);
  ptq_ritz_release(&plain);
  ptq_free(d.a);
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  double w[N], zero[N] = {0.0};
  spectrum(w);
  dense d = matrix_of(w);
  ptq_operator a = operator_of(&d, 1);
  ptq_lanczos_setup setup = {.n = N, .max_steps = 9};
  ptq_lanczos *l = NULL;
  ptq_ritz r;
  ptq_quadrature q;
  ptq_estimate t;
  ptq_err err = {0};
  assert_int_equal(ptq_lanczos_create(&setup, zero, &l, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "norm 0"));
  err = (ptq_err){0};
  d.fail_at = 4;
  assert_int_equal(ptq_lanczos_run(&a, &setup, 5, 1, 0, 0.0, &r, &err),
                   PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "step 4"));
  err = (ptq_err){0};
  setup.scratch = "./no/such/directory";
  assert_int_equal(ptq_lanczos_run(&a, &setup, 5, 1, 0, 0.0, &r, &err),
                   PTQ_E_IO);
  assert_non_null(strstr(err.msg, "no/such/directory"));
  err = (ptq_err){0};
  setup = (ptq_lanczos_setup){.n = N, .max_steps = 0};
  assert_int_equal(ptq_lanczos_run(&a, &setup, 5, 1, 0, 0.0, &r, &err),
                   PTQ_E_ARG);
  assert_int_equal(ptq_quadrature_run(&a, &setup, 5, 3, &q, NULL), PTQ_E_ARG);
  setup.max_steps = 5;
  assert_int_equal(ptq_quadrature_run(&a, &setup, 5, 0, &q, NULL), PTQ_E_ARG);
  assert_int_equal(ptq_trace(&a, 5, 0, &t, NULL), PTQ_E_ARG);
  ptq_free(d.a);
}

static void the_trace_is_within_its_error(void **state) {
  (void)state;
  double w[N], trace = 0.0;
  spectrum(w);
  for (int i = 0; i < N; i++) trace += w[i];
  dense d = matrix_of(w);
  ptq_operator a = operator_of(&d, 1);
  ptq_estimate one, three;
  MUST(ptq_trace(&a, 11, 200, &one, &e_));
  assert_true(fabs(one.mean - trace) <= 4.0 * one.se);
  assert_true(one.se > 0.0 && one.se < 2.0);
  /* The same draws, three at a time. */
  a = operator_of(&d, 3);
  MUST(ptq_trace(&a, 11, 200, &three, &e_));
  assert_memory_equal(&one, &three, sizeof one);
  assert_int_equal(d.widest, 3);
  /* Of a diagonal matrix every vector of signs has the very trace. */
  memset(d.a, 0, N * N * sizeof *d.a);
  for (int i = 0; i < N; i++) d.a[i * N + i] = w[i];
  MUST(ptq_trace(&a, 12, 1, &one, &e_));
  assert_true(fabs(one.mean - trace) <= 1e-12 * fabs(trace));
  assert_true(isnan(one.se));
  ptq_free(d.a);
}

static double square(double x, void *ctx) {
  (void)ctx;
  return x * x;
}

static void quadrature_has_moments_and_density(void **state) {
  (void)state;
  enum { GRID = 600 };
  double w[N], x[GRID], density[GRID], squares = 0.0;
  spectrum(w);
  for (int i = 0; i < N; i++) squares += w[i] * w[i] / N;
  dense d = matrix_of(w);
  ptq_operator a = operator_of(&d, 4);
  const ptq_lanczos_setup setup = {.n = N, .max_steps = 30};
  ptq_quadrature q, again;
  MUST(ptq_quadrature_run(&a, &setup, 2, 30, &q, &e_));
  assert_int_equal(d.calls, 8 * 30); /* 30 probes, 4 and at last 2 together */
  const ptq_estimate m = ptq_quadrature_mean(&q, square, NULL);
  assert_true(fabs(m.mean - squares) <= 4.0 * m.se && m.se < 0.2 * squares);
  for (int i = 0; i < GRID; i++) x[i] = -5.0 + 17.0 * i / (GRID - 1);
  ptq_quadrature_density(&q, 0.3, x, GRID, density);
  double sum = 0.0, off = 0.0, exact_sum = 0.0;
  for (int i = 0; i < GRID; i++) {
    double exact = 0.0;
    for (int k = 0; k < N; k++)
      exact += exp(-0.5 * pow((x[i] - w[k]) / 0.3, 2.0)) /
               (N * 0.3 * sqrt(8.0 * atan(1.0)));
    sum += density[i] * 17.0 / (GRID - 1);
    exact_sum += exact * 17.0 / (GRID - 1);
    off += fabs(density[i] - exact) * 17.0 / (GRID - 1);
  }
  assert_true(fabs(sum - exact_sum) <= 1e-6);
  /* 30 probes estimate masses to about sqrt(2 / 30 / 120) of each other. */
  assert_true(off <= 0.1);
  /* One at a time: the same bits. */
  a = operator_of(&d, 1);
  MUST(ptq_quadrature_run(&a, &setup, 2, 30, &again, &e_));
  for (int p = 0; p < 30; p++)
    assert_memory_equal(q.of[p].value, again.of[p].value, 30 * sizeof(double));
  ptq_quadrature_release(&q);
  ptq_quadrature_release(&again);
  ptq_free(d.a);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(outer_eigenvalues_come_out_with_their_bounds),
      cmocka_unit_test(all_steps_give_all_eigenvalues),
      cmocka_unit_test(few_distinct_eigenvalues_need_few_steps),
      cmocka_unit_test(a_basis_can_be_float32_or_in_a_file),
      cmocka_unit_test(what_cannot_be_is_refused),
      cmocka_unit_test(the_trace_is_within_its_error),
      cmocka_unit_test(quadrature_has_moments_and_density),
  };
  return cmocka_run_group_tests_name("num/lanczos", tests, start, NULL);
}
