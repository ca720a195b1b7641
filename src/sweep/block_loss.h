/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file block_loss.h
 * The ptq_block_loss of a lane: the block at hand with other weights, run forth
 * and back on the lane's own calibration stream.
 */
#ifndef PTQ_SWEEP_BLOCK_LOSS_H
#define PTQ_SWEEP_BLOCK_LOSS_H

#include "ptq/model/backward.h"
#include "reference.h"

/** What a thread has of its own. */
typedef struct ptq_block_hand {
  ptq_backspace *bs; /* owned */
  float *h, *tape;   /* owned; [length, d_model]; a window's */
} ptq_block_hand;

typedef struct ptq_block_probe {
  ptq_reference *r;      /* borrowed; its calib stands behind the block */
  ptq_stream *input;     /* borrowed; before the block */
  int n_hands;           /* threads */
  ptq_block_hand *hands; /* owned */
  ptq_block block;       /* borrows all but `linear` of the reference's */
  ptq_linear *linear;    /* owned; [layers] */
  float **g;             /* owned; [layers] borrowed derivatives */
  double *sums;          /* owned; [windows] */
} ptq_block_probe;

/** PTQ_E_UNSUPPORTED where products are not float32. */
ptq_status ptq_block_probe_open(ptq_block_probe *p, ptq_reference *r,
                                ptq_stream *input, int threads, ptq_err *err);
void ptq_block_probe_close(ptq_block_probe *p);
int64_t ptq_block_probe_bytes(const ptq_model_info *info, int threads,
                              int64_t length);

/** ptq_block_loss.eval; the probe is its ctx. All layers that are present, in
 * the order of their numbers. */
ptq_status ptq_block_probe_eval(void *probe, const int64_t *at, int64_t count,
                                float *const *w, float *const *g, double *loss,
                                ptq_err *err);

#endif /* PTQ_SWEEP_BLOCK_LOSS_H */
