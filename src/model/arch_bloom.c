/* SPDX-License-Identifier: GPL-3.0-or-later */
/* BLOOM: ALiBi, a norm behind the embedding, q, k and v of each head together
 * (transformers' BloomForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_bloom;

static ptq_status read_bloom(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  info->positions = PTQ_POSITIONS_ALIBI;
  info->alibi_scale = 1.0;
  info->qkv = PTQ_QKV_GROUPED;
  info->act = PTQ_ACT_GELU_TANH; /* no key changes it */
  PTQ_TRY(
      ptq_read_norm(c, "layer_norm_epsilon", PTQ_NORM_LAYER, 1e-5, info, err));
  info->has_norm[PTQ_NORM_EMBED] = true;
  ptq_set_biases(info, true, true);
  PTQ_TRY(
      ptq_read_only(c, "apply_residual_connection_post_layernorm", false, err));
  info->tied_head = true;
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
done:
  return rc;
}

static const char *const prefixes[] = {"transformer.", "", NULL};
static const char *const ignored[] = {NULL};
static const char *const keys[] = {
    "apply_residual_connection_post_layernorm",
    "layer_norm_epsilon",
    /* Of the training framework, or without effect on the result. */
    "attention_softmax_in_fp32",
    "bias_dropout_fusion",
    "masked_softmax_fusion",
    "n_inner",
    "offset_alibi",
    "seq_length",
    "skip_bias_add",
    "skip_bias_add_qkv",
    "slow_but_exact",
    NULL,
};

const ptq_arch ptq_arch_bloom = {
    .model_type = "bloom",
    .class_name = "BloomForCausalLM",
    .prefixes = prefixes,
    .tokens = "word_embeddings",
    .head = "lm_head",
    .blocks = "h",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_EMBED] = "word_embeddings_layernorm",
              [PTQ_NORM_FINAL] = "ln_f"},
    .roles = {[PTQ_ROLE_QKV] = "self_attention.query_key_value",
              [PTQ_ROLE_O] = "self_attention.dense",
              [PTQ_ROLE_UP] = "mlp.dense_h_to_4h",
              [PTQ_ROLE_DOWN] = "mlp.dense_4h_to_h"},
    .ignored_tensors = ignored,
    .sizes = {.d_model = "hidden_size|n_embed",
              .n_blocks = "n_layer|num_hidden_layers",
              .n_heads = "n_head|num_attention_heads",
              .d_ff_times = 4,
              .vocab = "vocab_size",
              .max_positions_default = PTQ_ALIBI_POSITIONS},
    .keys = keys,
    .read = read_bloom,
};
