/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"

static int compare_doubles(const void *a, const void *b) {
  const double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Column j of the original fit in another, whose columns may be fewer. */
static double estimate_of(const ptq_fit *f, const char *name) {
  for (int64_t j = 0; j < f->matrix.k; j++)
    if (strcmp(f->matrix.columns[j].name, name) == 0)
      return f->coef[j].estimate;
  return NAN;
}

static void summarize(double *v, int64_t n, int64_t asked, ptq_resampled *out) {
  double mean = 0.0, square = 0.0;
  *out = (ptq_resampled){NAN, NAN, NAN};
  if (n < 2 || 2 * n < asked) return;
  for (int64_t i = 0; i < n; i++) mean += v[i] / (double)n;
  for (int64_t i = 0; i < n; i++) square += (v[i] - mean) * (v[i] - mean);
  qsort(v, (size_t)n, sizeof *v, compare_doubles);
  out->std_error = sqrt(square / (double)(n - 1));
  out->low = v[(int64_t)(0.025 * (double)(n - 1))];
  out->high = v[(int64_t)ceil(0.975 * (double)(n - 1))];
}

/* Points of the models drawn; room for n_models times the largest. */
static int64_t draw(const ptq_fit *fit, const ptq_frame *frame, ptq_rng *rng,
                    const ptq_obs **out) {
  const ptq_matrix *m = &fit->matrix;
  int64_t n = 0;
  for (int g = 0; g < m->n_clusters; g++) {
    const int c = (int)ptq_rng_below(rng, (uint64_t)m->n_clusters);
    const char *name = NULL; /* of the cluster drawn */
    for (int64_t i = 0; i < m->n && name == NULL; i++)
      if (m->cluster[i] == c) name = m->obs[i]->run;
    for (int64_t i = 0; i < frame->n; i++)
      if (strcmp(frame->obs[i].run, name) == 0) out[n++] = &frame->obs[i];
  }
  return n;
}

ptq_status ptq_bootstrap_models(const ptq_fit *fit, const ptq_formula *formula,
                                const ptq_fit_options *options,
                                const ptq_frame *frame, int64_t n_resamples,
                                uint64_t seed, ptq_resampled *out,
                                int64_t *n_failed, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = fit->matrix.k;
  const ptq_obs **obs = NULL;
  double *value = NULL;
  int64_t *count = NULL;
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  *n_failed = 0;
  ptq_fit_options bare = *options;
  bare.bare = true;
  if (fit->matrix.n_clusters < 2)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "bootstrap: one model cannot be resampled; finish more of "
                    "the sweep");
  PTQ_TRY(ptq_alloc(&obs, frame->n * fit->matrix.n_clusters, sizeof *obs,
                    "resampled points", err));
  PTQ_TRY(ptq_alloc(&value, k * n_resamples, sizeof *value, "resamples", err));
  PTQ_TRY(ptq_alloc(&count, k, sizeof *count, "resamples", err));
  for (int64_t r = 0; r < n_resamples; r++) {
    ptq_fit again = {0};
    ptq_err why = {0};
    const int64_t n = draw(fit, frame, &rng, obs);
    const ptq_status fitted =
        ptq_fit_points(fit->estimator, formula, &bare, obs, n, &again, &why);
    if (fitted == PTQ_E_NOMEM) PTQ_TRY(PTQ_FAIL(err, fitted, "%s", why.msg));
    *n_failed += fitted != PTQ_OK;
    for (int64_t j = 0; j < k && fitted == PTQ_OK; j++) {
      const double v = estimate_of(&again, fit->matrix.columns[j].name);
      if (isfinite(v)) value[j * n_resamples + count[j]++] = v;
    }
    ptq_fit_release(&again);
  }
  for (int64_t j = 0; j < k; j++)
    summarize(value + j * n_resamples, count[j], n_resamples, &out[j]);
done:
  ptq_free(obs);
  ptq_free(value);
  ptq_free(count);
  return rc;
}
