/* SPDX-License-Identifier: GPL-3.0-or-later */
/* LLaMA: RMSNorm, rotary positions, grouped queries, SwiGLU (transformers'
 * LlamaForCausalLM). */
#include <string.h>

#include "arch.h"

extern const ptq_arch ptq_arch_llama;

static ptq_status read_rope(const ptq_config *c, ptq_model_info *info,
                            ptq_err *err) {
  /* {"rope_type": "default"} would be harmless, but nobody writes it. */
  if (ptq_config_has(c, "rope_scaling"))
    return ptq_config_refuse(c, "rope_scaling", "null", err);
  info->rotary = true;
  info->rope_theta = 10000.0;
  return ptq_config_positive(c, "rope_theta", &info->rope_theta, err);
}

static ptq_status read_biases(const ptq_config *c, ptq_model_info *info,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool attention = false, mlp = false;
  PTQ_TRY(ptq_config_bool(c, "attention_bias", &attention, err));
  PTQ_TRY(ptq_config_bool(c, "mlp_bias", &mlp, err));
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    info->has_bias[r] = r <= PTQ_ROLE_O ? attention : mlp;
done:
  return rc;
}

static ptq_status read_llama(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const char *act = "silu";
  PTQ_TRY(ptq_config_need_int(c, "hidden_size", 1, &info->d_model, err));
  PTQ_TRY(ptq_config_need_int(c, "num_hidden_layers", 1, &info->n_blocks, err));
  PTQ_TRY(
      ptq_config_need_int(c, "num_attention_heads", 1, &info->n_heads, err));
  PTQ_TRY(ptq_config_need_int(c, "intermediate_size", 1, &info->d_ff, err));
  PTQ_TRY(ptq_config_need_int(c, "vocab_size", 1, &info->vocab, err));
  info->max_positions = 2048;
  PTQ_TRY(ptq_config_int(c, "max_position_embeddings", 1, &info->max_positions,
                         err));
  info->n_kv_heads = info->n_heads;
  PTQ_TRY(ptq_config_int(c, "num_key_value_heads", 1, &info->n_kv_heads, err));
  if (info->d_model % info->n_heads == 0)
    info->d_head = info->d_model / info->n_heads;
  PTQ_TRY(ptq_config_int(c, "head_dim", 1, &info->d_head, err));
  PTQ_TRY(ptq_config_text(c, "hidden_act", &act, err));
  if (strcmp(act, "silu") != 0)
    PTQ_TRY(ptq_config_refuse(c, "hidden_act", "\"silu\"", err));
  info->norm = PTQ_NORM_RMS;
  info->norm_eps = 1e-6;
  PTQ_TRY(ptq_config_positive(c, "rms_norm_eps", &info->norm_eps, err));
  info->act = PTQ_ACT_SILU;
  info->has_gate = true;
  PTQ_TRY(read_rope(c, info, err));
  PTQ_TRY(read_biases(c, info, err));
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
  PTQ_TRY(ptq_arch_check_heads(c, info, err));
done:
  return rc;
}

static const char *const prefixes[] = {"model.", "", NULL};
/* Written by old versions of transformers; follows from rope_theta. */
static const char *const ignored[] = {".rotary_emb.inv_freq", NULL};
static const char *const keys[] = {
    "attention_bias",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "mlp_bias",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_scaling",
    "rope_theta",
    "vocab_size",
    NULL,
};

const ptq_arch ptq_arch_llama = {
    .model_type = "llama",
    .class_name = "LlamaForCausalLM",
    .prefixes = prefixes,
    .tokens = "embed_tokens.weight",
    .positions = NULL,
    .final_norm = "norm",
    .head = "lm_head.weight",
    .blocks = "layers",
    .norm1 = "input_layernorm",
    .norm2 = "post_attention_layernorm",
    .roles = {[PTQ_ROLE_Q] = "self_attn.q_proj",
              [PTQ_ROLE_K] = "self_attn.k_proj",
              [PTQ_ROLE_V] = "self_attn.v_proj",
              [PTQ_ROLE_O] = "self_attn.o_proj",
              [PTQ_ROLE_GATE] = "mlp.gate_proj",
              [PTQ_ROLE_UP] = "mlp.up_proj",
              [PTQ_ROLE_DOWN] = "mlp.down_proj"},
    .ignored_tensors = ignored,
    .keys = keys,
    .read = read_llama,
};
