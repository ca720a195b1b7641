/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The embedding of a window: rows that were scaled when they were read, plus
 * positions, normed. It has no derivatives: nothing before the blocks moves,
 * and a backward pass ends with the derivative by block 0's input. */
#include <string.h>

#include "op.h"
#include "ptq/num/kernels.h"

/* Tokens of one sequence from its position `first` on. */
static ptq_status embed_at(const ptq_model_info *info, const ptq_embedding *e,
                           const uint32_t *ids, int64_t n, int64_t first,
                           ptq_real *h, ptq_err *err) {
  const int64_t d = info->d_model;
  if (first + n > info->max_positions)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "a window of %lld tokens, but the model has %lld "
                    "positions",
                    (long long)(first + n), (long long)info->max_positions);
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = first + i + info->position_offset;
    if (ids[i] >= info->vocab)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "token %lld of the window is %lld, but the vocabulary "
                      "has %lld",
                      (long long)i, (long long)ids[i], (long long)info->vocab);
    memcpy(h + i * d, e->tokens + (int64_t)ids[i] * d, (size_t)d * sizeof *h);
    if (e->positions != NULL) PTQ_VEC(add, e->positions + at * d, d, h + i * d);
  }
  if (e->norm.w != NULL) ptq_norm_rows(info, &e->norm, h, n, d, h);
  return PTQ_OK;
}

ptq_status ptq_embed(const ptq_model_info *info, const ptq_embedding *e,
                     const uint32_t *ids, int64_t n, ptq_real *h,
                     ptq_err *err) {
  return embed_at(info, e, ids, n, 0, h, err);
}

ptq_status ptq_bundle_embed(const ptq_model_info *info, const ptq_embedding *e,
                            const uint32_t *ids, const ptq_branch *branches,
                            int64_t n_branches, ptq_real *h, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < n_branches && rc == PTQ_OK; i++) {
    const ptq_branch *b = &branches[i];
    rc = embed_at(info, e, ids + b->start, b->n, b->shared,
                  h + b->start * info->d_model, err);
  }
  return rc;
}
