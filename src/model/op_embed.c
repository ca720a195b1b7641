/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The embedding of a window: rows that were scaled when they were read, plus
 * positions, normed. It has no derivatives: nothing before the blocks moves,
 * and a backward pass ends with the derivative by block 0's input. */
#include <string.h>

#include "op.h"
#include "ptq/num/kernels.h"

ptq_status ptq_embed(const ptq_model_info *info, const ptq_embedding *e,
                     const uint32_t *ids, int64_t n, ptq_real *h,
                     ptq_err *err) {
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
    memcpy(h + i * d, e->tokens + (int64_t)ids[i] * d, (size_t)d * sizeof *h);
    if (e->positions != NULL)
      PTQ_VEC(add, e->positions + (i + info->position_offset) * d, d,
              h + i * d);
  }
  if (e->norm.w != NULL) ptq_norm_rows(info, &e->norm, h, n, d, h);
  return PTQ_OK;
}
