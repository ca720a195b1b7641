/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Falcon (transformers' FalconForCausalLM) in its three kinds: 7B, one norm,
 * parallel halves and one key head; 40B and 180B (new_decoder_architecture),
 * two norms and grouped queries; RW, halves one after the other and ALiBi. */
#include "arch.h"

extern const ptq_arch ptq_arch_falcon;

/* parallel, the norms before the halves, and their names. */
static ptq_status read_norms(const ptq_config *c, bool grouped,
                             ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n_norms = grouped ? 2 : 1;
  info->parallel = true;
  PTQ_TRY(ptq_config_bool(c, "parallel_attn", &info->parallel, err));
  PTQ_TRY(ptq_config_int(c, "num_ln_in_parallel_attn", 1, &n_norms, err));
  if (n_norms > (grouped ? 2 : 1))
    PTQ_TRY(ptq_config_refuse(c, "num_ln_in_parallel_attn",
                              "1, or 2 with new_decoder_architecture", err));
  if (grouped && !info->parallel)
    PTQ_TRY(ptq_config_refuse(c, "parallel_attn",
                              "true with new_decoder_architecture", err));
  info->alt_norms = n_norms == 2;
  info->has_norm[PTQ_NORM_MLP_IN] = !info->parallel || n_norms == 2;
done:
  return rc;
}

static ptq_status read_attention(const ptq_config *c, bool grouped,
                                 ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool multi_query = true, alibi = false;
  info->qkv = PTQ_QKV_GROUPED;
  PTQ_TRY(ptq_config_bool(c, "multi_query", &multi_query, err));
  if (!grouped && multi_query) info->n_kv_heads = 1;
  if (!grouped && info->n_kv_heads != info->n_heads && !multi_query)
    PTQ_TRY(ptq_config_refuse(
        c, "num_kv_heads",
        "num_attention_heads without multi_query or new_decoder_architecture",
        err));
  PTQ_TRY(ptq_config_bool(c, "alibi", &alibi, err));
  if (!alibi) PTQ_TRY(ptq_read_rope(c, 10000.0, info, err));
  if (alibi) {
    info->positions = PTQ_POSITIONS_ALIBI;
    info->alibi_scale = info->attn_scale;
    info->alibi_bf16 = true;
    info->max_positions = PTQ_ALIBI_POSITIONS;
  }
done:
  return rc;
}

static ptq_status read_falcon(const ptq_config *c, ptq_model_info *info,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool grouped = false, bias = false;
  info->act = PTQ_ACT_GELU;
  PTQ_TRY(ptq_read_act(c, "activation", &info->act, err));
  PTQ_TRY(
      ptq_read_norm(c, "layer_norm_epsilon", PTQ_NORM_LAYER, 1e-5, info, err));
  PTQ_TRY(ptq_config_bool(c, "new_decoder_architecture", &grouped, err));
  PTQ_TRY(read_norms(c, grouped, info, err));
  PTQ_TRY(read_attention(c, grouped, info, err));
  PTQ_TRY(ptq_config_bool(c, "bias", &bias, err));
  ptq_set_biases(info, bias, bias);
  PTQ_TRY(
      ptq_read_only(c, "apply_residual_connection_post_layernorm", false, err));
  info->tied_head = true;
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
done:
  return rc;
}

static const char *const prefixes[] = {"transformer.", "", NULL};
static const char *const ignored[] = {".rotary_emb.inv_freq", NULL};
static const char *const keys[] = {
    "activation",
    "alibi",
    "apply_residual_connection_post_layernorm",
    "bias",
    "layer_norm_epsilon",
    "multi_query",
    "new_decoder_architecture",
    "num_ln_in_parallel_attn",
    "parallel_attn",
    PTQ_ROPE_KEYS,
    NULL,
};

const ptq_arch ptq_arch_falcon = {
    .model_type = "falcon",
    .class_name = "FalconForCausalLM",
    .prefixes = prefixes,
    .tokens = "word_embeddings",
    .head = "lm_head",
    .blocks = "h",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "ln_f"},
    .alt_norms = {[PTQ_NORM_ATTN_IN] = "ln_attn",
                  [PTQ_NORM_MLP_IN] = "ln_mlp",
                  [PTQ_NORM_FINAL] = "ln_f"},
    .roles = {[PTQ_ROLE_QKV] = "self_attention.query_key_value",
              [PTQ_ROLE_O] = "self_attention.dense",
              [PTQ_ROLE_UP] = "mlp.dense_h_to_4h",
              [PTQ_ROLE_DOWN] = "mlp.dense_4h_to_h"},
    .ignored_tensors = ignored,
    .sizes = {.d_model = "hidden_size|n_embed",
              .n_blocks = "num_hidden_layers|n_layer",
              .n_heads = "num_attention_heads|n_head",
              .n_kv_heads = "num_kv_heads|n_head_kv",
              .d_ff = "ffn_hidden_size",
              .d_ff_times = 4,
              .vocab = "vocab_size",
              .max_positions = "max_position_embeddings",
              .max_positions_default = 2048},
    .keys = keys,
    .read = read_falcon,
};
