/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Phi 1, 1.5 and 2: one LayerNorm whose result attention and MLP both take,
 * partial rotation, biases everywhere, also of the head (transformers'
 * PhiForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_phi;

static ptq_status read_phi(const ptq_config *c, ptq_model_info *info,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool qk_norm = false;
  PTQ_TRY(ptq_read_norm(c, "layer_norm_eps", PTQ_NORM_LAYER, 1e-5, info, err));
  info->act = PTQ_ACT_GELU_TANH;
  PTQ_TRY(ptq_read_act(c, "hidden_act", &info->act, err));
  PTQ_TRY(ptq_read_rotary_share(c, "partial_rotary_factor", 0.5, info, err));
  PTQ_TRY(ptq_read_rope(c, 10000.0, info, err));
  PTQ_TRY(ptq_config_bool(c, "qk_layernorm", &qk_norm, err));
  info->has_norm[PTQ_NORM_Q] = info->has_norm[PTQ_NORM_K] = qk_norm;
  info->has_norm[PTQ_NORM_MLP_IN] = false;
  info->parallel = true;
  info->head_bias = true;
  ptq_set_biases(info, true, true);
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
done:
  return rc;
}

static const char *const keys[] = {"hidden_act",   "layer_norm_eps",
                                   "qk_layernorm", "partial_rotary_factor",
                                   PTQ_ROPE_KEYS,  NULL};

const ptq_arch ptq_arch_phi = {
    .model_type = "phi",
    .class_name = "PhiForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_Q] = "self_attn.q_layernorm",
              [PTQ_NORM_K] = "self_attn.k_layernorm",
              [PTQ_NORM_FINAL] = "final_layernorm"},
    .roles = {[PTQ_ROLE_Q] = "self_attn.q_proj",
              [PTQ_ROLE_K] = "self_attn.k_proj",
              [PTQ_ROLE_V] = "self_attn.v_proj",
              [PTQ_ROLE_O] = "self_attn.dense",
              [PTQ_ROLE_UP] = "mlp.fc1",
              [PTQ_ROLE_DOWN] = "mlp.fc2"},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(2048)},
    .keys = keys,
    .read = read_phi,
};
