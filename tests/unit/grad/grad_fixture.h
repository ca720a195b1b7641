/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file grad_fixture.h
 * Gradients of golden models, and a model of some 2,000 parameters.
 */
#ifndef PTQ_TESTS_GRAD_FIXTURE_H
#define PTQ_TESTS_GRAD_FIXTURE_H

#include "unit/model/model_fixture.h"

#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/blas.h"

/* A text that a test can read again: ids below `vocab`. */
static inline uint32_t *gf_ids(int64_t n, int64_t vocab) {
  uint32_t *ids = NULL;
  FX_MUST(ptq_alloc(&ids, n, sizeof *ids, "tokens", &e_));
  ptq_rng rng;
  ptq_rng_init(&rng, 17);
  for (int64_t i = 0; i < n; i++)
    ids[i] = (uint32_t)ptq_rng_below(&rng, (uint64_t)vocab);
  return ids;
}

static inline double *gf_doubles(int64_t n) {
  double *x = NULL;
  FX_MUST(ptq_alloc(&x, n, sizeof *x, "a test's array", &e_));
  return x;
}

static inline double gf_dot(const double *x, const double *y, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}

/* 2 blocks, width 12, 2 query heads of 6 over one key head, d_ff 16,
 * vocabulary 20: 2 * (2 * 144 + 2 * 72 + 3 * 192) = 2016 weights. */
static inline void gf_small(fx_model *m) {
  fx_start(m);
  snprintf(m->config, sizeof m->config, "%s",
           "{\"model_type\": \"llama\", \"hidden_size\": 12,"
           " \"num_hidden_layers\": 2, \"num_attention_heads\": 2,"
           " \"num_key_value_heads\": 1, \"head_dim\": 6,"
           " \"intermediate_size\": 16, \"vocab_size\": 20,"
           " \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5,"
           " \"hidden_act\": \"silu\", \"tie_word_embeddings\": false}");
  fx_add(m, "model.embed_tokens.weight", 20, 12, 0.0F);
  for (int b = 0; b < 2; b++) {
    const char *p = "model.";
    fx_add_in_block(m, p, b, "input_layernorm.weight", 12, 0, 1.0F);
    fx_add_in_block(m, p, b, "self_attn.q_proj.weight", 12, 12, 0.0F);
    fx_add_in_block(m, p, b, "self_attn.k_proj.weight", 6, 12, 0.0F);
    fx_add_in_block(m, p, b, "self_attn.v_proj.weight", 6, 12, 0.0F);
    fx_add_in_block(m, p, b, "self_attn.o_proj.weight", 12, 12, 0.0F);
    fx_add_in_block(m, p, b, "post_attention_layernorm.weight", 12, 0, 1.0F);
    fx_add_in_block(m, p, b, "mlp.gate_proj.weight", 16, 12, 0.0F);
    fx_add_in_block(m, p, b, "mlp.up_proj.weight", 16, 12, 0.0F);
    fx_add_in_block(m, p, b, "mlp.down_proj.weight", 12, 16, 0.0F);
  }
  fx_add(m, "model.norm.weight", 12, 0, 1.0F);
  fx_add(m, "lm_head.weight", 20, 12, 0.0F);
}

#endif /* PTQ_TESTS_GRAD_FIXTURE_H */
