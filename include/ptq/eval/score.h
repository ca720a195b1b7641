/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file score.h
 * NLL, KL and top-1 agreement of candidates against the reference model, one
 * window at a time, in slices of the vocabulary with running log-sum-exps:
 * never a [n, vocab] matrix.
 */
#ifndef PTQ_EVAL_SCORE_H
#define PTQ_EVAL_SCORE_H

#include <stdint.h>

#include "ptq/model/forward.h"

/** Sums over the n - 1 scored positions (1..n-1) of a window, float64 in
 * position order, nats. */
typedef struct ptq_window_score {
  double nll;    /* sum of -ln p(token) */
  double kl;     /* sum over positions of sum_v p_ref ln(p_ref / p) */
  double kl_rev; /* roles swapped */
  int64_t top1;  /* positions whose most probable token agrees; ties go to
                    the lower id */
} ptq_window_score;

/** Scratch for scoring windows up to `max_tokens` with up to `max_candidates`
 * at once. */
typedef struct ptq_scorer ptq_scorer;
ptq_status ptq_scorer_create(const ptq_model_info *info, int64_t max_tokens,
                             int64_t max_candidates, ptq_scorer **out,
                             ptq_err *err);
void ptq_scorer_free(ptq_scorer *s);
int64_t ptq_scorer_bytes(const ptq_model_info *info, int64_t max_tokens,
                         int64_t max_candidates);

/**
 * Score one window.
 * @param ids   [n] tokens, all < vocab
 * @param ref   [n, d_model] reference hidden states after the final norm
 * @param cand  n_cand pointers to [n, d_model], normed; may be none
 * @param[out] ref_nll  sum of the reference's NLL over scored positions
 * @param[out] out      [n_cand]
 * @param[out] kl       [n_cand] pointers to [n - 1] per-position KL, or NULL
 * A candidate's bits do not depend on the other candidates. A non-finite
 * result is PTQ_OK with NaN in that candidate's sums. Rank-local.
 */
ptq_status ptq_score_window(ptq_scorer *s, const ptq_head *head,
                            const uint32_t *ids, int64_t n, const float *ref,
                            const float *const *cand, int64_t n_cand,
                            double *ref_nll, ptq_window_score *out,
                            float *const *kl, ptq_err *err);

#endif /* PTQ_EVAL_SCORE_H */
