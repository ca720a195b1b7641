/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "displace.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "displaced.h"
#include "ptq/base/check.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/num/operator.h"
#include "ptq/num/vec.h"
#include "ptq/sweep/landscape.h"

enum { FLOAT = (int)sizeof(float) };

/* Weights of all layers of a block; *largest: of its largest layer. */
static int64_t block_weights(const ptq_model_info *info, int64_t *largest) {
  int64_t n = 0;
  *largest = 0;
  for (int layer = 0; layer < ptq_layer_count(info); layer++) {
    if (!ptq_layer_present(info, layer)) continue;
    const ptq_role role = ptq_layer_role(layer);
    const int64_t size =
        ptq_role_outputs(info, role) * ptq_role_inputs(info, role);
    n += size;
    if (size > *largest) *largest = size;
  }
  return n;
}

int64_t ptq_displacer_weights(const ptq_model_info *info) {
  int64_t largest;
  return block_weights(info, &largest);
}

const float *ptq_displacer_rounded(const ptq_displacer *s) {
  return s->weights + 2 * ptq_displacer_weights(s->info);
}

ptq_status ptq_displacer_method(int kind, ptq_method *out, ptq_err *err) {
  const ptq_method_option statics = {"hessian", "static"};
  if (kind == PTQ_DIRECTION_GPTQ)
    return ptq_method_parse("gptq", &statics, 1, out, err);
  return ptq_method_parse("rtn", NULL, 0, out, err);
}

uint64_t ptq_direction_seed(const ptq_subject *s, int kind) {
  char text[PTQ_HASH_HEX + 32];
  const int n =
      snprintf(text, sizeof text, "direction %s %s",
               ptq_random_elements((ptq_random_kind)kind), s->fingerprint);
  return ptq_hash64(text, (size_t)n);
}

/* Pointers to the layers in `parts` blocks' worth of floats. */
static void lay_out(ptq_displacer *s, int64_t n) {
  float *at = s->weights;
  for (int layer = 0; layer < ptq_layer_count(s->info); layer++) {
    if (!ptq_layer_present(s->info, layer)) continue;
    const ptq_role role = ptq_layer_role(layer);
    s->d[layer] = at;
    s->at[layer] = at + n;
    if (s->direction->point >= 0) s->rounded[layer] = at + 2 * n;
    at += ptq_role_outputs(s->info, role) * ptq_role_inputs(s->info, role);
  }
}

ptq_status ptq_displacer_open(ptq_displacer *s, const ptq_grid *g,
                              const ptq_direction *direction, ptq_model *model,
                              struct ptq_displaced *from, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t largest;
  const bool quantizes = direction->point >= 0;
  *s = (ptq_displacer){.grid = g,
                       .direction = direction,
                       .model = model,
                       .from = from,
                       .info = ptq_model_get_info(model)};
  const int layers = ptq_layer_count(s->info);
  const int64_t n = block_weights(s->info, &largest);
  PTQ_TRY(ptq_alloc(&s->moved.linear, layers, sizeof *s->moved.linear,
                    "a displaced block", err));
  PTQ_TRY(ptq_alloc(&s->d, layers, sizeof *s->d, "a direction", err));
  PTQ_TRY(ptq_alloc(&s->at, layers, sizeof *s->at, "a direction", err));
  PTQ_TRY(
      ptq_alloc(&s->rounded, layers, sizeof *s->rounded, "a direction", err));
  PTQ_TRY(ptq_alloc(&s->weights, (quantizes ? 3 : 2) * n, FLOAT, "a direction",
                    err));
  lay_out(s, n);
  if (quantizes) {
    PTQ_TRY(ptq_displacer_method(direction->kind, &s->method, err));
    PTQ_TRY(ptq_alloc(&s->codes, largest, sizeof *s->codes, "codes", err));
    PTQ_TRY(ptq_alloc(&s->params, largest, sizeof *s->params, "groups", err));
  } else {
    s->seed =
        ptq_direction_seed(&g->subjects[direction->subject], direction->kind);
    PTQ_TRY(ptq_alloc(&s->elements, largest, sizeof *s->elements, "a direction",
                      err));
  }
done:
  if (rc != PTQ_OK) ptq_displacer_close(s);
  return rc;
}

void ptq_displacer_close(ptq_displacer *s) {
  ptq_free(s->moved.linear);
  ptq_free(s->d);
  ptq_free(s->at);
  ptq_free(s->rounded);
  ptq_free(s->weights);
  ptq_free(s->codes);
  ptq_free(s->params);
  ptq_free(s->elements);
  *s = (ptq_displacer){0};
}

ptq_status ptq_displacer_quantize(ptq_displacer *s, const ptq_block *b,
                                  int layer, const double *h,
                                  ptq_factor_cache *cache, int threads,
                                  ptq_err *err) {
  const ptq_linear *w = &b->linear[layer];
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_layer_tensor_name(s->model, b->index, layer, name);
  ptq_quant_input in = {.w = w->weight,
                        .rows = w->out,
                        .cols = w->in,
                        .h = h,
                        .cache_site = ptq_layer_site(layer),
                        .cache = cache,
                        .threads = threads,
                        .layer = name};
  ptq_quant_output out = {
      .y = s->rounded[layer], .q = s->codes, .params = s->params};
  ptq_point_format(s->grid, s->direction->point, name, &in.dtype, &in.group);
  const ptq_status rc = ptq_method_quantize(&s->method, &in, &out, err);
  for (int64_t i = 0; rc == PTQ_OK && i < w->out * w->in; i++)
    s->d[layer][i] = out.y[i] - w->weight[i];
  return rc;
}

static double squares(const double *x, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * x[i];
  return sum;
}

/* A random layer, each row of which is as long as its weights, or all of it
 * is. Weights that are 0 stay. */
static void draw_layer(ptq_displacer *s, const ptq_block *b, int layer) {
  const ptq_linear *w = &b->linear[layer];
  const int kind = s->direction->kind;
  const bool by_row =
      kind == PTQ_RANDOM_GAUSSIAN_ROW || kind == PTQ_RANDOM_UNIFORM_ROW;
  const bool normal =
      kind == PTQ_RANDOM_GAUSSIAN_LAYER || kind == PTQ_RANDOM_GAUSSIAN_ROW;
  const int64_t part = b->index * ptq_layer_count(s->info) + layer;
  const int64_t n = by_row ? w->in : w->out * w->in;
  ptq_probe_fill(ptq_probe_seed(s->seed, s->direction->number, part),
                 normal ? PTQ_PROBE_GAUSSIAN : PTQ_PROBE_UNIFORM,
                 w->out * w->in, s->elements);
  for (int64_t at = 0; at < w->out * w->in; at += n) {
    const double length = squares(s->elements + at, n);
    const double scale =
        length > 0.0 ? sqrt(ptq_vec_sum_sq(w->weight + at, n) / length) : 0.0;
    for (int64_t i = at; i < at + n; i++)
      s->d[layer][i] = (float)(scale * s->elements[i]);
  }
}

/* Weights that were quantized before. */
static ptq_status fetch_block(ptq_displacer *s, const ptq_block *b,
                              ptq_err *err) {
  const int64_t n = ptq_displacer_weights(s->info);
  float *from = NULL;
  PTQ_ASSERT(s->from != NULL);
  const ptq_status rc =
      ptq_spool_get(&s->from->weights, 0, b->index, &from, err);
  if (rc != PTQ_OK) return rc;
  memcpy(s->weights + 2 * n, from, (size_t)n * sizeof *from);
  for (int layer = 0; layer < ptq_layer_count(s->info); layer++) {
    const ptq_linear *w = &b->linear[layer];
    if (w->weight == NULL) continue;
    for (int64_t i = 0; i < w->out * w->in; i++)
      s->d[layer][i] = s->rounded[layer][i] - w->weight[i];
  }
  return PTQ_OK;
}

ptq_status ptq_displacer_block(ptq_displacer *s, const ptq_block *b,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (s->direction->kind == PTQ_DIRECTION_GPTQ) return fetch_block(s, b, err);
  for (int layer = 0; layer < ptq_layer_count(s->info); layer++) {
    if (!ptq_layer_present(s->info, layer)) continue;
    if (s->direction->point >= 0)
      PTQ_TRY(ptq_displacer_quantize(s, b, layer, NULL, NULL, 1, err));
    else
      draw_layer(s, b, layer);
  }
done:
  return rc;
}

const ptq_block *ptq_displacer_move(ptq_displacer *s, const ptq_block *b,
                                    double factor) {
  ptq_linear *linear = s->moved.linear;
  const float f = (float)factor;
  s->moved = *b;
  s->moved.linear = linear;
  for (int layer = 0; layer < ptq_layer_count(s->info); layer++) {
    const ptq_linear *w = &b->linear[layer];
    linear[layer] = *w;
    if (w->weight == NULL || factor == 0.0) continue;
    if (factor == 1.0 && s->rounded[layer] != NULL) {
      linear[layer].weight = s->rounded[layer];
      continue;
    }
    float *at = linear[layer].weight = s->at[layer];
    const float *d = s->d[layer];
    for (int64_t i = 0; i < w->out * w->in; i++)
      at[i] = w->weight[i] + f * d[i];
  }
  return &s->moved;
}

void ptq_displacer_add_energies(const ptq_displacer *s, const ptq_block *b,
                                double *direction, double *weights) {
  for (int layer = 0; layer < ptq_layer_count(s->info); layer++) {
    const ptq_linear *w = &b->linear[layer];
    if (w->weight == NULL) continue;
    *direction += ptq_vec_sum_sq(s->d[layer], w->out * w->in);
    *weights += ptq_vec_sum_sq(w->weight, w->out * w->in);
  }
}

int64_t ptq_displacer_bytes(const ptq_model_info *info, int kind) {
  int64_t largest;
  const int64_t n = block_weights(info, &largest);
  if (kind >= PTQ_RANDOM_KINDS)
    return 3 * n * FLOAT +
           largest * (int64_t)(sizeof(int16_t) + sizeof(ptq_group_params));
  return 2 * n * FLOAT + largest * (int64_t)sizeof(double);
}
