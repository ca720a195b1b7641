/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

static bool wanted(const ptq_recipe *r, const char *name) {
  return name == NULL ? r->tier == PTQ_TIER_CONFIG : strcmp(r->name, name) == 0;
}

/* Learn and validate one law; what cannot be learned stays away, its reason in
 * why. */
static ptq_status add(ptq_oracle *o, const ptq_frame *frame,
                      const ptq_frame *sample, const ptq_obs *const *obs,
                      const ptq_recipe *recipe, ptq_err *why, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_validation v = {0};
  ptq_oracle_law *law = &o->law[o->n];
  if (o->n == PTQ_ORACLE_LAWS) goto done;
  *law = (ptq_oracle_law){.recipe = *recipe};
  ptq_err failure = {0};
  rc = ptq_recipe_learn(&law->recipe, NULL, obs, frame->n, &law->learned,
                        &failure);
  if (rc != PTQ_OK && rc != PTQ_E_NOMEM) {
    *why = failure;
    rc = PTQ_OK;
    goto done;
  }
  if (rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, rc, "%s", failure.msg));
  o->n++;
  law->hull = ptq_hull_of(&law->recipe, obs, frame->n);
  PTQ_TRY(ptq_validate(&law->recipe, ptq_split_at(0), sample, &v, err));
  law->accuracy = v.all;
done:
  ptq_validation_release(&v);
  return rc;
}

static int compare_laws(const void *a, const void *b) {
  const ptq_oracle_law *x = a, *y = b;
  const double ex = isnan(x->accuracy.median) ? INFINITY : x->accuracy.median;
  const double ey = isnan(y->accuracy.median) ? INFINITY : y->accuracy.median;
  if (ex != ey) return (ex > ey) - (ex < ey);
  return strcmp(x->recipe.name, y->recipe.name);
}

static ptq_status add_all(ptq_oracle *o, const ptq_frame *frame,
                          const ptq_frame *sample, const ptq_obs *const *obs,
                          const char *name, bool *dear, ptq_err *why,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_estimator *quasi = NULL;
  const ptq_fit_options options = {0};
  PTQ_TRY(ptq_estimator_find("quasi", &quasi, err));
  for (size_t i = 0; ptq_law_at(i) != NULL; i++) {
    ptq_formula f;
    PTQ_TRY(ptq_formula_parse(ptq_law_at(i)->formula, &f, err));
    const ptq_recipe r = ptq_recipe_formula(
        ptq_law_at(i)->name, ptq_law_at(i)->formula, &f, quasi, &options);
    *dear = *dear || (wanted(&r, name) && r.tier != PTQ_TIER_CONFIG);
    if (wanted(&r, name) && r.tier == PTQ_TIER_CONFIG)
      PTQ_TRY(add(o, frame, sample, obs, &r, why, err));
  }
  for (size_t i = 0; ptq_curve_at(i) != NULL; i++) {
    const ptq_recipe r = ptq_recipe_curve(ptq_curve_at(i));
    if (wanted(&r, name)) PTQ_TRY(add(o, frame, sample, obs, &r, why, err));
  }
  for (size_t i = 0; ptq_trees_at(i) != NULL && name != NULL; i++) {
    const ptq_recipe r = ptq_recipe_trees(ptq_trees_at(i));
    *dear = *dear || (wanted(&r, name) && r.tier != PTQ_TIER_CONFIG);
    if (wanted(&r, name) && r.tier == PTQ_TIER_CONFIG)
      PTQ_TRY(add(o, frame, sample, obs, &r, why, err));
  }
done:
  return rc;
}

ptq_status ptq_oracle_learn(const ptq_frame *frame, const char *name,
                            ptq_oracle *out, ptq_err *err) {
  enum { SAMPLE = 4000 };
  ptq_status rc = PTQ_OK;
  const ptq_obs **obs = NULL;
  ptq_frame sample = {0};
  ptq_err why = {0};
  bool dear = false;
  *out = (ptq_oracle){0};
  PTQ_TRY(ptq_alloc(&out->law, PTQ_ORACLE_LAWS, sizeof *out->law, "laws", err));
  PTQ_TRY(ptq_alloc(&obs, frame->n, sizeof *obs, "points", err));
  PTQ_TRY(ptq_frame_sample(frame, SAMPLE, 1, &sample, err));
  int64_t n_learned = 0;
  for (int64_t i = 0; i < frame->n; i++) {
    obs[i] = &frame->obs[i];
    n_learned += ptq_obs_learned(obs[i]);
  }
  if (n_learned == 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "no finished point to learn a law from; 'ptqsweep "
                     "status' says what is missing"));
  PTQ_TRY(add_all(out, frame, &sample, obs, name, &dear, &why, err));
  if (out->n == 0 && dear)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "law '%s' needs more than a config: it cannot predict "
                     "what was not run; 'ptqsweep fit' shows the tiers",
                     name));
  if (out->n == 0 && why.msg[0] == '\0')
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "unknown law '%s'; 'ptqsweep list laws' lists them",
                     name));
  if (out->n == 0) PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "%s", why.msg));
  qsort(out->law, (size_t)out->n, sizeof *out->law, compare_laws);
  for (int i = 0; i < out->n; i++)
    out->law[i].learned.recipe = &out->law[i].recipe;
done:
  ptq_free(obs);
  ptq_frame_release(&sample);
  if (rc != PTQ_OK) ptq_oracle_release(out);
  return rc;
}

void ptq_oracle_release(ptq_oracle *o) {
  for (int i = 0; i < o->n; i++) ptq_learned_release(&o->law[i].learned);
  ptq_free(o->law);
  *o = (ptq_oracle){0};
}

/* Nonlinear laws do not; trees that know a config do. */
static bool tells_methods_apart(const ptq_recipe *r) {
  for (int t = 0; t < r->formula.n_terms; t++)
    for (int p = 0; p < r->formula.terms[t].n_parts; p++) {
      const ptq_factor *f = r->formula.terms[t].parts[p].factor;
      if (f != NULL && strcmp(f->name, "method") == 0) return true;
    }
  return r->trees != NULL;
}

ptq_status ptq_oracle_ask(const ptq_oracle *o, const ptq_obs *obs,
                          ptq_forecast *out, ptq_err *err) {
  *out = (ptq_forecast){.dnll = {(double)NAN, (double)NAN, (double)NAN, NULL},
                        .by_method = NAN};
  for (int i = 0; i < o->n; i++) {
    const ptq_oracle_law *law = &o->law[i];
    const bool methods =
        isnan(out->by_method) && tells_methods_apart(&law->recipe);
    ptq_prediction p;
    if (out->law != NULL && !methods) continue;
    const ptq_status rc = ptq_learned_predict(&law->learned, &obs, 1, &p, err);
    if (rc != PTQ_OK) return rc;
    if (out->law == NULL) out->dnll = p;
    if (isnan(p.dnll)) continue;
    if (methods) out->by_method = p.dnll;
    if (out->law != NULL) continue;
    out->law = law;
    out->n_outside = ptq_hull_misses(&law->hull, obs, out->outside);
  }
  return PTQ_OK;
}
