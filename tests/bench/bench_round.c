/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Speed of rounding: `bench_round [n [repetitions [dtype...]]]`.
 *
 * Rounds an n x n matrix (4096) on one core, scales by absolute maximum (or as
 * the dtype says), and prints each dtype's time as a ratio to memcpy of that
 * matrix. The two are timed turn by turn, and a ratio is the median over the
 * repetitions (9) of ratios of neighbours: other work on the machine hits both.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/dtype.h"
#include "ptq/num/vec.h"

enum { MOST_REPETITIONS = 101 };

typedef struct bench {
  int64_t n;
  int repetitions;
  float *w, *y; /* owned; [n, n] */
} bench;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b) {
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static double median(double *x, int n) {
  qsort(x, (size_t)n, sizeof *x, by_value);
  return x[n / 2];
}

static double time_copy(const bench *b) {
  const double start = now();
  memcpy(b->y, b->w, (size_t)(b->n * b->n) * sizeof *b->y);
  return now() - start;
}

static ptq_status time_rounding(const bench *b, const ptq_dtype *dt,
                                int64_t group, double *seconds, ptq_err *err) {
  const double start = now();
  const ptq_status rc = ptq_dtype_round_matrix(dt, b->w, b->n, b->n, group,
                                               b->y, NULL, NULL, err);
  *seconds = now() - start;
  return rc;
}

/* Median ratio to memcpy. */
static ptq_status measure(const bench *b, const ptq_dtype *dt, int64_t group,
                          double *ratio, ptq_err *err) {
  double ratios[MOST_REPETITIONS], seconds = 0.0;
  for (int i = 0; i < b->repetitions; i++) {
    const double before = time_copy(b);
    const ptq_status rc = time_rounding(b, dt, group, &seconds, err);
    if (rc != PTQ_OK) return rc;
    const double after = time_copy(b);
    ratios[i] = seconds / (0.5 * (before + after));
  }
  *ratio = median(ratios, b->repetitions);
  return PTQ_OK;
}

static const int64_t groups[] = {
    16, 32, 64, 128, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
enum { N_GROUPS = sizeof groups / sizeof groups[0] };

static ptq_status measure_dtype(const bench *b, const char *name,
                                ptq_err *err) {
  ptq_dtype dt;
  ptq_status rc = ptq_dtype_parse(name, &dt, err);
  if (rc != PTQ_OK) return rc;
  printf("%-36s", dt.name);
  for (int g = 0; g < N_GROUPS; g++) {
    double ratio = 0.0;
    rc = measure(b, &dt, groups[g], &ratio, err);
    if (rc != PTQ_OK) return rc;
    printf(" %7.2f", ratio);
    fflush(stdout);
  }
  printf("\n");
  return PTQ_OK;
}

/* Every width of every family, and its dialects at the largest width. A scale
 * search tries 80 scales: it is left to be asked for by name. */
static ptq_status measure_all(const bench *b, ptq_err *err) {
  char text[2 * PTQ_DTYPE_NAME_MAX];
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++) {
    ptq_status rc = PTQ_OK;
    for (int bits = (*f)->min_bits; bits <= (*f)->max_bits; bits++) {
      ptq_dtype_spelling(*f, bits, text);
      rc = measure_dtype(b, text, err);
      if (rc != PTQ_OK) return rc;
    }
    for (int i = 0; (*f)->dialects != NULL && (*f)->dialects[i] != NULL; i++) {
      if (strstr((*f)->dialects[i], "mse") != NULL) continue;
      ptq_dtype_spelling(*f, (*f)->max_bits, text);
      const size_t at = strlen(text);
      snprintf(text + at, sizeof text - at, ":%s", (*f)->dialects[i]);
      rc = measure_dtype(b, text, err);
      if (rc != PTQ_OK) return rc;
    }
  }
  return PTQ_OK;
}

static ptq_status set_up(bench *b, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t size = b->n * b->n;
  ptq_rng r;
  PTQ_TRY(ptq_vec_init(err));
  PTQ_TRY(ptq_alloc(&b->w, size, sizeof *b->w, "weights", err));
  PTQ_TRY(ptq_alloc(&b->y, size, sizeof *b->y, "weights", err));
  ptq_rng_init(&r, 1);
  for (int64_t i = 0; i < size; i++) { /* sums of four: bell-shaped */
    double v = 0.0;
    for (int k = 0; k < 4; k++) v += ptq_rng_unit(&r) - 0.5;
    b->w[i] = (float)(0.02 * v);
  }
  memset(b->y, 1, (size_t)size * sizeof *b->y);
done:
  return rc;
}

static ptq_status run(const bench *b, char **names, int n, ptq_err *err) {
  double copies[MOST_REPETITIONS];
  for (int i = 0; i < b->repetitions; i++) copies[i] = time_copy(b);
  const double copy_s = median(copies, b->repetitions);
  printf("kernels: %s; n = %lld, one core; memcpy %.4f s, %.1f GB/s\n",
         ptq_vec_isa(), (long long)b->n, copy_s,
         8e-9 * (double)(b->n * b->n) / copy_s);
  printf("time of rounding over that of memcpy, medians of %d\n%-36s",
         b->repetitions, "group");
  for (int g = 0; g < N_GROUPS; g++) {
    if (groups[g] > 0)
      printf(" %7lld", (long long)groups[g]);
    else
      printf(" %7s", groups[g] == PTQ_GROUP_ROW ? "row" : "tensor");
  }
  printf("\n");
  if (n == 0) return measure_all(b, err);
  ptq_status rc = PTQ_OK;
  for (int i = 0; i < n && rc == PTQ_OK; i++)
    rc = measure_dtype(b, names[i], err);
  return rc;
}

int main(int argc, char **argv) {
  ptq_err err = {0};
  bench b = {.n = argc > 1 ? atoll(argv[1]) : 4096,
             .repetitions = argc > 2 ? atoi(argv[2]) : 9};
  if (b.n < 1 || b.repetitions < 1 || b.repetitions > MOST_REPETITIONS) {
    fprintf(stderr, "usage: bench_round [N [REPETITIONS [DTYPE...]]]\n");
    return 2;
  }
  ptq_status rc = set_up(&b, &err);
  if (rc == PTQ_OK) rc = run(&b, argv + 3, argc > 3 ? argc - 3 : 0, &err);
  ptq_free(b.w);
  ptq_free(b.y);
  if (rc != PTQ_OK) fprintf(stderr, "bench_round: %s\n", err.msg);
  return rc == PTQ_OK ? 0 : 1;
}
