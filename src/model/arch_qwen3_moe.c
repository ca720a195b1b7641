/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Qwen3's mixtures of experts, one in every block (transformers'
 * Qwen3MoeForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_qwen3_moe;

/* Keys that make some blocks dense. */
static ptq_status refuse_dense_blocks(const ptq_config *c, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t step = 1;
  PTQ_TRY(ptq_config_int(c, "decoder_sparse_step", 1, &step, err));
  if (step != 1)
    PTQ_TRY(ptq_config_refuse(c, "decoder_sparse_step",
                              "1, a mixture in every block", err));
  if (ptq_config_has(c, "mlp_only_layers") &&
      ptq_config_list_check(c, "mlp_only_layers", 0, NULL) != PTQ_OK)
    PTQ_TRY(ptq_config_refuse(c, "mlp_only_layers",
                              "none, a mixture in every block", err));
done:
  return rc;
}

static ptq_status read_qwen3_moe(const ptq_config *c, ptq_model_info *info,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool windows = false;
  PTQ_TRY(ptq_read_llama_like(c, 1e-6, 10000.0, false, info, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->has_norm[PTQ_NORM_Q] = info->has_norm[PTQ_NORM_K] = true;
  PTQ_TRY(ptq_config_bool(c, "use_sliding_window", &windows, err));
  if (windows) {
    PTQ_TRY(ptq_read_window(c, 4096, info, err));
    ptq_set_windows(info, 0); /* whatever max_window_layers says */
  }
  PTQ_TRY(refuse_dense_blocks(c, err));
  PTQ_TRY(ptq_read_experts(c, "num_experts", "num_experts_per_tok", info, err));
  PTQ_TRY(ptq_config_bool(c, "norm_topk_prob", &info->experts_share_one, err));
done:
  return rc;
}

static const char *const keys[] = {
    PTQ_LLAMA_KEYS,        PTQ_ROUTER_KEYS,
    "decoder_sparse_step", "intermediate_size", /* of dense blocks */
    "max_window_layers",   "mlp_only_layers",
    "norm_topk_prob",      "num_experts",
    "num_experts_per_tok", "sliding_window",
    "use_sliding_window",  NULL};

const ptq_arch ptq_arch_qwen3_moe = {
    .model_type = "qwen3_moe",
    .class_name = "Qwen3MoeForCausalLM",
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
    .sizes = {.d_model = "hidden_size",
              .n_blocks = "num_hidden_layers",
              .n_heads = "num_attention_heads",
              .n_kv_heads = "num_key_value_heads",
              .d_head = "head_dim",
              .d_ff = "moe_intermediate_size",
              .vocab = "vocab_size",
              .max_positions = "max_position_embeddings",
              .max_positions_default = 32768},
    .keys = keys,
    .read = read_qwen3_moe,
};
