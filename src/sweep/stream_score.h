/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file stream_score.h
 * The NLL of windows whose streams have come through all blocks.
 */
#ifndef PTQ_SWEEP_STREAM_SCORE_H
#define PTQ_SWEEP_STREAM_SCORE_H

#include "ptq/eval/score.h"
#include "setup.h"
#include "stream.h"

typedef struct ptq_stream_score {
  const ptq_setup *setup; /* borrowed */
  ptq_head head;          /* owned */
  ptq_scorer **scorers;   /* owned, of owned; [room.hands] */
} ptq_stream_score;

/** Reads the head. A failure leaves *s to be closed. */
ptq_status ptq_stream_score_open(ptq_stream_score *s, const ptq_setup *setup,
                                 ptq_err *err);
void ptq_stream_score_close(ptq_stream_score *s);
/** Sums over the scored positions of each window, nll[w->n]. */
ptq_status ptq_stream_score_run(ptq_stream_score *s, ptq_stream *stream,
                                const ptq_windows *w, double *nll,
                                ptq_err *err);

/** x / w over windows, and the scored tokens of all of them. */
double ptq_score_mean(const double *x, const double *w, int64_t n);
double ptq_score_tokens(const ptq_windows *w);

#endif /* PTQ_SWEEP_STREAM_SCORE_H */
