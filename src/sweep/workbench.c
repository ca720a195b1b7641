/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "workbench.h"

#include <string.h>

#include "ptq/base/mem.h"

/* Sizes over the linear layers of a block, and of a site. */
typedef struct block_sizes {
  int64_t total, largest, most_codes, most_params;
} block_sizes;

static block_sizes measure(const ptq_model_info *info, int64_t smallest_group) {
  block_sizes s = {0};
  const int64_t group = smallest_group > 0 ? smallest_group : PTQ_GROUP_ROW;
  int64_t codes[PTQ_SITE_COUNT] = {0}, params[PTQ_SITE_COUNT] = {0};
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role)) continue;
    const ptq_site site = ptq_role_site((ptq_role)role);
    const int64_t out = ptq_role_outputs(info, (ptq_role)role);
    const int64_t in = ptq_role_inputs(info, (ptq_role)role);
    s.total += out * in * (role >= PTQ_ROLE_GATE ? ptq_mlp_count(info) : 1);
    if (out * in > s.largest) s.largest = out * in;
    codes[site] += out * in;
    params[site] += out * ptq_dtype_groups(in, group);
    if (codes[site] > s.most_codes) s.most_codes = codes[site];
    if (params[site] > s.most_params) s.most_params = params[site];
  }
  return s;
}

/* Nobody else reads the unquantized weights, and the point itself reads those
 * of a site at that site only. */
static bool in_place(const ptq_load *load) {
  const unsigned needs = load->needs | load->own_needs;
  return load->points == 1 &&
         (needs & (PTQ_NEED_MODULE_LOSS | PTQ_NEED_CROSS)) == 0;
}

static ptq_status open_weights(ptq_workbench *b, const ptq_model_info *info,
                               const block_sizes *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int layers = ptq_layer_count(info);
  PTQ_TRY(ptq_alloc(&b->weights, b->in_place ? s->most_codes : s->total,
                    sizeof(float), "quantized weights", err));
  PTQ_TRY(ptq_alloc(&b->block.linear, layers, sizeof *b->block.linear,
                    "a block's layers", err));
  PTQ_TRY(ptq_alloc(&b->layer_weights, layers, sizeof *b->layer_weights,
                    "a block's layers", err));
  float *at = b->weights;
  for (int l = 0; l < layers && !b->in_place; l++) {
    if (!ptq_layer_present(info, l)) continue;
    const ptq_role role = ptq_layer_role(l);
    b->layer_weights[l] = at;
    at += ptq_role_outputs(info, role) * ptq_role_inputs(info, role);
  }
done:
  return rc;
}

static ptq_status open_folds(ptq_workbench *b, const ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int sites = ptq_site_count(info);
  PTQ_TRY(ptq_alloc(&b->fold, sites + 1, sizeof *b->fold, "scales", err));
  for (int site = 0; site < sites; site++)
    PTQ_TRY(ptq_alloc(&b->fold[site], ptq_site_width(info, site), sizeof(float),
                      "scales of inputs", err));
  PTQ_TRY(ptq_alloc(&b->divisor, 2 * info->d_ff, sizeof(float),
                    "scales of outputs", err));
done:
  return rc;
}

ptq_status ptq_workbench_open(ptq_workbench *b, const ptq_setup *setup,
                              const ptq_load *load, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = setup->info;
  const block_sizes s = measure(info, load->smallest_group);
  const int layers = ptq_layer_count(info);
  *b = (ptq_workbench){.alone = load->points == 1, .in_place = in_place(load)};
  PTQ_TRY(open_weights(b, info, &s, err));
  PTQ_TRY(
      ptq_alloc(&b->error, s.largest, sizeof(float), "an error matrix", err));
  PTQ_TRY(ptq_alloc(&b->codes, s.most_codes, sizeof(int16_t), "codes", err));
  PTQ_TRY(ptq_alloc(&b->params, s.most_params, sizeof(ptq_group_params),
                    "group parameters", err));
  PTQ_TRY(ptq_alloc(&b->noise, layers, sizeof(double), "errors", err));
  PTQ_TRY(ptq_alloc(&b->signal, layers, sizeof(double), "energies", err));
  PTQ_TRY(open_folds(b, info, err));
  if (load->sequential > 0) {
    PTQ_TRY(ptq_alloc(&b->hidden, setup->calib.length * info->d_model,
                      sizeof(float), "hidden states", err));
    PTQ_TRY(ptq_collected_open(&b->inputs, info, setup->scratch,
                               PTQ_COLLECT_MOMENTS, load->own_needs,
                               setup->calib.n, setup->calib.length, err));
  }
  PTQ_TRY(ptq_factor_cache_create(&b->shared, err));
  PTQ_TRY(ptq_factor_cache_create(&b->own, err));
done:
  if (rc != PTQ_OK) ptq_workbench_close(b);
  return rc;
}

void ptq_workbench_close(ptq_workbench *b) {
  ptq_free(b->block.linear);
  ptq_free(b->weights);
  ptq_free(b->layer_weights);
  ptq_free(b->error);
  ptq_free(b->codes);
  ptq_free(b->params);
  for (float **f = b->fold; f != NULL && *f != NULL; f++) ptq_free(*f);
  ptq_free(b->fold);
  ptq_free(b->divisor);
  ptq_free(b->hidden);
  ptq_free(b->noise);
  ptq_free(b->signal);
  ptq_collected_close(&b->inputs);
  ptq_factor_cache_free(b->shared);
  ptq_factor_cache_free(b->own);
  *b = (ptq_workbench){0};
}

void ptq_workbench_begin(ptq_workbench *b, const ptq_model_info *info,
                         const ptq_block *reference) {
  ptq_linear *linear = b->block.linear;
  memcpy(linear, reference->linear,
         (size_t)ptq_layer_count(info) * sizeof *linear);
  b->block = *reference;
  b->block.linear = linear;
  b->block.memory = NULL; /* borrowed from the reference */
}

ptq_collected_size ptq_workbench_bytes(const ptq_model_info *info,
                                       const ptq_texts *t,
                                       const ptq_load *load) {
  const block_sizes s = measure(info, load->smallest_group);
  const int64_t size = sizeof(float);
  const int64_t weights = in_place(load) ? s.most_codes : s.total;
  ptq_collected_size own = {0};
  int64_t bytes = size * (weights + s.largest + 2 * info->d_ff) +
                  (int64_t)sizeof(int16_t) * s.most_codes +
                  (int64_t)sizeof(ptq_group_params) * s.most_params;
  for (int site = 0; site < ptq_site_count(info); site++)
    bytes += size * ptq_site_width(info, site);
  if (load->sequential > 0) {
    bytes += size * t->calib->length * info->d_model;
    own = ptq_collected_bytes(info, t->scratch, PTQ_COLLECT_MOMENTS,
                              load->own_needs, t->calib->windows,
                              t->calib->length);
  }
  return (ptq_collected_size){.bytes = bytes + own.bytes,
                              .most = bytes + own.most};
}
