/* SPDX-License-Identifier: GPL-3.0-or-later */
/* LLaMA 1 to 3.2, SmolLM 1 and 2: RMSNorm, rotary positions, grouped queries,
 * SwiGLU (transformers' LlamaForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_llama;

static ptq_status read_llama(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool attention = false, mlp = false;
  PTQ_TRY(ptq_read_norm(c, "rms_norm_eps", PTQ_NORM_RMS, 1e-6, info, err));
  PTQ_TRY(ptq_read_act(c, "hidden_act", &info->act, err));
  info->has_gate = true;
  PTQ_TRY(ptq_read_rope(c, 10000.0, info, err));
  PTQ_TRY(ptq_config_bool(c, "attention_bias", &attention, err));
  PTQ_TRY(ptq_config_bool(c, "mlp_bias", &mlp, err));
  ptq_set_biases(info, attention, mlp);
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
done:
  return rc;
}

static const char *const prefixes[] = {"model.", "", NULL};
/* Written by old versions of transformers; follows from rope_theta. */
static const char *const ignored[] = {".rotary_emb.inv_freq", NULL};
static const char *const keys[] = {
    "attention_bias", "hidden_act",  "mlp_bias",
    "rms_norm_eps",   PTQ_ROPE_KEYS, NULL,
};

const ptq_arch ptq_arch_llama = {
    .model_type = "llama",
    .class_name = "LlamaForCausalLM",
    .prefixes = prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {[PTQ_ROLE_Q] = "self_attn.q_proj",
              [PTQ_ROLE_K] = "self_attn.k_proj",
              [PTQ_ROLE_V] = "self_attn.v_proj",
              [PTQ_ROLE_O] = "self_attn.o_proj",
              [PTQ_ROLE_GATE] = "mlp.gate_proj",
              [PTQ_ROLE_UP] = "mlp.up_proj",
              [PTQ_ROLE_DOWN] = "mlp.down_proj"},
    .ignored_tensors = ignored,
    .sizes = {.d_model = "hidden_size",
              .n_blocks = "num_hidden_layers",
              .n_heads = "num_attention_heads",
              .n_kv_heads = "num_key_value_heads",
              .d_head = "head_dim",
              .d_ff = "intermediate_size",
              .vocab = "vocab_size",
              .max_positions = "max_position_embeddings",
              .max_positions_default = 2048},
    .keys = keys,
    .read = read_llama,
};
