/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>

#include "clock.h"
#include "gate.h"
#include "ptq/base/mem.h"
#include "ptq/base/statistics.h"
#include "ptq/base/text.h"
#include "ptq/eval/score.h"
#include "ptq/eval/unigram.h"
#include "ptq/num/blas.h"
#include "ptq/num/moment.h"
#include "ptq/sweep/batch.h"
#include "ptq/sweep/identity.h"
#include "request_states.h"
#include "setup.h"
#include "spectra.h"
#include "stream.h"

/* Everything a subject's item holds. */
typedef struct subject_run {
  ptq_setup setup;
  ptq_hands hands;
  ptq_stream calib, eval;
  ptq_request_states requests;
  ptq_block block;
  ptq_head head;
  ptq_scorer **scorers; /* owned, of owned; [room.hands] */
  ptq_spectra spectra;
  ptq_baseline_row *windows;
  double *x, *w; /* [n_windows] NLL sums and scored positions */
  ptq_baseline_answer_row *answers;
} subject_run;

static void run_close(subject_run *r) {
  ptq_free(r->windows);
  ptq_free(r->x);
  ptq_free(r->w);
  ptq_free(r->answers);
  ptq_request_states_release(&r->requests);
  ptq_spectra_release(&r->spectra);
  for (int i = 0; r->scorers != NULL && i < r->setup.room.hands; i++)
    ptq_scorer_free(r->scorers[i]);
  ptq_free(r->scorers);
  ptq_head_release(&r->head);
  ptq_block_release(&r->block);
  ptq_stream_release(&r->calib);
  ptq_stream_release(&r->eval);
  ptq_hands_close(&r->hands);
  ptq_setup_close(&r->setup);
}

static ptq_status run_open(subject_run *r, const ptq_grid *g, int64_t subject,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool spectra = false;
  ptq_embedding e = {0};
  PTQ_TRY(ptq_setup_open(&r->setup, g, subject, err));
  const ptq_model_info *info = r->setup.info;
  PTQ_TRY(ptq_model_load_embedding(r->setup.model, &e, err));
  if (g->spec->spectra == PTQ_SPECTRA_FULL) {
    PTQ_TRY(ptq_stream_embed(&r->calib, r->setup.room, info, &e,
                             &r->setup.calib, err));
    spectra = true;
  }
  PTQ_TRY(
      ptq_stream_embed(&r->eval, r->setup.room, info, &e, &r->setup.eval, err));
  PTQ_TRY(ptq_request_states_embed(&r->requests, g->team, info, &e,
                                   &r->setup.requests, err));
  ptq_embedding_release(&e); /* makes room */
  if (spectra)
    PTQ_TRY(ptq_spectra_init(&r->spectra, info, r->setup.room, r->calib.n,
                             r->calib.length, err));
  PTQ_TRY(ptq_hands_open(&r->hands, info, r->setup.room.hands,
                         ptq_setup_max_length(&r->setup), err));
  r->hands.team = g->team;
  PTQ_TRY(
      ptq_alloc(&r->windows, r->eval.n, sizeof *r->windows, "windows", err));
  PTQ_TRY(ptq_alloc(&r->x, r->eval.n, sizeof *r->x, "windows", err));
  PTQ_TRY(ptq_alloc(&r->w, r->eval.n, sizeof *r->w, "windows", err));
done:
  ptq_embedding_release(&e);
  return rc;
}

static ptq_status pass_block(subject_run *r, int64_t i, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_block_release(&r->block);
  PTQ_TRY(ptq_model_load_block(r->setup.model, i, &r->block, err));
  if (r->calib.n > 0)
    PTQ_TRY(
        ptq_spectra_block(&r->spectra, &r->calib, &r->hands, &r->block, err));
  PTQ_TRY(ptq_stream_advance(&r->eval, &r->hands, &r->block, err));
  PTQ_TRY(ptq_request_states_advance(&r->requests, &r->hands, &r->block, err));
done:
  return rc;
}

static ptq_status walk(subject_run *r, const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = r->setup.info->n_blocks;
  ptq_team *team = r->setup.room.team;
  for (int64_t i = 0; i < n; i++) {
    PTQ_TRY(ptq_team_agree(team, pass_block(r, i, err), err));
    PTQ_TRY(sink->alive(sink->ctx, (double)(i + 1) / (double)(n + 1), err));
  }
done:
  return rc;
}

static ptq_status score_window(void *ctx, int hand, int64_t i, ptq_order *order,
                               ptq_err *err) {
  subject_run *r = ctx;
  const ptq_windows *eval = &r->setup.eval;
  const int64_t skip = eval->first[i] - 1, n = eval->end[i] - skip;
  float *h = NULL;
  (void)order;
  const ptq_status rc = ptq_stream_window(&r->eval, hand, i, &h, err);
  if (rc != PTQ_OK) return rc;
  h += skip * r->eval.d;
  ptq_head_norm(r->setup.info, &r->head, h, n);
  return ptq_score_window(r->scorers[hand], &r->head,
                          eval->ids + i * eval->length + skip, n, h, NULL, 0,
                          &r->x[i], NULL, NULL, err);
}

static ptq_status score_windows(subject_run *r, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_windows *eval = &r->setup.eval;
  const int n = r->setup.room.hands;
  PTQ_TRY(ptq_alloc(&r->scorers, n, sizeof(ptq_scorer *), "scores", err));
  for (int i = 0; i < n; i++)
    PTQ_TRY(
        ptq_scorer_create(r->setup.info, eval->length, 0, &r->scorers[i], err));
  PTQ_TRY(ptq_model_load_head(r->setup.model, &r->head, err));
  ptq_team *team = r->setup.room.team;
  PTQ_TRY(ptq_team_run(team, n, eval->n, score_window, r, err));
  PTQ_TRY(ptq_team_share(team, r->x, eval->n, sizeof *r->x, 1, err));
done:
  return rc;
}

static ptq_status score(subject_run *r, int64_t subject, ptq_model_row *row,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_windows *eval = &r->setup.eval;
  double nll = 0.0;
  ptq_block_release(&r->block); /* makes room */
  ptq_stream_release(&r->calib);
  ptq_spectra_end(&r->spectra);
  ptq_hands_close(&r->hands);
  PTQ_TRY(score_windows(r, err));
  row->tokens = row->bytes = 0;
  for (int64_t i = 0; i < eval->n; i++) {
    const int64_t scored = ptq_windows_scored(eval, i);
    row->tokens += scored;
    r->w[i] = (double)scored;
    nll += r->x[i];
    row->bytes += eval->bytes[i];
    r->windows[i] = (ptq_baseline_row){.subject = subject,
                                       .window = i,
                                       .start = eval->start[i],
                                       .tokens = scored,
                                       .bytes = eval->bytes[i],
                                       .nll = r->x[i]};
  }
  row->nll = nll / (double)row->tokens;
  row->nll_byte = nll / (double)row->bytes;
  row->nll_se = ptq_window_se(r->x, r->w, eval->n);
  row->calib_tokens = r->setup.calib.n * r->setup.calib.length;
  PTQ_TRY(ptq_unigram_nll(r->setup.calib_tokens.ids, r->setup.calib_tokens.n,
                          eval->ids, eval->first, eval->end, eval->n,
                          eval->length, r->setup.info->vocab, &row->nll_unigram,
                          err));
done:
  return rc;
}

static ptq_status answer(subject_run *r, int64_t subject, ptq_model_row *row,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_requests *asked = &r->setup.requests;
  ptq_answer *answers = NULL;
  PTQ_TRY(ptq_request_states_answer(&r->requests, r->setup.info,
                                    r->setup.room.hands, &r->head, &answers,
                                    err));
  PTQ_TRY(ptq_alloc(&r->answers, asked->n, sizeof *r->answers, "answers", err));
  ptq_answers_summarize_baseline(answers, asked->n, row);
  ptq_answers_baseline_rows(answers, asked, subject, r->answers);
done:
  ptq_free(answers);
  return rc;
}

ptq_status ptq_subject_run(const ptq_grid *g, int64_t subject,
                           const ptq_sink *sink, ptq_err *err) {
  ptq_err why = {0};
  subject_run r = {0};
  ptq_subject_result result = {.subject = subject, .state = PTQ_STATE_DONE};
  ptq_gate gate = {.team = g->team, .sink = sink};
  const ptq_sink gated = ptq_gate_sink(&gate);
  const double start = ptq_clock();
  ptq_subject_identity(g, subject, &result.row);
  ptq_status rc = ptq_team_agree(g->team, run_open(&r, g, subject, &why), &why);
  if (rc == PTQ_OK) rc = walk(&r, &gated, &why);
  if (rc == PTQ_OK) {
    rc = score(&r, subject, &result.row, &why);
    if (rc == PTQ_OK) rc = answer(&r, subject, &result.row, &why);
    rc = ptq_team_agree(g->team, rc, &why);
  }
  if (rc == PTQ_OK) {
    result.windows = r.windows;
    result.n_windows = r.eval.n;
    result.answers = r.answers;
    result.n_answers = r.setup.requests.n;
    result.spectra = r.spectra.rows;
    result.n_spectra = r.spectra.n_rows;
  } else {
    ptq_subject_identity(g, subject, &result.row);
    result.state = PTQ_STATE_FAILED;
    (void)ptq_text_copy(result.message, sizeof result.message, why.msg);
  }
  result.seconds = ptq_clock() - start;
  if (ptq_gate_shut(&gate, rc))
    (void)ptq_err_set(err, rc, why.file, why.line, "%s", why.msg);
  else
    rc = gated.subject(gated.ctx, &result, err);
  run_close(&r);
  return rc;
}
