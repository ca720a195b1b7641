/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "directions.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/sweep/grid.h"
#include "tokenizer.h"

/* Enters every key: to be raised when the meaning of a result changes without
 * any of its inputs changing. */
static const char key_version[] = "ptqsweep point 1";

int64_t ptq_grid_texts(const ptq_grid *g) {
  return g->spec->n_calibrations + g->spec->n_evaluations + 1;
}

/* Where more than tokenizer.json decides over tokens. */
static bool has_settings(const ptq_spec *spec) {
  bool any = spec->requests.path != NULL;
  for (int64_t i = 0; i < spec->n_evaluations; i++)
    any = any || spec->evaluations[i].scoring.prefixed;
  return any;
}

int64_t ptq_grid_inputs(const ptq_grid *g) {
  const int64_t more = has_settings(g->spec) ? 1 + g->spec->n_models : 0;
  return ptq_grid_texts(g) + more;
}

static const ptq_text_spec *text_at(const ptq_spec *spec, int64_t i) {
  if (i < spec->n_calibrations) return &spec->calibrations[i];
  i -= spec->n_calibrations;
  return i < spec->n_evaluations ? &spec->evaluations[i] : &spec->selection;
}

/* Hash of checkpoint and tokenizer: with the texts they give the tokens. */
static ptq_status hash_model(const ptq_model_spec *m, char hex[PTQ_HASH_HEX],
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_model *model = NULL;
  ptq_hash *hash = NULL;
  char *tokenizer = NULL;
  char part[PTQ_HASH_HEX];
  PTQ_TRY(ptq_path_join(m->path, "tokenizer.json", &tokenizer, err));
  PTQ_TRY(ptq_hash_create(&hash, err));
  PTQ_TRY(ptq_model_open(m->path, &model, err));
  PTQ_TRY(ptq_model_fingerprint(model, part, err));
  ptq_hash_text(hash, part);
  PTQ_TRY(ptq_hash_file(tokenizer, part, err));
  ptq_hash_text(hash, part);
  ptq_hash_hex(hash, hex);
done:
  ptq_model_close(model);
  ptq_hash_free(hash);
  ptq_free(tokenizer);
  return rc;
}

static ptq_status hash_text(const ptq_spec *spec, int64_t i,
                            char hex[PTQ_HASH_HEX], ptq_err *err) {
  const ptq_text_spec *t = text_at(spec, i);
  ptq_err why = {0};
  const ptq_status rc = ptq_hash_file(t->path, hex, &why);
  if (rc == PTQ_OK) return rc;
  return PTQ_FAIL(err, rc, "%s:%d: text: %s", spec->path, t->line, why.msg);
}

/* The requests' file, if any, and each model's settings of its tokenizer. */
static ptq_status hash_settings(const ptq_spec *spec, char (*hex)[PTQ_HASH_HEX],
                                ptq_err *err) {
  ptq_err why = {0};
  ptq_status rc = PTQ_OK;
  hex[0][0] = '\0';
  if (spec->requests.path != NULL)
    rc = ptq_hash_file(spec->requests.path, hex[0], &why);
  if (rc != PTQ_OK)
    return PTQ_FAIL(err, rc, "%s:%d: requests: %s", spec->path,
                    spec->requests.line, why.msg);
  for (int64_t i = 0; i < spec->n_models && rc == PTQ_OK; i++)
    rc = ptq_tokenizer_settings(spec->models[i].path, hex[1 + i], err);
  return rc;
}

ptq_status ptq_grid_hash_inputs(const ptq_grid *g, char (*models)[PTQ_HASH_HEX],
                                char (*texts)[PTQ_HASH_HEX], ptq_err *err) {
  ptq_status rc = PTQ_OK;
  /* Texts first: they are small, and what is missing shows at once. */
  for (int64_t i = 0; i < ptq_grid_texts(g); i++)
    PTQ_TRY(hash_text(g->spec, i, texts[i], err));
  if (has_settings(g->spec))
    PTQ_TRY(hash_settings(g->spec, texts + ptq_grid_texts(g), err));
  for (int64_t i = 0; i < g->spec->n_models; i++)
    PTQ_TRY(hash_model(&g->spec->models[i], models[i], err));
done:
  return rc;
}

/* A text's bytes and how windows are cut from it; its name does not matter. */
static void add_text(ptq_hash *h, const char *role, const ptq_text_spec *t,
                     bool from_end, const char *content) {
  char windows[128];
  snprintf(windows, sizeof windows, "%s %" PRId64 "x%" PRId64 " %s %" PRIu64,
           role, t->windows, t->length,
           t->random  ? "random"
           : from_end ? "last"
                      : "first",
           t->random ? t->seed : 0);
  ptq_hash_text(h, windows);
  if (t->scoring.preset[0] != '\0') ptq_hash_text(h, t->scoring.preset);
  ptq_hash_text(h, content);
}

/* Which requests, and what decides over their tokens; `inputs` are the hashes
 * of the file and of each model's settings. */
static void add_requests(ptq_hash *h, const ptq_request_spec *r, int64_t model,
                         char (*inputs)[PTQ_HASH_HEX]) {
  char options[128];
  snprintf(options, sizeof options,
           "requests %" PRId64 "x%" PRId64 " %d %" PRId64, r->limit, r->length,
           r->bos, r->prefix);
  ptq_hash_text(h, options);
  ptq_hash_text(h, r->delimiter);
  ptq_hash_text(h, inputs[0]);
  ptq_hash_text(h, inputs[1 + model]);
}

static ptq_status set_key(ptq_grid *g, int64_t point,
                          char (*texts)[PTQ_HASH_HEX], const char *numerics,
                          ptq_err *err) {
  const ptq_spec *spec = g->spec;
  ptq_point *p = &g->points[point];
  const ptq_subject *s = &g->subjects[p->subject];
  const ptq_method *m = &spec->methods[p->method];
  const int64_t c = s->calibration;
  const int64_t e = spec->n_calibrations + s->evaluation;
  const int64_t last = spec->n_calibrations + spec->n_evaluations;
  char group[24];
  ptq_hash *h = NULL;
  const ptq_status rc = ptq_hash_create(&h, err);
  if (rc != PTQ_OK) return rc;
  ptq_group_name(p->group, group);
  ptq_hash_text(h, key_version);
  ptq_hash_text(h, s->fingerprint);
  add_text(h, "calibration", text_at(spec, c), false, texts[c]);
  add_text(h, "evaluation", text_at(spec, e), false, texts[e]);
  add_text(h, "selection", text_at(spec, last), spec->selection_from_end,
           texts[last]);
  /* lm-eval's prefix: rows from before it was one were never the tool's. */
  if (text_at(spec, e)->scoring.prefixed)
    ptq_hash_text(h, texts[last + 2 + s->model]);
  if (spec->requests.path != NULL)
    add_requests(h, &spec->requests, s->model, texts + last + 1);
  /* a mixture by what it makes of the layers, not by how it is written */
  const ptq_resolved *mixed =
      &g->resolved[p->subject * spec->n_dtypes + p->dtype];
  ptq_hash_text(
      h, mixed->rule != NULL ? mixed->hash : spec->dtypes[p->dtype].name);
  ptq_hash_text(h, m->name);
  ptq_hash_text(h, m->options);
  ptq_hash_text(h, group);
  /* float32 adds nothing: keys made before there was a choice stay. */
  if (spec->compute != PTQ_COMPUTE_F32)
    ptq_hash_text(h, ptq_compute_name(spec->compute));
  ptq_hash_text(h, numerics);
  ptq_hash_hex(h, p->key);
  ptq_hash_free(h);
  return PTQ_OK;
}

/* What a displacement is of. */
static void add_formats(ptq_hash *h, const ptq_grid *g, const ptq_point *p) {
  const ptq_resolved *mixed =
      &g->resolved[p->subject * g->spec->n_dtypes + p->dtype];
  char group[24];
  ptq_group_name(p->group, group);
  ptq_hash_text(
      h, mixed->rule != NULL ? mixed->hash : g->spec->dtypes[p->dtype].name);
  ptq_hash_text(h, group);
}

/* Radii, or what the Hessian is probed with. */
static void add_landscape(ptq_hash *h, const ptq_landscape_spec *l, int kind) {
  char text[128];
  if (kind == PTQ_DIRECTION_HESSIAN)
    snprintf(text, sizeof text, "%" PRId64 " %" PRId64 "x%" PRId64, l->probes,
             l->starts, l->lanczos);
  else if (kind == PTQ_DIRECTION_SENSITIVITY)
    snprintf(text, sizeof text, "layers");
  else
    snprintf(text, sizeof text, "%" PRId64 " %.17g %.17g", l->radii,
             l->smallest, l->largest);
  ptq_hash_text(h, text);
}

/* Of a row of the landscape, with derivatives (full) or without: nothing that a
 * point's key has beside these. */
static ptq_status direction_key(const ptq_grid *g, const ptq_direction *d,
                                bool full, char (*texts)[PTQ_HASH_HEX],
                                const char *numerics, char key[PTQ_HASH_HEX],
                                ptq_err *err) {
  static const char version[] = "ptqsweep direction 1";
  const ptq_spec *spec = g->spec;
  const ptq_subject *s = &g->subjects[d->subject];
  const int64_t c = s->calibration;
  const int64_t e = spec->n_calibrations + s->evaluation;
  const int64_t last = spec->n_calibrations + spec->n_evaluations;
  char what[64];
  ptq_hash *h = NULL;
  const ptq_status rc = ptq_hash_create(&h, err);
  if (rc != PTQ_OK) return rc;
  snprintf(what, sizeof what, "%d %" PRId64, d->kind, d->number);
  ptq_hash_text(h, version);
  ptq_hash_text(h, s->fingerprint);
  ptq_hash_text(h, what);
  if (d->point >= 0) add_formats(h, g, &g->points[d->point]);
  add_landscape(h, &spec->landscape, d->kind);
  if ((full && d->kind != PTQ_DIRECTION_SENSITIVITY) ||
      d->kind == PTQ_DIRECTION_GPTQ)
    add_text(h, "calibration", text_at(spec, c), false, texts[c]);
  /* The other kinds have no calibration text where they have no derivatives. */
  if (!full && d->kind == PTQ_DIRECTION_GPTQ) ptq_hash_text(h, "radial");
  if (d->kind != PTQ_DIRECTION_HESSIAN)
    add_text(h, "evaluation", text_at(spec, e), false, texts[e]);
  if (text_at(spec, e)->scoring.prefixed)
    ptq_hash_text(h, texts[last + 2 + s->model]);
  ptq_hash_text(h, numerics);
  ptq_hash_hex(h, key);
  ptq_hash_free(h);
  return PTQ_OK;
}

static ptq_status set_direction_key(ptq_grid *g, int64_t direction,
                                    char (*texts)[PTQ_HASH_HEX],
                                    const char *numerics, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_direction *d = &g->directions[direction];
  const bool full = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL;
  PTQ_TRY(direction_key(g, d, full, texts, numerics, d->key, err));
  d->radial_key[0] = '\0';
  if (full && ptq_direction_steps(g, d) > 0)
    rc = direction_key(g, d, false, texts, numerics, d->radial_key, err);
done:
  return rc;
}

static int by_key(const void *a, const void *b) {
  return strcmp((*(const ptq_point *const *)a)->key,
                (*(const ptq_point *const *)b)->key);
}

/* Equal keys are equal results: the sweep holds something twice. */
static ptq_status check_unique(const ptq_grid *g, ptq_err *err) {
  const ptq_point **sorted = NULL;
  ptq_status rc = ptq_alloc(&sorted, g->n_points, sizeof *sorted, "keys", err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < g->n_points; i++) sorted[i] = &g->points[i];
  qsort(sorted, (size_t)g->n_points, sizeof *sorted, by_key);
  for (int64_t i = 1; i < g->n_points && rc == PTQ_OK; i++) {
    if (strcmp(sorted[i - 1]->key, sorted[i]->key) != 0) continue;
    const ptq_subject *a = &g->subjects[sorted[i - 1]->subject];
    const ptq_subject *b = &g->subjects[sorted[i]->subject];
    const ptq_model_spec *models = g->spec->models;
    if (a->model != b->model)
      rc =
          PTQ_FAIL(err, PTQ_E_ARG,
                   "%s: models '%s' and '%s' are the same checkpoint; list "
                   "it once",
                   g->spec->path, models[a->model].name, models[b->model].name);
    else
      rc = PTQ_FAIL(err, PTQ_E_ARG,
                    "%s: two texts of 'data' have the same bytes and windows; "
                    "list one",
                    g->spec->path);
  }
  ptq_free(sorted);
  return rc;
}

ptq_status ptq_grid_set_keys(ptq_grid *g, char (*models)[PTQ_HASH_HEX],
                             char (*texts)[PTQ_HASH_HEX], const char *numerics,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_hash *all = NULL, *data = NULL;
  PTQ_TRY(ptq_hash_create(&all, err));
  PTQ_TRY(ptq_hash_create(&data, err));
  for (int64_t i = 0; i < ptq_grid_inputs(g); i++)
    ptq_hash_text(data, texts[i]);
  ptq_hash_hex(data, g->data_fingerprint);
  for (int64_t i = 0; i < g->n_subjects; i++)
    (void)ptq_text_copy(g->subjects[i].fingerprint, PTQ_HASH_HEX,
                        models[g->subjects[i].model]);
  for (int64_t i = 0; i < g->n_points; i++) {
    PTQ_TRY(set_key(g, i, texts, numerics, err));
    ptq_hash_text(all, g->points[i].key);
  }
  for (int64_t i = 0; i < g->n_directions; i++)
    PTQ_TRY(set_direction_key(g, i, texts, numerics, err));
  ptq_hash_hex(all, g->fingerprint);
  PTQ_TRY(check_unique(g, err));
done:
  ptq_hash_free(all);
  ptq_hash_free(data);
  return rc;
}
