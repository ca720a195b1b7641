/* SPDX-License-Identifier: GPL-3.0-or-later */
/* OLMo 1 and 2 (transformers' OlmoForCausalLM and Olmo2ForCausalLM). OLMo is
 * LLaMA with LayerNorms that have neither gain nor bias; OLMo 2 norms what the
 * half blocks add instead of what they take, and queries and keys over all
 * heads at once. */
#include "arch.h"

extern const ptq_arch ptq_arch_olmo;
extern const ptq_arch ptq_arch_olmo2;

static ptq_status read_olmo(const ptq_config *c, ptq_model_info *info,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-5, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->norm = PTQ_NORM_LAYER;
  info->norm_eps = 1e-5; /* no key changes it */
  info->norm_plain = true;
  PTQ_TRY(ptq_config_positive(c, "clip_qkv", &info->qkv_clip, err));
done:
  return rc;
}

static ptq_status read_olmo2(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-5, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->has_norm[PTQ_NORM_ATTN_IN] = info->has_norm[PTQ_NORM_MLP_IN] = false;
  info->has_norm[PTQ_NORM_ATTN_ADD] = info->has_norm[PTQ_NORM_MLP_ADD] = true;
  info->has_norm[PTQ_NORM_Q] = info->has_norm[PTQ_NORM_K] = true;
  info->qk_norm_wide = true;
done:
  return rc;
}

static const char *const olmo_keys[] = {PTQ_LLAMA_KEYS, "clip_qkv", NULL};
static const char *const keys[] = {PTQ_LLAMA_KEYS, NULL};

const ptq_arch ptq_arch_olmo = {
    .model_type = "olmo",
    .class_name = "OlmoForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(2048)},
    .keys = olmo_keys,
    .read = read_olmo,
};

const ptq_arch ptq_arch_olmo2 = {
    .model_type = "olmo2",
    .class_name = "Olmo2ForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_Q] = "self_attn.q_norm",
              [PTQ_NORM_K] = "self_attn.k_norm",
              [PTQ_NORM_ATTN_ADD] = "post_attention_layernorm",
              [PTQ_NORM_MLP_ADD] = "post_feedforward_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(2048)},
    .keys = keys,
    .read = read_olmo2,
};
