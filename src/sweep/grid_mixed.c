/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "grid_mixed.h"

#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

int64_t ptq_spec_n_rules(const ptq_spec *spec) {
  int64_t n = 0;
  for (int64_t d = 0; d < spec->n_dtypes; d++)
    if (ptq_spec_mixture(spec, d) != NULL)
      n += ptq_spec_mixture(spec, d)->n_rules;
  return n;
}

/* Walks the quantized layers of a model, in the order of their rows. */
typedef struct layer_walk {
  const ptq_model_info *info; /* borrowed */
  int64_t block;
  int layer; /* at hand */
} layer_walk;

static bool next_layer(layer_walk *w) {
  const int layers = ptq_layer_count(w->info);
  for (; w->block < w->info->n_blocks; w->block++, w->layer = -1)
    while (++w->layer < layers)
      if (ptq_layer_present(w->info, w->layer)) return true;
  return false;
}

static layer_walk walk_layers(const ptq_model_info *info) {
  return (layer_walk){.info = info, .layer = -1};
}

static ptq_status resolve(ptq_grid *g, int64_t subject, const ptq_model *model,
                          const ptq_mixture *m, bool *used, ptq_resolved *out,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_hash *h = NULL;
  const int64_t n = ptq_subject_layers(&g->subjects[subject]);
  PTQ_TRY(ptq_hash_create(&h, err));
  PTQ_TRY(ptq_alloc(&out->rule, n, sizeof *out->rule, "a mixture", err));
  layer_walk w = walk_layers(&g->subjects[subject].info);
  ptq_hash_text(h, "mixed");
  for (int64_t i = 0; next_layer(&w); i++) {
    char tensor[PTQ_TENSOR_NAME_MAX], group[24] = "-";
    ptq_layer_tensor_name(model, w.block, w.layer, tensor);
    const int64_t rule = ptq_mixture_rule_of(m, tensor);
    const ptq_layer_format *f = ptq_mixture_format(m, rule);
    out->rule[i] = (int32_t)rule;
    if (rule >= 0) used[rule] = true;
    if (f->has_group) ptq_group_name(f->group, group);
    ptq_hash_text(h, f->dtype.name);
    ptq_hash_text(h, group);
  }
  ptq_hash_hex(h, out->hash);
done:
  ptq_hash_free(h);
  return rc;
}

ptq_status ptq_grid_resolve(ptq_grid *g, int64_t subject,
                            const ptq_model *model, bool *used, ptq_err *err) {
  const ptq_spec *spec = g->spec;
  const char *name = spec->models[g->subjects[subject].model].name;
  ptq_resolved *out = g->resolved + subject * spec->n_dtypes;
  ptq_status rc = PTQ_OK;
  for (int64_t d = 0; d < spec->n_dtypes && rc == PTQ_OK; d++) {
    const ptq_mixture *m = ptq_spec_mixture(spec, d);
    if (m == NULL) continue;
    if (ptq_mixture_is_for(m, name))
      rc = resolve(g, subject, model, m, used, &out[d], err);
    used += m->n_rules;
  }
  return rc;
}

/* Names of the quantized layers of a subject. */
typedef struct layer_names {
  char (*name)[PTQ_TENSOR_NAME_MAX]; /* owned */
  const char **pointer;              /* owned; to each */
  int64_t n;
} layer_names;

static void names_release(layer_names *l) {
  ptq_free(l->name);
  ptq_free(l->pointer);
  *l = (layer_names){0};
}

static ptq_status names_of(const ptq_grid *g, int64_t subject, layer_names *l,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_subject *sub = &g->subjects[subject];
  const int64_t most = ptq_subject_layers(sub);
  ptq_model *model = NULL;
  PTQ_TRY(ptq_alloc(&l->name, most, sizeof *l->name, "names", err));
  PTQ_TRY(ptq_alloc(&l->pointer, most, sizeof *l->pointer, "names", err));
  PTQ_TRY(ptq_model_open(g->spec->models[sub->model].path, &model, err));
  layer_walk w = walk_layers(&sub->info);
  for (; next_layer(&w); l->n++) {
    ptq_layer_tensor_name(model, w.block, w.layer, l->name[l->n]);
    l->pointer[l->n] = l->name[l->n];
  }
done:
  ptq_model_close(model);
  return rc;
}

/* Why a rule decides for no layer: none has such a name (*near is the one that
 * is spelled most like it), or rules before it take them all. */
static ptq_status look(const ptq_grid *g, const ptq_mixture *m, int64_t rule,
                       char near[PTQ_TENSOR_NAME_MAX], bool *hidden,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  layer_names l = {0};
  ptq_mixture alone = *m;
  alone.rules = m->rules + rule;
  alone.n_rules = 1;
  near[0] = '\0';
  *hidden = false;
  for (int64_t s = 0; s < g->n_subjects; s++) {
    if (!ptq_mixture_is_for(m, g->spec->models[g->subjects[s].model].name))
      continue;
    PTQ_TRY(names_of(g, s, &l, err));
    for (int64_t i = 0; i < l.n; i++)
      *hidden = *hidden || ptq_mixture_rule_of(&alone, l.name[i]) == 0;
    const char *best =
        ptq_text_nearest(m->rules[rule].pattern, l.pointer, (size_t)l.n);
    if (best == NULL && l.n > 0) best = l.name[0];
    if (near[0] == '\0' && best != NULL)
      (void)ptq_text_copy(near, PTQ_TENSOR_NAME_MAX, best);
    names_release(&l);
  }
done:
  names_release(&l);
  return rc;
}

static ptq_status unused(const ptq_grid *g, const ptq_mixture *m, int64_t rule,
                         ptq_err *err) {
  const ptq_mixture_rule *r = &m->rules[rule];
  char near[PTQ_TENSOR_NAME_MAX];
  bool hidden = false;
  const ptq_status rc = look(g, m, rule, near, &hidden, err);
  if (rc != PTQ_OK || near[0] == '\0') return rc; /* for no model here */
  if (hidden)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "%s:%d: '%s' decides for no layer: patterns before it "
                    "take them all, and the first that fits decides; put it "
                    "before them",
                    g->spec->path, r->line, r->pattern);
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "%s:%d: no quantized layer is called '%s'; did you mean "
                  "'%s'? * stands for any part of a name",
                  g->spec->path, r->line, r->pattern, near);
}

ptq_status ptq_grid_check_used(const ptq_grid *g, const bool *used,
                               ptq_err *err) {
  const ptq_spec *spec = g->spec;
  ptq_status rc = PTQ_OK;
  for (int64_t d = 0; d < spec->n_dtypes && !spec->overridden; d++) {
    const ptq_mixture *m = ptq_spec_mixture(spec, d);
    for (int64_t i = 0; m != NULL && i < m->n_rules && rc == PTQ_OK; i++)
      if (!used[i]) rc = unused(g, m, i, err);
    if (m != NULL) used += m->n_rules;
  }
  return rc;
}

const int32_t *ptq_grid_rules(const ptq_grid *g, int64_t subject,
                              int64_t dtype) {
  return g->resolved != NULL
             ? g->resolved[subject * g->spec->n_dtypes + dtype].rule
             : NULL;
}

bool ptq_grid_same_formats(const ptq_grid *g, int64_t subject, int64_t a,
                           int64_t b) {
  const ptq_resolved *x = &g->resolved[subject * g->spec->n_dtypes + a];
  const ptq_resolved *y = &g->resolved[subject * g->spec->n_dtypes + b];
  return x->rule != NULL && y->rule != NULL && strcmp(x->hash, y->hash) == 0;
}

void ptq_point_format(const ptq_grid *g, int64_t point, const char *tensor,
                      const ptq_dtype **dtype, int64_t *group) {
  const ptq_point *p = &g->points[point];
  const ptq_mixture *m = ptq_spec_mixture(g->spec, p->dtype);
  *dtype = &g->spec->dtypes[p->dtype];
  *group = p->group;
  if (m == NULL) return;
  const ptq_layer_format *f =
      ptq_mixture_format(m, ptq_mixture_rule_of(m, tensor));
  *dtype = &f->dtype;
  if (f->has_group) *group = f->group;
}

int64_t ptq_point_least_group(const ptq_grid *g, int64_t point) {
  const ptq_point *p = &g->points[point];
  const ptq_mixture *m = ptq_spec_mixture(g->spec, p->dtype);
  int64_t least = p->group > 0 ? p->group : 0;
  for (int64_t i = 0; m != NULL && i < m->n_rules; i++) {
    const ptq_layer_format *f = &m->rules[i].format;
    if (f->has_group && f->group > 0 && (least == 0 || f->group < least))
      least = f->group;
  }
  return least;
}

void ptq_point_layers(const ptq_grid *g, int64_t point, ptq_layer_row *rows) {
  const ptq_point *p = &g->points[point];
  const ptq_model_info *info = &g->subjects[p->subject].info;
  const ptq_mixture *m = ptq_spec_mixture(g->spec, p->dtype);
  const int32_t *rules = ptq_grid_rules(g, p->subject, p->dtype);
  layer_walk w = walk_layers(info);
  for (int64_t i = 0; next_layer(&w); i++) {
    const ptq_role role = ptq_layer_role(w.layer);
    const int64_t n_rows = ptq_role_outputs(info, role);
    const int64_t cols = ptq_role_inputs(info, role);
    const ptq_dtype *dt = &g->spec->dtypes[p->dtype];
    int64_t group = p->group;
    if (m != NULL) {
      const ptq_layer_format *f = ptq_mixture_format(m, rules[i]);
      dt = &f->dtype;
      if (f->has_group) group = f->group;
    }
    ptq_row_clear(ptq_table_get(PTQ_TABLE_LAYERS), &rows[i]);
    rows[i].point = point;
    rows[i].weights = n_rows * cols;
    rows[i].layer_group = group;
    rows[i].layer_bits = ptq_dtype_storage_bits(dt, n_rows, cols, group) /
                         (double)(n_rows * cols);
    (void)ptq_text_copy(rows[i].layer_dtype, sizeof rows[i].layer_dtype,
                        dt->name);
  }
}

ptq_status ptq_point_bits(const ptq_grid *g, int64_t point, double *out,
                          ptq_err *err) {
  const int64_t n = ptq_subject_layers(&g->subjects[g->points[point].subject]);
  double bits = 0.0, weights = 0.0;
  ptq_layer_row *rows = NULL;
  const ptq_status rc = ptq_alloc(&rows, n, sizeof *rows, "layers", err);
  *out = (double)NAN;
  if (rc != PTQ_OK) return rc;
  ptq_point_layers(g, point, rows);
  for (int64_t i = 0; i < n; i++) {
    bits += rows[i].layer_bits * (double)rows[i].weights;
    weights += (double)rows[i].weights;
  }
  *out = bits / weights;
  ptq_free(rows);
  return PTQ_OK;
}
