/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/statistics.h"

#include <math.h>
#include <stdlib.h>

#include "ptq/base/rng.h"

/** ceil(n^(1/3)) in integers, so that 27 windows make blocks of 3. */
static int64_t block_length(int64_t n) {
  int64_t b = 1;
  while (b * b * b < n) b++;
  return b;
}

/** sum(x) / sum(w) of one resample: blocks at random starts, laid end to end
 * until n windows are drawn. */
static double resample_ratio(const double *x, const double *w, int64_t n,
                             int64_t block, ptq_rng *rng) {
  double sum_x = 0.0, sum_w = 0.0;
  for (int64_t drawn = 0; drawn < n; drawn += block) {
    const int64_t start =
        (int64_t)ptq_rng_below(rng, (uint64_t)(n - block + 1));
    const int64_t length = n - drawn < block ? n - drawn : block;
    for (int64_t i = start; i < start + length; i++) {
      sum_x += x[i];
      sum_w += w[i];
    }
  }
  return sum_x / sum_w;
}

double ptq_block_bootstrap_se(const double *x, const double *w, int64_t n,
                              uint64_t seed) {
  if (n < 2) return NAN;
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(x[i])) return NAN;
  const int64_t block = block_length(n);
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  /* Welford's update: resamples differ far less than their mean. */
  double mean = 0.0, m2 = 0.0;
  for (int k = 1; k <= PTQ_BOOTSTRAP_RESAMPLES; k++) {
    const double value = resample_ratio(x, w, n, block, &rng);
    const double delta = value - mean;
    mean += delta / k;
    m2 += delta * (value - mean);
  }
  return sqrt(m2 / (PTQ_BOOTSTRAP_RESAMPLES - 1));
}

double ptq_window_se(const double *x, const double *w, int64_t n) {
  if (n < 2) return NAN;
  double mean = 0.0, m2 = 0.0;
  for (int64_t i = 0; i < n; i++) {
    const double value = x[i] / w[i];
    const double delta = value - mean;
    mean += delta / (double)(i + 1);
    m2 += delta * (value - mean);
  }
  return sqrt(m2 / (double)(n - 1) / (double)n);
}

static int compare_floats(const void *a, const void *b) {
  const float x = *(const float *)a, y = *(const float *)b;
  return (x > y) - (x < y);
}

double ptq_quantile(float *x, int64_t n, double p) {
  if (n == 0) return NAN;
  for (int64_t i = 0; i < n; i++)
    if (isnan(x[i])) return NAN;
  qsort(x, (size_t)n, sizeof *x, compare_floats);
  const double at = p * (double)(n - 1);
  const int64_t below = (int64_t)floor(at);
  if (below >= n - 1) return (double)x[n - 1];
  const double share = at - (double)below;
  if (share == 0.0)
    return (double)x[below]; /* also where x[below + 1] is
                                infinite */
  return (double)x[below] + share * ((double)x[below + 1] - (double)x[below]);
}
