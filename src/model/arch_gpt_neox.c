/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GPT-NeoX, Pythia: attention and MLP in parallel, each behind a LayerNorm of
 * its own, partial rotation, q, k and v of each head together (transformers'
 * GPTNeoXForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_gpt_neox;

static ptq_status read_neox(const ptq_config *c, ptq_model_info *info,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool bias = true;
  double theta = 10000.0, other;
  info->qkv = PTQ_QKV_GROUPED;
  info->act = PTQ_ACT_GELU;
  PTQ_TRY(ptq_read_act(c, "hidden_act", &info->act, err));
  PTQ_TRY(ptq_read_norm(c, "layer_norm_eps", PTQ_NORM_LAYER, 1e-5, info, err));
  PTQ_TRY(ptq_config_positive(c, "rotary_emb_base", &theta, err));
  other = theta; /* transformers takes no notice of it */
  PTQ_TRY(ptq_config_positive(c, "rope_theta", &other, err));
  if (other != theta)
    PTQ_TRY(ptq_config_refuse(
        c, "rope_theta", "what rotary_emb_base says (default 10000)", err));
  PTQ_TRY(ptq_read_rotary_share(c, "rotary_pct", 0.25, info, err));
  PTQ_TRY(ptq_read_rope(c, theta, info, err));
  info->parallel = true;
  PTQ_TRY(ptq_config_bool(c, "use_parallel_residual", &info->parallel, err));
  PTQ_TRY(ptq_config_bool(c, "attention_bias", &bias, err));
  ptq_set_biases(info, bias, true);
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
done:
  return rc;
}

static const char *const prefixes[] = {"gpt_neox.", "", NULL};
static const char *const ignored[] = {
    ".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq", NULL};
static const char *const keys[] = {
    "attention_bias",        "hidden_act",  "layer_norm_eps",
    "rotary_emb_base",       "rotary_pct",  "partial_rotary_factor",
    "use_parallel_residual", PTQ_ROPE_KEYS, NULL,
};

const ptq_arch ptq_arch_gpt_neox = {
    .model_type = "gpt_neox",
    .class_name = "GPTNeoXForCausalLM",
    .prefixes = prefixes,
    .tokens = "embed_in",
    .head = "embed_out",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "final_layer_norm"},
    .roles = {[PTQ_ROLE_QKV] = "attention.query_key_value",
              [PTQ_ROLE_O] = "attention.dense",
              [PTQ_ROLE_UP] = "mlp.dense_h_to_4h",
              [PTQ_ROLE_DOWN] = "mlp.dense_4h_to_h"},
    .ignored_tensors = ignored,
    .sizes = {.d_model = "hidden_size",
              .n_blocks = "num_hidden_layers",
              .n_heads = "num_attention_heads",
              .d_ff = "intermediate_size",
              .vocab = "vocab_size",
              .max_positions = "max_position_embeddings",
              .max_positions_default = 2048},
    .keys = keys,
    .read = read_neox,
};
