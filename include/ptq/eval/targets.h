/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file targets.h
 * Log-probabilities of given tokens at given positions, in slices of the
 * vocabulary: never a [n, vocab] matrix.
 */
#ifndef PTQ_EVAL_TARGETS_H
#define PTQ_EVAL_TARGETS_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/model/forward.h"

/** A token and the row of hidden states that predicts it. */
typedef struct ptq_target {
  int64_t row;
  uint32_t token;
} ptq_target;

typedef struct ptq_target_score {
  double logp; /* ln p(token), nats; NaN where a logit is not finite */
  bool greedy; /* no token is more probable; ties go to the lower id */
} ptq_target_score;

/** Scratch for up to `max_rows` rows of hidden states at once. */
typedef struct ptq_target_scorer ptq_target_scorer;
ptq_status ptq_target_scorer_create(const ptq_model_info *info,
                                    int64_t max_rows, ptq_target_scorer **out,
                                    ptq_err *err);
void ptq_target_scorer_free(ptq_target_scorer *s);
int64_t ptq_target_scorer_bytes(const ptq_model_info *info, int64_t max_rows);

/**
 * Score targets; several may share a row.
 * @param h       [n_rows, d_model] hidden states before the final norm
 * @param targets [n] rows below n_rows, tokens below the vocabulary
 * @param[out] out [n]
 * A target's bits depend on h and on which rows have targets. PTQ_E_ARG: more
 * rows than the scorer is for, a target beyond rows or vocabulary.
 */
ptq_status ptq_score_targets(ptq_target_scorer *s, const ptq_head *head,
                             const float *h, int64_t n_rows,
                             const ptq_target *targets, int64_t n,
                             ptq_target_score *out, ptq_err *err);

#endif /* PTQ_EVAL_TARGETS_H */
