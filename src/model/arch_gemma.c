/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Gemma 1 to 3 (transformers' GemmaForCausalLM, Gemma2ForCausalLM and
 * Gemma3ForCausalLM): norms that multiply by 1 + w, a scaled embedding and
 * GeGLU. Gemma 2 adds norms behind each half block, soft caps, and windows in
 * every other block; Gemma 3 norms of queries and keys, and blocks with
 * windows have angles of their own. */
#include <math.h>
#include <string.h>

#include "arch.h"

extern const ptq_arch ptq_arch_gemma;
extern const ptq_arch ptq_arch_gemma2;
extern const ptq_arch ptq_arch_gemma3;

/* `act` is the key that transformers (4.49, 4.57) computes by, whatever the
 * other one says: hidden_act of Gemma 1, hidden_activation of the later ones.
 */
static ptq_status read_common(const ptq_config *c, double theta,
                              const char *act, ptq_model_info *info,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-6, theta, true, info, err));
  PTQ_TRY(ptq_read_only(c, "mlp_bias", false, err));
  info->act = PTQ_ACT_GELU_TANH;
  PTQ_TRY(ptq_read_act(c, act, &info->act, err));
  info->norm_offset = 1.0;
  info->embed_scale = sqrt((double)info->d_model);
  PTQ_TRY(ptq_read_only(c, "use_bidirectional_attention", false, err));
done:
  return rc;
}

static ptq_status read_gemma(const ptq_config *c, ptq_model_info *info,
                             ptq_err *err) {
  return read_common(c, 10000.0, "hidden_act", info, err);
}

/* What Gemma 2 and 3 share; `cap` is the default of the caps. */
static ptq_status read_later(const ptq_config *c, double theta, double attn_cap,
                             double logit_cap, int64_t period,
                             ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double scalar = 256.0;
  PTQ_TRY(read_common(c, theta, "hidden_activation", info, err));
  PTQ_TRY(ptq_config_positive(c, "query_pre_attn_scalar", &scalar, err));
  info->attn_scale = 1.0 / sqrt(scalar);
  PTQ_TRY(ptq_read_optional(c, "attn_logit_softcapping", attn_cap,
                            &info->attn_cap, err));
  PTQ_TRY(ptq_read_optional(c, "final_logit_softcapping", logit_cap,
                            &info->logit_cap, err));
  info->has_norm[PTQ_NORM_ATTN_ADD] = info->has_norm[PTQ_NORM_MLP_ADD] = true;
  PTQ_TRY(ptq_read_window(c, 4096, info, err));
  PTQ_TRY(ptq_read_layer_types(c, period, info, err));
done:
  return rc;
}

static ptq_status read_gemma2(const ptq_config *c, ptq_model_info *info,
                              ptq_err *err) {
  return read_later(c, 10000.0, 50.0, 30.0, 2, info, err);
}

static ptq_status read_gemma3(const ptq_config *c, ptq_model_info *info,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t period = 6;
  double local = 10000.0;
  PTQ_TRY(ptq_config_int(c, "_sliding_window_pattern", 1, &period, err));
  PTQ_TRY(ptq_config_int(c, "sliding_window_pattern", 1, &period, err));
  PTQ_TRY(read_later(c, 1e6, 0.0, 0.0, period, info, err));
  if (info->attn_cap != 0.0) /* transformers takes no notice of it */
    PTQ_TRY(ptq_config_refuse(c, "attn_logit_softcapping", "null", err));
  info->has_norm[PTQ_NORM_Q] = info->has_norm[PTQ_NORM_K] = true;
  PTQ_TRY(ptq_config_positive(c, "rope_local_base_freq", &local, err));
  ptq_rope_fill(info, local, 1.0, &info->rope[PTQ_ROPE_LOCAL]);
  for (int64_t b = 0; b < info->n_blocks; b++)
    if (info->block_flags[b] & PTQ_BLOCK_WINDOW)
      info->block_flags[b] |= PTQ_BLOCK_LOCAL_ROPE;
done:
  return rc;
}

static const char *const keys[] = {
    PTQ_LLAMA_KEYS,
    "_sliding_window_pattern",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "hidden_activation",
    "layer_types",
    "query_pre_attn_scalar",
    "rope_local_base_freq",
    "sliding_window",
    "sliding_window_pattern",
    "use_bidirectional_attention",
    NULL,
};
static const char *const gemma_keys[] = {PTQ_LLAMA_KEYS, "hidden_activation",
                                         "use_bidirectional_attention", NULL};

const ptq_arch ptq_arch_gemma = {
    .model_type = "gemma",
    .class_name = "GemmaForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_MLP_IN] = "post_attention_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(8192), .d_head_default = 256},
    .keys = gemma_keys,
    .read = read_gemma,
};

const ptq_arch ptq_arch_gemma2 = {
    .model_type = "gemma2",
    .class_name = "Gemma2ForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_ATTN_ADD] = "post_attention_layernorm",
              [PTQ_NORM_MLP_IN] = "pre_feedforward_layernorm",
              [PTQ_NORM_MLP_ADD] = "post_feedforward_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(8192), .d_head_default = 256},
    .keys = keys,
    .read = read_gemma2,
};

const ptq_arch ptq_arch_gemma3 = {
    .model_type = "gemma3_text",
    .class_name = "Gemma3ForCausalLM",
    .prefixes = ptq_llama_prefixes,
    .tokens = "embed_tokens",
    .head = "lm_head",
    .blocks = "layers",
    .norms = {[PTQ_NORM_ATTN_IN] = "input_layernorm",
              [PTQ_NORM_Q] = "self_attn.q_norm",
              [PTQ_NORM_K] = "self_attn.k_norm",
              [PTQ_NORM_ATTN_ADD] = "post_attention_layernorm",
              [PTQ_NORM_MLP_IN] = "pre_feedforward_layernorm",
              [PTQ_NORM_MLP_ADD] = "post_feedforward_layernorm",
              [PTQ_NORM_FINAL] = "norm"},
    .roles = {PTQ_LLAMA_ATTENTION, PTQ_LLAMA_MLP},
    .ignored_tensors = ptq_llama_ignored,
    .sizes = {PTQ_LLAMA_SIZES(131072), .d_head_default = 256},
    .keys = keys,
    .read = read_gemma3,
};
