/* SPDX-License-Identifier: GPL-3.0-or-later */
/* OPT: LayerNorm before each half block, learned positions from row 2 on
 * (transformers' OPTForCausalLM). The 350M has its norms behind the half
 * blocks, no final norm, and an embedding narrower than the model. */
#include "arch.h"

extern const ptq_arch ptq_arch_opt;

static ptq_status read_norms(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool before = true, affine = true, removed = false;
  info->norm = PTQ_NORM_LAYER;
  info->norm_eps = 1e-5; /* torch.nn.LayerNorm's default; no key changes it */
  PTQ_TRY(ptq_config_bool(c, "do_layer_norm_before", &before, err));
  PTQ_TRY(ptq_config_bool(c, "_remove_final_layer_norm", &removed, err));
  PTQ_TRY(ptq_config_bool(c, "layer_norm_elementwise_affine", &affine, err));
  info->norm_plain = !affine;
  info->has_norm[PTQ_NORM_ATTN_IN] = info->has_norm[PTQ_NORM_MLP_IN] = before;
  info->has_norm[PTQ_NORM_ATTN_SUM] = !before;
  info->has_norm[PTQ_NORM_MLP_SUM] = !before;
  info->has_norm[PTQ_NORM_FINAL] = before && !removed;
done:
  return rc;
}

static ptq_status read_opt(const ptq_config *c, ptq_model_info *info,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool bias = true;
  info->positions = PTQ_POSITIONS_LEARNED;
  info->position_offset = 2;
  info->act = PTQ_ACT_RELU;
  PTQ_TRY(read_norms(c, info, err));
  PTQ_TRY(ptq_read_act(c, "activation_function", &info->act, err));
  PTQ_TRY(ptq_config_int(c, "word_embed_proj_dim", 1, &info->d_embed, err));
  PTQ_TRY(ptq_config_bool(c, "enable_bias", &bias, err));
  ptq_set_biases(info, bias, bias);
  info->tied_head = true;
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
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
    "word_embed_proj_dim",
    "layer_norm_elementwise_affine",
    NULL,
};

const ptq_arch ptq_arch_opt = {
    .model_type = "opt",
    .class_name = "OPTForCausalLM",
    .prefixes = prefixes,
    .tokens = "embed_tokens",
    .positions = "embed_positions",
    .project_in = "project_in",
    .project_out = "project_out",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "self_attn_layer_norm",
              [PTQ_NORM_ATTN_SUM] = "self_attn_layer_norm",
              [PTQ_NORM_MLP_IN] = "final_layer_norm",
              [PTQ_NORM_MLP_SUM] = "final_layer_norm",
              [PTQ_NORM_FINAL] = "final_layer_norm"},
    .roles = {[PTQ_ROLE_Q] = "self_attn.q_proj",
              [PTQ_ROLE_K] = "self_attn.k_proj",
              [PTQ_ROLE_V] = "self_attn.v_proj",
              [PTQ_ROLE_O] = "self_attn.out_proj",
              [PTQ_ROLE_UP] = "fc1",
              [PTQ_ROLE_DOWN] = "fc2"},
    .ignored_tensors = ignored,
    .sizes = {.d_model = "hidden_size",
              .n_blocks = "num_hidden_layers",
              .n_heads = "num_attention_heads",
              .d_ff = "ffn_dim",
              .vocab = "vocab_size",
              .max_positions = "max_position_embeddings",
              .max_positions_default = 2048},
    .keys = keys,
    .read = read_opt,
};
