/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/operator.h"

#include <math.h>

#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/vec64.h"

uint64_t ptq_probe_seed(uint64_t seed, int64_t probe, int64_t part) {
  const uint64_t key[3] = {seed, (uint64_t)probe, (uint64_t)part};
  return ptq_hash64(key, sizeof key);
}

static void fill_signs(ptq_rng *rng, int64_t n, double *x) {
  for (int64_t i = 0; i < n; i += 64) {
    const uint64_t bits = ptq_rng_u64(rng);
    const int64_t count = n - i < 64 ? n - i : 64;
    for (int64_t k = 0; k < count; k++)
      x[i + k] = (double)(2 * (int)(bits >> k & 1U) - 1);
  }
}

/* Box and Muller's two from two. */
static void fill_gaussian(ptq_rng *rng, int64_t n, double *x) {
  const double turn = 8.0 * atan(1.0);
  for (int64_t i = 0; i < n; i += 2) {
    const double radius = sqrt(-2.0 * log(1.0 - ptq_rng_unit(rng)));
    const double angle = turn * ptq_rng_unit(rng);
    x[i] = radius * cos(angle);
    if (i + 1 < n) x[i + 1] = radius * sin(angle);
  }
}

void ptq_probe_fill(uint64_t probe_seed, ptq_probe_kind kind, int64_t n,
                    double *x) {
  ptq_rng rng;
  ptq_rng_init(&rng, probe_seed);
  if (kind == PTQ_PROBE_SIGNS)
    fill_signs(&rng, n, x);
  else if (kind == PTQ_PROBE_GAUSSIAN)
    fill_gaussian(&rng, n, x);
  else
    for (int64_t i = 0; i < n; i++) x[i] = 2.0 * ptq_rng_unit(&rng) - 1.0;
}

ptq_estimate ptq_estimate_of(const double *x, int64_t count) {
  double sum = 0.0, squares = 0.0;
  for (int64_t i = 0; i < count; i++) sum += x[i];
  const double mean = sum / (double)count;
  for (int64_t i = 0; i < count; i++) squares += (x[i] - mean) * (x[i] - mean);
  const double free = (double)(count - 1);
  return (ptq_estimate){
      mean, count > 1 ? sqrt(squares / free / (double)count) : NAN, count};
}

ptq_status ptq_trace(const ptq_operator *a, uint64_t seed, int64_t probes,
                     ptq_estimate *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *memory = NULL, *forms = NULL, **x = NULL, **y = NULL;
  *out = (ptq_estimate){NAN, NAN, 0};
  if (probes < 1) return PTQ_FAIL(err, PTQ_E_ARG, "a trace needs a probe");
  PTQ_TRY(
      ptq_alloc(&memory, 2 * a->width * a->n, sizeof *memory, "probes", err));
  PTQ_TRY(ptq_alloc(&forms, probes, sizeof *forms, "probes", err));
  PTQ_TRY(ptq_alloc(&x, a->width, sizeof *x, "probes", err));
  PTQ_TRY(ptq_alloc(&y, a->width, sizeof *y, "probes", err));
  for (int64_t j = 0; j < a->width; j++) {
    x[j] = memory + 2 * j * a->n;
    y[j] = x[j] + a->n;
  }
  for (int64_t p = 0; p < probes; p += a->width) {
    const int64_t left = probes - p, count = left < a->width ? left : a->width;
    for (int64_t j = 0; j < count; j++)
      ptq_probe_fill(ptq_probe_seed(seed, p + j, 0), PTQ_PROBE_SIGNS, a->n,
                     x[j]);
    PTQ_TRY(a->apply(a->ctx, count, (const double *const *)x, y, err));
    for (int64_t j = 0; j < count; j++)
      forms[p + j] = ptq_vec64_dot(x[j], y[j], a->n);
  }
  *out = ptq_estimate_of(forms, probes);
done:
  ptq_free(memory);
  ptq_free(forms);
  ptq_free(x);
  ptq_free(y);
  return rc;
}
