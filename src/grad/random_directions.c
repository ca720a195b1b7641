/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"

ptq_status ptq_random_directions_init(const ptq_model_info *info, uint64_t seed,
                                      ptq_probe_kind kind,
                                      ptq_random_directions *r, ptq_err *err) {
  int64_t largest = 0;
  *r = (ptq_random_directions){.info = info, .seed = seed, .kind = kind};
  for (int l = 0; l < ptq_layer_count(info); l++) {
    const int64_t size = ptq_flat_at(info, 0, l + 1) - ptq_flat_at(info, 0, l);
    if (size > largest) largest = size;
  }
  return ptq_alloc(&r->scratch, largest, sizeof *r->scratch,
                   "a random direction", err);
}

void ptq_random_directions_release(ptq_random_directions *r) {
  ptq_free(r->scratch);
  *r = (ptq_random_directions){0};
}

static ptq_status load(void *ctx, int64_t block, int64_t j, ptq_real *const *e,
                       ptq_err *err) {
  const ptq_random_directions *r = ctx;
  (void)err;
  const int layers = ptq_layer_count(r->info);
  for (int l = 0; l < layers; l++) {
    if (e[l] == NULL) continue;
    const int64_t size =
        ptq_flat_at(r->info, 0, l + 1) - ptq_flat_at(r->info, 0, l);
    ptq_probe_fill(ptq_probe_seed(r->seed, r->first + j, block * layers + l),
                   r->kind, size, r->scratch);
    for (int64_t i = 0; i < size; i++) e[l][i] = (ptq_real)r->scratch[i];
  }
  return PTQ_OK;
}

ptq_directions ptq_random_directions_at(ptq_random_directions *r, int64_t first,
                                        int64_t k) {
  r->first = first;
  return (ptq_directions){.k = k, .ctx = r, .load = load};
}

/* forms[layers, k] of d's directions, each with itself. */
static ptq_status form(ptq_grad *g, ptq_curvature curvature,
                       const ptq_directions *d, double *forms, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = d->k;
  ptq_forms f = {0};
  if (curvature == PTQ_CURVATURE_GAUSS_NEWTON)
    return ptq_gauss_newton_forms(g, d, forms, err);
  PTQ_TRY(ptq_forms_run(g, d, 0, &f, err));
  for (int64_t l = 0; l < f.layers; l++)
    for (int64_t j = 0; j < k; j++)
      forms[l * k + j] = f.ehe[(l * k + j) * k + j];
done:
  ptq_forms_release(&f);
  return rc;
}

/* forms of all probes: draws[layers + 1, probes], the whole last. */
static ptq_status draw(ptq_grad *g, ptq_curvature curvature,
                       ptq_random_directions *r, int64_t probes, double *draws,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t width = ptq_grad_max_tangents(g);
  const int64_t layers = ptq_flat_layers(ptq_grad_info(g));
  double *forms = NULL;
  PTQ_TRY(ptq_alloc(&forms, layers * width, sizeof *forms, "forms", err));
  for (int64_t p = 0; p < probes; p += width) {
    const int64_t k = probes - p < width ? probes - p : width;
    const ptq_directions d = ptq_random_directions_at(r, p, k);
    PTQ_TRY(form(g, curvature, &d, forms, err));
    for (int64_t l = 0; l < layers; l++)
      for (int64_t j = 0; j < k; j++) {
        draws[l * probes + p + j] = forms[l * k + j];
        draws[layers * probes + p + j] += forms[l * k + j];
      }
  }
done:
  ptq_free(forms);
  return rc;
}

ptq_status ptq_curvature_trace(ptq_grad *g, ptq_curvature curvature,
                               uint64_t seed, int64_t probes,
                               ptq_estimate *whole, ptq_estimate *by_layer,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = ptq_grad_info(g);
  const int64_t layers = ptq_flat_layers(info);
  ptq_random_directions r = {0};
  double *draws = NULL;
  *whole = (ptq_estimate){NAN, NAN, 0};
  if (probes < 1) return PTQ_FAIL(err, PTQ_E_ARG, "a trace needs a probe");
  PTQ_TRY(ptq_random_directions_init(info, seed, PTQ_PROBE_SIGNS, &r, err));
  PTQ_TRY(
      ptq_alloc(&draws, (layers + 1) * probes, sizeof *draws, "probes", err));
  PTQ_TRY(draw(g, curvature, &r, probes, draws, err));
  for (int64_t l = 0; l < layers; l++)
    by_layer[l] = ptq_estimate_of(draws + l * probes, probes);
  *whole = ptq_estimate_of(draws + layers * probes, probes);
done:
  ptq_random_directions_release(&r);
  ptq_free(draws);
  return rc;
}
