/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/identity.h"

#include "ptq/base/text.h"

#define PUT(field, text) (void)ptq_text_copy((field), sizeof(field), (text))

void ptq_point_identity(const ptq_grid *g, int64_t point, const char *numerics,
                        ptq_point_row *row) {
  const ptq_spec *spec = g->spec;
  const ptq_point *p = &g->points[point];
  const ptq_subject *s = &g->subjects[p->subject];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), row);
  PUT(row->key, p->key);
  PUT(row->model, spec->models[s->model].name);
  PUT(row->family, s->family);
  PUT(row->dtype, spec->dtypes[p->dtype].name);
  PUT(row->method, spec->methods[p->method].name);
  PUT(row->options, spec->methods[p->method].options);
  row->group = p->group;
  PUT(row->calibration, spec->calibrations[s->calibration].label);
  PUT(row->evaluation, spec->evaluations[s->evaluation].label);
  PUT(row->compute, ptq_compute_name(spec->compute));
  PUT(row->requests, spec->requests.label);
  PUT(row->numerics, numerics);
}

void ptq_subject_identity(const ptq_grid *g, int64_t subject,
                          ptq_model_row *row) {
  const ptq_spec *spec = g->spec;
  const ptq_subject *s = &g->subjects[subject];
  const ptq_model_spec *m = &spec->models[s->model];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), row);
  PUT(row->model, m->name);
  PUT(row->family, s->family);
  PUT(row->architecture, s->info.arch);
  PUT(row->fingerprint, s->fingerprint);
  PUT(row->provenance, s->info.dequantized ? "dequantized" : "native");
  PUT(row->calibration, spec->calibrations[s->calibration].label);
  PUT(row->selection, spec->selection.label);
  PUT(row->evaluation, spec->evaluations[s->evaluation].label);
  PUT(row->compute, ptq_compute_name(spec->compute));
  PUT(row->requests, spec->requests.label);
  PUT(row->covariates, m->covariates);
  row->params = s->info.params;
  row->params_nonembedding = s->info.params_nonembedding;
  row->params_quantizable = s->info.params_quantizable;
  row->n_blocks = s->info.n_blocks;
  row->d_model = s->info.d_model;
  row->d_ff = s->info.d_ff;
  row->n_heads = s->info.n_heads;
  row->n_kv_heads = s->info.n_kv_heads;
  row->vocab = s->info.vocab;
}

void ptq_direction_identity(const ptq_grid *g, int64_t direction,
                            const char *numerics, ptq_direction_row *row) {
  const ptq_spec *spec = g->spec;
  const ptq_direction *d = &g->directions[direction];
  const ptq_subject *s = &g->subjects[d->subject];
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), row);
  PUT(row->key, d->key);
  row->subject = d->subject;
  PUT(row->model, spec->models[s->model].name);
  PUT(row->calibration, spec->calibrations[s->calibration].label);
  PUT(row->evaluation, spec->evaluations[s->evaluation].label);
  PUT(row->numerics, numerics);
  row->number = d->number;
  if (d->kind == PTQ_DIRECTION_HESSIAN) {
    PUT(row->kind, "hessian");
  } else if (d->point >= 0) {
    PUT(row->kind, d->kind == PTQ_DIRECTION_RTN    ? "rtn"
                   : d->kind == PTQ_DIRECTION_GPTQ ? "gptq"
                                                   : "sensitivity");
    PUT(row->dtype, spec->dtypes[g->points[d->point].dtype].name);
    row->group = g->points[d->point].group;
  } else {
    PUT(row->kind, ptq_random_elements((ptq_random_kind)d->kind));
    PUT(row->scaling, ptq_random_scaling((ptq_random_kind)d->kind));
  }
}
