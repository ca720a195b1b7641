/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Config and weights must describe the same model: each place of the
 * architecture has a tensor of the right shape, each tensor a place. */
#include <stdio.h>
#include <string.h>

#include "model_private.h"
#include "storage.h"

typedef enum kind {
  KIND_EMBEDDING, /* tokens, positions, head */
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

/* One place: rows x cols, or a vector of `rows` where cols is 0. */
static ptq_status check(ptq_model *m, const char *name, int64_t rows,
                        int64_t cols, kind what, ptq_err *err) {
  ptq_tensor *t = ptq_weights_find(m->weights, name);
  if (t == NULL)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s': the weights have no tensor '%s', which the config "
                    "implies",
                    ptq_config_path(m->config), name);
  if (t->n_dims != (cols > 0 ? 2 : 1) || t->dims[0] != rows ||
      (cols > 0 && t->dims[1] != cols))
    return bad_shape(m, t, rows, cols, err);
  if (t->storage->to_f32 == NULL)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "'%s': tensor '%s' has dtype %s; weights can be %s",
                    ptq_file_path(t->file), name, t->storage->name,
                    ptq_storage_readable());
  t->used = true;
  m->info.params += t->count;
  if (what != KIND_EMBEDDING) m->info.params_nonembedding += t->count;
  if (what == KIND_LINEAR)
    m->info.params_quantizable += t->count;
  else
    m->info.bits_unquantized += 8.0 * (double)t->bytes;
  return PTQ_OK;
}

static ptq_status check_norm(ptq_model *m, int64_t block, const char *tail,
                             ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const int parts = m->info.norm == PTQ_NORM_LAYER ? 2 : 1;
  for (int p = 0; p < parts; p++) {
    if (block < 0)
      ptq_name_final_norm(m, (ptq_part)p, name);
    else
      ptq_name_inner(m, block, tail, (ptq_part)p, name);
    PTQ_TRY(check(m, name, m->info.d_model, 0, KIND_OTHER, err));
  }
done:
  return rc;
}

static ptq_status check_block(ptq_model *m, int64_t block, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  PTQ_TRY(check_norm(m, block, m->arch->norm1, err));
  PTQ_TRY(check_norm(m, block, m->arch->norm2, err));
  for (int r = 0; r < PTQ_ROLE_COUNT; r++) {
    const ptq_role role = (ptq_role)r;
    if (!ptq_role_present(&m->info, role)) continue;
    const int64_t out = ptq_role_outputs(&m->info, role);
    ptq_role_tensor_name(m, block, role, name);
    PTQ_TRY(
        check(m, name, out, ptq_role_inputs(&m->info, role), KIND_LINEAR, err));
    if (!m->info.has_bias[r]) continue;
    ptq_name_inner(m, block, m->arch->roles[r], PTQ_PART_BIAS, name);
    PTQ_TRY(check(m, name, out, 0, KIND_OTHER, err));
  }
done:
  return rc;
}

static bool ends_with(const char *name, const char *end) {
  const size_t n = strlen(name), e = strlen(end);
  return n >= e && strcmp(name + n - e, end) == 0;
}

static bool ignorable(const ptq_model *m, const ptq_tensor *t) {
  /* A tied head is sometimes stored a second time. */
  if (m->info.tied_head && strcmp(t->name, m->arch->head) == 0) return true;
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

ptq_status ptq_model_check_tensors(ptq_model *m, ptq_err *err) {
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = &m->info;
  ptq_name_outer(m, m->arch->tokens, name);
  PTQ_TRY(check(m, name, info->vocab, info->d_model, KIND_EMBEDDING, err));
  if (!info->rotary) {
    ptq_name_outer(m, m->arch->positions, name);
    PTQ_TRY(check(m, name, info->max_positions + info->position_offset,
                  info->d_model, KIND_EMBEDDING, err));
  }
  for (int64_t b = 0; b < info->n_blocks; b++) PTQ_TRY(check_block(m, b, err));
  PTQ_TRY(check_norm(m, -1, NULL, err));
  if (!info->tied_head)
    PTQ_TRY(check(m, m->arch->head, info->vocab, info->d_model, KIND_EMBEDDING,
                  err));
  PTQ_TRY(check_leftovers(m, err));
done:
  return rc;
}
