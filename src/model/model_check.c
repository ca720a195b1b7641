/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Config and weights must describe the same model: each place of the
 * architecture has a tensor of the right shape, each tensor a place. */
#include <stdio.h>
#include <string.h>

#include "model_private.h"
#include "ptq/base/mem.h"
#include "storage.h"

enum { COMPARED_BYTES = 1 << 20 }; /* at a time */

typedef enum kind {
  KIND_EMBEDDING, /* tokens, positions, head, their projections */
  KIND_LINEAR,    /* quantizable */
  KIND_OTHER      /* norms, biases */
} kind;

static ptq_status bad_shape(const ptq_model *m, const ptq_tensor *t,
                            int64_t rows, int64_t cols, ptq_err *err) {
  char want[64], have[96] = "[";
  if (cols > 0)
    snprintf(want, sizeof want, "[%lld, %lld]", (long long)rows,
             (long long)cols);
  else
    snprintf(want, sizeof want, "[%lld]", (long long)rows);
  for (int i = 0; i < t->n_dims; i++) {
    const size_t at = strlen(have);
    snprintf(have + at, sizeof have - at, "%s%lld", i > 0 ? ", " : "",
             (long long)t->dims[i]);
  }
  strncat(have, "]", sizeof have - strlen(have) - 1);
  return PTQ_FAIL(
      err, PTQ_E_FORMAT, "'%s': tensor '%s' has shape %s, but '%s' implies %s",
      ptq_file_path(t->file), t->name, have, ptq_config_path(m->config), want);
}

/* Other libraries keep codes and scales under these ends. */
static const char *const quantized_ends[] = {".qweight", ".weight_packed",
                                             ".weight_scale", ".SCB"};

static ptq_status missing(const ptq_model *m, const char *name, ptq_err *err) {
  const size_t stem = strlen(name) - strlen(".weight");
  const int n = (int)(sizeof quantized_ends / sizeof quantized_ends[0]);
  for (int i = 0; i < n && strlen(name) > strlen(".weight"); i++) {
    char other[2 * PTQ_TENSOR_NAME_MAX];
    snprintf(other, sizeof other, "%.*s%s", (int)stem, name, quantized_ends[i]);
    if (ptq_weights_find(m->weights, other) != NULL)
      return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                      "'%s': the weights have '%s' instead of '%s': this "
                      "checkpoint is quantized already; take the one that it "
                      "was made of",
                      ptq_config_path(m->config), other, name);
  }
  return PTQ_FAIL(err, PTQ_E_FORMAT,
                  "'%s': the weights have no tensor '%s', which the config "
                  "implies",
                  ptq_config_path(m->config), name);
}

/* One place: rows x cols, or a vector of `rows` where cols is 0. */
static ptq_status check(ptq_model *m, const char *name, int64_t rows,
                        int64_t cols, kind what, ptq_err *err) {
  ptq_tensor *t = ptq_weights_find(m->weights, name);
  if (t == NULL) return missing(m, name, err);
  if (t->storage->to_f32 == NULL)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "'%s': tensor '%s' has dtype %s; weights can be %s; of a "
                    "checkpoint that is quantized already, take the one that "
                    "it was made of",
                    ptq_file_path(t->file), name, t->storage->name,
                    ptq_storage_readable());
  if (t->n_dims != (cols > 0 ? 2 : 1) || t->dims[0] != rows ||
      (cols > 0 && t->dims[1] != cols))
    return bad_shape(m, t, rows, cols, err);
  t->used = true;
  m->info.params += t->count;
  if (what != KIND_EMBEDDING) m->info.params_nonembedding += t->count;
  t->linear = what == KIND_LINEAR;
  if (t->linear)
    m->info.params_quantizable += t->count;
  else
    m->info.bits_unquantized += 8.0 * (double)t->bytes;
  return PTQ_OK;
}

static ptq_status check_norm(ptq_model *m, int64_t block, ptq_norm_place place,
                             ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  if (!m->info.has_norm[place]) return PTQ_OK;
  for (int p = 0; p < ptq_norm_parts(&m->info); p++) {
    ptq_name_norm(m, block, place, (ptq_part)p, name);
    PTQ_TRY(
        check(m, name, ptq_norm_width(&m->info, place), 0, KIND_OTHER, err));
  }
done:
  return rc;
}

static ptq_status check_linear(ptq_model *m, int64_t block, int layer,
                               ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  const ptq_model_info *info = &m->info;
  const ptq_role role = ptq_layer_role(layer);
  ptq_status rc = PTQ_OK;
  if (!ptq_role_present(info, role)) return PTQ_OK;
  const int64_t out = ptq_role_outputs(info, role);
  const int64_t in = ptq_role_inputs(info, role);
  ptq_layer_tensor_name(m, block, layer, name);
  PTQ_TRY(check(m, name, info->transposed ? in : out,
                info->transposed ? out : in, KIND_LINEAR, err));
  if (!info->has_bias[role]) return PTQ_OK;
  ptq_name_layer(m, block, layer, PTQ_PART_BIAS, name);
  PTQ_TRY(check(m, name, out, 0, KIND_OTHER, err));
done:
  return rc;
}

static ptq_status check_router(ptq_model *m, int64_t block, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  if (m->info.n_experts == 0) return PTQ_OK;
  ptq_name_inner(m, block, m->arch->router, PTQ_PART_WEIGHT, name);
  return check(m, name, m->info.n_experts, m->info.d_model, KIND_OTHER, err);
}

static ptq_status check_block(ptq_model *m, int64_t block, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int p = 0; p < PTQ_NORM_INNER; p++)
    PTQ_TRY(check_norm(m, block, (ptq_norm_place)p, err));
  PTQ_TRY(check_router(m, block, err));
  for (int l = 0; l < ptq_layer_count(&m->info); l++)
    PTQ_TRY(check_linear(m, block, l, err));
done:
  return rc;
}

static bool ends_with(const char *name, const char *end) {
  const size_t n = strlen(name), e = strlen(end);
  return n >= e && strcmp(name + n - e, end) == 0;
}

static bool ignorable(const ptq_model *m, const ptq_tensor *t) {
  /* check_second_head saw it. */
  char head[PTQ_TENSOR_NAME_MAX];
  ptq_name_head(m, PTQ_PART_WEIGHT, head);
  if (m->info.tied_head && strcmp(t->name, head) == 0) return true;
  for (int i = 0; m->arch->ignored_tensors[i] != NULL; i++)
    if (ends_with(t->name, m->arch->ignored_tensors[i])) return true;
  return false;
}

static ptq_status check_leftovers(const ptq_model *m, ptq_err *err) {
  int64_t n = 0;
  ptq_tensor *const *all = ptq_weights_all(m->weights, &n);
  for (int64_t i = 0; i < n; i++)
    if (!all[i]->used && !ignorable(m, all[i]))
      return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                      "'%s': tensor '%s' has no place in a model_type '%s' "
                      "with the config '%s': the config belongs to another "
                      "model, or the architecture to another version",
                      ptq_file_path(all[i]->file), all[i]->name,
                      m->arch->model_type, ptq_config_path(m->config));
  return PTQ_OK;
}

/* Have both the same bytes? */
static ptq_status compare(const ptq_tensor *a, const ptq_tensor *b, bool *same,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *left = NULL, *right = NULL;
  *same = a->storage == b->storage && a->bytes == b->bytes;
  PTQ_TRY(ptq_alloc(&left, COMPARED_BYTES, 1, "a part of a tensor", err));
  PTQ_TRY(ptq_alloc(&right, COMPARED_BYTES, 1, "a part of a tensor", err));
  for (int64_t at = 0; *same && at < a->bytes; at += COMPARED_BYTES) {
    const int64_t rest = a->bytes - at;
    const size_t n = (size_t)(rest < COMPARED_BYTES ? rest : COMPARED_BYTES);
    PTQ_TRY(ptq_file_pread(a->file, a->offset + at, left, n, err));
    PTQ_TRY(ptq_file_pread(b->file, b->offset + at, right, n, err));
    *same = memcmp(left, right, n) == 0;
  }
done:
  ptq_free(left);
  ptq_free(right);
  return rc;
}

/* A tied head is sometimes stored a second time. Where that is another one,
 * versions of transformers differ in which of them they take. */
static ptq_status check_second_head(const ptq_model *m, ptq_err *err) {
  char head[PTQ_TENSOR_NAME_MAX], tokens[PTQ_TENSOR_NAME_MAX];
  bool same = false;
  ptq_name_head(m, PTQ_PART_WEIGHT, head);
  const ptq_tensor *second = ptq_weights_find(m->weights, head);
  if (second == NULL) return PTQ_OK;
  ptq_name_outer(m, m->arch->tokens, PTQ_PART_WEIGHT, tokens);
  const ptq_status rc =
      compare(ptq_weights_find(m->weights, tokens), second, &same, err);
  if (rc != PTQ_OK || same) return rc;
  return PTQ_FAIL(err, PTQ_E_FORMAT,
                  "'%s': tensor '%s' differs from '%s', but '%s' ties them: "
                  "the config belongs to another model, or "
                  "'tie_word_embeddings' should be false",
                  ptq_file_path(second->file), head, tokens,
                  ptq_config_path(m->config));
}

static ptq_status check_embedding(ptq_model *m, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = &m->info;
  const int64_t d = info->d_model, e = info->d_embed;
  ptq_name_outer(m, m->arch->tokens, PTQ_PART_WEIGHT, name);
  PTQ_TRY(check(m, name, info->vocab, e, KIND_EMBEDDING, err));
  if (info->positions == PTQ_POSITIONS_LEARNED) {
    ptq_name_outer(m, m->arch->positions, PTQ_PART_WEIGHT, name);
    PTQ_TRY(check(m, name, ptq_position_rows(info), d, KIND_EMBEDDING, err));
  }
  if (e != d) {
    ptq_name_outer(m, m->arch->project_in, PTQ_PART_WEIGHT, name);
    PTQ_TRY(check(m, name, d, e, KIND_EMBEDDING, err));
    ptq_name_outer(m, m->arch->project_out, PTQ_PART_WEIGHT, name);
    PTQ_TRY(check(m, name, e, d, KIND_EMBEDDING, err));
  }
  PTQ_TRY(check_norm(m, 0, PTQ_NORM_EMBED, err));
done:
  return rc;
}

ptq_status ptq_model_check_tensors(ptq_model *m, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = &m->info;
  PTQ_TRY(check_embedding(m, err));
  for (int64_t b = 0; b < info->n_blocks; b++) PTQ_TRY(check_block(m, b, err));
  PTQ_TRY(check_norm(m, 0, PTQ_NORM_FINAL, err));
  if (info->tied_head) PTQ_TRY(check_second_head(m, err));
  if (!info->tied_head) {
    ptq_name_head(m, PTQ_PART_WEIGHT, name);
    PTQ_TRY(check(m, name, info->vocab, info->d_embed, KIND_EMBEDDING, err));
  }
  if (info->head_bias) {
    ptq_name_head(m, PTQ_PART_BIAS, name);
    PTQ_TRY(check(m, name, info->vocab, 0, KIND_EMBEDDING, err));
  }
  PTQ_TRY(check_leftovers(m, err));
done:
  return rc;
}
