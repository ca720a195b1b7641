/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/frame.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"

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
  if (!(o->point->nll < o->model->nll_unigram)) return PTQ_USE_COLLAPSED;
  return PTQ_USE_OK;
}

static double mean_log_err(const ptq_layer_row *layers, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += log(layers[i].err_hessian);
  return n > 0 ? sum / (double)n : NAN;
}

ptq_status ptq_frame_build(const ptq_frame_source *source, ptq_frame *out,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_frame){.models = source->models, .n_models = source->n_models};
  PTQ_TRY(ptq_alloc(&out->obs, source->n_points, sizeof *out->obs,
                    "observations", err));
  out->n = source->n_points;
  for (int64_t i = 0; i < out->n; i++) {
    const int64_t s = source->subject[i];
    if (s < 0 || s >= source->n_models) {
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "point %lld: subject %lld is not one of %lld models",
                    (long long)i, (long long)s, (long long)source->n_models);
      goto done;
    }
    ptq_obs *o = &out->obs[i];
    *o = (ptq_obs){.point = &source->points[i],
                   .model = &source->models[s],
                   .subject = s,
                   .log_err_hessian = NAN};
    if (source->layers != NULL) {
      const int64_t first = source->first_layer[i];
      o->n_layers = source->first_layer[i + 1] - first;
      o->log_err_hessian = mean_log_err(source->layers + first, o->n_layers);
    }
    o->use = classify(o, source->states[i]);
    out->count[o->use]++;
  }
done:
  if (rc != PTQ_OK) ptq_frame_release(out);
  return rc;
}

ptq_status ptq_frame_from_view(ptq_view *view, ptq_frame *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *out = (ptq_frame){0};
  ptq_frame_source s = {0};
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
  if (n_states != s.n_points || s.first_layer[s.n_points] > n_layers) {
    rc = PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': tables of different lengths",
                  ptq_view_path(view));
    goto done;
  }
  s.points = points;
  s.models = models;
  s.layers = layers;
  PTQ_TRY(ptq_frame_build(&s, out, err));
done:
  return rc;
}

void ptq_frame_release(ptq_frame *f) {
  ptq_free(f->obs);
  *f = (ptq_frame){0};
}
