/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "scoring.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "ptq/base/mem.h"
#include "ptq/base/statistics.h"
#include "ptq/base/text.h"
#include "ptq/eval/score.h"
#include "ptq/num/numerics.h"
#include "ptq/sweep/identity.h"

/* Scores of the lanes still alive; arrays over [n lanes, n windows]. */
typedef struct scores {
  ptq_team *team; /* borrowed, nullable; ref_nll, score and kl are shared */
  int64_t n_lanes, n_windows;
  int64_t scored;          /* positions of all windows */
  int64_t *at;             /* owned; [n_windows] scored positions before each */
  ptq_lane **lane;         /* owned; [n_lanes] */
  double *ref_nll;         /* owned; [n_windows] */
  ptq_window_score *score; /* owned; [n_lanes, n_windows] */
  float *kl;               /* owned; [n_lanes, scored] */
  double *x, *w;           /* owned; [n_windows] scratch of statistics */
  ptq_window_row *rows;    /* owned; [n_windows] scratch */
  int64_t n_requests;
  ptq_answer *ref_answers;     /* owned; [n_requests] */
  ptq_answer *answers;         /* owned; of the lane at hand */
  ptq_answer_row *answer_rows; /* owned; [n_requests] scratch */
} scores;

static void scores_release(scores *s) {
  ptq_free(s->at);
  ptq_free(s->lane);
  ptq_team_free(s->team, s->ref_nll);
  ptq_team_free(s->team, s->score);
  ptq_team_free(s->team, s->kl);
  ptq_free(s->x);
  ptq_free(s->w);
  ptq_free(s->rows);
  ptq_free(s->ref_answers);
  ptq_free(s->answers);
  ptq_free(s->answer_rows);
  *s = (scores){0};
}

static ptq_status scores_init(scores *s, const ptq_windows *eval,
                              ptq_team *team, ptq_lane *lanes, int64_t n,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *s = (scores){.team = team, .n_windows = eval->n};
  PTQ_TRY(ptq_alloc(&s->at, eval->n, sizeof *s->at, "scores", err));
  for (int64_t i = 0; i < eval->n; i++) {
    s->at[i] = s->scored;
    s->scored += ptq_windows_scored(eval, i);
  }
  PTQ_TRY(ptq_alloc(&s->lane, n, sizeof *s->lane, "lanes", err));
  for (int64_t i = 0; i < n; i++)
    if (lanes[i].status == PTQ_OK) s->lane[s->n_lanes++] = &lanes[i];
  const int64_t cells = s->n_lanes * s->n_windows;
  PTQ_TRY(ptq_team_alloc(team, &s->ref_nll, s->n_windows, sizeof *s->ref_nll,
                         "scores", err));
  PTQ_TRY(
      ptq_team_alloc(team, &s->score, cells, sizeof *s->score, "scores", err));
  PTQ_TRY(ptq_team_alloc(team, &s->kl, s->n_lanes * s->scored, sizeof *s->kl,
                         "scores", err));
  PTQ_TRY(ptq_alloc(&s->x, s->n_windows, sizeof *s->x, "scores", err));
  PTQ_TRY(ptq_alloc(&s->w, s->n_windows, sizeof *s->w, "scores", err));
  PTQ_TRY(ptq_alloc(&s->rows, s->n_windows, sizeof *s->rows, "scores", err));
  for (int64_t i = 0; i < s->n_windows; i++)
    s->w[i] = (double)ptq_windows_scored(eval, i);
done:
  if (rc != PTQ_OK) scores_release(s);
  return rc;
}

/* A thread's scratch. */
typedef struct score_hand {
  ptq_scorer *scorer;    /* owned */
  const float **cand;    /* owned; [n_lanes] */
  float **kl;            /* owned; [n_lanes] */
  ptq_window_score *out; /* owned; [n_lanes] */
} score_hand;

typedef struct score_pass {
  scores *s;
  ptq_reference *r;
  const ptq_head *head;
  score_hand *hands; /* owned; [room.hands] */
} score_pass;

/* One window of all lanes. */
static ptq_status score_one(void *ctx, int hand, int64_t window,
                            ptq_order *order, ptq_err *err) {
  const score_pass *p = ctx;
  score_hand *own = &p->hands[hand];
  scores *s = p->s;
  ptq_reference *r = p->r;
  const ptq_model_info *info = r->setup->info;
  const ptq_windows *eval = &r->setup->eval;
  /* The tokens before the last one that is context only are left out. */
  const int64_t skip = eval->first[window] - 1, n = eval->end[window] - skip;
  ptq_status rc = PTQ_OK;
  float *ref = NULL;
  (void)order;
  PTQ_TRY(ptq_stream_window(&r->eval, hand, window, &ref, err));
  ref += skip * info->d_model;
  ptq_head_norm(info, p->head, ref, n);
  for (int64_t i = 0; i < s->n_lanes; i++) {
    float *h = NULL;
    PTQ_TRY(ptq_stream_window(&s->lane[i]->eval, hand, window, &h, err));
    h += skip * info->d_model;
    ptq_head_norm(info, p->head, h, n);
    own->cand[i] = h;
    own->kl[i] = s->kl + i * s->scored + s->at[window];
  }
  PTQ_TRY(ptq_score_window(
      own->scorer, p->head, eval->ids + window * eval->length + skip, n, ref,
      own->cand, s->n_lanes, &s->ref_nll[window], own->out, own->kl, err));
  for (int64_t i = 0; i < s->n_lanes; i++)
    s->score[i * s->n_windows + window] = own->out[i];
done:
  return rc;
}

static ptq_status score_hand_open(const score_pass *p, score_hand *h,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = p->s->n_lanes;
  PTQ_TRY(ptq_alloc(&h->cand, n, sizeof *h->cand, "scores", err));
  PTQ_TRY(ptq_alloc(&h->kl, n, sizeof *h->kl, "scores", err));
  PTQ_TRY(ptq_alloc(&h->out, n, sizeof *h->out, "scores", err));
  PTQ_TRY(ptq_scorer_create(p->r->setup->info, p->r->setup->eval.length, n,
                            &h->scorer, err));
done:
  return rc;
}

static void score_hand_close(score_hand *h) {
  ptq_scorer_free(h->scorer);
  ptq_free(h->cand);
  ptq_free(h->kl);
  ptq_free(h->out);
}

static ptq_status score_windows(scores *s, ptq_reference *r,
                                const ptq_head *head, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int n = r->setup->room.hands;
  score_pass p = {.s = s, .r = r, .head = head};
  PTQ_TRY(ptq_alloc(&p.hands, n, sizeof *p.hands, "scores", err));
  for (int i = 0; i < n; i++) PTQ_TRY(score_hand_open(&p, &p.hands[i], err));
  PTQ_TRY(ptq_team_run(s->team, n, s->n_windows, score_one, &p, err));
done:
  for (int i = 0; p.hands != NULL && i < n; i++) score_hand_close(&p.hands[i]);
  ptq_free(p.hands);
  return rc;
}

/* A mean over layers. Experts that no token of the selection text came to have
 * no outputs, and are left out. */
typedef struct layer_mean {
  double sum;
  int64_t n;
} layer_mean;

static void take_layer(double decibel, bool mixture, layer_mean *m) {
  if (mixture && isnan(decibel)) return;
  m->sum += decibel;
  m->n++;
}

/* Means over layers in dB; sums over layers before the ratio for weights. */
static void summarize_layers(const ptq_lane *l, const ptq_model_info *info,
                             ptq_point_row *row) {
  const bool mixture = info->n_experts > 0;
  layer_mean output = {0}, propagated = {0};
  for (int64_t i = 0; i < l->n_layers; i++) {
    take_layer(l->layers[i].sqnr_output, mixture, &output);
    take_layer(l->layers[i].sqnr_output_prop, mixture, &propagated);
  }
  row->sqnr_output = output.sum / (double)output.n;
  row->sqnr_output_prop = propagated.sum / (double)propagated.n;
  row->sqnr_weight = ptq_decibel(l->weight_energy, l->weight_noise);
  row->bits_per_weight = l->storage_bits / (double)info->params_quantizable;
  row->bits_model = l->storage_bits + info->bits_unquantized;
}

/* The point's seed of resampling is the hash of its key. */
static void summarize_windows(scores *s, int64_t lane, const ptq_windows *eval,
                              ptq_point_row *row) {
  const ptq_window_score *score = s->score + lane * s->n_windows;
  const uint64_t seed = ptq_hash64(row->key, strlen(row->key));
  const double positions = (double)s->scored;
  double nll = 0.0, kl = 0.0, kl_rev = 0.0, top1 = 0.0, bytes = 0.0;
  for (int64_t i = 0; i < s->n_windows; i++) {
    nll += score[i].nll;
    kl += score[i].kl;
    kl_rev += score[i].kl_rev;
    top1 += (double)score[i].top1;
    bytes += (double)eval->bytes[i];
  }
  row->nll = nll / positions;
  row->nll_byte = nll / bytes;
  row->ppl = exp(row->nll);
  row->kl = kl / positions;
  row->kl_rev = kl_rev / positions;
  row->top1 = top1 / positions;
  for (int64_t i = 0; i < s->n_windows; i++) s->x[i] = score[i].nll;
  row->nll_se = ptq_window_se(s->x, s->w, s->n_windows);
  double dnll = 0.0;
  for (int64_t i = 0; i < s->n_windows; i++) {
    s->x[i] = score[i].nll - s->ref_nll[i];
    dnll += s->x[i];
  }
  row->dnll = dnll / positions;
  row->dnll_se = ptq_block_bootstrap_se(s->x, s->w, s->n_windows, seed);
  for (int64_t i = 0; i < s->n_windows; i++) s->x[i] = score[i].kl;
  row->kl_se = ptq_block_bootstrap_se(s->x, s->w, s->n_windows, seed);
  row->kl_p99 = ptq_quantile(s->kl + lane * s->scored, s->scored, 0.99);
}

static void fill_windows(scores *s, int64_t lane, int64_t point) {
  const ptq_window_score *score = s->score + lane * s->n_windows;
  for (int64_t i = 0; i < s->n_windows; i++)
    s->rows[i] = (ptq_window_row){.point = point,
                                  .window = i,
                                  .nll = score[i].nll,
                                  .kl = score[i].kl,
                                  .top1 = (double)score[i].top1};
}

/* The reference's answers to the requests. */
static ptq_status answer_reference(scores *s, const ptq_reference *r,
                                   const ptq_head *head, ptq_err *err) {
  s->n_requests = r->setup->requests.n;
  const ptq_status rc = ptq_alloc(&s->answer_rows, s->n_requests,
                                  sizeof *s->answer_rows, "answers", err);
  return rc != PTQ_OK ? rc
                      : ptq_request_states_answer(&r->requests, r->setup->info,
                                                  r->setup->room.hands, head,
                                                  &s->ref_answers, err);
}

/* A lane's answers and what follows for its row. */
static ptq_status answer_lane(scores *s, const ptq_reference *r,
                              const ptq_head *head, const ptq_lane *l,
                              ptq_point_row *row, ptq_err *err) {
  ptq_free(s->answers);
  s->answers = NULL;
  const ptq_status rc =
      ptq_request_states_answer(&l->requests, r->setup->info,
                                r->setup->room.hands, head, &s->answers, err);
  if (rc != PTQ_OK) return rc;
  ptq_answers_summarize(s->answers, s->ref_answers, s->n_requests, row);
  ptq_answers_rows(s->answers, s->n_requests, l->point, s->answer_rows);
  return PTQ_OK;
}

ptq_status ptq_hand_over_failed(const ptq_grid *g, int64_t point,
                                const char *why, const ptq_sink *sink,
                                ptq_err *err) {
  char numerics[PTQ_NUMERICS_MAX];
  ptq_point_result result = {.point = point, .state = PTQ_STATE_FAILED};
  ptq_numerics_text(g->spec->compute, numerics);
  ptq_point_identity(g, point, numerics, &result.row);
  (void)ptq_text_copy(result.message, sizeof result.message, why);
  return sink->point(sink->ctx, &result, err);
}

/* Hand a lane over; `at` is its place among the scored ones. */
static ptq_status hand_over(const ptq_grid *g, const ptq_reference *r,
                            const ptq_head *head, scores *s, int64_t at,
                            ptq_lane *l, double shared_seconds,
                            const char *numerics, const ptq_sink *sink,
                            ptq_err *err) {
  const double start = ptq_clock();
  if (l->status != PTQ_OK)
    return ptq_hand_over_failed(g, l->point, l->err.msg, sink, err);
  ptq_point_result result = {.point = l->point,
                             .state = PTQ_STATE_DONE,
                             .layers = l->layers,
                             .n_layers = l->n_layers,
                             .windows = s->rows,
                             .n_windows = s->n_windows,
                             .answers = s->answer_rows,
                             .n_answers = s->n_requests};
  ptq_point_identity(g, l->point, numerics, &result.row);
  const ptq_status rc = ptq_team_agree(
      s->team, answer_lane(s, r, head, l, &result.row, err), err);
  if (rc != PTQ_OK) return rc;
  if (ptq_team_leads(s->team)) { /* the one who hands it over */
    summarize_layers(l, r->setup->info, &result.row);
    summarize_windows(s, at, &r->setup->eval, &result.row);
    fill_windows(s, at, l->point);
  }
  result.seconds = l->seconds + shared_seconds + (ptq_clock() - start);
  if (!isfinite(result.row.nll) || !isfinite(result.row.kl) ||
      !ptq_answers_finite(s->answers, s->n_requests))
    return ptq_hand_over_failed(
        g, l->point,
        "the quantized model's NLL is not finite: the number format is too "
        "coarse for this model's activations",
        sink, err);
  return sink->point(sink->ctx, &result, err);
}

/* All windows of all lanes, and the reference's answers. */
static ptq_status score_all(scores *s, ptq_reference *r, ptq_lane *lanes,
                            int64_t n, ptq_head *head, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_setup *setup = r->setup;
  PTQ_TRY(scores_init(s, &setup->eval, setup->room.team, lanes, n, err));
  PTQ_TRY(ptq_model_load_head(setup->model, head, err));
  PTQ_TRY(score_windows(s, r, head, err));
  PTQ_TRY(answer_reference(s, r, head, err));
done:
  return rc;
}

ptq_status ptq_score_lanes(const ptq_grid *g, ptq_reference *r, ptq_lane *lanes,
                           int64_t n, double shared_seconds,
                           const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_head head = {0};
  scores s = {0};
  char numerics[PTQ_NUMERICS_MAX];
  const double start = ptq_clock();
  ptq_numerics_text(g->spec->compute, numerics);
  PTQ_TRY(ptq_team_agree(r->setup->room.team,
                         score_all(&s, r, lanes, n, &head, err), err));
  shared_seconds += ptq_clock() - start;
  int64_t at = 0;
  for (int64_t i = 0; i < n; i++) {
    PTQ_TRY(hand_over(g, r, &head, &s, at, &lanes[i],
                      shared_seconds / (double)n, numerics, sink, err));
    at += lanes[i].status == PTQ_OK;
  }
done:
  ptq_head_release(&head);
  scores_release(&s);
  return rc;
}
