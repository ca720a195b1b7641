/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "request_states.h"

#include <string.h>

#include "ptq/base/mem.h"

static const char what[] = "the hidden states of the requests";

static ptq_status make(ptq_request_states *s, ptq_team *team,
                       const ptq_model_info *info, const ptq_requests *r,
                       ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t rows = 0;
  *s = (ptq_request_states){.requests = r, .team = team};
  PTQ_TRY(ptq_alloc(&s->row, r->n_bundles, sizeof *s->row, what, err));
  for (int64_t i = 0; i < r->n_bundles; i++) {
    s->row[i] = rows;
    if (ptq_team_owns(team, i)) rows += r->bundles[i].n_rows;
  }
  PTQ_TRY(ptq_alloc(&s->h, rows * info->d_model, sizeof *s->h, what, err));
done:
  return rc;
}

static float *states_of(const ptq_request_states *s, int64_t bundle,
                        int64_t d) {
  return s->h + s->row[bundle] * d;
}

ptq_status ptq_request_states_embed(ptq_request_states *s, ptq_team *team,
                                    const ptq_model_info *info,
                                    const ptq_embedding *e,
                                    const ptq_requests *r, ptq_err *err) {
  *s = (ptq_request_states){0};
  if (r->n == 0) return PTQ_OK;
  ptq_status rc = make(s, team, info, r, err);
  for (int64_t i = 0; i < r->n_bundles && rc == PTQ_OK; i++) {
    const ptq_bundle *b = &r->bundles[i];
    if (!ptq_team_owns(team, i)) continue;
    rc = ptq_bundle_embed(info, e, r->ids + b->row, r->branches + b->branch,
                          b->n_branches, states_of(s, i, info->d_model), err);
  }
  return rc;
}

ptq_status ptq_request_states_copy(ptq_request_states *s,
                                   const ptq_model_info *info,
                                   const ptq_request_states *from,
                                   ptq_err *err) {
  *s = (ptq_request_states){0};
  if (from->requests == NULL) return PTQ_OK;
  const ptq_requests *r = from->requests;
  const ptq_status rc = make(s, from->team, info, r, err);
  for (int64_t i = 0; i < r->n_bundles && rc == PTQ_OK; i++)
    if (ptq_team_owns(s->team, i))
      memcpy(states_of(s, i, info->d_model), states_of(from, i, info->d_model),
             (size_t)(r->bundles[i].n_rows * info->d_model) * sizeof *s->h);
  return rc;
}

void ptq_request_states_release(ptq_request_states *s) {
  ptq_free(s->h);
  ptq_free(s->row);
  *s = (ptq_request_states){0};
}

/* The states on their way through a block. */
typedef struct advance {
  const ptq_request_states *s;
  const ptq_hands *hands;
  const ptq_block *block;
} advance;

static ptq_status push_bundle(void *ctx, int hand, int64_t i, ptq_order *order,
                              ptq_err *err) {
  const advance *a = ctx;
  const ptq_requests *r = a->s->requests;
  const ptq_bundle *b = &r->bundles[i];
  const ptq_model_info *info = a->hands->info;
  (void)order;
  return ptq_bundle_forward(info, a->block, states_of(a->s, i, info->d_model),
                            b->n_rows, r->branches + b->branch, b->n_branches,
                            a->hands->ws[hand], err);
}

ptq_status ptq_request_states_advance(ptq_request_states *s,
                                      const ptq_hands *hands,
                                      const ptq_block *block, ptq_err *err) {
  advance a = {.s = s, .hands = hands, .block = block};
  if (s->requests == NULL) return PTQ_OK;
  return ptq_team_run(s->team, hands->n, s->requests->n_bundles, push_bundle,
                      &a, err);
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

/* The states' bundles before the head. */
typedef struct answering {
  const ptq_request_states *s;
  const ptq_head *head;
  int64_t d;
  int threads;
  ptq_target_scorer **scorers; /* owned, of owned; [threads] */
  ptq_target_score *scores;    /* owned; [targets], shared in a team */
} answering;

static void answering_close(answering *a) {
  for (int i = 0; a->scorers != NULL && i < a->threads; i++)
    ptq_target_scorer_free(a->scorers[i]);
  ptq_free(a->scorers);
  ptq_team_free(a->s->team, a->scores);
}

static ptq_status answering_open(answering *a, const ptq_model_info *info,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_requests *r = a->s->requests;
  PTQ_TRY(ptq_alloc(&a->scorers, a->threads, sizeof(ptq_target_scorer *),
                    "scores", err));
  for (int i = 0; i < a->threads; i++)
    PTQ_TRY(
        ptq_target_scorer_create(info, r->longest_bundle, &a->scorers[i], err));
  PTQ_TRY(ptq_team_alloc(a->s->team, &a->scores, r->n_targets,
                         sizeof *a->scores, "scores", err));
done:
  return rc;
}

static ptq_status score_bundle(void *ctx, int hand, int64_t i, ptq_order *order,
                               ptq_err *err) {
  const answering *a = ctx;
  const ptq_requests *r = a->s->requests;
  const ptq_bundle *b = &r->bundles[i];
  (void)order;
  return ptq_score_targets(a->scorers[hand], a->head, states_of(a->s, i, a->d),
                           b->n_rows, r->targets + b->target, b->n_targets,
                           a->scores + b->target, err);
}

ptq_status ptq_request_states_answer(const ptq_request_states *s,
                                     const ptq_model_info *info, int threads,
                                     const ptq_head *head, ptq_answer **out,
                                     ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_requests *r = s->requests;
  answering a = {.s = s, .head = head, .d = info->d_model, .threads = threads};
  ptq_scored_choice *scored = NULL;
  *out = NULL;
  if (r == NULL) return PTQ_OK;
  PTQ_TRY(answering_open(&a, info, err));
  PTQ_TRY(ptq_alloc(&scored, most_choices(r), sizeof *scored, "scores", err));
  PTQ_TRY(ptq_alloc(out, r->n, sizeof **out, "answers", err));
  PTQ_TRY(ptq_team_run(s->team, threads, r->n_bundles, score_bundle, &a, err));
  for (int64_t i = 0; i < r->n; i++)
    (*out)[i] = answer_one(r, i, a.scores, scored);
done:
  answering_close(&a);
  ptq_free(scored);
  if (rc != PTQ_OK) {
    ptq_free(*out);
    *out = NULL;
  }
  return rc;
}
