/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "workbench.h"

#include <string.h>

#include "ptq/base/mem.h"

/* Elements of the layers of a kind of site: of all of one site, of the largest
 * layer, and their groups. */
typedef struct site_sizes {
  int64_t codes, largest, params;
} site_sizes;

static site_sizes measure(const ptq_model_info *info, ptq_site kind,
                          int64_t smallest_group) {
  site_sizes s = {0};
  const int64_t group = smallest_group > 0 ? smallest_group : PTQ_GROUP_ROW;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    if (!ptq_role_present(info, (ptq_role)role) ||
        ptq_role_site((ptq_role)role) != kind)
      continue;
    const int64_t out = ptq_role_outputs(info, (ptq_role)role);
    const int64_t in = ptq_role_inputs(info, (ptq_role)role);
    s.codes += out * in;
    if (out * in > s.largest) s.largest = out * in;
    s.params += out * ptq_dtype_groups(in, group);
  }
  return s;
}

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

/* The largest of each over the kinds. */
static site_sizes measure_all(const ptq_model_info *info,
                              int64_t smallest_group) {
  site_sizes s = {0};
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    const site_sizes own = measure(info, (ptq_site)k, smallest_group);
    s.codes = larger(s.codes, own.codes);
    s.largest = larger(s.largest, own.largest);
    s.params = larger(s.params, own.params);
  }
  return s;
}

/* Weights of a block's layers. */
static int64_t block_weights(const ptq_model_info *info) {
  int64_t n = 0;
  for (int l = 0; l < ptq_layer_count(info); l++)
    if (ptq_layer_present(info, l))
      n += ptq_role_outputs(info, ptq_layer_role(l)) *
           ptq_role_inputs(info, ptq_layer_role(l));
  return n;
}

/* Nobody else reads the unquantized weights, and the point itself reads those
 * of a site at that site only. */
static bool in_place(const ptq_load *load) {
  const unsigned needs = load->needs | load->own_needs;
  return load->points == 1 && (needs & (PTQ_NEED_MODULE_LOSS | PTQ_NEED_CROSS |
                                        PTQ_NEED_BLOCK_LOSS)) == 0;
}

static ptq_status open_buffers(ptq_workbench *b, const site_sizes *s,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(
      ptq_alloc(&b->error, s->largest, sizeof(float), "an error matrix", err));
  if (b->in_place)
    PTQ_TRY(ptq_alloc(&b->site_weights, s->codes, sizeof(float),
                      "quantized weights", err));
  PTQ_TRY(ptq_alloc(&b->codes, s->codes, sizeof(int16_t), "codes", err));
  PTQ_TRY(ptq_alloc(&b->params, s->params, sizeof(ptq_group_params),
                    "group parameters", err));
done:
  return rc;
}

static void close_buffers(ptq_workbench *b) {
  ptq_free(b->error);
  ptq_free(b->site_weights);
  ptq_free(b->codes);
  ptq_free(b->params);
  b->error = b->site_weights = NULL;
  b->codes = NULL;
  b->params = NULL;
}

ptq_status ptq_workbench_begin_site(ptq_workbench *b,
                                    const ptq_model_info *info, int site,
                                    ptq_err *err) {
  if (!b->alone) return PTQ_OK;
  const site_sizes s = measure(info, ptq_site_kind(site), b->smallest_group);
  close_buffers(b);
  return open_buffers(b, &s, err);
}

void ptq_workbench_end_site(ptq_workbench *b) {
  if (b->alone) close_buffers(b);
}

static ptq_status open_packed(ptq_workbench *b, const ptq_model_info *info,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int layers = ptq_layer_count(info);
  ptq_multiplier *mul = NULL;
  PTQ_TRY(ptq_multiplier_create(&mul, err));
  PTQ_TRY(ptq_alloc(&b->packed, layers, sizeof(ptq_packed *),
                    "a block's layers", err));
  b->n_packed = layers;
  for (int l = 0; l < layers; l++) {
    if (!ptq_layer_present(info, l)) continue;
    const ptq_role role = ptq_layer_role(l);
    PTQ_TRY(ptq_packed_create(mul, ptq_role_outputs(info, role),
                              ptq_role_inputs(info, role), &b->packed[l], err));
  }
done:
  ptq_multiplier_free(mul);
  return rc;
}

static void close_packed(ptq_workbench *b) {
  for (int l = 0; l < b->n_packed; l++) ptq_packed_free(b->packed[l]);
  ptq_free(b->packed);
}

static int64_t packed_bytes(const ptq_model_info *info) {
  int64_t bytes = 0;
  if (info->compute != PTQ_COMPUTE_BF16) return 0;
  for (int l = 0; l < ptq_layer_count(info); l++)
    if (ptq_layer_present(info, l))
      bytes += ptq_packed_bytes(ptq_role_outputs(info, ptq_layer_role(l)),
                                ptq_role_inputs(info, ptq_layer_role(l)));
  return bytes;
}

static ptq_status open_weights(ptq_workbench *b, const ptq_model_info *info,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int layers = ptq_layer_count(info);
  PTQ_TRY(ptq_alloc(&b->block.linear, layers, sizeof *b->block.linear,
                    "a block's layers", err));
  PTQ_TRY(ptq_alloc(&b->layer_weights, layers, sizeof *b->layer_weights,
                    "a block's layers", err));
  if (b->in_place) return PTQ_OK;
  PTQ_TRY(ptq_alloc(&b->weights, block_weights(info), sizeof(float),
                    "quantized weights of a block", err));
  float *at = b->weights;
  for (int l = 0; l < layers; l++) {
    if (!ptq_layer_present(info, l)) continue;
    const ptq_role role = ptq_layer_role(l);
    b->layer_weights[l] = at;
    at += ptq_role_outputs(info, role) * ptq_role_inputs(info, role);
  }
  if (info->compute == PTQ_COMPUTE_BF16) PTQ_TRY(open_packed(b, info, err));
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

static ptq_status open_hidden(ptq_workbench *b, const ptq_setup *setup,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  b->hands = setup->room.hands;
  PTQ_TRY(ptq_alloc(&b->hidden, b->hands, sizeof *b->hidden, "windows", err));
  for (int h = 0; h < b->hands; h++)
    PTQ_TRY(ptq_alloc(&b->hidden[h], setup->calib.length * setup->info->d_model,
                      sizeof(float), "hidden states", err));
done:
  return rc;
}

ptq_status ptq_workbench_open(ptq_workbench *b, const ptq_setup *setup,
                              const ptq_load *load, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = setup->info;
  const site_sizes s = measure_all(info, load->smallest_group);
  const int layers = ptq_layer_count(info);
  *b = (ptq_workbench){.alone = load->points == 1,
                       .in_place = in_place(load),
                       .smallest_group = load->smallest_group,
                       .team = setup->room.team};
  PTQ_TRY(open_weights(b, info, err));
  if (!b->alone) PTQ_TRY(open_buffers(b, &s, err));
  PTQ_TRY(ptq_team_alloc(b->team, &b->noise, layers, sizeof(double), "errors",
                         err));
  PTQ_TRY(ptq_team_alloc(b->team, &b->signal, layers, sizeof(double),
                         "energies", err));
  PTQ_TRY(open_folds(b, info, err));
  if (load->sequential > 0) {
    PTQ_TRY(open_hidden(b, setup, err));
    PTQ_TRY(ptq_collected_open(&b->inputs, info, setup->room,
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
  close_packed(b);
  close_buffers(b);
  for (float **f = b->fold; f != NULL && *f != NULL; f++) ptq_free(*f);
  ptq_free(b->fold);
  ptq_free(b->divisor);
  for (int h = 0; b->hidden != NULL && h < b->hands; h++)
    ptq_free(b->hidden[h]);
  ptq_free(b->hidden);
  ptq_team_free(b->team, b->noise);
  ptq_team_free(b->team, b->signal);
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

static int64_t buffer_bytes(const site_sizes *s, bool place) {
  return (int64_t)sizeof(float) * (s->largest + (place ? s->codes : 0)) +
         (int64_t)sizeof(int16_t) * s->codes +
         (int64_t)sizeof(ptq_group_params) * s->params;
}

ptq_workbench_size ptq_workbench_bytes(const ptq_model_info *info,
                                       const ptq_texts *t,
                                       const ptq_load *load) {
  ptq_workbench_size size = {0};
  const int64_t one = sizeof(float);
  const bool place = in_place(load);
  const site_sizes all = measure_all(info, load->smallest_group);
  for (int k = 0; k < PTQ_SITE_COUNT; k++) {
    const site_sizes s = measure(info, (ptq_site)k, load->smallest_group);
    if (load->points == 1) size.site[k] = buffer_bytes(&s, place);
  }
  if (load->points > 1) size.fixed = buffer_bytes(&all, place);
  if (!place) size.fixed += one * block_weights(info) + packed_bytes(info);
  for (int site = 0; site < ptq_site_count(info); site++)
    size.fixed += one * ptq_site_width(info, site);
  size.fixed += one * 2 * info->d_ff;
  if (load->sequential == 0) return size;
  size.fixed += one * t->room.hands * t->calib->length * info->d_model;
  size.inputs =
      ptq_collected_bytes(info, t->room, PTQ_COLLECT_MOMENTS, load->own_needs,
                          t->calib->windows, t->calib->length);
  return size;
}
