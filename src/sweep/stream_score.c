/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "stream_score.h"

#include "ptq/base/mem.h"

ptq_status ptq_stream_score_open(ptq_stream_score *s, const ptq_setup *setup,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int hands = setup->room.hands;
  const int64_t eval = setup->eval.length, calib = setup->calib.length;
  *s = (ptq_stream_score){.setup = setup};
  PTQ_TRY(ptq_alloc(&s->scorers, hands, sizeof(ptq_scorer *), "scores", err));
  for (int h = 0; h < hands; h++)
    PTQ_TRY(ptq_scorer_create(setup->info, eval > calib ? eval : calib, 0,
                              &s->scorers[h], err));
  PTQ_TRY(ptq_model_load_head(setup->model, &s->head, err));
done:
  return rc;
}

void ptq_stream_score_close(ptq_stream_score *s) {
  for (int h = 0; s->scorers != NULL && h < s->setup->room.hands; h++)
    ptq_scorer_free(s->scorers[h]);
  ptq_free(s->scorers);
  ptq_head_release(&s->head);
  *s = (ptq_stream_score){0};
}

/* Windows before the head, on the threads. */
typedef struct pass {
  const ptq_stream_score *s;
  ptq_stream *stream;
  const ptq_windows *w;
  double *nll;
} pass;

static ptq_status score_window(void *ctx, int hand, int64_t i, ptq_order *order,
                               ptq_err *err) {
  const pass *p = ctx;
  const ptq_windows *w = p->w;
  const int64_t skip = w->first[i] - 1, n = w->end[i] - skip;
  float *h = NULL;
  (void)order;
  const ptq_status rc = ptq_stream_window(p->stream, hand, i, &h, err);
  if (rc != PTQ_OK) return rc;
  h += skip * p->stream->d;
  ptq_head_norm(p->s->setup->info, &p->s->head, h, n);
  return ptq_score_window(p->s->scorers[hand], &p->s->head,
                          w->ids + i * w->length + skip, n, h, NULL, 0,
                          &p->nll[i], NULL, NULL, err);
}

ptq_status ptq_stream_score_run(ptq_stream_score *s, ptq_stream *stream,
                                const ptq_windows *w, double *nll,
                                ptq_err *err) {
  pass p = {.s = s, .stream = stream, .w = w, .nll = nll};
  return ptq_crew_run(s->setup->room.hands, w->n, score_window, &p, err);
}

double ptq_score_mean(const double *x, const double *w, int64_t n) {
  double sum = 0.0, weight = 0.0;
  for (int64_t i = 0; i < n; i++) {
    sum += x[i];
    weight += w[i];
  }
  return sum / weight;
}

double ptq_score_tokens(const ptq_windows *w) {
  int64_t n = 0;
  for (int64_t i = 0; i < w->n; i++) n += ptq_windows_scored(w, i);
  return (double)n;
}
