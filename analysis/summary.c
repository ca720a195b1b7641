/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/summary.h"

#include <string.h>

#include "ptq/base/mem.h"

/* Fit one formula, and validate it on `validated` (NULL: not); what it fails of
 * is kept in the result. */
static ptq_status run(const ptq_frame *frame, const ptq_frame *validated,
                      const ptq_estimator *estimator, const char *name,
                      const char *formula, const ptq_fit_options *options,
                      ptq_law_result *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_formula f;
  ptq_err why = {0};
  *out = (ptq_law_result){.formula = formula, .estimator = estimator};
  (void)ptq_text_copy(out->name, sizeof out->name, name);
  PTQ_TRY(ptq_formula_parse(formula, &f, err));
  const ptq_status fitted =
      ptq_fit_frame(estimator, &f, options, frame, &out->fit, &why);
  if (fitted == PTQ_E_NOMEM) {
    rc = PTQ_FAIL(err, fitted, "%s", why.msg);
    goto done;
  }
  if (fitted != PTQ_OK) {
    (void)ptq_text_copy(out->failure, sizeof out->failure, why.msg);
    goto done;
  }
  out->fitted = true;
  const ptq_recipe recipe =
      ptq_recipe_formula(name, formula, &f, estimator, options);
  for (size_t i = 0; validated != NULL && ptq_split_at(i) != NULL; i++) {
    PTQ_TRY(ptq_validate(&recipe, ptq_split_at(i), validated, &out->splits[i],
                         err));
    out->n_splits++;
  }
done:
  return rc;
}

static const uint64_t sample_seed = 1;

static void release_law(ptq_law_result *r) {
  ptq_fit_release(&r->fit);
  for (int i = 0; i < r->n_splits; i++) ptq_validation_release(&r->splits[i]);
}

static ptq_status resample(ptq_summary *s, const char *text,
                           const ptq_summary_options *options, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_formula formula;
  PTQ_TRY(ptq_formula_parse(text, &formula, err));
  PTQ_TRY(ptq_alloc(&s->resampled, s->law.fit.matrix.k, sizeof *s->resampled,
                    "resamples", err));
  s->n_resamples = options->resamples;
  PTQ_TRY(ptq_bootstrap_models(&s->law.fit, &formula, &options->fit, s->frame,
                               s->n_resamples, sample_seed, s->resampled,
                               &s->n_resamples_failed, err));
done:
  return rc;
}

ptq_status ptq_summary_build(const ptq_frame *frame,
                             const ptq_summary_options *options,
                             ptq_summary *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_estimator *estimator = NULL, *beside = NULL;
  const char *formula = options->formula, *name = "given";
  *out = (ptq_summary){.frame = frame};
  if (formula == NULL) {
    formula = ptq_law_at(0)->formula;
    name = ptq_law_at(0)->name;
  }
  const char *asked = options->estimator != NULL ? options->estimator : "quasi";
  PTQ_TRY(ptq_estimator_find(asked, &estimator, err));
  PTQ_TRY(ptq_estimator_find(
      strcmp(estimator->name, "quasi") == 0 ? "censored" : "quasi", &beside,
      err));
  const int64_t most = frame->n > PTQ_VALIDATED_MAX ? PTQ_SAMPLE : frame->n;
  PTQ_TRY(ptq_frame_sample(frame, most, sample_seed, &out->sample, err));
  PTQ_TRY(run(frame, &out->sample, estimator, name, formula, &options->fit,
              &out->law, err));
  if (!out->law.fitted) {
    rc = PTQ_FAIL(err, PTQ_E_ARG, "%s", out->law.failure);
    goto done;
  }
  PTQ_TRY(run(frame, &out->sample, beside, name, formula, &options->fit,
              &out->beside, err));
  for (size_t i = 0; ptq_estimator_at(i) != NULL; i++) {
    const ptq_estimator *e = ptq_estimator_at(i);
    if (e == estimator || e == beside || out->n_also == PTQ_ALSO_MAX) continue;
    PTQ_TRY(run(frame, NULL, e, name, formula, &options->fit,
                &out->also[out->n_also++], err));
  }
  if (options->resamples > 0) PTQ_TRY(resample(out, formula, options, err));
  PTQ_TRY(ptq_statements_test(frame, &out->statements, err));
  PTQ_TRY(ptq_seeds_measure(frame, &out->seeds, err));
  const ptq_contest_options contest = {.estimator = estimator,
                                       .fit = options->fit,
                                       .formula = options->formula,
                                       .no_trees = options->no_trees};
  if (!options->no_comparison)
    PTQ_TRY(ptq_contest_hold(&out->sample, &contest, &out->contest, err));
done:
  if (rc != PTQ_OK) ptq_summary_release(out);
  return rc;
}

void ptq_summary_release(ptq_summary *s) {
  release_law(&s->law);
  release_law(&s->beside);
  for (int i = 0; i < s->n_also; i++) release_law(&s->also[i]);
  ptq_seeds_release(&s->seeds);
  ptq_contest_release(&s->contest);
  ptq_frame_release(&s->sample);
  ptq_free(s->resampled);
  *s = (ptq_summary){0};
}
