/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Qwen3: LLaMA with norms of each head's queries and keys (transformers'
 * Qwen3ForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_qwen3;

static ptq_status read_qwen3(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-6, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->has_norm[PTQ_NORM_Q] = info->has_norm[PTQ_NORM_K] = true;
  PTQ_TRY(ptq_read_late_windows(c, info, err));
done:
  return rc;
}

static const char *const keys[] = {PTQ_LLAMA_KEYS, PTQ_LATE_WINDOW_KEYS, NULL};

const ptq_arch ptq_arch_qwen3 = {
    .model_type = "qwen3",
    .class_name = "Qwen3ForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_Q] = "self_attn.q_norm",
              [PTQ_NORM_K] = "self_attn.k_norm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(32768), .d_head_default = 128},
    .keys = keys,
    .read = read_qwen3,
};
