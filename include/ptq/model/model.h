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
#include "ptq/num/bf16.h"
#include "ptq/num/diff.h"
#include "ptq/num/real.h"

/** What a linear layer does in its block: a layer is what one tensor of the
 * checkpoint holds, so families that fuse projections have fewer, larger
 * layers. */
typedef enum ptq_role {
  PTQ_ROLE_Q,
  PTQ_ROLE_K,
  PTQ_ROLE_V,
  PTQ_ROLE_QKV, /* the three above in one tensor */
  PTQ_ROLE_O,
  PTQ_ROLE_GATE,    /* absent in MLPs without a gate */
  PTQ_ROLE_UP,      /* OPT's fc1 */
  PTQ_ROLE_GATE_UP, /* the two above in one tensor, gate first */
  PTQ_ROLE_DOWN,    /* OPT's fc2 */
  PTQ_ROLE_COUNT
} ptq_role;

/** A kind of place where linear layers take their common input, in forward
 * order. */
typedef enum ptq_site {
  PTQ_SITE_ATTN_IN,  /* q, k, v or qkv */
  PTQ_SITE_ATTN_OUT, /* o */
  PTQ_SITE_MLP_IN,   /* gate, up or gate_up */
  PTQ_SITE_MLP_OUT,  /* down */
  PTQ_SITE_COUNT
} ptq_site;

ptq_site ptq_role_site(ptq_role role);
/** "attn_in", ...: the store's names. */
const char *ptq_site_name(ptq_site kind);

/*
 * The layers of a block and their sites are numbered. In a dense model a
 * layer's number is its role and a site's its kind; in a mixture of experts
 * that of expert 0, and each further expert adds PTQ_EXPERT_LAYERS and
 * PTQ_EXPERT_SITES. Loops go over the numbers below ptq_layer_count and
 * ptq_site_count of a model; some layers may be absent, no site is.
 */
enum {
  PTQ_EXPERT_LAYERS = PTQ_ROLE_COUNT - PTQ_ROLE_GATE,
  PTQ_EXPERT_SITES = PTQ_SITE_COUNT - PTQ_SITE_MLP_IN,
  PTQ_EXPERTS_MAX = 1024
};
/** `expert` is 0 for attention's. */
int ptq_layer_of(ptq_role role, int expert);
ptq_role ptq_layer_role(int layer);
int ptq_layer_expert(int layer);
int ptq_layer_site(int layer);
int ptq_site_of(ptq_site kind, int expert);
ptq_site ptq_site_kind(int site);
int ptq_site_expert(int site);

typedef enum ptq_norm_kind { PTQ_NORM_RMS, PTQ_NORM_LAYER } ptq_norm_kind;

/** Where a norm stands; those before PTQ_NORM_INNER are a block's own. */
typedef enum ptq_norm_place {
  PTQ_NORM_ATTN_IN,  /* what attention takes */
  PTQ_NORM_Q,        /* queries, before they are rotated */
  PTQ_NORM_K,        /* keys, likewise */
  PTQ_NORM_ATTN_ADD, /* what attention adds to the residual stream */
  PTQ_NORM_ATTN_SUM, /* the stream with that */
  PTQ_NORM_MLP_IN,
  PTQ_NORM_MLP_ADD,
  PTQ_NORM_MLP_SUM,
  PTQ_NORM_INNER,
  PTQ_NORM_EMBED = PTQ_NORM_INNER, /* the embedding */
  PTQ_NORM_FINAL,                  /* what the head takes */
  PTQ_NORM_PLACES
} ptq_norm_place;

/** "SiLU", ... */
const char *ptq_act_name(ptq_act_kind act);

typedef enum ptq_position_kind {
  PTQ_POSITIONS_LEARNED, /* rows added to the embedding */
  PTQ_POSITIONS_ROTARY,  /* queries and keys rotated */
  PTQ_POSITIONS_ALIBI    /* scores fall linearly with distance */
} ptq_position_kind;

/** Rows of a tensor that holds queries, keys and values. */
typedef enum ptq_qkv_kind {
  PTQ_QKV_SEPARATE, /* three tensors */
  PTQ_QKV_CONCAT,   /* all queries, all keys, all values */
  PTQ_QKV_GROUPED   /* by key head: its queries, its key, its value */
} ptq_qkv_kind;

/** Rotation angles: position t turns pair i by t * frequency[i]. */
enum { PTQ_ROPE_PAIRS = 128 };
typedef struct ptq_rope {
  float frequency[PTQ_ROPE_PAIRS];
  double amplitude; /* factor of cosines and sines; 0: not used */
} ptq_rope;
typedef enum ptq_rope_set {
  PTQ_ROPE_MAIN,
  PTQ_ROPE_LONG,  /* instead of it in windows longer than rope_long_from */
  PTQ_ROPE_LOCAL, /* in blocks with PTQ_BLOCK_LOCAL_ROPE */
  PTQ_ROPE_SETS
} ptq_rope_set;

/** What a block does otherwise than others of its model. */
enum {
  PTQ_BLOCK_WINDOW = 1,     /* a token sees the last `window` tokens only */
  PTQ_BLOCK_LOCAL_ROPE = 2, /* rotates with PTQ_ROPE_LOCAL */
  PTQ_BLOCK_NO_ROPE = 4,    /* does not rotate */
  PTQ_BLOCKS_MAX = 512
};

enum { PTQ_TENSOR_NAME_MAX = 96, PTQ_ARCH_NAME_MAX = 32 };

/** Everything about a model but its weights. */
typedef struct ptq_model_info {
  char arch[PTQ_ARCH_NAME_MAX]; /* row of the architecture table */
  int64_t d_model, n_blocks, n_heads, n_kv_heads, d_head, vocab;
  int64_t d_ff;    /* inner width of the MLP, of each expert */
  int64_t d_embed; /* width of the token embedding as stored: OPT-350M
                      projects it to d_model, and back before the head */
  int64_t max_positions;
  /* Norms: all of one kind. */
  ptq_norm_kind norm;
  double norm_eps;
  double norm_offset; /* the gain is this plus the stored weight */
  bool norm_plain;    /* without gain and bias */
  bool has_norm[PTQ_NORM_PLACES];
  bool alt_norms;    /* named by the architecture's second list */
  bool qk_norm_wide; /* over all heads at once, not each head */
  bool parallel;     /* attention and MLP take the same residual stream; without
                        PTQ_NORM_MLP_IN, the same normed input */
  /* MLP. */
  ptq_act_kind act;
  bool has_gate, fused_gate_up;
  /* A mixture of experts: each token goes to the `experts_used` of the largest
   * probabilities, softmax(router x), which weigh what they give. */
  int64_t n_experts; /* 0: one MLP for all tokens */
  int64_t experts_used;
  bool experts_share_one; /* those probabilities are divided by their sum */
  /* Attention: softmax(cap(scores * attn_scale) + bias). */
  ptq_qkv_kind qkv;
  double attn_scale;
  double qkv_clip; /* queries, keys and values are cut to +- it; 0: none */
  double attn_cap; /* cap(x) = attn_cap tanh(x / attn_cap); 0: none */
  ptq_position_kind positions;
  int64_t position_offset; /* OPT: 2 */
  int64_t rotary_width;    /* leading elements of a head that are rotated */
  ptq_rope rope[PTQ_ROPE_SETS];
  int64_t rope_long_from; /* 0: PTQ_ROPE_LONG is not used */
  double alibi_scale;     /* of the bias slope * position of the key */
  bool alibi_bf16;        /* that product rounded to bfloat16, as Falcon does */
  int64_t window;
  uint8_t block_flags[PTQ_BLOCKS_MAX];
  /* Embedding and head. */
  double embed_scale; /* of the token embedding; 0: none */
  bool tied_head, head_bias;
  double logit_cap; /* 0: none */
  /* Storage. */
  bool has_bias[PTQ_ROLE_COUNT];
  bool transposed; /* the checkpoint has linear layers as [in, out] */
  /* Counted from the tensors present; a tied tensor once. */
  int64_t params, params_nonembedding; /* non-embedding: without token and
                                          position embeddings and head */
  int64_t params_quantizable;          /* weights of the blocks' linears */
  double bits_unquantized; /* storage of everything else, as stored */
  bool dequantized;        /* config says provenance "dequantized" */
  ptq_compute compute;     /* of the products; not the checkpoint's:
                              ptq_model_set_compute */
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
/** The arithmetic of the forward pass's products, float32 unless set: before
 * blocks or head are loaded, which hold their weights as products take them,
 * and after ptq_bf16_init where it is bf16. PTQ_E_UNSUPPORTED: bf16 in the
 * library of float64. */
ptq_status ptq_model_set_compute(ptq_model *m, ptq_compute compute,
                                 ptq_err *err);
const ptq_model_info *ptq_model_get_info(const ptq_model *m); /* borrowed */

/** XXH3-128 over config.json and every weight file's contents (reads them
 * all once). */
ptq_status ptq_model_fingerprint(const ptq_model *m, char hex[PTQ_HASH_HEX],
                                 ptq_err *err);

/** MLPs of a block: experts, or 1. */
int ptq_mlp_count(const ptq_model_info *info);
/** Numbers of layers and sites of a block. */
int ptq_layer_count(const ptq_model_info *info);
int ptq_site_count(const ptq_model_info *info);
/** Width of a site's input vectors; of a role's inputs and outputs. */
int64_t ptq_site_width(const ptq_model_info *info, int site);
bool ptq_role_present(const ptq_model_info *info, ptq_role role);
int64_t ptq_role_outputs(const ptq_model_info *info, ptq_role role);
int64_t ptq_role_inputs(const ptq_model_info *info, ptq_role role);
bool ptq_layer_present(const ptq_model_info *info, int layer);
/** Checkpoint name of a linear's weight ("model.layers.0.self_attn.q_proj
 * .weight"). */
void ptq_layer_tensor_name(const ptq_model *m, int64_t block, int layer,
                           char name[PTQ_TENSOR_NAME_MAX]);

/** Rows of the learned position embedding; 0 without one. */
int64_t ptq_position_rows(const ptq_model_info *info);
/** Width of what a norm takes. */
int64_t ptq_norm_width(const ptq_model_info *info, ptq_norm_place place);

typedef struct ptq_linear {
  ptq_real
      *weight;    /* owned by the block; [out, in] row-major; NULL if absent */
  ptq_real *bias; /* owned by the block; [out]; NULL if none */
  ptq_packed *packed; /* owned by the block; weight as bf16 products take it;
                         NULL in float32 */
  int64_t out, in;
} ptq_linear;

/** A norm's gain w (1 where the checkpoint has none) and bias. */
typedef struct ptq_norm {
  ptq_real
      *w; /* owned by its block, embedding or head; [width]; NULL: no norm */
  ptq_real *b; /* likewise; NULL if none */
} ptq_norm;

typedef struct ptq_block {
  int64_t index;
  ptq_linear *linear; /* owned; [ptq_layer_count] */
  int n_layers;       /* of `linear` */
  ptq_linear router;  /* of a mixture of experts; never quantized */
  ptq_norm norm[PTQ_NORM_INNER];
  void *memory; /* owned; what the pointers to weights point into */
} ptq_block;

/** The norm whose result is a site's input, NULL where there is none. */
const ptq_norm *ptq_site_norm(const ptq_model_info *info, const ptq_block *b,
                              int site);

/** Read a block as float32. NaN or Inf in a weight is PTQ_E_NUMERIC, naming
 * tensor and index. Freed with ptq_block_release. */
ptq_status ptq_model_load_block(ptq_model *m, int64_t index, ptq_block *out,
                                ptq_err *err);
void ptq_block_release(ptq_block *b);

/** Token and position embeddings. */
typedef struct ptq_embedding {
  ptq_real
      *tokens; /* owned; [vocab, d_model], projected where d_embed differs */
  ptq_real *positions; /* owned; [ptq_position_rows, d_model] or NULL */
  ptq_norm norm;       /* owned; PTQ_NORM_EMBED */
} ptq_embedding;
ptq_status ptq_model_load_embedding(ptq_model *m, ptq_embedding *out,
                                    ptq_err *err);
void ptq_embedding_release(ptq_embedding *e);
/** h[n, d_model] = embedding of ids at positions 0..n-1. PTQ_E_ARG: an id
 * beyond the vocabulary (with its index), n beyond max_positions. */
ptq_status ptq_embed(const ptq_model_info *info, const ptq_embedding *e,
                     const uint32_t *ids, int64_t n, ptq_real *h, ptq_err *err);

/** Final norm and head. */
typedef struct ptq_head {
  ptq_norm norm;       /* owned; PTQ_NORM_FINAL */
  ptq_real *weight;    /* owned; [vocab, d_model] (a copy when tied), projected
                       where d_embed differs; NULL in bf16 */
  ptq_packed **slices; /* owned; of PTQ_HEAD_SLICE rows; NULL in float32 */
  int64_t n_slices;
  ptq_real *bias; /* owned; [vocab] or NULL */
} ptq_head;
ptq_status ptq_model_load_head(ptq_model *m, ptq_head *out, ptq_err *err);
void ptq_head_release(ptq_head *h);

/** Bytes that a block takes, the embedding and the head, these two with what
 * stands beside them while they are read. */
int64_t ptq_model_block_bytes(const ptq_model_info *info);
int64_t ptq_model_embedding_bytes(const ptq_model_info *info);
int64_t ptq_model_head_bytes(const ptq_model_info *info);

#endif /* PTQ_MODEL_MODEL_H */
