/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "request_states.h"

#include <string.h>

#include "ptq/base/mem.h"

static ptq_status make(ptq_request_states *s, const ptq_model_info *info,
                       const ptq_requests *r, ptq_err *err) {
  *s = (ptq_request_states){.requests = r};
  return ptq_alloc(&s->h, r->n_rows * info->d_model, sizeof *s->h,
                   "the hidden states of the requests", err);
}

static float *states_of(const ptq_request_states *s, const ptq_bundle *b,
                        int64_t d) {
  return s->h + b->row * d;
}

ptq_status ptq_request_states_embed(ptq_request_states *s,
                                    const ptq_model_info *info,
                                    const ptq_embedding *e,
                                    const ptq_requests *r, ptq_err *err) {
  *s = (ptq_request_states){0};
  if (r->n == 0) return PTQ_OK;
  ptq_status rc = make(s, info, r, err);
  for (int64_t i = 0; i < r->n_bundles && rc == PTQ_OK; i++) {
    const ptq_bundle *b = &r->bundles[i];
    rc = ptq_bundle_embed(info, e, r->ids + b->row, r->branches + b->branch,
                          b->n_branches, states_of(s, b, info->d_model), err);
  }
  return rc;
}

ptq_status ptq_request_states_copy(ptq_request_states *s,
                                   const ptq_model_info *info,
                                   const ptq_request_states *from,
                                   ptq_err *err) {
  *s = (ptq_request_states){0};
  if (from->requests == NULL) return PTQ_OK;
  const ptq_status rc = make(s, info, from->requests, err);
  if (rc == PTQ_OK)
    memcpy(s->h, from->h,
           (size_t)(s->requests->n_rows * info->d_model) * sizeof *s->h);
  return rc;
}

void ptq_request_states_release(ptq_request_states *s) {
  ptq_free(s->h);
  *s = (ptq_request_states){0};
}

ptq_status ptq_request_states_advance(ptq_request_states *s,
                                      const ptq_model_info *info,
                                      const ptq_block *block, ptq_workspace *ws,
                                      ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_requests *r = s->requests;
  for (int64_t i = 0; r != NULL && i < r->n_bundles && rc == PTQ_OK; i++) {
    const ptq_bundle *b = &r->bundles[i];
    rc = ptq_bundle_forward(info, block, states_of(s, b, info->d_model),
                            b->n_rows, r->branches + b->branch, b->n_branches,
                            ws, err);
  }
  return rc;
}

int64_t ptq_request_states_bytes(const ptq_requests *r,
                                 const ptq_model_info *info) {
  return r->n_rows * info->d_model * (int64_t)sizeof(float);
}

int64_t ptq_request_answer_bytes(const ptq_requests *r,
                                 const ptq_model_info *info) {
  if (r->n == 0) return 0;
  return ptq_target_scorer_bytes(info, r->longest_bundle) +
         r->n_targets * (int64_t)sizeof(ptq_target_score);
}

/* One request whose targets are scored; `scored` is scratch. */
static ptq_answer answer_one(const ptq_requests *r, int64_t request,
                             const ptq_target_score *scores,
                             ptq_scored_choice *scored) {
  const int64_t first = r->first[request];
  const int64_t n = r->first[request + 1] - first;
  int64_t right = 0;
  for (int64_t i = 0; i < n; i++) {
    const ptq_choice *c = &r->choices[first + i];
    scored[i] = (ptq_scored_choice){.greedy = true};
    memcpy(scored[i].length, c->length, sizeof c->length);
    for (int64_t k = c->target; k < c->target + c->n_targets; k++) {
      scored[i].logp += scores[k].logp;
      scored[i].greedy = scored[i].greedy && scores[k].greedy;
    }
    if (c->right) right = i;
  }
  return ptq_answer_of(scored, n, right);
}

static int64_t most_choices(const ptq_requests *r) {
  int64_t most = 0;
  for (int64_t i = 0; i < r->n; i++)
    if (r->first[i + 1] - r->first[i] > most)
      most = r->first[i + 1] - r->first[i];
  return most;
}

ptq_status ptq_request_states_answer(const ptq_request_states *s,
                                     const ptq_model_info *info,
                                     const ptq_head *head, ptq_answer **out,
                                     ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_requests *r = s->requests;
  ptq_target_scorer *scorer = NULL;
  ptq_target_score *scores = NULL;
  ptq_scored_choice *scored = NULL;
  *out = NULL;
  if (r == NULL) return PTQ_OK;
  PTQ_TRY(ptq_target_scorer_create(info, r->longest_bundle, &scorer, err));
  PTQ_TRY(ptq_alloc(&scores, r->n_targets, sizeof *scores, "scores", err));
  PTQ_TRY(ptq_alloc(&scored, most_choices(r), sizeof *scored, "scores", err));
  PTQ_TRY(ptq_alloc(out, r->n, sizeof **out, "answers", err));
  for (int64_t i = 0; i < r->n_bundles; i++) {
    const ptq_bundle *b = &r->bundles[i];
    PTQ_TRY(ptq_score_targets(scorer, head, states_of(s, b, info->d_model),
                              b->n_rows, r->targets + b->target, b->n_targets,
                              scores + b->target, err));
  }
  for (int64_t i = 0; i < r->n; i++)
    (*out)[i] = answer_one(r, i, scores, scored);
done:
  ptq_target_scorer_free(scorer);
  ptq_free(scores);
  ptq_free(scored);
  if (rc != PTQ_OK) {
    ptq_free(*out);
    *out = NULL;
  }
  return rc;
}
