/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file model.h
 * A checkpoint in the terms of the shared forward pass.
 *
 * A decoder model is: token (and position) embedding, n_blocks blocks of
 * attention and MLP on a residual stream, a final norm and a head. What
 * differs between architectures is data in ptq_model_info, filled by the
 * architecture's own file src/model/arch_<name>.c.
 */
#ifndef PTQ_MODEL_MODEL_H
#define PTQ_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/hash.h"
#include "ptq/base/status.h"

/** A linear layer's place in its block. */
typedef enum ptq_role {
  PTQ_ROLE_Q,
  PTQ_ROLE_K,
  PTQ_ROLE_V,
  PTQ_ROLE_O,
  PTQ_ROLE_GATE, /* absent in MLPs without a gate */
  PTQ_ROLE_UP,   /* OPT's fc1 */
  PTQ_ROLE_DOWN, /* OPT's fc2 */
  PTQ_ROLE_COUNT
} ptq_role;

/** A place where linear layers take their common input, in forward order. */
typedef enum ptq_site {
  PTQ_SITE_ATTN_IN,  /* q, k, v */
  PTQ_SITE_ATTN_OUT, /* o */
  PTQ_SITE_MLP_IN,   /* gate, up */
  PTQ_SITE_MLP_OUT,  /* down */
  PTQ_SITE_COUNT
} ptq_site;

ptq_site ptq_role_site(ptq_role role);
/** "attn_in", ...: the store's names. */
const char *ptq_site_name(ptq_site site);

typedef enum ptq_norm_kind { PTQ_NORM_RMS, PTQ_NORM_LAYER } ptq_norm_kind;
typedef enum ptq_act_kind { PTQ_ACT_SILU, PTQ_ACT_RELU } ptq_act_kind;

enum { PTQ_TENSOR_NAME_MAX = 96, PTQ_ARCH_NAME_MAX = 32 };

/** Everything about a model but its weights. */
typedef struct ptq_model_info {
  char arch[PTQ_ARCH_NAME_MAX]; /* row of the architecture table */
  int64_t d_model, n_blocks, n_heads, n_kv_heads, d_head, d_ff, vocab;
  int64_t max_positions;
  ptq_norm_kind norm;
  double norm_eps;
  ptq_act_kind act;
  bool has_gate;
  bool rotary; /* else learned positions */
  double rope_theta;
  int64_t position_offset; /* OPT: 2 */
  bool has_bias[PTQ_ROLE_COUNT];
  bool tied_head;
  /* Counted from the tensors present; a tied tensor once. */
  int64_t params, params_nonembedding; /* non-embedding: without token and
                                          position embeddings and head */
  int64_t params_quantizable;          /* weights of the blocks' linears */
  double bits_unquantized; /* storage of everything else, as stored */
  bool dequantized;        /* config says provenance "dequantized" */
} ptq_model_info;

/** Row i of the architecture table: config.json's model_type and the
 * transformers class it stands for, static storage; false past the end. */
bool ptq_arch_row(int i, const char **name, const char **class_name);

typedef struct ptq_model ptq_model;

/**
 * Open a Hugging Face directory: config.json, model.safetensors or
 * model.safetensors.index.json with its shards. Reads headers only; checks
 * that every tensor of the architecture is there with the shape that the
 * config implies, and that no unknown config key changes the computation.
 * @return PTQ_E_IO, PTQ_E_FORMAT, PTQ_E_UNSUPPORTED; the message names file,
 *         tensor or key and what to do. Rank-local.
 */
ptq_status ptq_model_open(const char *dir, ptq_model **out, ptq_err *err);
void ptq_model_close(ptq_model *m);
const ptq_model_info *ptq_model_get_info(const ptq_model *m); /* borrowed */

/** XXH3-128 over config.json and every weight file's contents (reads them
 * all once). */
ptq_status ptq_model_fingerprint(const ptq_model *m, char hex[PTQ_HASH_HEX],
                                 ptq_err *err);

/** Width of a site's input vectors; of a role's inputs and outputs. */
int64_t ptq_site_width(const ptq_model_info *info, ptq_site site);
bool ptq_role_present(const ptq_model_info *info, ptq_role role);
int64_t ptq_role_outputs(const ptq_model_info *info, ptq_role role);
int64_t ptq_role_inputs(const ptq_model_info *info, ptq_role role);
/** Checkpoint name of a linear's weight ("model.layers.0.self_attn.q_proj
 * .weight"). */
void ptq_role_tensor_name(const ptq_model *m, int64_t block, ptq_role role,
                          char name[PTQ_TENSOR_NAME_MAX]);

typedef struct ptq_linear {
  float *weight; /* owned by the block; [out, in] row-major; NULL if absent */
  float *bias;   /* owned by the block; [out]; NULL if none */
  int64_t out, in;
} ptq_linear;

typedef struct ptq_block {
  int64_t index;
  ptq_linear linear[PTQ_ROLE_COUNT];
  float *norm1_w, *norm1_b; /* before attention; [d_model]; bias NULL if RMS */
  float *norm2_w, *norm2_b; /* before the MLP */
  void *memory;             /* owned; what the pointers above point into */
} ptq_block;

/** Read a block as float32. NaN or Inf in a weight is PTQ_E_NUMERIC, naming
 * tensor and index. Freed with ptq_block_release. */
ptq_status ptq_model_load_block(ptq_model *m, int64_t index, ptq_block *out,
                                ptq_err *err);
void ptq_block_release(ptq_block *b);

/** Token and position embeddings. */
typedef struct ptq_embedding {
  float *tokens;    /* owned; [vocab, d_model] */
  float *positions; /* owned; [max_positions + offset, d_model] or NULL */
} ptq_embedding;
ptq_status ptq_model_load_embedding(ptq_model *m, ptq_embedding *out,
                                    ptq_err *err);
void ptq_embedding_release(ptq_embedding *e);
/** h[n, d_model] = embedding of ids at positions 0..n-1. PTQ_E_ARG: an id
 * beyond the vocabulary (with its index), n beyond max_positions. */
ptq_status ptq_embed(const ptq_model_info *info, const ptq_embedding *e,
                     const uint32_t *ids, int64_t n, float *h, ptq_err *err);

/** Final norm and head. */
typedef struct ptq_head {
  float *norm_w, *norm_b; /* owned; bias NULL if RMS */
  float *weight;          /* owned; [vocab, d_model] (a copy when tied) */
} ptq_head;
ptq_status ptq_model_load_head(ptq_model *m, ptq_head *out, ptq_err *err);
void ptq_head_release(ptq_head *h);

/** Bytes of float32 that one block, the embedding and the head take together.
 */
int64_t ptq_model_block_bytes(const ptq_model_info *info);

#endif /* PTQ_MODEL_MODEL_H */
