/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file request_states.h
 * The residual stream of a sweep's requests through a model, bundle by bundle,
 * and the answers that come of it.
 */
#ifndef PTQ_SWEEP_REQUEST_STATES_H
#define PTQ_SWEEP_REQUEST_STATES_H

#include "hands.h"
#include "ptq/record/rows.h"
#include "ptq/sweep/requests.h"

typedef struct ptq_request_states {
  const ptq_requests *requests; /* borrowed; NULL: none */
  float *h;                     /* owned; [rows of own bundles, d_model] */
  int64_t *row;                 /* owned; [bundles] first row in h, of bundles
                                   that a team's rank owns */
  ptq_team *team;               /* borrowed, nullable */
} ptq_request_states;

/** The embedded requests; nothing where there are none. */
ptq_status ptq_request_states_embed(ptq_request_states *s, ptq_team *team,
                                    const ptq_model_info *info,
                                    const ptq_embedding *e,
                                    const ptq_requests *r, ptq_err *err);
/** A copy of `from`. */
ptq_status ptq_request_states_copy(ptq_request_states *s,
                                   const ptq_model_info *info,
                                   const ptq_request_states *from,
                                   ptq_err *err);
void ptq_request_states_release(ptq_request_states *s);

/** Push every bundle through a block. The workspaces are for the longest
 * one. */
ptq_status ptq_request_states_advance(ptq_request_states *s,
                                      const ptq_hands *hands,
                                      const ptq_block *b, ptq_err *err);

/** Answers [requests->n] from states behind the last block; freed with
 * ptq_free, *out is NULL where there are no requests; on so many threads. */
ptq_status ptq_request_states_answer(const ptq_request_states *s,
                                     const ptq_model_info *info, int threads,
                                     const ptq_head *head, ptq_answer **out,
                                     ptq_err *err);
/** Bytes of states, and of answering with what answering takes. */
int64_t ptq_request_states_bytes(const ptq_requests *r,
                                 const ptq_model_info *info);
int64_t ptq_request_answer_bytes(const ptq_requests *r,
                                 const ptq_model_info *info);

/** Are all answers' log-likelihoods finite? */
bool ptq_answers_finite(const ptq_answer *a, int64_t n);
/** The columns of a point: n answers of its own against the unquantized
 * model's. */
void ptq_answers_summarize(const ptq_answer *own, const ptq_answer *ref,
                           int64_t n, ptq_point_row *row);
/** The columns of the unquantized model. */
void ptq_answers_summarize_baseline(const ptq_answer *a, int64_t n,
                                    ptq_model_row *row);
/** Rows [n] of the store. */
void ptq_answers_rows(const ptq_answer *a, int64_t n, int64_t point,
                      ptq_answer_row *rows);
void ptq_answers_baseline_rows(const ptq_answer *a, const ptq_requests *r,
                               int64_t subject, ptq_baseline_answer_row *rows);

#endif /* PTQ_SWEEP_REQUEST_STATES_H */
