/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/model/model.h"

#include <stdio.h>
#include <string.h>

#include "model_private.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"

ptq_site ptq_role_site(ptq_role role) {
  static const ptq_site sites[PTQ_ROLE_COUNT] = {
      [PTQ_ROLE_Q] = PTQ_SITE_ATTN_IN,   [PTQ_ROLE_K] = PTQ_SITE_ATTN_IN,
      [PTQ_ROLE_V] = PTQ_SITE_ATTN_IN,   [PTQ_ROLE_QKV] = PTQ_SITE_ATTN_IN,
      [PTQ_ROLE_O] = PTQ_SITE_ATTN_OUT,  [PTQ_ROLE_GATE] = PTQ_SITE_MLP_IN,
      [PTQ_ROLE_UP] = PTQ_SITE_MLP_IN,   [PTQ_ROLE_GATE_UP] = PTQ_SITE_MLP_IN,
      [PTQ_ROLE_DOWN] = PTQ_SITE_MLP_OUT};
  PTQ_ASSERT((unsigned)role < PTQ_ROLE_COUNT);
  return sites[role];
}

int ptq_layer_of(ptq_role role, int expert) {
  PTQ_ASSERT(expert == 0 || role >= PTQ_ROLE_GATE);
  return (int)role + PTQ_EXPERT_LAYERS * expert;
}

int ptq_layer_expert(int layer) {
  if (layer < PTQ_ROLE_GATE) return 0;
  return (layer - PTQ_ROLE_GATE) / PTQ_EXPERT_LAYERS;
}

ptq_role ptq_layer_role(int layer) {
  return (ptq_role)(layer - PTQ_EXPERT_LAYERS * ptq_layer_expert(layer));
}

int ptq_layer_site(int layer) {
  return ptq_site_of(ptq_role_site(ptq_layer_role(layer)),
                     ptq_layer_expert(layer));
}

int ptq_site_of(ptq_site kind, int expert) {
  PTQ_ASSERT(expert == 0 || kind >= PTQ_SITE_MLP_IN);
  return (int)kind + PTQ_EXPERT_SITES * expert;
}

int ptq_site_expert(int site) {
  if (site < PTQ_SITE_MLP_IN) return 0;
  return (site - PTQ_SITE_MLP_IN) / PTQ_EXPERT_SITES;
}

ptq_site ptq_site_kind(int site) {
  return (ptq_site)(site - PTQ_EXPERT_SITES * ptq_site_expert(site));
}

int ptq_mlp_count(const ptq_model_info *info) {
  return info->n_experts > 0 ? (int)info->n_experts : 1;
}

int ptq_layer_count(const ptq_model_info *info) {
  return PTQ_ROLE_GATE + PTQ_EXPERT_LAYERS * ptq_mlp_count(info);
}

int ptq_site_count(const ptq_model_info *info) {
  return PTQ_SITE_MLP_IN + PTQ_EXPERT_SITES * ptq_mlp_count(info);
}

const char *ptq_site_name(ptq_site kind) {
  static const char *const names[PTQ_SITE_COUNT] = {
      [PTQ_SITE_ATTN_IN] = "attn_in",
      [PTQ_SITE_ATTN_OUT] = "attn_out",
      [PTQ_SITE_MLP_IN] = "mlp_in",
      [PTQ_SITE_MLP_OUT] = "mlp_out"};
  PTQ_ASSERT((unsigned)kind < PTQ_SITE_COUNT);
  return names[kind];
}

int64_t ptq_site_width(const ptq_model_info *info, int site) {
  switch (ptq_site_kind(site)) {
    case PTQ_SITE_ATTN_IN:
    case PTQ_SITE_MLP_IN:
      return info->d_model;
    case PTQ_SITE_ATTN_OUT:
      return info->n_heads * info->d_head;
    case PTQ_SITE_MLP_OUT:
    case PTQ_SITE_COUNT:
      break;
  }
  return info->d_ff;
}

const char *ptq_act_name(ptq_act_kind act) {
  static const char *const names[PTQ_ACT_COUNT] = {
      [PTQ_ACT_SILU] = "SiLU",
      [PTQ_ACT_RELU] = "ReLU",
      [PTQ_ACT_GELU] = "GELU",
      [PTQ_ACT_GELU_TANH] = "GELU (tanh)"};
  PTQ_ASSERT((unsigned)act < PTQ_ACT_COUNT);
  return names[act];
}

bool ptq_layer_present(const ptq_model_info *info, int layer) {
  return ptq_role_present(info, ptq_layer_role(layer));
}

bool ptq_role_present(const ptq_model_info *info, ptq_role role) {
  switch (role) {
    case PTQ_ROLE_Q:
    case PTQ_ROLE_K:
    case PTQ_ROLE_V:
      return info->qkv == PTQ_QKV_SEPARATE;
    case PTQ_ROLE_QKV:
      return info->qkv != PTQ_QKV_SEPARATE;
    case PTQ_ROLE_GATE:
      return info->has_gate && !info->fused_gate_up;
    case PTQ_ROLE_UP:
      return !info->fused_gate_up;
    case PTQ_ROLE_GATE_UP:
      return info->fused_gate_up;
    case PTQ_ROLE_O:
    case PTQ_ROLE_DOWN:
    case PTQ_ROLE_COUNT:
      break;
  }
  return true;
}

int64_t ptq_role_outputs(const ptq_model_info *info, ptq_role role) {
  switch (role) {
    case PTQ_ROLE_Q:
      return info->n_heads * info->d_head;
    case PTQ_ROLE_K:
    case PTQ_ROLE_V:
      return info->n_kv_heads * info->d_head;
    case PTQ_ROLE_QKV:
      return (info->n_heads + 2 * info->n_kv_heads) * info->d_head;
    case PTQ_ROLE_GATE:
    case PTQ_ROLE_UP:
      return info->d_ff;
    case PTQ_ROLE_GATE_UP:
      return 2 * info->d_ff;
    case PTQ_ROLE_O:
    case PTQ_ROLE_DOWN:
    case PTQ_ROLE_COUNT:
      break;
  }
  PTQ_ASSERT(role != PTQ_ROLE_COUNT);
  return info->d_model;
}

int64_t ptq_position_rows(const ptq_model_info *info) {
  return info->positions == PTQ_POSITIONS_LEARNED
             ? info->max_positions + info->position_offset
             : 0;
}

int64_t ptq_norm_width(const ptq_model_info *info, ptq_norm_place place) {
  if (place != PTQ_NORM_Q && place != PTQ_NORM_K) return info->d_model;
  if (!info->qk_norm_wide) return info->d_head;
  return ptq_role_outputs(info, place == PTQ_NORM_Q ? PTQ_ROLE_Q : PTQ_ROLE_K);
}

const ptq_norm *ptq_site_norm(const ptq_model_info *info, const ptq_block *b,
                              int site) {
  ptq_norm_place place = PTQ_NORM_ATTN_IN;
  const ptq_site kind = ptq_site_kind(site);
  if (kind == PTQ_SITE_MLP_IN &&
      (info->has_norm[PTQ_NORM_MLP_IN] || !info->parallel))
    place = PTQ_NORM_MLP_IN;
  const bool fed = kind == PTQ_SITE_ATTN_IN || kind == PTQ_SITE_MLP_IN;
  return fed && info->has_norm[place] ? &b->norm[place] : NULL;
}

int64_t ptq_role_inputs(const ptq_model_info *info, ptq_role role) {
  return ptq_site_width(info, (int)ptq_role_site(role));
}

static const char *const part_ends[] = {
    [PTQ_PART_WEIGHT] = "weight", [PTQ_PART_BIAS] = "bias"};

void ptq_name_outer(const ptq_model *m, const char *tail, ptq_part part,
                    char name[PTQ_TENSOR_NAME_MAX]) {
  snprintf(name, PTQ_TENSOR_NAME_MAX, "%s%s.%s", m->prefix, tail,
           part_ends[part]);
}

void ptq_name_inner(const ptq_model *m, int64_t block, const char *tail,
                    ptq_part part, char name[PTQ_TENSOR_NAME_MAX]) {
  snprintf(name, PTQ_TENSOR_NAME_MAX, "%s%s.%lld.%s.%s", m->prefix,
           m->arch->blocks, (long long)block, tail, part_ends[part]);
}

void ptq_name_norm(const ptq_model *m, int64_t block, ptq_norm_place place,
                   ptq_part part, char name[PTQ_TENSOR_NAME_MAX]) {
  const char *tail =
      m->info.alt_norms ? m->arch->alt_norms[place] : m->arch->norms[place];
  PTQ_ASSERT(tail != NULL);
  if (place < PTQ_NORM_INNER)
    ptq_name_inner(m, block, tail, part, name);
  else
    ptq_name_outer(m, tail, part, name);
}

void ptq_name_head(const ptq_model *m, ptq_part part,
                   char name[PTQ_TENSOR_NAME_MAX]) {
  snprintf(name, PTQ_TENSOR_NAME_MAX, "%s.%s", m->arch->head, part_ends[part]);
}

int ptq_norm_parts(const ptq_model_info *info) {
  if (info->norm_plain) return 0;
  return info->norm == PTQ_NORM_LAYER ? 2 : 1;
}

void ptq_name_layer(const ptq_model *m, int64_t block, int layer, ptq_part part,
                    char name[PTQ_TENSOR_NAME_MAX]) {
  char tail[PTQ_TENSOR_NAME_MAX / 2];
  const ptq_role role = ptq_layer_role(layer);
  const char *of_role = m->arch->roles[role];
  PTQ_ASSERT(ptq_role_present(&m->info, role));
  if (m->info.n_experts > 0 && role >= PTQ_ROLE_GATE)
    snprintf(tail, sizeof tail, "%s.%d.%s", m->arch->experts,
             ptq_layer_expert(layer), of_role);
  else
    snprintf(tail, sizeof tail, "%s", of_role);
  ptq_name_inner(m, block, tail, part, name);
}

void ptq_layer_tensor_name(const ptq_model *m, int64_t block, int layer,
                           char name[PTQ_TENSOR_NAME_MAX]) {
  ptq_name_layer(m, block, layer, PTQ_PART_WEIGHT, name);
}

/* The prefix under which the token embedding is. */
static ptq_status find_prefix(ptq_model *m, const char *dir, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  for (int i = 0; m->arch->prefixes[i] != NULL; i++) {
    m->prefix = m->arch->prefixes[i];
    ptq_name_outer(m, m->arch->tokens, PTQ_PART_WEIGHT, name);
    if (ptq_weights_find(m->weights, name) != NULL) return PTQ_OK;
  }
  m->prefix = m->arch->prefixes[0];
  ptq_name_outer(m, m->arch->tokens, PTQ_PART_WEIGHT, name);
  return PTQ_FAIL(err, PTQ_E_FORMAT,
                  "'%s': the weights have no tensor '%s', which model_type "
                  "'%s' wants: config.json belongs to another model, or the "
                  "weights were written by another library",
                  dir, name, m->arch->model_type);
}

ptq_status ptq_model_open(const char *dir, ptq_model **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_model *m = NULL;
  const char *provenance = "";
  *out = NULL;
  if (!ptq_path_is_dir(dir))
    return PTQ_FAIL(err, PTQ_E_IO, "model '%s' is not a directory", dir);
  PTQ_TRY(ptq_alloc(&m, 1, sizeof *m, "a model", err));
  PTQ_TRY(ptq_config_open(dir, &m->config, err));
  PTQ_TRY(ptq_arch_find(m->config, &m->arch, err));
  (void)ptq_text_copy(m->info.arch, sizeof m->info.arch, m->arch->model_type);
  PTQ_TRY(ptq_arch_read(m->arch, m->config, &m->info, err));
  PTQ_TRY(ptq_config_text(m->config, "ptqsweep_provenance", &provenance, err));
  m->info.dequantized = strcmp(provenance, "dequantized") == 0;
  PTQ_TRY(ptq_weights_open(dir, &m->weights, err));
  PTQ_TRY(find_prefix(m, dir, err));
  PTQ_TRY(ptq_model_check_tensors(m, err));
  *out = m;
  m = NULL;
done:
  ptq_model_close(m);
  return rc;
}

void ptq_model_close(ptq_model *m) {
  if (m == NULL) return;
  ptq_config_close(m->config);
  ptq_weights_close(m->weights);
  ptq_multiplier_free(m->mul);
  ptq_free(m);
}

ptq_status ptq_model_set_compute(ptq_model *m, ptq_compute compute,
                                 ptq_err *err) {
#ifdef PTQ_REAL64
  if (compute != PTQ_COMPUTE_F32)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED, "no products of %s in float64",
                    ptq_compute_name(compute));
#endif
  ptq_multiplier_free(m->mul);
  m->mul = NULL;
  m->info.compute = compute;
  return compute == PTQ_COMPUTE_BF16 ? ptq_multiplier_create(&m->mul, err)
                                     : PTQ_OK;
}

const ptq_model_info *ptq_model_get_info(const ptq_model *m) {
  return &m->info;
}

static ptq_status hash_file(ptq_hash *h, const char *path, ptq_err *err) {
  char hex[PTQ_HASH_HEX];
  char *base = NULL;
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_hash_file(path, hex, err));
  PTQ_TRY(ptq_path_base(path, &base, err));
  ptq_hash_text(h, base);
  ptq_hash_text(h, hex);
done:
  ptq_free(base);
  return rc;
}

ptq_status ptq_model_fingerprint(const ptq_model *m, char hex[PTQ_HASH_HEX],
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_hash *h = NULL;
  hex[0] = '\0';
  PTQ_TRY(ptq_hash_create(&h, err));
  PTQ_TRY(hash_file(h, ptq_config_path(m->config), err));
  for (int64_t i = 0; i < ptq_weights_n_files(m->weights); i++)
    PTQ_TRY(hash_file(h, ptq_weights_file(m->weights, i), err));
  ptq_hash_hex(h, hex);
done:
  ptq_hash_free(h);
  return rc;
}
