/* SPDX-License-Identifier: GPL-3.0-or-later */
/* SmolLM3: LLaMA without rotation in every fourth block (transformers'
 * SmolLM3ForCausalLM). */
#include "arch.h"

extern const ptq_arch ptq_arch_smollm3;

/* no_rope_layers lists, against its name, 1 for blocks that rotate. */
static ptq_status read_no_rope(const ptq_config *c, ptq_model_info *info,
                               ptq_err *err) {
  static const char list[] = "no_rope_layers";
  ptq_status rc = PTQ_OK;
  int64_t interval = 4;
  const bool listed = ptq_config_has(c, list);
  PTQ_TRY(ptq_config_int(c, "no_rope_layer_interval", 1, &interval, err));
  if (listed) PTQ_TRY(ptq_config_list_check(c, list, info->n_blocks, err));
  for (int64_t b = 0; b < info->n_blocks; b++)
    if (listed ? ptq_config_list_int(c, list, b) == 0 : (b + 1) % interval == 0)
      info->block_flags[b] |= PTQ_BLOCK_NO_ROPE;
done:
  return rc;
}

static ptq_status read_smollm3(const ptq_config *c, ptq_model_info *info,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_read_llama_like(c, 1e-6, 2e6, true, info, err));
  PTQ_TRY(read_no_rope(c, info, err));
  PTQ_TRY(ptq_read_only(c, "use_sliding_window", false, err));
  PTQ_TRY(ptq_read_layer_types(c, 0, info, err));
done:
  return rc;
}

static const char *const keys[] = {
    PTQ_LLAMA_KEYS,           "layer_types",
    "no_rope_layer_interval", "no_rope_layers",
    "sliding_window",         "use_sliding_window",
    "max_window_layers",      NULL,
};

const ptq_arch ptq_arch_smollm3 = {
    .model_type = "smollm3",
    .class_name = "SmolLM3ForCausalLM",
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
    .read = read_smollm3,
};
