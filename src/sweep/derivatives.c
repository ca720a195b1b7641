/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "derivatives.h"

#include <math.h>
#include <string.h>

#include "directions.h"
#include "fisher.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/lanczos.h"
#include "ptq/num/vec.h"
#include "ptq/sweep/landscape.h"
#include "setup.h"

/* Kept between forward and backward: what a small model takes; and products of
 * the Hessian that go together. No bits depend on either. */
enum { BUDGET_BYTES = 64 << 20, PROBES_TOGETHER = 2 };

/* A product costs about as much as two gradients, and no less along the
 * Gauss-Newton matrix alone: it goes forward as that one, and back as one
 * gradient each. */
#define PRODUCT_GRADIENTS 2.0
#define GAUSS_NEWTON_GRADIENTS 1.8

static int64_t width_of(const ptq_landscape_spec *l, bool hessian) {
  return hessian && l->probes > 1 ? PROBES_TOGETHER : 1;
}

/* Passes over the text: one a product, or the gradient. Of the Hessian the
 * gradient, the Fisher matrix, probes of both matrices, and Lanczos' steps,
 * with one start along the Gauss-Newton matrix. */
static int64_t passes_of(const ptq_landscape_spec *l, bool hessian) {
  const int64_t width = width_of(l, hessian);
  const int64_t probes = (l->probes + width - 1) / width;
  return hessian ? 2 + 2 * probes + (l->starts + 1) * l->lanczos : 2;
}

/* What is asked of a direction. */
static unsigned forms_of(int kind) {
  return PTQ_FORMS_GAUSS_NEWTON |
         (ptq_direction_displaces(kind) ? PTQ_FORMS_GRADIENT | PTQ_FORMS_FISHER
                                        : 0);
}

/* A gradient's setup, and who is told that it lives. */
typedef struct work {
  ptq_setup setup; /* owned */
  ptq_grad *grad;  /* owned */
  const ptq_sink *sink;
  double calls, expected; /* of alive, so far and in all */
} work;

static ptq_status tell(void *ctx, ptq_err *err) {
  work *w = ctx;
  w->calls += 1.0;
  return w->sink->alive(w->sink->ctx, w->calls / (w->expected + 1.0), err);
}

static void work_close(work *w) {
  ptq_grad_free(w->grad);
  ptq_setup_close(&w->setup);
}

static ptq_status work_open(work *w, const ptq_grid *g, int64_t direction,
                            const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_direction *d = &g->directions[direction];
  const ptq_landscape_spec *l = &g->spec->landscape;
  const bool hessian = d->kind == PTQ_DIRECTION_HESSIAN;
  *w = (work){.sink = sink};
  PTQ_TRY(ptq_setup_open(&w->setup, g, d->subject, err));
  const ptq_grad_setup setup = {.model = w->setup.model,
                                .ids = w->setup.calib.ids,
                                .n_windows = w->setup.calib.n,
                                .length = w->setup.calib.length,
                                .first = 1,
                                .max_tangents = width_of(l, hessian),
                                .ctx = w,
                                .alive = tell,
                                .threads = w->setup.room.hands,
                                .budget_bytes = BUDGET_BYTES};
  PTQ_TRY(ptq_grad_create(&setup, &w->grad, err));
  w->expected = 2.0 * (double)passes_of(l, hessian) *
                (double)ptq_grad_chunks(w->grad) *
                (double)w->setup.info->n_blocks;
done:
  return rc;
}

/* Rows of all layers, in their order; `at` is a layer's place among all that
 * there could be. */
static ptq_status begin_layers(ptq_derivatives *out, const work *w,
                               int64_t direction, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = w->setup.info;
  PTQ_TRY(ptq_alloc(&out->layers, ptq_flat_layers(info), sizeof *out->layers,
                    "layers of a direction", err));
  for (int64_t b = 0; b < info->n_blocks; b++)
    for (int l = 0; l < ptq_layer_count(info); l++) {
      if (!ptq_layer_present(info, l)) continue;
      ptq_direction_layer_row *r = &out->layers[out->n_layers++];
      ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTION_LAYERS), r);
      r->direction = direction;
      r->weights = ptq_flat_at(info, b, l + 1) - ptq_flat_at(info, b, l);
      r->outputs = ptq_role_outputs(info, ptq_layer_role(l));
      ptq_layer_tensor_name(w->setup.model, b, l, r->layer);
    }
done:
  return rc;
}

/* Displacement of a block, which the gradient asks for twice a chunk. */
typedef struct along {
  work *w;
  ptq_displacer displacer; /* owned */
  ptq_block block;         /* owned */
  double *weights; /* owned; [flat layers] squared lengths of the weights */
} along;

static ptq_status load(void *ctx, int64_t block, int64_t j, ptq_real *const *e,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  along *a = ctx;
  const ptq_model_info *info = a->w->setup.info;
  const int layers = ptq_layer_count(info);
  (void)j;
  if (a->block.memory == NULL || a->block.index != block) {
    ptq_block_release(&a->block);
    PTQ_TRY(ptq_model_load_block(a->w->setup.model, block, &a->block, err));
    PTQ_TRY(ptq_displacer_block(&a->displacer, &a->block, err));
  }
  for (int l = 0; l < layers; l++) {
    const ptq_linear *w = &a->block.linear[l];
    if (e[l] == NULL) continue;
    memcpy(e[l], a->displacer.d[l], (size_t)(w->out * w->in) * sizeof *e[l]);
    a->weights[block * layers + l] = ptq_vec_sum_sq(w->weight, w->out * w->in);
  }
done:
  return rc;
}

static void take_forms(const along *a, const ptq_forms *f,
                       const ptq_displaced *from, ptq_derivatives *out,
                       ptq_direction_row *row) {
  const ptq_model_info *info = a->w->setup.info;
  int64_t n = 0;
  row->slope = row->curvature = row->gauss_newton = 0.0;
  if (f->ghe != NULL)
    row->gradient_curvature = row->fisher_diagonal = row->kronecker = 0.0;
  for (int64_t i = 0; i < f->layers; i++) {
    if (!ptq_layer_present(info, (int)(i % ptq_layer_count(info)))) continue;
    ptq_direction_layer_row *r = &out->layers[n];
    if (from->alignment != NULL) {
      r->output_noise = from->alignment[n].output_noise;
      r->err_hessian = from->alignment[n].err_hessian;
      r->err_top = from->alignment[n].err_top;
      r->size_top = from->alignment[n].size_top;
    }
    n++;
    r->weight_norm = sqrt(a->weights[i]);
    r->size = sqrt(f->ee[i] / a->weights[i]);
    r->slope = f->ge[i];
    r->curvature = f->ehe[i];
    r->gauss_newton = f->ege[i];
    row->slope += r->slope;
    row->curvature += r->curvature;
    row->gauss_newton += r->gauss_newton;
    if (f->ghe == NULL) continue;
    r->gradient_curvature = f->ghe[i];
    row->gradient_curvature += f->ghe[i];
    r->fisher_diagonal = f->efe[i];
    row->fisher_diagonal += f->efe[i];
    r->kronecker = f->eke[i];
    row->kronecker += f->eke[i];
  }
}

ptq_status ptq_derivatives_along(ptq_derivatives *out, const ptq_grid *g,
                                 int64_t direction, ptq_displaced *from,
                                 const ptq_sink *sink, ptq_direction_row *row,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  work w = {0};
  along a = {.w = &w};
  const int kind = g->directions[direction].kind;
  ptq_forms forms = {0};
  *out = (ptq_derivatives){0};
  PTQ_TRY(work_open(&w, g, direction, sink, err));
  PTQ_TRY(begin_layers(out, &w, direction, err));
  PTQ_TRY(ptq_alloc(&a.weights, ptq_flat_layers(w.setup.info),
                    sizeof *a.weights, "layers of a direction", err));
  PTQ_TRY(ptq_displacer_open(&a.displacer, g, &g->directions[direction],
                             w.setup.model, from, err));
  const ptq_directions d = {.k = 1, .ctx = &a, .load = load};
  PTQ_TRY(ptq_forms_run(w.grad, &d, forms_of(kind), &forms, err));
  take_forms(&a, &forms, from, out, row);
done:
  ptq_forms_release(&forms);
  ptq_displacer_close(&a.displacer);
  ptq_block_release(&a.block);
  ptq_free(a.weights);
  work_close(&w);
  return rc;
}

static ptq_status take_gradient(work *w, ptq_derivatives *out,
                                ptq_direction_row *row, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = w->setup.info;
  double *gradient = NULL, whole = 0.0;
  int64_t at = 0;
  PTQ_TRY(ptq_alloc(&gradient, ptq_flat_size(info), sizeof *gradient,
                    "a gradient", err));
  PTQ_TRY(ptq_flat_gradient(w->grad, &row->nll_calib, gradient, err));
  if (!isfinite(row->nll_calib))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NUMERIC, "the loss is not finite"));
  for (int64_t i = 0; i < out->n_layers; i++) {
    double sum = 0.0;
    for (const int64_t end = at + out->layers[i].weights; at < end; at++)
      sum += gradient[at] * gradient[at];
    out->layers[i].gradient_norm = sqrt(sum);
    whole += sum;
  }
  row->gradient_norm = sqrt(whole);
done:
  ptq_free(gradient);
  return rc;
}

/* Of both matrices with the same probes. */
static ptq_status take_traces(work *w, int64_t probes, uint64_t seed,
                              ptq_derivatives *out, ptq_direction_row *row,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = w->setup.info;
  const int64_t layers = ptq_flat_layers(info);
  ptq_estimate h, g, *by_layer = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_alloc(&by_layer, 2 * layers, sizeof *by_layer, "traces", err));
  ptq_estimate *of_h = by_layer, *of_g = by_layer + layers;
  PTQ_TRY(ptq_curvature_trace(w->grad, PTQ_CURVATURE_HESSIAN, seed, probes, &h,
                              of_h, err));
  PTQ_TRY(ptq_curvature_trace(w->grad, PTQ_CURVATURE_GAUSS_NEWTON, seed, probes,
                              &g, of_g, err));
  row->trace = h.mean;
  row->trace_se = h.se;
  row->gauss_newton_trace = g.mean;
  row->gauss_newton_trace_se = g.se;
  for (int64_t i = 0; i < layers; i++) {
    if (!ptq_layer_present(info, (int)(i % ptq_layer_count(info)))) continue;
    ptq_direction_layer_row *r = &out->layers[n++];
    r->trace = of_h[i].mean;
    r->trace_se = of_h[i].se;
    r->gauss_newton_trace = of_g[i].mean;
    r->gauss_newton_trace_se = of_g[i].se;
  }
done:
  ptq_free(by_layer);
  return rc;
}

static ptq_lanczos_setup lanczos_of(const ptq_landscape_spec *l, int64_t n,
                                    const char *scratch) {
  return (ptq_lanczos_setup){.n = n,
                             .max_steps = l->lanczos < n ? l->lanczos : n,
                             .single = true,
                             .scratch = scratch};
}

static ptq_status take_largest(work *w, const ptq_landscape_spec *l,
                               uint64_t seed, ptq_direction_row *row,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_quadrature q = {0};
  ptq_operator a = ptq_gauss_newton_operator(w->grad);
  a.width = 1;
  const ptq_lanczos_setup setup = lanczos_of(l, a.n, w->setup.room.scratch);
  PTQ_TRY(ptq_quadrature_run(&a, &setup, seed, 1, &q, err));
  row->gauss_newton_max = q.of[0].value[0];
done:
  ptq_quadrature_release(&q);
  return rc;
}

/* Start by start, so that one basis stands at a time. */
static ptq_status take_ritz(work *w, const ptq_landscape_spec *l, uint64_t seed,
                            int64_t direction, ptq_derivatives *out,
                            ptq_direction_row *row, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_quadrature q = {0};
  ptq_operator a = ptq_hessian_operator(w->grad);
  a.width = 1;
  const ptq_lanczos_setup setup = lanczos_of(l, a.n, w->setup.room.scratch);
  out->n_ritz = l->starts * l->lanczos;
  PTQ_TRY(ptq_alloc(&out->ritz, out->n_ritz, sizeof *out->ritz, "Ritz values",
                    err));
  PTQ_TRY(ptq_quadrature_run(&a, &setup, seed, l->starts, &q, err));
  row->eigen_max = -INFINITY;
  row->eigen_min = INFINITY;
  for (int64_t i = 0; i < out->n_ritz; i++) {
    const ptq_ritz *of = &q.of[i / l->lanczos];
    ptq_ritz_row *r = &out->ritz[i];
    ptq_row_clear(ptq_table_get(PTQ_TABLE_RITZ), r);
    r->direction = direction;
    r->start = i / l->lanczos;
    r->rank = i % l->lanczos;
    if (r->rank >= of->steps) continue;
    r->value = of->value[r->rank];
    r->weight = of->weight[r->rank];
    r->bound = of->bound[r->rank];
    row->eigen_max = fmax(row->eigen_max, r->value);
    row->eigen_min = fmin(row->eigen_min, r->value);
  }
done:
  ptq_quadrature_release(&q);
  return rc;
}

ptq_status ptq_derivatives_whole(ptq_derivatives *out, const ptq_grid *g,
                                 int64_t direction, const ptq_sink *sink,
                                 ptq_direction_row *row, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  work w = {0};
  const ptq_landscape_spec *l = &g->spec->landscape;
  const char *of = g->subjects[g->directions[direction].subject].fingerprint;
  const uint64_t seed = ptq_hash64(of, strlen(of));
  *out = (ptq_derivatives){0};
  PTQ_TRY(work_open(&w, g, direction, sink, err));
  PTQ_TRY(begin_layers(out, &w, direction, err));
  PTQ_TRY(take_gradient(&w, out, row, err));
  PTQ_TRY(ptq_fisher_run(w.grad, w.setup.info, out->layers, row, err));
  PTQ_TRY(take_traces(&w, l->probes, seed, out, row, err));
  PTQ_TRY(take_ritz(&w, l, seed + 1, direction, out, row, err));
  PTQ_TRY(take_largest(&w, l, seed + 1, row, err));
done:
  work_close(&w);
  return rc;
}

void ptq_derivatives_release(ptq_derivatives *d) {
  ptq_free(d->layers);
  ptq_free(d->ritz);
  *d = (ptq_derivatives){0};
}

/* What stands beside the gradient: a direction's block and displacement, or
 * the vectors of Lanczos' iteration. */
int64_t ptq_derivatives_bytes(const ptq_grid *g, int64_t direction) {
  const ptq_direction *d = &g->directions[direction];
  const ptq_model_info *info = &g->subjects[d->subject].info;
  const ptq_landscape_spec *l = &g->spec->landscape;
  const bool hessian = d->kind == PTQ_DIRECTION_HESSIAN;
  const ptq_text_spec *calib =
      &g->spec->calibrations[g->subjects[d->subject].calibration];
  const ptq_grad_setup setup = {.n_windows = calib->windows,
                                .length = calib->length,
                                .first = 1,
                                .max_tangents = width_of(l, hessian),
                                .threads = ptq_room_of(g).hands,
                                .budget_bytes = BUDGET_BYTES};
  int64_t bytes = ptq_grad_bytes(info, &setup) + ptq_model_block_bytes(info) +
                  ptq_model_embedding_bytes(info) + ptq_model_head_bytes(info);
  if (!hessian)
    return bytes + ptq_model_block_bytes(info) +
           ptq_displacer_bytes(info, d->kind) +
           ptq_forms_bytes(info, 1, forms_of(d->kind));
  const ptq_lanczos_setup basis =
      lanczos_of(l, ptq_flat_size(info), g->scratch);
  const int64_t krylov = ptq_lanczos_bytes(&basis) +
                         2 * ptq_flat_size(info) * (int64_t)sizeof(double);
  const int64_t fisher = ptq_fisher_bytes(info);
  return bytes + (krylov > fisher ? krylov : fisher);
}

double ptq_derivatives_gradients(const ptq_grid *g, int64_t direction) {
  const ptq_landscape_spec *l = &g->spec->landscape;
  if (g->directions[direction].kind != PTQ_DIRECTION_HESSIAN)
    return PRODUCT_GRADIENTS + GAUSS_NEWTON_GRADIENTS;
  return 2.0 +
         PRODUCT_GRADIENTS * (double)(l->probes + l->starts * l->lanczos) +
         GAUSS_NEWTON_GRADIENTS * (double)(l->probes + l->lanczos);
}

double ptq_derivatives_passes(const ptq_grid *g, int64_t direction) {
  return (double)passes_of(&g->spec->landscape, g->directions[direction].kind ==
                                                    PTQ_DIRECTION_HESSIAN);
}
