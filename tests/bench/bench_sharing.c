/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What formats share: `bench_sharing [n [threads [windows]]]`.
 *
 * Quantizes an n x n layer (4096) to 36 MX formats by static GPTQ on two
 * threads: all together as a batch of a sweep does it, with one H and one
 * factor, and every sixth by itself - collecting H from `windows` (80: ten
 * tokens an input) windows of 512 tokens, factorizing it, walking the columns -
 * which counts six times. Prints both times, and the share that the first is of
 * the second, with H and where H is given. Single runs are spread over the
 * others, so that other work on the machine slows both. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/num/moment.h"
#include "ptq/quant/method.h"

enum {
  LENGTH = 512,
  DISTINCT = 16, /* windows; more are these over again */
  FORMATS = 36,
  EVERY = 6
};

typedef struct bench {
  int64_t n, windows;
  int threads;
  float *w, *y, *x;         /* owned; [n, n], [n, n], [DISTINCT, LENGTH, n] */
  float *scratch;           /* owned; of ptq_moment_add */
  double *h;                /* owned; [n, n] */
  int16_t *q;               /* owned; [n, n] */
  ptq_group_params *params; /* owned; [n, n / 16 + 1] */
  ptq_moment moment;
  ptq_method method;
  ptq_dtype dtypes[FORMATS];
  int64_t groups[FORMATS];
} bench;

/* Seconds spent so far on each part. */
typedef struct times {
  double h, rest;
} times;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float gaussian(ptq_rng *r) {
  const double u = 1.0 - ptq_rng_unit(r);
  return (float)(sqrt(-2.0 * log(u)) *
                 cos(6.283185307179586 * ptq_rng_unit(r)));
}

/* mxint2 .. mxint8 in four blocks, four floats in two. */
static ptq_status list_formats(bench *b, ptq_err *err) {
  static const char *const floats[] = {"mxfp4", "mxfp6_e2m3", "mxfp6_e3m2",
                                       "mxfp8_e4m3"};
  static const int64_t blocks[] = {16, 32, 64, 128};
  ptq_status rc = PTQ_OK;
  int k = 0;
  for (int bits = 2; bits <= 8; bits++)
    for (int i = 0; i < 4; i++, k++) {
      char name[32];
      snprintf(name, sizeof name, "mxint%d", bits);
      PTQ_TRY(ptq_dtype_parse(name, &b->dtypes[k], err));
      b->groups[k] = blocks[i];
    }
  for (int f = 0; f < 4; f++)
    for (int i = 1; i < 4; i += 2, k++) {
      PTQ_TRY(ptq_dtype_parse(floats[f], &b->dtypes[k], err));
      b->groups[k] = blocks[i];
    }
done:
  return rc;
}

static ptq_status set_up(bench *b, ptq_err *err) {
  const ptq_method_option options[] = {{.key = "hessian", .value = "static"}};
  ptq_status rc = PTQ_OK;
  const int64_t n = b->n, tokens = DISTINCT * LENGTH;
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_method_parse("gptq", options, 1, &b->method, err));
  PTQ_TRY(list_formats(b, err));
  PTQ_TRY(ptq_alloc(&b->w, n * n, sizeof *b->w, "weights", err));
  PTQ_TRY(ptq_alloc(&b->y, n * n, sizeof *b->y, "weights", err));
  PTQ_TRY(ptq_alloc(&b->h, n * n, sizeof *b->h, "moment", err));
  PTQ_TRY(ptq_alloc(&b->q, n * n, sizeof *b->q, "codes", err));
  PTQ_TRY(ptq_alloc(&b->params, n * (n / 16 + 1), sizeof *b->params,
                    "parameters", err));
  PTQ_TRY(ptq_alloc(&b->x, tokens * n, sizeof *b->x, "inputs", err));
  PTQ_TRY(ptq_moment_init(&b->moment, n, err));
  PTQ_TRY(ptq_alloc(&b->scratch, ptq_moment_scratch(n), sizeof(float),
                    "moment of a window", err));
  ptq_rng r;
  ptq_rng_init(&r, 1);
  for (int64_t i = 0; i < n * n; i++) b->w[i] = 0.02F * gaussian(&r);
  for (int64_t t = 0; t < tokens; t++) {
    float last = gaussian(&r); /* neighbours are correlated */
    for (int64_t i = 0; i < n; i++) {
      last = 0.8F * last + 0.6F * gaussian(&r);
      b->x[t * n + i] = last;
    }
  }
done:
  return rc;
}

static void release(bench *b) {
  ptq_free(b->w);
  ptq_free(b->y);
  ptq_free(b->h);
  ptq_free(b->q);
  ptq_free(b->params);
  ptq_free(b->x);
  ptq_free(b->scratch);
  ptq_moment_release(&b->moment);
}

static void collect(bench *b, times *t) {
  const double start = now();
  ptq_moment_reset(&b->moment);
  for (int64_t i = 0; i < b->windows; i++)
    ptq_moment_add(&b->moment, b->x + i % DISTINCT * LENGTH * b->n, LENGTH,
                   b->scratch);
  ptq_moment_get(&b->moment, b->h);
  t->h += now() - start;
}

static ptq_status quantize(bench *b, int k, ptq_factor_cache *cache, times *t,
                           ptq_err *err) {
  const ptq_quant_input in = {.w = b->w,
                              .rows = b->n,
                              .cols = b->n,
                              .dtype = &b->dtypes[k],
                              .group = b->groups[k],
                              .h = b->h,
                              .cache = cache,
                              .threads = b->threads};
  ptq_quant_output out = {.y = b->y, .q = b->q, .params = b->params};
  const double start = now();
  const ptq_status rc = ptq_method_quantize(&b->method, &in, &out, err);
  t->rest += now() - start;
  return rc;
}

static ptq_status run(bench *b, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_factor_cache *cache = NULL;
  times single = {0}, together = {0};
  PTQ_TRY(ptq_factor_cache_create(&cache, err));
  collect(b, &together);
  for (int k = 0; k < FORMATS; k++) {
    PTQ_TRY(quantize(b, k, cache, &together, err));
    if (k % EVERY != 0) continue;
    collect(b, &single); /* the same H again */
    PTQ_TRY(quantize(b, k, NULL, &single, err));
  }
  single.h *= EVERY;
  single.rest *= EVERY;
  const double one = single.h + single.rest, all = together.h + together.rest;
  printf("%s; n = %lld, %d threads, H of %lld tokens\n", ptq_blas_name(),
         (long long)b->n, b->threads, (long long)b->windows * LENGTH);
  printf("%-28s %8.2f s  of it H %.2f s\n", "36 MX formats, one by one", one,
         single.h);
  printf("%-28s %8.2f s  of it H %.2f s\n", "together", all, together.h);
  printf("%-28s %8.1f %%  %.1f %% where H is given\n", "share",
         100.0 * all / one, 100.0 * together.rest / single.rest);
done:
  ptq_factor_cache_free(cache);
  return rc;
}

int main(int argc, char **argv) {
  ptq_err err = {0};
  bench b = {.n = argc > 1 ? atoll(argv[1]) : 4096,
             .threads = argc > 2 ? atoi(argv[2]) : 2,
             .windows = argc > 3 ? atoll(argv[3]) : 80};
  if (b.n < 1 || b.threads < 1 || b.windows < 1) {
    fprintf(stderr, "usage: bench_sharing [N [THREADS [WINDOWS]]]\n");
    return 2;
  }
  ptq_status rc = set_up(&b, &err);
  if (rc == PTQ_OK) rc = run(&b, &err);
  release(&b);
  if (rc != PTQ_OK) fprintf(stderr, "bench_sharing: %s\n", err.msg);
  return rc == PTQ_OK ? 0 : 1;
}
