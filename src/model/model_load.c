/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Reading weights: a block, the embedding, the head. */
#include <string.h>

#include "model_private.h"
#include "op_bf16.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/kernels.h"

static ptq_status read_named(const ptq_model *m, const char *name,
                             ptq_real *out, ptq_err *err) {
  const ptq_tensor *t = ptq_weights_find(m->weights, name);
  PTQ_ASSERT(t != NULL); /* ptq_model_check_tensors saw it */
#ifdef PTQ_REAL64
  float *narrow = NULL;
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_alloc(&narrow, t->count, sizeof *narrow, "a tensor", err));
  PTQ_TRY(ptq_tensor_read(t, narrow, err));
  for (int64_t i = 0; i < t->count; i++) out[i] = narrow[i];
done:
  ptq_free(narrow);
  return rc;
#else
  return ptq_tensor_read(t, out, err);
#endif
}

/* out[rows, cols] = in[cols, rows]', in squares that stay in cache. */
static void transpose(const ptq_real *in, int64_t rows, int64_t cols,
                      ptq_real *out) {
  enum { SIDE = 32 };
  for (int64_t i0 = 0; i0 < rows; i0 += SIDE)
    for (int64_t j0 = 0; j0 < cols; j0 += SIDE)
      for (int64_t i = i0; i < rows && i < i0 + SIDE; i++)
        for (int64_t j = j0; j < cols && j < j0 + SIDE; j++)
          out[i * cols + j] = in[j * rows + i];
}

/* A tensor stored as [cols, rows] into out[rows, cols]. */
static ptq_status read_transposed(const ptq_model *m, const char *name,
                                  int64_t rows, int64_t cols, ptq_real *out,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_real *stored = NULL;
  PTQ_TRY(ptq_alloc(&stored, rows * cols, sizeof *stored, "a tensor", err));
  PTQ_TRY(read_named(m, name, stored, err));
  transpose(stored, rows, cols, out);
done:
  ptq_free(stored);
  return rc;
}

/* Floats rounded up, so that each tensor begins on a cache line. */
static int64_t padded(int64_t n) {
  return (n + 15) / 16 * 16;
}

static int64_t norm_floats(const ptq_model_info *info, ptq_norm_place place) {
  return info->has_norm[place] ? 2 * padded(ptq_norm_width(info, place)) : 0;
}

static int64_t block_floats(const ptq_model_info *info) {
  int64_t n = 0;
  for (int p = 0; p < PTQ_NORM_INNER; p++)
    n += norm_floats(info, (ptq_norm_place)p);
  for (int l = 0; l < ptq_layer_count(info); l++) {
    if (!ptq_layer_present(info, l)) continue;
    const ptq_role role = ptq_layer_role(l);
    const int64_t out = ptq_role_outputs(info, role);
    n += padded(out * ptq_role_inputs(info, role)) + padded(out);
  }
  return n + padded(info->n_experts * info->d_model);
}

/* `n` floats of the memory at *at. */
static ptq_real *take(int64_t n, ptq_real **at) {
  ptq_real *p = *at;
  *at += padded(n);
  return p;
}

static ptq_status load_linear(const ptq_model *m, int64_t block, int layer,
                              ptq_real **at, ptq_linear *l, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  const ptq_role role = ptq_layer_role(layer);
  ptq_status rc = PTQ_OK;
  *l = (ptq_linear){.out = ptq_role_outputs(&m->info, role),
                    .in = ptq_role_inputs(&m->info, role)};
  if (!ptq_role_present(&m->info, role)) return PTQ_OK;
  ptq_layer_tensor_name(m, block, layer, name);
  l->weight = take(l->out * l->in, at);
  if (m->info.transposed)
    PTQ_TRY(read_transposed(m, name, l->out, l->in, l->weight, err));
  else
    PTQ_TRY(read_named(m, name, l->weight, err));
  if (PTQ_BF16(m->mul != NULL)) PTQ_TRY(ptq_bf16_pack(l, m->mul, err));
  if (!m->info.has_bias[role]) return PTQ_OK;
  ptq_name_layer(m, block, layer, PTQ_PART_BIAS, name);
  l->bias = take(l->out, at);
  PTQ_TRY(read_named(m, name, l->bias, err));
done:
  return rc;
}

static ptq_status load_router(const ptq_model *m, int64_t block, ptq_real **at,
                              ptq_linear *l, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  if (m->info.n_experts == 0) return PTQ_OK;
  *l = (ptq_linear){.out = m->info.n_experts, .in = m->info.d_model};
  l->weight = take(l->out * l->in, at);
  ptq_name_inner(m, block, m->arch->router, PTQ_PART_WEIGHT, name);
  PTQ_TRY(read_named(m, name, l->weight, err));
  if (PTQ_BF16(m->mul != NULL)) PTQ_TRY(ptq_bf16_pack(l, m->mul, err));
done:
  return rc;
}

static ptq_status load_norm(const ptq_model *m, int64_t block,
                            ptq_norm_place place, ptq_real **at, ptq_norm *out,
                            ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const int64_t width = ptq_norm_width(&m->info, place);
  const int parts = ptq_norm_parts(&m->info);
  *out = (ptq_norm){0};
  if (!m->info.has_norm[place]) return PTQ_OK;
  out->w = take(width, at);
  for (int64_t i = 0; i < width; i++) out->w[i] = 1.0F;
  if (parts > 0) {
    ptq_name_norm(m, block, place, PTQ_PART_WEIGHT, name);
    PTQ_TRY(read_named(m, name, out->w, err));
  }
  if (m->info.norm_offset != 0.0)
    for (int64_t i = 0; i < width; i++)
      out->w[i] += (ptq_real)m->info.norm_offset;
  if (parts > 1) {
    out->b = take(width, at);
    ptq_name_norm(m, block, place, PTQ_PART_BIAS, name);
    PTQ_TRY(read_named(m, name, out->b, err));
  }
done:
  return rc;
}

ptq_status ptq_model_load_block(ptq_model *m, int64_t index, ptq_block *out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_ASSERT(index >= 0 && index < m->info.n_blocks);
  *out = (ptq_block){.index = index};
  PTQ_TRY(ptq_alloc(&out->memory, block_floats(&m->info), sizeof(ptq_real),
                    "a block's weights", err));
  PTQ_TRY(ptq_alloc(&out->linear, ptq_layer_count(&m->info),
                    sizeof *out->linear, "a block's layers", err));
  out->n_layers = ptq_layer_count(&m->info);
  ptq_real *at = out->memory;
  for (int p = 0; p < PTQ_NORM_INNER; p++)
    PTQ_TRY(load_norm(m, index, (ptq_norm_place)p, &at, &out->norm[p], err));
  PTQ_TRY(load_router(m, index, &at, &out->router, err));
  for (int l = 0; l < ptq_layer_count(&m->info); l++)
    PTQ_TRY(load_linear(m, index, l, &at, &out->linear[l], err));
done:
  if (rc != PTQ_OK) ptq_block_release(out);
  return rc;
}

void ptq_block_release(ptq_block *b) {
  for (int l = 0; l < b->n_layers; l++) ptq_packed_free(b->linear[l].packed);
  ptq_packed_free(b->router.packed);
  ptq_free(b->linear);
  ptq_free(b->memory);
  *b = (ptq_block){0};
}

/* A norm outside the blocks, in memory of its own: out->w owns it. */
static ptq_status load_outer_norm(const ptq_model *m, ptq_norm_place place,
                                  ptq_norm *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_real *memory = NULL;
  *out = (ptq_norm){0};
  if (!m->info.has_norm[place]) return PTQ_OK;
  PTQ_TRY(ptq_alloc(&memory, norm_floats(&m->info, place), sizeof(ptq_real),
                    "a norm", err));
  ptq_real *at = memory;
  PTQ_TRY(load_norm(m, 0, place, &at, out, err));
  memory = NULL;
done:
  if (memory != NULL) *out = (ptq_norm){0};
  ptq_free(memory);
  return rc;
}

/* rows[vocab, d_model] from the checkpoint's [vocab, d_embed], which project
 * (its name; [d_model, d_embed], or transposed) widens where that differs. */
static ptq_status load_vocabulary(const ptq_model *m, const char *name,
                                  const char *projection, bool transposed,
                                  ptq_real **rows, ptq_err *err) {
  char project[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const int64_t v = m->info.vocab, d = m->info.d_model, e = m->info.d_embed;
  ptq_real *narrow = NULL, *p = NULL;
  PTQ_TRY(ptq_alloc(rows, v * d, sizeof(ptq_real), "vocabulary", err));
  if (e == d) {
    PTQ_TRY(read_named(m, name, *rows, err));
    goto done;
  }
  PTQ_TRY(ptq_alloc(&narrow, v * e, sizeof *narrow, "vocabulary", err));
  PTQ_TRY(ptq_alloc(&p, d * e, sizeof *p, "a projection", err));
  PTQ_TRY(read_named(m, name, narrow, err));
  ptq_name_outer(m, projection, PTQ_PART_WEIGHT, project);
  PTQ_TRY(read_named(m, project, p, err));
  if (transposed)
    PTQ_GEMM(nn, v, d, e, 1.0F, narrow, e, p, d, 0.0F, *rows, d);
  else
    PTQ_GEMM(nt, v, d, e, 1.0F, narrow, e, p, e, 0.0F, *rows, d);
done:
  ptq_free(narrow);
  ptq_free(p);
  return rc;
}

ptq_status ptq_model_load_embedding(ptq_model *m, ptq_embedding *out,
                                    ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = &m->info;
  *out = (ptq_embedding){0};
  ptq_name_outer(m, m->arch->tokens, PTQ_PART_WEIGHT, name);
  PTQ_TRY(
      load_vocabulary(m, name, m->arch->project_in, false, &out->tokens, err));
  if (info->embed_scale != 0.0)
    PTQ_VEC(scale, (ptq_real)info->embed_scale, info->vocab * info->d_model,
            out->tokens);
  PTQ_TRY(load_outer_norm(m, PTQ_NORM_EMBED, &out->norm, err));
  if (info->positions != PTQ_POSITIONS_LEARNED) goto done;
  PTQ_TRY(ptq_alloc(&out->positions, ptq_position_rows(info) * info->d_model,
                    sizeof(ptq_real), "position embedding", err));
  ptq_name_outer(m, m->arch->positions, PTQ_PART_WEIGHT, name);
  PTQ_TRY(read_named(m, name, out->positions, err));
done:
  if (rc != PTQ_OK) ptq_embedding_release(out);
  return rc;
}

void ptq_embedding_release(ptq_embedding *e) {
  ptq_free(e->tokens);
  ptq_free(e->positions);
  ptq_free(e->norm.w);
  *e = (ptq_embedding){0};
}

ptq_status ptq_model_load_head(ptq_model *m, ptq_head *out, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = &m->info;
  *out = (ptq_head){0};
  PTQ_TRY(load_outer_norm(m, PTQ_NORM_FINAL, &out->norm, err));
  if (info->tied_head)
    ptq_name_outer(m, m->arch->tokens, PTQ_PART_WEIGHT, name);
  else
    ptq_name_head(m, PTQ_PART_WEIGHT, name);
  PTQ_TRY(
      load_vocabulary(m, name, m->arch->project_out, true, &out->weight, err));
  if (PTQ_BF16(m->mul != NULL))
    PTQ_TRY(ptq_bf16_pack_head(info, m->mul, out, err));
  if (!info->head_bias) goto done;
  PTQ_TRY(ptq_alloc(&out->bias, info->vocab, sizeof(ptq_real), "head", err));
  ptq_name_head(m, PTQ_PART_BIAS, name);
  PTQ_TRY(read_named(m, name, out->bias, err));
done:
  if (rc != PTQ_OK) ptq_head_release(out);
  return rc;
}

void ptq_head_release(ptq_head *h) {
  ptq_free(h->norm.w);
  ptq_free(h->weight);
  for (int64_t i = 0; i < h->n_slices; i++) ptq_packed_free(h->slices[i]);
  ptq_free(h->slices);
  ptq_free(h->bias);
  *h = (ptq_head){0};
}

int64_t ptq_model_block_bytes(const ptq_model_info *info) {
  const int64_t packed = PTQ_BF16(info->compute == PTQ_COMPUTE_BF16)
                             ? ptq_bf16_block_bytes(info)
                             : 0;
  return block_floats(info) * (int64_t)sizeof(ptq_real) + packed +
         ptq_layer_count(info) * (int64_t)sizeof(ptq_linear);
}

/* With what stands beside it while it is read. */
static int64_t vocabulary_floats(const ptq_model_info *info) {
  const int64_t d = info->d_model, e = info->d_embed;
  return info->vocab * d + (e != d ? (info->vocab + d) * e : 0);
}

int64_t ptq_model_embedding_bytes(const ptq_model_info *info) {
  return (vocabulary_floats(info) + norm_floats(info, PTQ_NORM_EMBED) +
          ptq_position_rows(info) * info->d_model) *
         (int64_t)sizeof(ptq_real);
}

int64_t ptq_model_head_bytes(const ptq_model_info *info) {
  const int64_t packed = PTQ_BF16(info->compute == PTQ_COMPUTE_BF16)
                             ? ptq_bf16_head_bytes(info)
                             : 0;
  return (vocabulary_floats(info) + norm_floats(info, PTQ_NORM_FINAL) +
          (info->head_bias ? info->vocab : 0)) *
             (int64_t)sizeof(ptq_real) +
         packed;
}
