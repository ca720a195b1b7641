/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mistral: LLaMA with a sliding window in every block (transformers'
 * MistralForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_mistral;

static ptq_status read_mistral(const ptq_config *c, ptq_model_info *info,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-6, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "attention_bias", false, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  PTQ_TRY(ptq_read_window(c, 4096, info, err));
  ptq_set_windows(info, 0);
done:
  return rc;
}

static const char *const keys[] = {PTQ_LLAMA_KEYS, "sliding_window", NULL};

const ptq_arch ptq_arch_mistral = {
    .model_type = "mistral",
    .class_name = "MistralForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(131072)},
    .keys = keys,
    .read = read_mistral,
};
