/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file model_fixture.h
 * Tiny checkpoints with random weights, written by the tests that read them,
 * who may spoil them first.
 */
#ifndef PTQ_TESTS_MODEL_FIXTURE_H
#define PTQ_TESTS_MODEL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ptq/base/rng.h"
#include "ptq/base/status.h"

enum { FX_TENSORS = 64, FX_NAME = 96, FX_CONFIG = 2048, FX_PATH = 256 };

typedef struct fx_tensor {
  char name[FX_NAME];
  int64_t rows, cols; /* cols 0: a vector */
  float *values;      /* owned; [rows * max(cols, 1)] */
  int shard;
} fx_tensor;

typedef struct fx_model {
  char dir[FX_PATH];
  char config[FX_CONFIG];
  fx_tensor t[FX_TENSORS];
  int n;
  uint64_t seed;
} fx_model;

#define FX_MUST(call)                             \
  do {                                            \
    ptq_err e_ = {0};                             \
    if ((call) != PTQ_OK) fail_msg("%s", e_.msg); \
  } while (0)

static inline int64_t fx_count(const fx_tensor *t) {
  return t->rows * (t->cols > 0 ? t->cols : 1);
}

/* A tensor of random values around `middle`, none very small. */
static inline void fx_add(fx_model *m, const char *name, int64_t rows,
                          int64_t cols, float middle) {
  assert_true(m->n < FX_TENSORS);
  fx_tensor *t = &m->t[m->n++];
  *t = (fx_tensor){.rows = rows, .cols = cols};
  snprintf(t->name, sizeof t->name, "%s", name);
  t->values = malloc((size_t)fx_count(t) * sizeof *t->values);
  assert_non_null(t->values);
  ptq_rng rng;
  ptq_rng_init(&rng, ++m->seed);
  for (int64_t i = 0; i < fx_count(t); i++)
    t->values[i] = middle + 0.6F * ((float)ptq_rng_unit(&rng) - 0.5F);
}

static inline void fx_add_in_block(fx_model *m, const char *prefix, int block,
                                   const char *tail, int64_t rows, int64_t cols,
                                   float middle) {
  char name[FX_NAME];
  snprintf(name, sizeof name, "%slayers.%d.%s", prefix, block, tail);
  fx_add(m, name, rows, cols, middle);
}

static inline fx_tensor *fx_find(fx_model *m, const char *name) {
  for (int i = 0; i < m->n; i++)
    if (strcmp(m->t[i].name, name) == 0) return &m->t[i];
  fail_msg("the fixture has no tensor '%s'", name);
  return NULL;
}

static inline void fx_drop(fx_model *m, const char *name) {
  fx_tensor *t = fx_find(m, name);
  free(t->values);
  *t = m->t[--m->n];
}

static inline void fx_start(fx_model *m) {
  memset(m, 0, sizeof *m);
  snprintf(m->dir, sizeof m->dir, "fixture-XXXXXX");
  assert_non_null(mkdtemp(m->dir));
}

/* 2 blocks, width 24, 6 query heads of 10 over 2 key heads, d_ff 40,
 * vocabulary 50. */
static inline void fx_llama(fx_model *m) {
  fx_start(m);
  snprintf(m->config, sizeof m->config, "%s",
           "{\"model_type\": \"llama\","
           " \"architectures\": [\"LlamaForCausalLM\"],"
           " \"hidden_size\": 24, \"num_hidden_layers\": 2,"
           " \"num_attention_heads\": 6, \"num_key_value_heads\": 2,"
           " \"head_dim\": 10, \"intermediate_size\": 40,"
           " \"vocab_size\": 50, \"max_position_embeddings\": 1500,"
           " \"rms_norm_eps\": 1e-5, \"rope_theta\": 500.0,"
           " \"hidden_act\": \"silu\", \"tie_word_embeddings\": false}");
  fx_add(m, "model.embed_tokens.weight", 50, 24, 0.0F);
  for (int b = 0; b < 2; b++) {
    const char *p = "model.";
    fx_add_in_block(m, p, b, "input_layernorm.weight", 24, 0, 1.0F);
    fx_add_in_block(m, p, b, "self_attn.q_proj.weight", 60, 24, 0.0F);
    fx_add_in_block(m, p, b, "self_attn.k_proj.weight", 20, 24, 0.0F);
    fx_add_in_block(m, p, b, "self_attn.v_proj.weight", 20, 24, 0.0F);
    fx_add_in_block(m, p, b, "self_attn.o_proj.weight", 24, 60, 0.0F);
    fx_add_in_block(m, p, b, "post_attention_layernorm.weight", 24, 0, 1.0F);
    fx_add_in_block(m, p, b, "mlp.gate_proj.weight", 40, 24, 0.0F);
    fx_add_in_block(m, p, b, "mlp.up_proj.weight", 40, 24, 0.0F);
    fx_add_in_block(m, p, b, "mlp.down_proj.weight", 24, 40, 0.0F);
  }
  fx_add(m, "model.norm.weight", 24, 0, 1.0F);
  fx_add(m, "lm_head.weight", 50, 24, 0.0F);
}

static inline void fx_opt_linear(fx_model *m, int b, const char *tail,
                                 int64_t out, int64_t in) {
  char end[40];
  snprintf(end, sizeof end, "%s.weight", tail);
  fx_add_in_block(m, "model.decoder.", b, end, out, in, 0.0F);
  snprintf(end, sizeof end, "%s.bias", tail);
  fx_add_in_block(m, "model.decoder.", b, end, out, 0, 0.0F);
}

/* 2 blocks, width 30, 3 heads of 10, d_ff 44, vocabulary 50, tied. */
static inline void fx_opt(fx_model *m) {
  fx_start(m);
  snprintf(m->config, sizeof m->config, "%s",
           "{\"model_type\": \"opt\", \"hidden_size\": 30,"
           " \"num_hidden_layers\": 2, \"num_attention_heads\": 3,"
           " \"ffn_dim\": 44, \"vocab_size\": 50,"
           " \"max_position_embeddings\": 1500,"
           " \"word_embed_proj_dim\": 30, \"do_layer_norm_before\": true,"
           " \"activation_function\": \"relu\"}");
  fx_add(m, "model.decoder.embed_tokens.weight", 50, 30, 0.0F);
  fx_add(m, "model.decoder.embed_positions.weight", 1502, 30, 0.0F);
  for (int b = 0; b < 2; b++) {
    const char *p = "model.decoder.";
    fx_add_in_block(m, p, b, "self_attn_layer_norm.weight", 30, 0, 1.0F);
    fx_add_in_block(m, p, b, "self_attn_layer_norm.bias", 30, 0, 0.0F);
    fx_opt_linear(m, b, "self_attn.q_proj", 30, 30);
    fx_opt_linear(m, b, "self_attn.k_proj", 30, 30);
    fx_opt_linear(m, b, "self_attn.v_proj", 30, 30);
    fx_opt_linear(m, b, "self_attn.out_proj", 30, 30);
    fx_add_in_block(m, p, b, "final_layer_norm.weight", 30, 0, 1.0F);
    fx_add_in_block(m, p, b, "final_layer_norm.bias", 30, 0, 0.0F);
    fx_opt_linear(m, b, "fc1", 44, 30);
    fx_opt_linear(m, b, "fc2", 30, 44);
  }
  fx_add(m, "model.decoder.final_layer_norm.weight", 30, 0, 1.0F);
  fx_add(m, "model.decoder.final_layer_norm.bias", 30, 0, 0.0F);
}

static inline void fx_path(const fx_model *m, const char *file,
                           char path[FX_PATH + FX_NAME]) {
  snprintf(path, FX_PATH + FX_NAME, "%s/%s", m->dir, file);
}

static inline void fx_write_file(const fx_model *m, const char *file,
                                 const void *data, size_t size) {
  char path[FX_PATH + FX_NAME];
  fx_path(m, file, path);
  FILE *f = fopen(path, "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(data, 1, size, f), size);
  assert_int_equal(fclose(f), 0);
}

/* A safetensors file of `header` (its length put before it) and `size` zero
 * bytes of data. */
static inline void fx_write_header(const fx_model *m, const char *file,
                                   const char *header, size_t size) {
  const size_t n = strlen(header);
  unsigned char *all = calloc(8 + n + size, 1);
  assert_non_null(all);
  for (int i = 0; i < 8; i++)
    all[i] = (unsigned char)((uint64_t)n >> (8 * i) & 0xffU);
  memcpy(all + 8, header, n);
  fx_write_file(m, file, all, 8 + n + size);
  free(all);
}

/* The tensors of one shard as F32. */
static inline void fx_write_shard(const fx_model *m, const char *file,
                                  int shard) {
  enum { ROOM = 1 << 16 };
  char *header = calloc(ROOM, 1);
  unsigned char *all = NULL;
  size_t at = 0, data = 0, done = 0;
  assert_non_null(header);
  for (int i = 0; i < m->n; i++) {
    const fx_tensor *t = &m->t[i];
    if (t->shard != shard) continue;
    const size_t bytes = (size_t)fx_count(t) * sizeof(float);
    char cols[24] = "";
    if (t->cols > 0) snprintf(cols, sizeof cols, ",%d", (int)t->cols);
    at += (size_t)snprintf(header + at, ROOM - at,
                           "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[%d%s],"
                           "\"data_offsets\":[%zu,%zu]}",
                           data > 0 ? "," : "{", t->name, (int)t->rows, cols,
                           data, data + bytes);
    data += bytes;
  }
  at += (size_t)snprintf(header + at, ROOM - at, "}");
  all = calloc(8 + at + data, 1);
  assert_non_null(all);
  for (int i = 0; i < 8; i++)
    all[i] = (unsigned char)((uint64_t)at >> (8 * i) & 0xffU);
  memcpy(all + 8, header, at);
  for (int i = 0; i < m->n; i++) {
    if (m->t[i].shard != shard) continue;
    const size_t bytes = (size_t)fx_count(&m->t[i]) * sizeof(float);
    memcpy(all + 8 + at + done, m->t[i].values, bytes);
    done += bytes;
  }
  fx_write_file(m, file, all, 8 + at + data);
  free(all);
  free(header);
}

static inline void fx_write(const fx_model *m) {
  fx_write_file(m, "config.json", m->config, strlen(m->config));
  fx_write_shard(m, "model.safetensors", 0);
}

/* Put `text` in place of the first `old` in the config. */
static inline void fx_config(fx_model *m, const char *old, const char *text) {
  char whole[FX_CONFIG];
  char *at = strstr(m->config, old);
  assert_non_null(at);
  snprintf(whole, sizeof whole, "%.*s%s%s", (int)(at - m->config), m->config,
           text, at + strlen(old));
  memcpy(m->config, whole, sizeof whole);
}

/* Add a key to the config. */
static inline void fx_config_add(fx_model *m, const char *member) {
  char text[FX_NAME * 2];
  snprintf(text, sizeof text, "{%s, ", member);
  fx_config(m, "{", text);
}

static inline void fx_remove(const fx_model *m, const char *file) {
  char path[FX_PATH + FX_NAME];
  fx_path(m, file, path);
  (void)unlink(path);
}

static inline void fx_end(fx_model *m) {
  static const char *const files[] = {
      "config.json",     "model.safetensors", "model.safetensors.index.json",
      "one.safetensors", "two.safetensors",   "pytorch_model.bin"};
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
    fx_remove(m, files[i]);
  assert_int_equal(rmdir(m->dir), 0);
  for (int i = 0; i < m->n; i++) free(m->t[i].values);
  m->n = 0;
}

#endif /* PTQ_TESTS_MODEL_FIXTURE_H */
