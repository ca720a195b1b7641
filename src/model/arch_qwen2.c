/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Qwen2, 2.5: LLaMA with biases of q, k and v, and windows in the blocks from
 * max_window_layers on where asked (transformers' Qwen2ForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_qwen2;

static ptq_status read_qwen2(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-6, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "attention_bias", true, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->has_bias[PTQ_ROLE_Q] = info->has_bias[PTQ_ROLE_K] = true;
  info->has_bias[PTQ_ROLE_V] = true;
  info->has_bias[PTQ_ROLE_O] = false;
  PTQ_TRY(ptq_read_late_windows(c, info, err));
done:
  return rc;
}

static const char *const keys[] = {PTQ_LLAMA_KEYS, PTQ_LATE_WINDOW_KEYS, NULL};

const ptq_arch ptq_arch_qwen2 = {
    .model_type = "qwen2",
    .class_name = "Qwen2ForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(32768)},
    .keys = keys,
    .read = read_qwen2,
};
