/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file arch.h
 * The architecture table. An architecture is one file arch_<name>.c that ends
 * in its `const ptq_arch` row: tensor names, and a function that translates
 * config.json to ptq_model_info. It is listed once, in arch.c.
 */
#ifndef PTQ_MODEL_ARCH_H
#define PTQ_MODEL_ARCH_H

#include "config.h"
#include "ptq/model/model.h"

/** config.json's keys for sizes, read before `read` is called: one, or several
 * spellings as "a|b". NULL: the family has no such key. */
typedef struct ptq_size_keys {
  const char *d_model, *n_blocks, *n_heads, *vocab; /* required */
  const char *n_kv_heads;                           /* default: n_heads */
  const char *d_head;        /* default: d_head_default, or d_model / n_heads */
  int64_t d_head_default;    /* 0: none */
  const char *d_ff;          /* required unless d_ff_times */
  int64_t d_ff_times;        /* default of d_ff in d_models */
  const char *max_positions; /* without the key, any window fits */
  int64_t max_positions_default;
} ptq_size_keys;

typedef struct ptq_arch {
  const char *model_type; /* config.json's spelling; name of the row */
  const char *class_name; /* the transformers class that is matched */
  /* Tensor names, as <prefix><name>; the prefix is the first of `prefixes`
   * (NULL-terminated) under which the token embedding is found. */
  const char *const *prefixes;
  const char *tokens;      /* token embedding's weight */
  const char *positions;   /* learned positions' weight; may be NULL */
  const char *project_in;  /* from and to the embedding's width; the whole */
  const char *project_out; /* name after the prefix; may be NULL */
  const char *head;        /* without ".weight" and without prefix */
  const char *blocks;      /* "layers": block i is <prefix>layers.<i>. */
  /* Without ".weight"; EMBED and FINAL after the prefix, the others within a
   * block. A place that info->has_norm names has a name here, or the kind of
   * the norm is plain. */
  const char *norms[PTQ_NORM_PLACES];
  const char *alt_norms[PTQ_NORM_PLACES]; /* instead, where info->alt_norms */
  const char *roles[PTQ_ROLE_COUNT];      /* within a block, without ".weight";
                                             an expert's own within the expert */
  const char *experts; /* "mlp.experts": expert e is mlp.experts.<e>. */
  const char *router;  /* within a block, without ".weight" */
  /** Ends of tensor names that carry no weights; NULL-terminated. */
  const char *const *ignored_tensors;
  ptq_size_keys sizes;
  /** Keys that `read` looks at; NULL-terminated. */
  const char *const *keys;
  /** Fill what ptq_arch_read has not: info comes with the sizes, RMS norms
   * before attention, MLP and head, SiLU, separate q, k and v and scores
   * scaled by 1 / sqrt(d_head). Refuse what the forward pass does not do. */
  ptq_status (*read)(const ptq_config *c, ptq_model_info *info, ptq_err *err);
} ptq_arch;

/** All rows, NULL-terminated. */
const ptq_arch *const *ptq_archs(void);
/** The row for config.json's model_type. PTQ_E_UNSUPPORTED lists what is
 * known. */
ptq_status ptq_arch_find(const ptq_config *c, const ptq_arch **out,
                         ptq_err *err);
/** Sizes, defaults and a->read; then checks what follows from one another and
 * refuses keys nobody read. */
ptq_status ptq_arch_read(const ptq_arch *a, const ptq_config *c,
                         ptq_model_info *info, ptq_err *err);

/* What `read` functions share. */

/** An activation by transformers' name; absent: *act stays. */
ptq_status ptq_read_act(const ptq_config *c, const char *key, ptq_act_kind *act,
                        ptq_err *err);
/** info->norm_eps and, for LayerNorm, the kind. */
ptq_status ptq_read_norm(const ptq_config *c, const char *eps_key,
                         ptq_norm_kind kind, double eps_default,
                         ptq_model_info *info, ptq_err *err);
/** has_bias of the roles that take their input in attention, and in the MLP. */
void ptq_set_biases(ptq_model_info *info, bool attention, bool mlp);
/** Refuse a boolean key unless it has (or defaults to) `only`. */
ptq_status ptq_read_only(const ptq_config *c, const char *key, bool only,
                         ptq_err *err);
/** The share of a head that is rotated: key, or `share` without it. */
ptq_status ptq_read_rotary_share(const ptq_config *c, const char *key,
                                 double share, ptq_model_info *info,
                                 ptq_err *err);
/** Rotary positions from rope_theta and rope_scaling (or rope_parameters) into
 * info->rope: default, linear, dynamic, yarn, longrope and llama3 as
 * transformers computes them. `theta` is the default of rope_theta. Keys:
 * PTQ_ROPE_KEYS. */
ptq_status ptq_read_rope(const ptq_config *c, double theta,
                         ptq_model_info *info, ptq_err *err);
#define PTQ_ROPE_KEYS                              \
  "rope_theta", "rope_scaling", "rope_parameters", \
      "original_max_position_embeddings"
/** One unscaled set of angles. */
void ptq_rope_fill(const ptq_model_info *info, double theta, double divisor,
                   ptq_rope *rope);
/** A cap or similar that may be null for none: 0 then, `absent` without the
 * key. */
ptq_status ptq_read_optional(const ptq_config *c, const char *key,
                             double absent, double *out, ptq_err *err);
/** info->window from sliding_window, which may be null for none; `absent`
 * without the key. */
ptq_status ptq_read_window(const ptq_config *c, int64_t absent,
                           ptq_model_info *info, ptq_err *err);
/** Blocks first.. get PTQ_BLOCK_WINDOW, if there is a window. */
void ptq_set_windows(ptq_model_info *info, int64_t first);
/** What layer_types (a text a block: full_attention or sliding_attention)
 * says, or without it a pattern: block i is full where (i + 1) % period == 0,
 * all are for period 0. Sets PTQ_BLOCK_WINDOW of the others. */
ptq_status ptq_read_layer_types(const ptq_config *c, int64_t period,
                                ptq_model_info *info, ptq_err *err);
/** Windows from block max_window_layers on where use_sliding_window says so, or
 * layer_types; Qwen's. Keys: PTQ_LATE_WINDOW_KEYS. */
ptq_status ptq_read_late_windows(const ptq_config *c, ptq_model_info *info,
                                 ptq_err *err);
#define PTQ_LATE_WINDOW_KEYS \
  "layer_types", "max_window_layers", "sliding_window", "use_sliding_window"
/** Positions without a limit of their own: any window that fits memory. */
enum { PTQ_ALIBI_POSITIONS = 1 << 20 };
/** A mixture of experts from keys for how many there are and how many a token
 * goes to, which the config must have. */
ptq_status ptq_read_experts(const ptq_config *c, const char *count_key,
                            const char *used_key, ptq_model_info *info,
                            ptq_err *err);
/** The readers of rms_norm_eps (default `eps`), hidden_act and rope, biases of
 * attention_bias and mlp_bias, a gate, tie_word_embeddings (default `tied`):
 * what LLaMA's descendants have in common. Keys: PTQ_LLAMA_KEYS. */
ptq_status ptq_read_llama_like(const ptq_config *c, double eps, double theta,
                               bool tied, ptq_model_info *info, ptq_err *err);

/* Names of LLaMA that its descendants took over. */
#define PTQ_LLAMA_KEYS \
  "attention_bias", "hidden_act", "mlp_bias", "rms_norm_eps", PTQ_ROPE_KEYS
#define PTQ_LLAMA_SIZES(positions)                                          \
  .d_model = "hidden_size", .n_blocks = "num_hidden_layers",                \
  .n_heads = "num_attention_heads", .n_kv_heads = "num_key_value_heads",    \
  .d_head = "head_dim", .d_ff = "intermediate_size", .vocab = "vocab_size", \
  .max_positions = "max_position_embeddings",                               \
  .max_positions_default = (positions)
#define PTQ_LLAMA_ATTENTION                                             \
  [PTQ_ROLE_Q] = "self_attn.q_proj", [PTQ_ROLE_K] = "self_attn.k_proj", \
  [PTQ_ROLE_V] = "self_attn.v_proj", [PTQ_ROLE_O] = "self_attn.o_proj"
#define PTQ_LLAMA_MLP                                               \
  [PTQ_ROLE_GATE] = "mlp.gate_proj", [PTQ_ROLE_UP] = "mlp.up_proj", \
  [PTQ_ROLE_DOWN] = "mlp.down_proj"
/* The same within an expert. */
#define PTQ_LLAMA_EXPERT                                    \
  [PTQ_ROLE_GATE] = "gate_proj", [PTQ_ROLE_UP] = "up_proj", \
  [PTQ_ROLE_DOWN] = "down_proj"
/* How a router was trained. */
#define PTQ_ROUTER_KEYS \
  "output_router_logits", "router_aux_loss_coef", "router_jitter_noise"
extern const char *const ptq_llama_prefixes[]; /* "model." or none */
extern const char *const ptq_llama_ignored[];  /* rotary buffers */

#endif /* PTQ_MODEL_ARCH_H */
