/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GPT-2: learned positions, LayerNorms before the half blocks, and linear
 * layers stored as [in, out], q, k and v in one (transformers'
 * GPT2LMHeadModel). */
#include "arch.h"

extern const ptq_arch ptq_arch_gpt2;

static ptq_status read_gpt2(const ptq_config *c, ptq_model_info *info,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  info->positions = PTQ_POSITIONS_LEARNED;
  info->qkv = PTQ_QKV_CONCAT;
  info->transposed = true;
  info->act = PTQ_ACT_GELU_TANH;
  PTQ_TRY(ptq_read_act(c, "activation_function", &info->act, err));
  PTQ_TRY(
      ptq_read_norm(c, "layer_norm_epsilon", PTQ_NORM_LAYER, 1e-5, info, err));
  ptq_set_biases(info, true, true);
  PTQ_TRY(ptq_read_only(c, "scale_attn_weights", true, err));
  PTQ_TRY(ptq_read_only(c, "scale_attn_by_inverse_layer_idx", false, err));
  info->tied_head = true;
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
done:
  return rc;
}

static const char *const prefixes[] = {"transformer.", "", NULL};
static const char *const ignored[] = {".attn.bias", ".attn.masked_bias", NULL};
static const char *const keys[] = {
    "activation_function",
    "layer_norm_epsilon",
    "reorder_and_upcast_attn", /* the same numbers in float32 */
    "scale_attn_by_inverse_layer_idx",
    "scale_attn_weights",
    NULL,
};

const ptq_arch ptq_arch_gpt2 = {
    .model_type = "gpt2",
    .class_name = "GPT2LMHeadModel",
    .prefixes = prefixes,
    .tokens = "wte",
    .positions = "wpe",
    .head = "lm_head",
    .blocks = "h",
    .norms = {[PTQ_NORM_ATTN_IN] = "ln_1",
              [PTQ_NORM_MLP_IN] = "ln_2",
              [PTQ_NORM_FINAL] = "ln_f"},
    .roles = {[PTQ_ROLE_QKV] = "attn.c_attn",
              [PTQ_ROLE_O] = "attn.c_proj",
              [PTQ_ROLE_UP] = "mlp.c_fc",
              [PTQ_ROLE_DOWN] = "mlp.c_proj"},
    .ignored_tensors = ignored,
    .sizes = {.d_model = "n_embd|hidden_size",
              .n_blocks = "n_layer|num_hidden_layers",
              .n_heads = "n_head|num_attention_heads",
              .d_ff = "n_inner",
              .d_ff_times = 4,
              .vocab = "vocab_size",
              .max_positions = "n_positions|max_position_embeddings",
              .max_positions_default = 1024},
    .keys = keys,
    .read = read_gpt2,
};
