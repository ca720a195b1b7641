/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "speed.h"

#include <math.h>
#include <time.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

/* The shape of a forward pass: 128 positions of a small model's layer. */
enum { M = 128, N = 512, K = 512, TRIES = 60, ROUNDS = 3 };

/* A sweep's products, of many shapes, take the rate's time by this. */
static const double share = 0.78;

static double cpu_clock(void) {
  struct timespec t;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return 0.0;
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double ptq_speed_sgemm(void) {
  float *a = NULL, *b = NULL, *c = NULL;
  double best = 0.0;
  if (ptq_alloc(&a, M * K, sizeof *a, "speed", NULL) == PTQ_OK &&
      ptq_alloc(&b, N * K, sizeof *b, "speed", NULL) == PTQ_OK &&
      ptq_alloc(&c, M * N, sizeof *c, "speed", NULL) == PTQ_OK) {
    for (int i = 0; i < TRIES; i++) {
      const double start = cpu_clock();
      for (int r = 0; r < ROUNDS; r++)
        ptq_sgemm_nt(M, N, K, 1.0F, a, K, b, K, 0.0F, c, N);
      const double s = cpu_clock() - start;
      if (s > 0.0) best = fmax(best, ROUNDS * 2.0 * M * N * K / s);
    }
  }
  ptq_free(a);
  ptq_free(b);
  ptq_free(c);
  return best;
}

ptq_rates ptq_speed_rates(void) {
  ptq_rates rates = ptq_rates_default();
  const double sgemm = ptq_speed_sgemm();
  if (sgemm > 0.0) rates.flops_per_s = share * sgemm;
  return rates;
}
