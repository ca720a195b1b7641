/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading weights: a block, the embedding, the head. */
#include <string.h>

#include "model_private.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

static ptq_status read_named(const ptq_model *m, const char *name, float *out,
                             ptq_err *err) {
  const ptq_tensor *t = ptq_weights_find(m->weights, name);
  PTQ_ASSERT(t != NULL); /* ptq_model_check_tensors saw it */
  return ptq_tensor_read(t, out, err);
}

/* Floats rounded up, so that each tensor begins on a cache line. */
static int64_t padded(int64_t n) {
  return (n + 15) / 16 * 16;
}

static int64_t block_floats(const ptq_model_info *info) {
  int64_t n = 4 * padded(info->d_model);
  for (int r = 0; r < PTQ_ROLE_COUNT; r++) {
    if (!ptq_role_present(info, (ptq_role)r)) continue;
    const int64_t out = ptq_role_outputs(info, (ptq_role)r);
    n += padded(out * ptq_role_inputs(info, (ptq_role)r)) + padded(out);
  }
  return n;
}

/* Take `n` floats from the block's memory and fill them from a tensor. */
static ptq_status take(const ptq_model *m, const char *name, int64_t n,
                       float **at, float **out, ptq_err *err) {
  *out = *at;
  *at += padded(n);
  return read_named(m, name, *out, err);
}

static ptq_status load_linear(const ptq_model *m, int64_t block, ptq_role role,
                              float **at, ptq_linear *l, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  *l = (ptq_linear){.out = ptq_role_outputs(&m->info, role),
                    .in = ptq_role_inputs(&m->info, role)};
  if (!ptq_role_present(&m->info, role)) return PTQ_OK;
  ptq_role_tensor_name(m, block, role, name);
  PTQ_TRY(take(m, name, l->out * l->in, at, &l->weight, err));
  if (!m->info.has_bias[role]) return PTQ_OK;
  ptq_name_inner(m, block, m->arch->roles[role], PTQ_PART_BIAS, name);
  PTQ_TRY(take(m, name, l->out, at, &l->bias, err));
done:
  return rc;
}

static ptq_status load_norm(const ptq_model *m, int64_t block, const char *tail,
                            float **at, float **w, float **b, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  ptq_name_inner(m, block, tail, PTQ_PART_WEIGHT, name);
  PTQ_TRY(take(m, name, m->info.d_model, at, w, err));
  if (m->info.norm != PTQ_NORM_LAYER) return PTQ_OK;
  ptq_name_inner(m, block, tail, PTQ_PART_BIAS, name);
  PTQ_TRY(take(m, name, m->info.d_model, at, b, err));
done:
  return rc;
}

ptq_status ptq_model_load_block(ptq_model *m, int64_t index, ptq_block *out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_ASSERT(index >= 0 && index < m->info.n_blocks);
  *out = (ptq_block){.index = index};
  PTQ_TRY(ptq_alloc(&out->memory, block_floats(&m->info), sizeof(float),
                    "a block's weights", err));
  float *at = out->memory;
  PTQ_TRY(load_norm(m, index, m->arch->norm1, &at, &out->norm1_w, &out->norm1_b,
                    err));
  PTQ_TRY(load_norm(m, index, m->arch->norm2, &at, &out->norm2_w, &out->norm2_b,
                    err));
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    PTQ_TRY(load_linear(m, index, (ptq_role)r, &at, &out->linear[r], err));
done:
  if (rc != PTQ_OK) ptq_block_release(out);
  return rc;
}

void ptq_block_release(ptq_block *b) {
  ptq_free(b->memory);
  *b = (ptq_block){0};
}

ptq_status ptq_model_load_embedding(ptq_model *m, ptq_embedding *out,
                                    ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = &m->info;
  *out = (ptq_embedding){0};
  PTQ_TRY(ptq_alloc(&out->tokens, info->vocab * info->d_model, sizeof(float),
                    "token embedding", err));
  ptq_name_outer(m, m->arch->tokens, name);
  PTQ_TRY(read_named(m, name, out->tokens, err));
  if (info->rotary) goto done;
  PTQ_TRY(
      ptq_alloc(&out->positions,
                (info->max_positions + info->position_offset) * info->d_model,
                sizeof(float), "position embedding", err));
  ptq_name_outer(m, m->arch->positions, name);
  PTQ_TRY(read_named(m, name, out->positions, err));
done:
  if (rc != PTQ_OK) ptq_embedding_release(out);
  return rc;
}

void ptq_embedding_release(ptq_embedding *e) {
  ptq_free(e->tokens);
  ptq_free(e->positions);
  *e = (ptq_embedding){0};
}

ptq_status ptq_embed(const ptq_model_info *info, const ptq_embedding *e,
                     const uint32_t *ids, int64_t n, float *h, ptq_err *err) {
  const int64_t d = info->d_model;
  if (n > info->max_positions)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "a window of %lld tokens, but the model has %lld "
                    "positions",
                    (long long)n, (long long)info->max_positions);
  for (int64_t i = 0; i < n; i++) {
    if (ids[i] >= info->vocab)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "token %lld of the window is %lld, but the vocabulary "
                      "has %lld",
                      (long long)i, (long long)ids[i], (long long)info->vocab);
    memcpy(h + i * d, e->tokens + (int64_t)ids[i] * d,
           (size_t)d * sizeof(float));
    if (e->positions != NULL)
      ptq_vec_add(e->positions + (i + info->position_offset) * d, d, h + i * d);
  }
  return PTQ_OK;
}

ptq_status ptq_model_load_head(ptq_model *m, ptq_head *out, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = &m->info;
  const bool has_bias = info->norm == PTQ_NORM_LAYER;
  *out = (ptq_head){0};
  PTQ_TRY(
      ptq_alloc(&out->norm_w, info->d_model, sizeof(float), "final norm", err));
  ptq_name_final_norm(m, PTQ_PART_WEIGHT, name);
  PTQ_TRY(read_named(m, name, out->norm_w, err));
  if (has_bias) {
    PTQ_TRY(ptq_alloc(&out->norm_b, info->d_model, sizeof(float), "final norm",
                      err));
    ptq_name_final_norm(m, PTQ_PART_BIAS, name);
    PTQ_TRY(read_named(m, name, out->norm_b, err));
  }
  PTQ_TRY(ptq_alloc(&out->weight, info->vocab * info->d_model, sizeof(float),
                    "head", err));
  if (info->tied_head) {
    ptq_name_outer(m, m->arch->tokens, name);
    PTQ_TRY(read_named(m, name, out->weight, err));
  } else {
    PTQ_TRY(read_named(m, m->arch->head, out->weight, err));
  }
done:
  if (rc != PTQ_OK) ptq_head_release(out);
  return rc;
}

void ptq_head_release(ptq_head *h) {
  ptq_free(h->norm_w);
  ptq_free(h->norm_b);
  ptq_free(h->weight);
  *h = (ptq_head){0};
}

int64_t ptq_model_block_bytes(const ptq_model_info *info) {
  int64_t floats =
      block_floats(info) + 2 * info->vocab * info->d_model + 2 * info->d_model;
  if (!info->rotary)
    floats += (info->max_positions + info->position_offset) * info->d_model;
  return floats * (int64_t)sizeof(float);
}
