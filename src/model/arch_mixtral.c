/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mixtral: Mistral with a few experts of full width instead of an MLP
 * (transformers' MixtralForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_mixtral;

static ptq_status read_mixtral(const ptq_config *c, ptq_model_info *info,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-5, 1e6, false, info, err));
  PTQ_TRY(ptq_read_only(c, "attention_bias", false, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  PTQ_TRY(ptq_read_window(c, 0, info, err));
  ptq_set_windows(info, 0);
  PTQ_TRY(ptq_read_experts(c, "num_local_experts", "num_experts_per_tok", info,
                           err));
  info->experts_share_one = true;
done:
  return rc;
}

static const char *const keys[] = {PTQ_LLAMA_KEYS,      PTQ_ROUTER_KEYS,
                                   "num_local_experts", "num_experts_per_tok",
                                   "sliding_window",    NULL};

const ptq_arch ptq_arch_mixtral = {
    .model_type = "mixtral",
    .class_name = "MixtralForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, [PTQ_ROLE_GATE] = "w1", [PTQ_ROLE_UP] = "w3",
              [PTQ_ROLE_DOWN] = "w2"},
    .experts = "block_sparse_moe.experts",
    .router = "block_sparse_moe.gate",
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(131072)},
    .keys = keys,
    .read = read_mixtral,
};
