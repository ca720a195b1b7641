/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "moment_shrink.h"

#include <math.h>
#include <string.h>

#include "gptq_factor.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

/* Mean of the diagonal of columns that have inputs; 1 if none has. */
static double mean_diagonal(const double *h, int64_t n) {
  double sum = 0.0;
  int64_t live = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += h[i * n + i];
    live += h[i * n + i] != 0.0;
  }
  return live > 0 ? sum / (double)live : 1.0;
}

ptq_status ptq_spectrum_init(ptq_spectrum *s, const double *h, int64_t n,
                             double damp, ptq_err *err) {
  const double mean = mean_diagonal(h, n);
  *s = (ptq_spectrum){.n = n, .damp = damp, .mean = mean};
  if (!isfinite(mean) || mean <= 0.0)
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "the mean diagonal of the second moment of %lld inputs is "
                    "%g; look for NaN or Inf in the activations",
                    (long long)n, mean);
  const ptq_status rc =
      ptq_alloc(&s->h, n * n, sizeof *s->h, "a damped moment", err);
  if (rc != PTQ_OK) return rc;
  memcpy(s->h, h, (size_t)(n * n) * sizeof *s->h);
  for (int64_t i = 0; i < n; i++) {
    double *d = &s->h[i * n + i];
    *d = (*d == 0.0 ? mean : *d) + damp * mean;
  }
  return PTQ_OK;
}

void ptq_spectrum_release(ptq_spectrum *s) {
  ptq_free(s->h);
  ptq_free(s->values);
  ptq_free(s->vectors);
  *s = (ptq_spectrum){0};
}

static ptq_status decompose(ptq_spectrum *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = s->n;
  double *copy = NULL;
  PTQ_TRY(ptq_alloc(&s->values, n, sizeof *s->values, "eigenvalues", err));
  PTQ_TRY(
      ptq_alloc(&s->vectors, n * n, sizeof *s->vectors, "eigenvectors", err));
  PTQ_TRY(ptq_alloc(&copy, n * n, sizeof *copy, "a damped moment", err));
  memcpy(copy, s->h, (size_t)(n * n) * sizeof *copy);
  PTQ_TRY(ptq_eigenvectors(copy, n, n, s->values, s->vectors, err));
done:
  ptq_free(copy);
  if (rc != PTQ_OK) {
    ptq_free(s->values);
    s->values = NULL;
  }
  return rc;
}

ptq_status ptq_spectrum_power(ptq_spectrum *s, double power, double *out,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = s->n;
  double *v = NULL;
  if (power >= 1.0) {
    memcpy(out, s->h, (size_t)(n * n) * sizeof *out);
    return PTQ_OK;
  }
  if (s->values == NULL) PTQ_TRY(decompose(s, err));
  PTQ_TRY(ptq_alloc(&v, n * n, sizeof *v, "eigenvectors", err));
  /* what h says of eigenvalues ends at the last bits of its largest ones */
  const double floor = s->mean * fmax(s->damp, 1e-12);
  for (int64_t k = 0; k < n; k++) {
    const double to = pow(fmax(s->values[k], floor) / s->mean, power);
    const double by = sqrt(s->mean * to);
    for (int64_t j = 0; j < n; j++) v[k * n + j] = by * s->vectors[k * n + j];
  }
  ptq_dgemm_tn(n, n, n, 1.0, v, n, v, n, 0.0, out, n);
  for (int64_t i = 0; i < n; i++) /* symmetric to the bit */
    for (int64_t j = i + 1; j < n; j++) out[j * n + i] = out[i * n + j];
done:
  ptq_free(v);
  return rc;
}

/* `own`, of which the factor was made, goes with it; where the factor needed
 * damping, it gets that too. Dead columns are those of h. */
static void keep(ptq_gptq_factor *made, const double *h, double damp,
                 double *own) {
  const int64_t n = made->n;
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += own[i * n + i];
  for (int64_t i = 0; i < n; i++) {
    own[i * n + i] += made->damp * sum / (double)n;
    made->dead[i] = h[i * n + i] == 0.0;
  }
  made->damp = fmax(damp, made->damp);
  made->h = own;
}

ptq_status ptq_gptq_factor_create_shrunk(const double *h, ptq_spectrum *s,
                                         double power, bool act_order,
                                         int threads, ptq_gptq_factor **out,
                                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *own = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&own, s->n * s->n, sizeof *own, "a shrunk moment", err));
  PTQ_TRY(ptq_spectrum_power(s, power, own, err));
  PTQ_TRY(ptq_gptq_factor_create(own, s->n, 0.0, act_order, threads, out, err));
  keep(*out, h, s->damp, own);
  own = NULL;
done:
  ptq_free(own);
  return rc;
}
