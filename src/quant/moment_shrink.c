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

/* out = v' diag(w) v, symmetric to the bit; v is overwritten. */
static void compose(double *v, const double *w, int64_t n, double *out) {
  for (int64_t k = 0; k < n; k++) {
    const double by = sqrt(w[k]);
    for (int64_t j = 0; j < n; j++) v[k * n + j] *= by;
  }
  ptq_dgemm_tn(n, n, n, 1.0, v, n, v, n, 0.0, out, n);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = i + 1; j < n; j++) out[j * n + i] = out[i * n + j];
}

/* out = unit * (out / unit)^power; eigenvalues below `floor` count as that. */
static ptq_status raise(double *out, int64_t n, double unit, double floor,
                        double power, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *w = NULL, *v = NULL;
  PTQ_TRY(ptq_alloc(&w, n, sizeof *w, "eigenvalues of a moment", err));
  PTQ_TRY(ptq_alloc(&v, n * n, sizeof *v, "eigenvectors of a moment", err));
  PTQ_TRY(ptq_eigenvectors(out, n, n, w, v, err));
  for (int64_t i = 0; i < n; i++)
    w[i] = unit * pow(fmax(w[i], floor) / unit, power);
  compose(v, w, n, out);
done:
  ptq_free(w);
  ptq_free(v);
  return rc;
}

ptq_status ptq_moment_shrink(const double *h, int64_t n, double damp,
                             double power, double *out, ptq_err *err) {
  const double mean = mean_diagonal(h, n);
  if (!isfinite(mean) || mean <= 0.0)
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "the mean diagonal of the second moment of %lld inputs is "
                    "%g; look for NaN or Inf in the activations",
                    (long long)n, mean);
  memcpy(out, h, (size_t)(n * n) * sizeof *out);
  for (int64_t i = 0; i < n; i++) {
    double *d = &out[i * n + i];
    *d = (*d == 0.0 ? mean : *d) + damp * mean;
  }
  if (power >= 1.0) return PTQ_OK;
  /* what h says of eigenvalues ends at the last bits of its largest ones */
  const double floor = mean * fmax(damp, 1e-12);
  return raise(out, n, mean, floor, power, err);
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

ptq_status ptq_gptq_factor_create_shrunk(const double *h, int64_t n,
                                         double damp, double power,
                                         bool act_order, int threads,
                                         ptq_gptq_factor **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *own = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&own, n * n, sizeof *own, "a shrunk moment", err));
  PTQ_TRY(ptq_moment_shrink(h, n, damp, power, own, err));
  PTQ_TRY(ptq_gptq_factor_create(own, n, 0.0, act_order, threads, out, err));
  keep(*out, h, damp, own);
  own = NULL;
done:
  ptq_free(own);
  return rc;
}
