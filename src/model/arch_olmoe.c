/* SPDX-License-Identifier: GPL-3.0-or-later */
/* OLMoE: a mixture of small experts, queries and keys normed over all heads at
 * once (transformers' OlmoeForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_olmoe;

static ptq_status read_olmoe(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-5, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->has_norm[PTQ_NORM_Q] = info->has_norm[PTQ_NORM_K] = true;
  info->qk_norm_wide = true;
  PTQ_TRY(ptq_config_positive(c, "clip_qkv", &info->qkv_clip, err));
  PTQ_TRY(ptq_read_experts(c, "num_experts", "num_experts_per_tok", info, err));
  PTQ_TRY(ptq_config_bool(c, "norm_topk_prob", &info->experts_share_one, err));
done:
  return rc;
}

static const char *const keys[] = {
    PTQ_LLAMA_KEYS, PTQ_ROUTER_KEYS,       "clip_qkv", "norm_topk_prob",
    "num_experts",  "num_experts_per_tok", NULL};

const ptq_arch ptq_arch_olmoe = {
    .model_type = "olmoe",
    .class_name = "OlmoeForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_Q] = "self_attn.q_norm",
              [PTQ_NORM_K] = "self_attn.k_norm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_EXPERT},
    .experts = "mlp.experts",
    .router = "mlp.gate",
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(4096)},
    .keys = keys,
    .read = read_olmoe,
};
