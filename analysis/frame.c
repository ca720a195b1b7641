/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/frame.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/analysis/feature.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"

static const struct {
  const char *name, *text;
} uses[] = {
#define PTQ_USE_ROW(id, use_name, use_text) [id] = {use_name, use_text},
    PTQ_USE_LIST(PTQ_USE_ROW)
#undef PTQ_USE_ROW
};
_Static_assert(sizeof uses / sizeof uses[0] == PTQ_USE_COUNT,
               "one row per use");

const char *ptq_use_name(ptq_use use) {
  PTQ_ASSERT((unsigned)use < PTQ_USE_COUNT);
  return uses[use].name;
}

const char *ptq_use_text(ptq_use use) {
  PTQ_ASSERT((unsigned)use < PTQ_USE_COUNT);
  return uses[use].text;
}

bool ptq_obs_is_mixed(const ptq_obs *o) {
  static const char prefix[] = "mixed:";
  return strncmp(o->point->dtype, prefix, sizeof prefix - 1) == 0;
}

bool ptq_obs_is_probe(const ptq_obs *o) {
  static const char prefix[] = "mixed:" PTQ_PROBE_PREFIX;
  return strncmp(o->point->dtype, prefix, sizeof prefix - 1) == 0;
}

/* Collapse needs the unigram model's NLL, so a point whose model's own item
 * is not finished waits as incomplete instead of entering unjudged. */
static ptq_use classify(const ptq_obs *o, int state) {
  if (state == PTQ_STATE_FAILED) return PTQ_USE_FAILED;
  if (state != PTQ_STATE_DONE) return PTQ_USE_PENDING;
  if (strcmp(o->model->provenance, "dequantized") == 0)
    return PTQ_USE_DEQUANTIZED;
  if (isnan(o->point->nll) || isnan(o->point->dnll) ||
      !isfinite(o->model->nll_unigram))
    return PTQ_USE_INCOMPLETE;
  if (ptq_obs_is_probe(o)) return PTQ_USE_PROBE;
  if (!(o->point->nll < o->model->nll_unigram)) return PTQ_USE_COLLAPSED;
  return isfinite(o->point->dnll) ? PTQ_USE_OK : PTQ_USE_INCOMPLETE;
}

bool ptq_obs_learned(const ptq_obs *o) {
  return !o->held && (o->use == PTQ_USE_OK || o->use == PTQ_USE_COLLAPSED);
}

static int compare_twins(const void *a, const void *b) {
  const ptq_obs *x = *(const ptq_obs *const *)a;
  const ptq_obs *y = *(const ptq_obs *const *)b;
  if (x->subject != y->subject) return x->subject < y->subject ? -1 : 1;
  if (x->point->group != y->point->group)
    return x->point->group < y->point->group ? -1 : 1;
  return strcmp(x->point->dtype, y->point->dtype);
}

/* Every point's twin that only rounds: plain rtn of the same subject, dtype
 * and group. */
static ptq_status find_twins(ptq_frame *f, ptq_err *err) {
  const ptq_obs **rounded = NULL;
  const ptq_status rc =
      ptq_alloc(&rounded, f->n, sizeof *rounded, "rounded points", err);
  if (rc != PTQ_OK) return rc;
  size_t n = 0;
  for (int64_t i = 0; i < f->n; i++)
    if (strcmp(f->obs[i].point->method, "rtn") == 0 &&
        f->obs[i].point->options[0] == '\0')
      rounded[n++] = &f->obs[i];
  qsort(rounded, n, sizeof *rounded, compare_twins);
  for (int64_t i = 0; i < f->n && n > 0; i++) {
    const ptq_obs *key = &f->obs[i];
    const ptq_obs *const *twin =
        bsearch(&key, rounded, n, sizeof *rounded, compare_twins);
    if (twin != NULL) f->obs[i].sqnr_rtn = (*twin)->point->sqnr_weight;
  }
  ptq_free(rounded);
  return PTQ_OK;
}

ptq_status ptq_frame_build(const ptq_frame_source *source, ptq_frame *out,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_frame){.models = source->models, .n_models = source->n_models};
  if (source->landscape != NULL) {
    out->landscape = *source->landscape;
    *source->landscape = (ptq_landscape){0};
  }
  PTQ_TRY(ptq_alloc(&out->obs, source->n_points, sizeof *out->obs,
                    "observations", err));
  out->n = source->n_points;
  if (source->n_spectra > 0) {
    PTQ_TRY(ptq_alloc(&out->traits, source->n_models, sizeof *out->traits,
                      "spectra of models", err));
    ptq_model_traits_of(source->spectra, source->n_spectra, out->traits,
                        source->n_models);
  }
  PTQ_TRY(ptq_alloc(&out->runs, source->n_models, sizeof *out->runs,
                    "runs of models", err));
  for (int64_t i = 0; i < source->n_models; i++)
    if (!ptq_covariate_text(&source->models[i], "run", out->runs[i],
                            sizeof *out->runs))
      (void)ptq_text_copy(out->runs[i], sizeof *out->runs,
                          source->models[i].model);
  for (int64_t i = 0; i < out->n; i++) {
    const int64_t s = source->subject[i];
    if (s < 0 || s >= source->n_models) {
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "point %lld: subject %lld is not one of %lld models",
                    (long long)i, (long long)s, (long long)source->n_models);
      goto done;
    }
    ptq_obs *o = &out->obs[i];
    *o = (ptq_obs){
        .point = &source->points[i],
        .model = &source->models[s],
        .subject = s,
        .layers = ptq_layer_traits_of(NULL, 0),
        .traits = out->traits != NULL ? &out->traits[s] : NULL,
        .landscape =
            out->landscape.models != NULL ? &out->landscape.models[s] : NULL,
        .displacement =
            ptq_landscape_find(&out->landscape, s, source->points[i].dtype),
        .run = out->runs[s],
        .sqnr_rtn = NAN,
        .log_err_hessian = NAN};
    if (source->layers != NULL) {
      const int64_t first = source->first_layer[i];
      o->n_layers = source->first_layer[i + 1] - first;
      o->layers = ptq_layer_traits_of(source->layers + first, o->n_layers);
      o->log_err_hessian = o->layers.log_err_mean;
    }
    char held[8];
    o->held = ptq_covariate_text(o->model, "holdout", held, sizeof held) &&
              strcmp(held, "true") == 0;
    o->use = classify(o, source->states[i]);
    out->count[o->use]++;
    out->n_held += o->held;
  }
  PTQ_TRY(find_twins(out, err));
done:
  if (rc != PTQ_OK) ptq_frame_release(out);
  return rc;
}

ptq_status ptq_frame_from_view(ptq_view *view, ptq_frame *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_frame){0};
  ptq_frame_source s = {0};
  ptq_landscape landscape = {0};
  const void *points = NULL, *models = NULL, *layers = NULL;
  const int *subject_states = NULL;
  const int64_t *first_window = NULL;
  int64_t n_layers = 0, n_states = 0, n_subject_states = 0;
  PTQ_TRY(ptq_view_table(view, PTQ_TABLE_POINTS, &points, &s.n_points, err));
  PTQ_TRY(ptq_view_table(view, PTQ_TABLE_MODELS, &models, &s.n_models, err));
  PTQ_TRY(ptq_view_table(view, PTQ_TABLE_LAYERS, &layers, &n_layers, err));
  PTQ_TRY(ptq_view_states(view, &s.states, &n_states, &subject_states,
                          &n_subject_states, err));
  PTQ_TRY(ptq_view_index(view, &s.subject, &s.first_layer, &first_window, err));
  PTQ_TRY(ptq_view_spectra(view, &s.spectra, &s.n_spectra, err));
  if (n_states != s.n_points || s.first_layer[s.n_points] > n_layers) {
    rc = PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': tables of different lengths",
                  ptq_view_path(view));
    goto done;
  }
  PTQ_TRY(ptq_landscape_read(view, s.n_models, &landscape, err));
  s.landscape = &landscape;
  s.points = points;
  s.models = models;
  s.layers = layers;
  PTQ_TRY(ptq_frame_build(&s, out, err));
done:
  return rc;
}

/* Each point is taken with the chance that fills the sample (Knuth's
 * algorithm S). */
ptq_status ptq_frame_sample(const ptq_frame *f, int64_t most, uint64_t seed,
                            ptq_frame *out, ptq_err *err) {
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  *out = (ptq_frame){
      .models = f->models, .n_models = f->n_models, .sampled = f->n > most};
  const int64_t want = f->n < most ? f->n : most;
  const ptq_status rc =
      ptq_alloc(&out->obs, want, sizeof *out->obs, "sample of points", err);
  for (int64_t i = 0; i < f->n && rc == PTQ_OK && out->n < want; i++) {
    if (ptq_rng_below(&rng, (uint64_t)(f->n - i)) >= (uint64_t)(want - out->n))
      continue;
    out->obs[out->n++] = f->obs[i];
    out->count[f->obs[i].use]++;
    out->n_held += f->obs[i].held;
  }
  return rc;
}

void ptq_frame_release(ptq_frame *f) {
  ptq_free(f->obs);
  ptq_free(f->traits);
  ptq_landscape_release(&f->landscape);
  ptq_free(f->runs);
  *f = (ptq_frame){0};
}
