/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/hull.h"

#include <math.h>

static void watch(ptq_hull *h, const ptq_feature *f) {
  for (int i = 0; i < h->n; i++)
    if (h->feature[i] == f) return;
  if (f == NULL || h->n == PTQ_HULL_MAX) return;
  h->low[h->n] = INFINITY;
  h->high[h->n] = -INFINITY;
  h->feature[h->n++] = f;
}

static void watch_names(ptq_hull *h, const char *const *names) {
  for (; *names != NULL; names++) watch(h, ptq_feature_find(*names));
}

ptq_hull ptq_hull_of(const ptq_recipe *recipe, const ptq_obs *const *obs,
                     int64_t n) {
  static const char *const always[] = {"bits_per_weight", "group", NULL};
  ptq_hull h = {.n = 0};
  for (int t = 0; t < recipe->formula.n_terms; t++)
    for (int p = 0; p < recipe->formula.terms[t].n_parts; p++)
      watch(&h, recipe->formula.terms[t].parts[p].feature);
  if (recipe->curve != NULL) watch_names(&h, recipe->curve->covariates);
  if (recipe->trees != NULL) watch_names(&h, recipe->trees->features);
  if (recipe->choose) watch(&h, ptq_feature_find("params_nonembedding"));
  watch_names(&h, always);
  for (int64_t i = 0; i < n; i++) {
    if (!ptq_obs_learned(obs[i])) continue;
    for (int f = 0; f < h.n; f++) {
      const double v = h.feature[f]->get(obs[i]);
      if (!isfinite(v)) continue;
      h.low[f] = fmin(h.low[f], v);
      h.high[f] = fmax(h.high[f], v);
    }
  }
  return h;
}

int ptq_hull_misses(const ptq_hull *h, const ptq_obs *o,
                    const ptq_feature **out) {
  int n = 0;
  for (int f = 0; f < h->n; f++) {
    const double v = h->feature[f]->get(o);
    if (!isfinite(v) || !(h->low[f] <= h->high[f])) continue;
    const double slack = 1e-6 * fmax(fabs(h->low[f]), fabs(h->high[f]));
    if (v >= h->low[f] - slack && v <= h->high[f] + slack) continue;
    if (out != NULL) out[n] = h->feature[f];
    n++;
  }
  return n;
}
