/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Runs twice: as the CPU is, and with ONEDNN_MAX_CPU_ISA=AVX512_CORE, where
 * OpenBLAS multiplies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/bf16.h"
#include "ptq/num/blas.h"
#include "ptq/num/numerics.h"
#include "ptq/num/vec.h"

static ptq_err e_;
#define MUST(call)                                \
  do {                                            \
    if ((call) != PTQ_OK) fail_msg("%s", e_.msg); \
  } while (0)

/* Two operands a[m, k] and b, as float32 and rounded, and a result. */
typedef struct operands {
  int64_t m, n, k;
  float *a, *b, *c;
  ptq_bf16 *ra, *rb;
} operands;

static void *block(int64_t n, size_t size) {
  void *p = NULL;
  MUST(ptq_alloc(&p, n, size, "test", &e_));
  return p;
}

/* Uniform in [-1, 1), not rounded. */
static void draw(float *x, int64_t n, uint64_t seed) {
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  for (int64_t i = 0; i < n; i++)
    x[i] = (float)(2.0 * ptq_rng_unit(&rng) - 1.0);
}

static operands operands_of(int64_t m, int64_t n, int64_t k) {
  operands o = {.m = m, .n = n, .k = k};
  o.a = block(m * k, sizeof(float));
  o.b = block(n * k, sizeof(float));
  o.c = block(m * n, sizeof(float));
  o.ra = block(m * k, sizeof(ptq_bf16));
  o.rb = block(n * k, sizeof(ptq_bf16));
  draw(o.a, m * k, 1);
  draw(o.b, n * k, 2);
  ptq_vec_to_bf16(o.a, m * k, o.ra);
  ptq_vec_to_bf16(o.b, n * k, o.rb);
  return o;
}

static void release(operands *o) {
  ptq_free(o->a);
  ptq_free(o->b);
  ptq_free(o->c);
  ptq_free(o->ra);
  ptq_free(o->rb);
}

static double value(ptq_bf16 x) {
  float y;
  ptq_vec_from_bf16(&x, 1, &y);
  return (double)y;
}

/* c against the rounded operands' product in float64. Products are exact in
 * float32; k sums, the factor and the addition to `base` are rounded to 2^-24
 * of at most the sum of magnitudes. */
static void check(const operands *o, bool transposed, double alpha,
                  double base) {
  for (int64_t i = 0; i < o->m; i++)
    for (int64_t j = 0; j < o->n; j++) {
      double sum = 0.0, size = 0.0;
      for (int64_t p = 0; p < o->k; p++) {
        const double b =
            value(transposed ? o->rb[j * o->k + p] : o->rb[p * o->n + j]);
        sum += value(o->ra[i * o->k + p]) * b;
        size += fabs(value(o->ra[i * o->k + p]) * b);
      }
      const double got = (double)o->c[i * o->n + j];
      const double off = fabs(alpha * sum + base - got);
      const double bound =
          (double)(o->k + 2) * 0x1p-24 * (fabs(alpha) * size + fabs(base));
      if (!(off <= bound))
        fail_msg("%s, %lld x %lld x %lld: element (%lld, %lld) is %g, off by "
                 "%g, allowed %g",
                 ptq_bf16_name(), (long long)o->m, (long long)o->n,
                 (long long)o->k, (long long)i, (long long)j, got, off, bound);
    }
}

/* Windows, heads and tiles: odd, of one, beyond oneDNN's blocks. */
static const int64_t shapes[][3] = {
    {1, 1, 1},      {1, 33, 17},     {5, 7, 3},    {37, 64, 25},
    {40, 50, 30},   {64, 64, 64},    {97, 83, 61}, {192, 65, 13},
    {200, 130, 96}, {256, 192, 576}, {3, 500, 129}};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

static void products_are_those_of_rounded_operands(void **state) {
  ptq_multiplier *mul = *state;
  for (int s = 0; s < N_SHAPES; s++) {
    operands o = operands_of(shapes[s][0], shapes[s][1], shapes[s][2]);
    ptq_packed *packed = NULL;
    MUST(ptq_packed_create(mul, o.n, o.k, &packed, &e_));
    MUST(ptq_packed_set(packed, mul, o.b, &e_));
    MUST(ptq_bf16_apply(mul, o.m, o.a, packed, o.c, &e_));
    check(&o, true, 1.0, 0.0);
    MUST(ptq_bf16_nt(mul, o.m, o.n, o.k, 0.3F, o.ra, o.rb, o.c, &e_));
    check(&o, true, (double)0.3F, 0.0);
    MUST(ptq_bf16_nn(mul, o.m, o.n, o.k, o.ra, o.rb, false, o.c, &e_));
    check(&o, false, 1.0, 0.0);
    for (int64_t i = 0; i < o.m * o.n; i++) o.c[i] = 2.0F;
    MUST(ptq_bf16_nn(mul, o.m, o.n, o.k, o.ra, o.rb, true, o.c, &e_));
    check(&o, false, 1.0, 2.0);
    ptq_packed_free(packed);
    release(&o);
  }
}

/* Weights packed once serve windows of every length; others may be set. */
static void packed_weights_serve_every_window(void **state) {
  ptq_multiplier *mul = *state;
  ptq_packed *packed = NULL;
  MUST(ptq_packed_create(mul, 70, 45, &packed, &e_));
  for (int64_t m = 1; m <= 300; m += 23) {
    operands o = operands_of(m, 70, 45);
    draw(o.b, 70 * 45, (uint64_t)m);
    ptq_vec_to_bf16(o.b, 70 * 45, o.rb);
    MUST(ptq_packed_set(packed, mul, o.b, &e_));
    MUST(ptq_bf16_apply(mul, m, o.a, packed, o.c, &e_));
    check(&o, true, 1.0, 0.0);
    release(&o);
  }
  ptq_packed_free(packed);
}

/* More shapes than kernels are kept, twice over: the first are made again. */
static void shapes_may_be_many(void **state) {
  ptq_multiplier *mul = *state;
  for (int round = 0; round < 2; round++)
    for (int64_t m = 1; m <= 300; m++) {
      operands o = operands_of(m, 3, 8);
      MUST(ptq_bf16_nt(mul, m, 3, 8, 1.0F, o.ra, o.rb, o.c, &e_));
      check(&o, true, 1.0, 0.0);
      release(&o);
    }
}

/* The same product behind many others and in a multiplier of its own. */
static void bits_depend_on_nothing_else(void **state) {
  ptq_multiplier *used = *state, *fresh = NULL;
  operands o = operands_of(192, 512, 64), p = operands_of(192, 512, 64);
  MUST(ptq_multiplier_create(&fresh, &e_));
  MUST(ptq_bf16_nt(used, o.m, o.n, o.k, 0.125F, o.ra, o.rb, o.c, &e_));
  MUST(ptq_bf16_nt(fresh, p.m, p.n, p.k, 0.125F, p.ra, p.rb, p.c, &e_));
  assert_memory_equal(o.c, p.c, (size_t)(o.m * o.n) * sizeof *o.c);
  ptq_multiplier_free(fresh);
  release(&o);
  release(&p);
}

static int count_threads(void) {
  DIR *dir = opendir("/proc/self/task");
  int n = 0;
  assert_non_null(dir);
  while (readdir(dir) != NULL) n++;
  (void)closedir(dir);
  return n;
}

/* A rank's thread, whose OpenMP has not been told anything yet. */
static void *multiply_elsewhere(void *result) {
  operands *o = result;
  ptq_multiplier *mul = NULL;
  ptq_err err = {0};
  if (ptq_multiplier_create(&mul, &err) != PTQ_OK ||
      ptq_bf16_nt(mul, o->m, o->n, o->k, 1.0F, o->ra, o->rb, o->c, &err) !=
          PTQ_OK)
    o->m = -1;
  ptq_multiplier_free(mul);
  return NULL;
}

static void a_product_runs_in_its_thread_alone(void **state) {
  ptq_multiplier *mul = *state;
  operands o = operands_of(512, 512, 512), p = operands_of(512, 512, 512);
  pthread_t thread;
  const int before = count_threads();
  assert_int_equal(pthread_create(&thread, NULL, multiply_elsewhere, &p), 0);
  assert_int_equal(pthread_join(thread, NULL), 0);
  MUST(ptq_bf16_nt(mul, o.m, o.n, o.k, 1.0F, o.ra, o.rb, o.c, &e_));
  assert_int_equal(count_threads(), before);
  assert_int_equal(p.m, 512);
  assert_memory_equal(o.c, p.c, (size_t)(o.m * o.n) * sizeof *o.c);
  release(&o);
  release(&p);
}

static void numerics_tell_what_multiplies(void **state) {
  (void)state;
  char f32[PTQ_NUMERICS_MAX], bf16[PTQ_NUMERICS_MAX];
  ptq_numerics_text(PTQ_COMPUTE_F32, f32);
  ptq_numerics_text(PTQ_COMPUTE_BF16, bf16);
  assert_null(strstr(f32, "bf16"));
  assert_memory_equal(f32, bf16, strlen(f32));
  assert_non_null(strstr(bf16, ptq_bf16_name()));
  const char *isa = getenv("ONEDNN_MAX_CPU_ISA");
  if (isa != NULL && strcmp(isa, "AVX512_CORE") == 0) {
    assert_false(ptq_bf16_is_fast());
    assert_string_equal(ptq_bf16_name(), "openblas");
  }
}

static void names_and_arithmetics_belong_together(void **state) {
  (void)state;
  for (int c = 0; c < PTQ_COMPUTE_COUNT; c++) {
    ptq_compute found = PTQ_COMPUTE_COUNT;
    assert_true(ptq_compute_parse(ptq_compute_name((ptq_compute)c), &found));
    assert_int_equal(found, c);
    assert_true(strlen(ptq_compute_summary((ptq_compute)c)) > 0);
  }
  ptq_compute none = PTQ_COMPUTE_BF16;
  assert_false(ptq_compute_parse("fp16", &none));
  assert_int_equal(none, PTQ_COMPUTE_BF16);
}

static int open_multiplier(void **state) {
  ptq_multiplier *mul = NULL;
  if (ptq_blas_init(&e_) != PTQ_OK || ptq_bf16_init(&e_) != PTQ_OK ||
      ptq_multiplier_create(&mul, &e_) != PTQ_OK)
    return -1;
  *state = mul;
  return 0;
}

static int close_multiplier(void **state) {
  ptq_multiplier_free(*state);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(products_are_those_of_rounded_operands),
      cmocka_unit_test(packed_weights_serve_every_window),
      cmocka_unit_test(shapes_may_be_many),
      cmocka_unit_test(bits_depend_on_nothing_else),
      cmocka_unit_test(a_product_runs_in_its_thread_alone),
      cmocka_unit_test(numerics_tell_what_multiplies),
      cmocka_unit_test(names_and_arithmetics_belong_together),
  };
  return cmocka_run_group_tests_name("num/bf16", tests, open_multiplier,
                                     close_multiplier);
}
