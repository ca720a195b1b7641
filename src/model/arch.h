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

/** config.json's keys for sizes, read before `read` is called. NULL: the
 * family has no such key. */
typedef struct ptq_size_keys {
  const char *d_model, *n_blocks, *n_heads, *vocab; /* required */
  const char *n_kv_heads;                           /* default: n_heads */
  const char *d_head;        /* default: d_model / n_heads */
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
  const char *roles[PTQ_ROLE_COUNT]; /* within a block, without ".weight" */
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
/** info->window and PTQ_BLOCK_WINDOW of all blocks from an integer key that
 * may be null. */
ptq_status ptq_read_window(const ptq_config *c, const char *key,
                           ptq_model_info *info, ptq_err *err);
/** What layer_types (a text a block: full_attention or sliding_attention)
 * says, or without it a pattern: block i is full where (i + 1) % period == 0.
 * Sets PTQ_BLOCK_WINDOW of the others. */
ptq_status ptq_read_layer_types(const ptq_config *c, int64_t period,
                                ptq_model_info *info, ptq_err *err);

#endif /* PTQ_MODEL_ARCH_H */
