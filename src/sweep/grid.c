/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/grid.h"

#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "directions.h"
#include "grid_mixed.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

void ptq_group_name(int64_t group, char name[24]) {
  if (group == PTQ_GROUP_ROW)
    snprintf(name, 24, "row");
  else if (group == PTQ_GROUP_TENSOR)
    snprintf(name, 24, "tensor");
  else
    snprintf(name, 24, "%" PRId64, group);
}

int64_t ptq_subject_layers(const ptq_subject *s) {
  int64_t layers = 0;
  for (int layer = 0; layer < ptq_layer_count(&s->info); layer++)
    layers += ptq_layer_present(&s->info, layer);
  return layers * s->info.n_blocks;
}

/* Input width of the widest linear layer of a block. */
static int64_t widest(const ptq_model_info *info) {
  int64_t width = 0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    const int64_t in = ptq_role_inputs(info, (ptq_role)role);
    if (in > width) width = in;
  }
  return width;
}

/* A window must fit the model's positions, but for a last token that is only
 * predicted. Longrope's angles hang on the number of tokens, and there it makes
 * a difference of one. */
static ptq_status check_length(const ptq_spec *spec, const char *model,
                               const ptq_model_info *info,
                               const ptq_text_spec *text, ptq_err *err) {
  const int64_t inputs = text->length - (text->scoring.prefixed ? 1 : 0);
  if (text->scoring.prefixed && info->rope_long_from > 0 &&
      inputs == info->rope_long_from)
    return PTQ_FAIL(
        err, PTQ_E_ARG,
        "%s:%d: windows of %" PRId64 " tokens, of which %" PRId64
        " are inputs, end where longrope of model '%s' takes its other "
        "factors; lower 'length'",
        spec->path, text->line, text->length, inputs, model);
  if (inputs <= info->max_positions) return PTQ_OK;
  return PTQ_FAIL(
      err, PTQ_E_ARG,
      "%s:%d: windows of %" PRId64 " tokens are longer than the %" PRId64
      " positions of model '%s'; lower 'length'",
      spec->path, text->line, text->length, info->max_positions, model);
}

static ptq_status check_lengths(const ptq_spec *spec, const char *model,
                                const ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < spec->n_calibrations; i++)
    PTQ_TRY(check_length(spec, model, info, &spec->calibrations[i], err));
  for (int64_t i = 0; i < spec->n_evaluations; i++)
    PTQ_TRY(check_length(spec, model, info, &spec->evaluations[i], err));
  PTQ_TRY(check_length(spec, model, info, &spec->selection, err));
done:
  return rc;
}

/* The subjects of one model, appended. */
static ptq_status add_subjects(ptq_grid *g, int64_t model, bool *used,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_spec *spec = g->spec;
  const ptq_model_spec *m = &spec->models[model];
  ptq_model *open = NULL;
  PTQ_TRY(ptq_model_open(m->path, &open, err));
  const ptq_model_info *info = ptq_model_get_info(open);
  PTQ_TRY(check_lengths(spec, m->name, info, err));
  for (int64_t c = 0; c < spec->n_calibrations; c++) {
    for (int64_t e = 0; e < spec->n_evaluations; e++) {
      ptq_subject *s = &g->subjects[g->n_subjects++];
      *s = (ptq_subject){
          .model = model, .calibration = c, .evaluation = e, .info = *info};
      s->info.compute = spec->compute;
      (void)ptq_text_copy(s->family, sizeof s->family,
                          m->family[0] != '\0' ? m->family : info->arch);
      PTQ_TRY(ptq_grid_resolve(g, g->n_subjects - 1, open, used, err));
    }
  }
done:
  ptq_model_close(open);
  return rc;
}

/* One cell of the cross product. */
typedef struct cell {
  int64_t subject, dtype, method;
  int64_t listed, group; /* as listed, as resolved for the model */
} cell;

static bool excluded(const ptq_grid *g, const cell *c) {
  const ptq_spec *spec = g->spec;
  const ptq_method *m = &spec->methods[c->method];
  const char *model = spec->models[g->subjects[c->subject].model].name;
  for (int64_t i = 0; i < spec->n_excludes; i++) {
    const ptq_exclude *x = &spec->excludes[i];
    if (x->model[0] != '\0' && fnmatch(x->model, model, 0) != 0) continue;
    if (x->dtype[0] != '\0' &&
        strcmp(x->dtype, spec->dtypes[c->dtype].name) != 0 &&
        !ptq_mixture_is_called(spec->dtypes[c->dtype].name, x->dtype))
      continue;
    if (x->method[0] != '\0' && strcmp(x->method, m->name) != 0) continue;
    if (x->has_options && strcmp(x->options, m->options) != 0) continue;
    if (x->has_group && x->group != c->listed && x->group != c->group) continue;
    return true;
  }
  return false;
}

/* Every format of the cell's layers. */
static ptq_status check_formats(const ptq_grid *g, const cell *c,
                                ptq_err *why) {
  const ptq_spec *spec = g->spec;
  const ptq_method *m = &spec->methods[c->method];
  const ptq_mixture *mix = ptq_spec_mixture(spec, c->dtype);
  const int32_t *rules = ptq_grid_rules(g, c->subject, c->dtype);
  const int64_t n = ptq_subject_layers(&g->subjects[c->subject]);
  ptq_err own = {0};
  if (mix == NULL)
    return m->family->accepts(m, &spec->dtypes[c->dtype], c->group, why);
  for (int64_t i = 0; i < n; i++) {
    const ptq_layer_format *f = ptq_mixture_format(mix, rules[i]);
    const ptq_status rc = m->family->accepts(
        m, &f->dtype, f->has_group ? f->group : c->group, &own);
    if (rc != PTQ_OK)
      return PTQ_FAIL(why, rc, "its %s: %s", f->dtype.name, own.msg);
  }
  return PTQ_OK;
}

static ptq_status check_accepted(const ptq_grid *g, const cell *c,
                                 ptq_err *err) {
  const ptq_spec *spec = g->spec;
  const ptq_method *m = &spec->methods[c->method];
  const ptq_dtype *dt = &spec->dtypes[c->dtype];
  ptq_err why = {0};
  char group[24];
  const ptq_text_spec *calib =
      &spec->calibrations[g->subjects[c->subject].calibration];
  if ((ptq_method_needs(m) & PTQ_NEED_HOLDOUT) && calib->windows < 2)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "%s:%d: method '%s' holds the last fifth of the "
                    "calibration windows out to choose by; it needs two "
                    "windows, not %" PRId64,
                    spec->path, spec->method_lines[c->method], m->name,
                    calib->windows);
  if ((ptq_method_needs(m) & PTQ_NEED_BLOCK_LOSS) &&
      spec->compute != PTQ_COMPUTE_F32)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "%s:%d: method '%s' takes derivatives, which are float32: "
                    "leave it out of a sweep with 'compute: %s'",
                    spec->path, spec->method_lines[c->method], m->name,
                    ptq_compute_name(spec->compute));
  if (check_formats(g, c, &why) == PTQ_OK) return PTQ_OK;
  ptq_group_name(c->group, group);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "%s:%d: method '%s' cannot be combined with dtype '%s' and "
                  "group %s: %s; add {dtype: '%s', method: %s, group: %s} to "
                  "'exclude'",
                  spec->path, spec->method_lines[c->method], m->name, dt->name,
                  group, why.msg, dt->name, m->name, group);
}

/* True when the point is the last one appended for this subject, dtype and
 * method under another spelling of its group; or a mixture that comes out as
 * an earlier one did. */
static bool is_duplicate(const ptq_grid *g, const cell *c) {
  const bool mixed = ptq_spec_mixture(g->spec, c->dtype) != NULL;
  for (int64_t i = g->n_points; i-- > 0;) {
    const ptq_point *p = &g->points[i];
    if (p->subject != c->subject) return false;
    if (!mixed && (p->dtype != c->dtype || p->method != c->method))
      return false;
    if (p->method == c->method && p->group == c->group &&
        (p->dtype == c->dtype ||
         ptq_grid_same_formats(g, c->subject, p->dtype, c->dtype)))
      return true;
  }
  return false;
}

static ptq_status add_point(ptq_grid *g, cell c, int64_t width, ptq_err *err) {
  c.group = c.listed >= width ? PTQ_GROUP_ROW : c.listed;
  if (excluded(g, &c)) {
    g->n_excluded++;
    return PTQ_OK;
  }
  if (is_duplicate(g, &c)) {
    g->n_duplicates++;
    return PTQ_OK;
  }
  const ptq_status rc = check_accepted(g, &c, err);
  if (rc != PTQ_OK) return rc;
  g->points[g->n_points++] = (ptq_point){.subject = c.subject,
                                         .dtype = c.dtype,
                                         .method = c.method,
                                         .group = c.group};
  return PTQ_OK;
}

static ptq_status add_points(ptq_grid *g, int64_t subject, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_spec *spec = g->spec;
  const int64_t width = widest(&g->subjects[subject].info);
  cell c = {.subject = subject};
  for (c.dtype = 0; c.dtype < spec->n_dtypes; c.dtype++) {
    const ptq_mixture *m = ptq_spec_mixture(spec, c.dtype);
    if (m != NULL && ptq_grid_rules(g, subject, c.dtype) == NULL) continue;
    /* a mixture that says its default's group is not on the group axis */
    const bool fixed = m != NULL && m->fallback.has_group;
    for (c.method = 0; c.method < spec->n_methods; c.method++) {
      for (int64_t i = 0; i < (fixed ? 1 : spec->n_groups); i++) {
        c.listed = fixed ? m->fallback.group : spec->groups[i];
        PTQ_TRY(add_point(g, c, width, err));
      }
    }
  }
done:
  return rc;
}

ptq_status ptq_grid_build(const ptq_spec *spec, ptq_grid *out, ptq_err *err) {
  enum { MAX_POINTS = 1 << 24 };
  ptq_status rc = PTQ_OK;
  bool *used = NULL; /* rules of all mixtures, one after the other */
  *out = (ptq_grid){.spec = spec,
                    .threads = (int)spec->threads,
                    .ranks = (int)spec->ranks_per_point};
  const int64_t texts = spec->n_calibrations * spec->n_evaluations;
  const double most = (double)spec->n_models * (double)texts *
                      (double)spec->n_dtypes * (double)spec->n_methods *
                      (double)spec->n_groups;
  if (most > MAX_POINTS)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "%s: %.0f points are more than the %d that one sweep "
                     "holds; split it",
                     spec->path, most, MAX_POINTS));
  PTQ_TRY(ptq_requests_count(spec, &out->n_requests, err));
  PTQ_TRY(ptq_alloc(&out->subjects, spec->n_models * texts,
                    sizeof *out->subjects, "the subjects", err));
  PTQ_TRY(ptq_alloc(&out->points, (int64_t)most, sizeof *out->points,
                    "the grid's points", err));
  out->n_resolved = spec->n_models * texts * spec->n_dtypes;
  PTQ_TRY(ptq_alloc(&out->resolved, out->n_resolved, sizeof *out->resolved,
                    "mixtures", err));
  PTQ_TRY(ptq_alloc(&used, ptq_spec_n_rules(spec), sizeof *used, "rules", err));
  for (int64_t m = 0; m < spec->n_models; m++)
    PTQ_TRY(add_subjects(out, m, used, err));
  PTQ_TRY(ptq_grid_check_used(out, used, err));
  for (int64_t s = 0; s < out->n_subjects; s++)
    PTQ_TRY(add_points(out, s, err));
  if (out->n_points == 0)
    PTQ_TRY(
        PTQ_FAIL(err, PTQ_E_ARG, "%s: 'exclude' leaves no points", spec->path));
  PTQ_TRY(ptq_grid_add_directions(out, err));
done:
  ptq_free(used);
  if (rc != PTQ_OK) ptq_grid_release(out);
  return rc;
}

ptq_status ptq_grid_measure(ptq_grid *g, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < g->n_subjects && g->n_requests > 0; i++) {
    ptq_subject *s = &g->subjects[i];
    if (i > 0 && s->model == s[-1].model) {
      s->requests = s[-1].requests;
      continue;
    }
    ptq_requests r;
    PTQ_TRY(ptq_requests_load(g->spec, g->spec->models[s->model].path, &s->info,
                              &r, err));
    s->requests = ptq_requests_size(&r);
    ptq_requests_release(&r);
  }
done:
  return rc;
}

void ptq_grid_release(ptq_grid *g) {
  for (int64_t i = 0; g->resolved != NULL && i < g->n_resolved; i++)
    ptq_free(g->resolved[i].rule);
  ptq_free(g->resolved);
  ptq_free(g->subjects);
  ptq_free(g->points);
  ptq_free(g->directions);
  *g = (ptq_grid){0};
}
