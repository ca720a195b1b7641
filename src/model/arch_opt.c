/* SPDX-License-Identifier: GPL-3.0-or-later */
/* OPT: LayerNorm before each half block, learned positions from row 2 on,
 * ReLU (transformers' OPTForCausalLM; not the 350M variant with its norms
 * behind and its projections). */
#include <string.h>

#include "arch.h"

extern const ptq_arch ptq_arch_opt;

static ptq_status refuse_variants(const ptq_config *c,
                                  const ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *act = "relu";
  bool before = true, affine = true, no_final_norm = false;
  int64_t width = info->d_model;
  PTQ_TRY(ptq_config_text(c, "activation_function", &act, err));
  if (strcmp(act, "relu") != 0)
    PTQ_TRY(ptq_config_refuse(c, "activation_function", "\"relu\"", err));
  PTQ_TRY(ptq_config_bool(c, "do_layer_norm_before", &before, err));
  if (!before)
    PTQ_TRY(ptq_config_refuse(c, "do_layer_norm_before", "true", err));
  PTQ_TRY(ptq_config_bool(c, "layer_norm_elementwise_affine", &affine, err));
  if (!affine)
    PTQ_TRY(ptq_config_refuse(c, "layer_norm_elementwise_affine", "true", err));
  PTQ_TRY(ptq_config_bool(c, "_remove_final_layer_norm", &no_final_norm, err));
  if (no_final_norm)
    PTQ_TRY(ptq_config_refuse(c, "_remove_final_layer_norm", "false", err));
  PTQ_TRY(ptq_config_int(c, "word_embed_proj_dim", 1, &width, err));
  if (width != info->d_model)
    PTQ_TRY(ptq_config_refuse(c, "word_embed_proj_dim",
                              "the same as hidden_size", err));
done:
  return rc;
}

static ptq_status read_opt(const ptq_config *c, ptq_model_info *info,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool bias = true;
  PTQ_TRY(ptq_config_need_int(c, "hidden_size", 1, &info->d_model, err));
  PTQ_TRY(ptq_config_need_int(c, "num_hidden_layers", 1, &info->n_blocks, err));
  PTQ_TRY(
      ptq_config_need_int(c, "num_attention_heads", 1, &info->n_heads, err));
  PTQ_TRY(ptq_config_need_int(c, "ffn_dim", 1, &info->d_ff, err));
  PTQ_TRY(ptq_config_need_int(c, "vocab_size", 1, &info->vocab, err));
  info->max_positions = 2048;
  PTQ_TRY(ptq_config_int(c, "max_position_embeddings", 1, &info->max_positions,
                         err));
  info->n_kv_heads = info->n_heads;
  if (info->d_model % info->n_heads == 0)
    info->d_head = info->d_model / info->n_heads;
  info->norm = PTQ_NORM_LAYER;
  info->norm_eps = 1e-5; /* torch.nn.LayerNorm's default; no key changes it */
  info->act = PTQ_ACT_RELU;
  info->position_offset = 2;
  PTQ_TRY(refuse_variants(c, info, err));
  PTQ_TRY(ptq_config_bool(c, "enable_bias", &bias, err));
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    info->has_bias[r] = bias && r != PTQ_ROLE_GATE;
  info->tied_head = true;
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
  PTQ_TRY(ptq_arch_check_heads(c, info, err));
done:
  return rc;
}

static const char *const prefixes[] = {"model.decoder.", "decoder.", NULL};
static const char *const ignored[] = {NULL};
static const char *const keys[] = {
    "_remove_final_layer_norm",
    "activation_function",
    "do_layer_norm_before",
    "enable_bias",
    "ffn_dim",
    "hidden_size",
    "layer_norm_elementwise_affine",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "vocab_size",
    "word_embed_proj_dim",
    NULL,
};

const ptq_arch ptq_arch_opt = {
    .model_type = "opt",
    .class_name = "OPTForCausalLM",
    .prefixes = prefixes,
    .tokens = "embed_tokens.weight",
    .positions = "embed_positions.weight",
    .final_norm = "final_layer_norm",
    .head = "lm_head.weight",
    .blocks = "layers",
    .norm1 = "self_attn_layer_norm",
    .norm2 = "final_layer_norm",
    .roles = {[PTQ_ROLE_Q] = "self_attn.q_proj",
              [PTQ_ROLE_K] = "self_attn.k_proj",
              [PTQ_ROLE_V] = "self_attn.v_proj",
              [PTQ_ROLE_O] = "self_attn.out_proj",
              [PTQ_ROLE_UP] = "fc1",
              [PTQ_ROLE_DOWN] = "fc2"},
    .ignored_tensors = ignored,
    .keys = keys,
    .read = read_opt,
};
