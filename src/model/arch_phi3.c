/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Phi 3 and 4 (mini): LLaMA with q, k and v in one tensor, gate and up in
 * another, longrope and partial rotation (transformers' Phi3ForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_phi3;

static ptq_status read_phi3(const ptq_config *c, ptq_model_info *info,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_rotary_share(c, "partial_rotary_factor", 1.0, info, err));
  PTQ_TRY(ptq_read_llama_like(c, 1e-5, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "attention_bias", false, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->qkv = PTQ_QKV_CONCAT;
  info->fused_gate_up = true;
  PTQ_TRY(ptq_read_window(c, 0, info, err));
  ptq_set_windows(info, 0);
done:
  return rc;
}

static const char *const keys[] = {PTQ_LLAMA_KEYS, "partial_rotary_factor",
                                   "sliding_window", NULL};

const ptq_arch ptq_arch_phi3 = {
    .model_type = "phi3",
    .class_name = "Phi3ForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {[PTQ_ROLE_QKV] = "self_attn.qkv_proj",
              [PTQ_ROLE_O] = "self_attn.o_proj",
              [PTQ_ROLE_GATE_UP] = "mlp.gate_up_proj",
              [PTQ_ROLE_DOWN] = "mlp.down_proj"},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(4096)},
    .keys = keys,
    .read = read_phi3,
};
