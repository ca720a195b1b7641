/* SPDX-License-Identifier: GPL-3.0-or-later */
/* LLaMA 1 to 3.2, SmolLM 1 and 2: RMSNorm, rotary positions, grouped queries,
 * SwiGLU (transformers' LlamaForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_llama;

static ptq_status read_llama(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  return ptq_read_llama_like(c, 1e-6, 10000.0, false, info, err);
}

static const char *const keys[] = {PTQ_LLAMA_KEYS, NULL};

const ptq_arch ptq_arch_llama = {
    .model_type = "llama",
    .class_name = "LlamaForCausalLM",
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
    .keys = keys,
    .read = read_llama,
};
