/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Speed of quantizing one layer: `bench_gptq [n [threads [repetitions]]]`.
 *
 * Quantizes an n x n layer (4096) to int4 with GPTQ on two threads and prints
 * seconds, the best of the repetitions, in units of the machine too: products
 * of n x n x n matrices for GPTQ, copies of the weights for rounding. On a
 * machine with other work the processor time a thread says more. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/quant/method.h"

typedef struct bench {
  int64_t n;
  int threads, repetitions;
  float *w, *y, *a;         /* owned; [n, n] */
  double *h, *copy;         /* owned; [n, n] */
  int16_t *q;               /* owned; [n, n] */
  ptq_group_params *params; /* owned; [n, n / 16 + 1] */
} bench;

static double read_clock(clockid_t clock_id) {
  struct timespec t;
  clock_gettime(clock_id, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now(void) {
  return read_clock(CLOCK_MONOTONIC);
}

static double cpu_now(void) {
  return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

static float gaussian(ptq_rng *r) {
  const double u = 1.0 - ptq_rng_unit(r);
  return (float)(sqrt(-2.0 * log(u)) *
                 cos(6.283185307179586 * ptq_rng_unit(r)));
}

/* H = x x' / m of m = 2 n inputs whose scales spread over three decades. */
static void make_moment(bench *b, ptq_rng *r) {
  const int64_t n = b->n, m = 2 * n;
  float *x = NULL;
  ptq_err err = {0};
  if (ptq_alloc(&x, m * n, sizeof *x, "inputs", &err) != PTQ_OK) exit(1);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++)
      x[i * n + j] = gaussian(r) * powf(10.0F, -3.0F * (float)j / (float)n);
  ptq_sgemm_tn(n, n, m, 1.0F / (float)m, x, n, x, n, 0.0F, b->a, n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j <= i; j++)
      b->h[i * n + j] = b->h[j * n + i] = b->a[i * n + j];
  ptq_free(x);
}

static ptq_status set_up(bench *b, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t size = b->n * b->n;
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_alloc(&b->w, size, sizeof *b->w, "weights", err));
  PTQ_TRY(ptq_alloc(&b->y, size, sizeof *b->y, "weights", err));
  PTQ_TRY(ptq_alloc(&b->a, size, sizeof *b->a, "product", err));
  PTQ_TRY(ptq_alloc(&b->h, size, sizeof *b->h, "moment", err));
  PTQ_TRY(ptq_alloc(&b->copy, size, sizeof *b->copy, "moment", err));
  PTQ_TRY(ptq_alloc(&b->q, size, sizeof *b->q, "codes", err));
  PTQ_TRY(ptq_alloc(&b->params, b->n * (b->n / 16 + 1), sizeof *b->params,
                    "parameters", err));
  ptq_rng r;
  ptq_rng_init(&r, 1);
  for (int64_t i = 0; i < size; i++) b->w[i] = 0.02F * gaussian(&r);
  make_moment(b, &r);
done:
  return rc;
}

static ptq_status quantize(bench *b, const char *method, const char *dtype,
                           int64_t group, double *best_s, double *cpu_s,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_method m;
  ptq_dtype dt;
  PTQ_TRY(ptq_method_parse(method, NULL, 0, &m, err));
  PTQ_TRY(ptq_dtype_parse(dtype, &dt, err));
  const ptq_quant_input in = {.w = b->w,
                              .rows = b->n,
                              .cols = b->n,
                              .dtype = &dt,
                              .group = group,
                              .h = b->h,
                              .threads = b->threads};
  ptq_quant_output out = {.y = b->y, .q = b->q, .params = b->params};
  *best_s = *cpu_s = INFINITY;
  for (int i = 0; i < b->repetitions; i++) {
    const double start = now(), cpu_start = cpu_now();
    PTQ_TRY(ptq_method_quantize(&m, &in, &out, err));
    *best_s = fmin(*best_s, now() - start);
    *cpu_s = fmin(*cpu_s, cpu_now() - cpu_start);
  }
done:
  return rc;
}

static double time_product(bench *b) {
  double best = INFINITY;
  const int64_t n = b->n;
  for (int i = 0; i < b->repetitions; i++) {
    const double start = now();
    ptq_sgemm_nt(n, n, n, 1.0F, b->w, n, b->y, n, 0.0F, b->a, n);
    best = fmin(best, now() - start);
  }
  return best;
}

static double time_copy(bench *b) {
  double best = INFINITY;
  for (int i = 0; i < b->repetitions; i++) {
    const double start = now();
    memcpy(b->a, b->w, (size_t)(b->n * b->n) * sizeof *b->a);
    best = fmin(best, now() - start);
  }
  return best;
}

static ptq_status time_factor(bench *b, double *best_s, ptq_err *err) {
  *best_s = INFINITY;
  const size_t bytes = (size_t)(b->n * b->n) * sizeof *b->h;
  for (int i = 0; i < b->repetitions; i++) {
    memcpy(b->copy, b->h, bytes);
    for (int64_t j = 0; j < b->n; j++) b->copy[j * b->n + j] += 0.01;
    const double start = now();
    const ptq_status rc = ptq_inverse_factor(b->copy, b->n, b->threads, err);
    if (rc != PTQ_OK) return rc;
    *best_s = fmin(*best_s, now() - start);
  }
  return PTQ_OK;
}

static ptq_status run(bench *b, ptq_err *err) {
  static const struct {
    const char *method, *dtype;
    int64_t group;
  } cases[] = {{"gptq", "int4", 128},  {"gptq", "int4", 64},
               {"gptq", "mxint4", 32}, {"rtn", "int4", 128},
               {"rtn", "int4", 32},    {"rtn", "mxint4", 32}};
  ptq_status rc = PTQ_OK;
  double factor_s = 0.0, seconds = 0.0, cpu_s = 0.0;
  const double product_s = time_product(b), copy_s = time_copy(b);
  printf("%s; n = %lld, %d threads, best of %d\n", ptq_blas_name(),
         (long long)b->n, b->threads, b->repetitions);
  printf("%-28s %8.3f s  %.0f GFLOP/s\n", "sgemm n^3, one thread", product_s,
         2e-9 * pow((double)b->n, 3.0) / product_s);
  printf("%-28s %8.4f s  %.1f GB/s\n", "memcpy of the weights", copy_s,
         8e-9 * (double)b->n * (double)b->n / copy_s);
  PTQ_TRY(time_factor(b, &factor_s, err));
  printf("%-28s %8.3f s\n", "factor of the moment", factor_s);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    PTQ_TRY(quantize(b, cases[i].method, cases[i].dtype, cases[i].group,
                     &seconds, &cpu_s, err));
    const int is_rtn = strcmp(cases[i].method, "rtn") == 0;
    char name[64];
    snprintf(name, sizeof name, "%s %s group %lld", cases[i].method,
             cases[i].dtype, (long long)cases[i].group);
    printf("%-28s %8.3f s  %.2f x %s; %.3f s of processor a thread\n", name,
           seconds, seconds / (is_rtn ? copy_s : 3.0 * product_s),
           is_rtn ? "memcpy" : "3 products",
           cpu_s / (is_rtn ? 1.0 : (double)b->threads));
  }
done:
  return rc;
}

static void release(bench *b) {
  ptq_free(b->w);
  ptq_free(b->y);
  ptq_free(b->a);
  ptq_free(b->h);
  ptq_free(b->copy);
  ptq_free(b->q);
  ptq_free(b->params);
}

int main(int argc, char **argv) {
  ptq_err err = {0};
  bench b = {.n = argc > 1 ? atoll(argv[1]) : 4096,
             .threads = argc > 2 ? atoi(argv[2]) : 2,
             .repetitions = argc > 3 ? atoi(argv[3]) : 3};
  if (b.n < 1 || b.threads < 1 || b.repetitions < 1) {
    fprintf(stderr, "usage: bench_gptq [N [THREADS [REPETITIONS]]]\n");
    return 2;
  }
  ptq_status rc = set_up(&b, &err);
  if (rc == PTQ_OK) rc = run(&b, &err);
  release(&b);
  if (rc != PTQ_OK) fprintf(stderr, "bench_gptq: %s\n", err.msg);
  return rc == PTQ_OK ? 0 : 1;
}
