/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file batch.h
 * The work of one rank: several points of one subject, walked block by block
 * beside the unquantized reference; and a subject's own item. No MPI.
 */
#ifndef PTQ_SWEEP_BATCH_H
#define PTQ_SWEEP_BATCH_H

#include "ptq/model/model.h"
#include "ptq/record/result.h"
#include "ptq/sweep/grid.h"

/**
 * Quantize and evaluate `points` (all of one subject) and hand each to the
 * sink. A point that fails is handed over as failed; the others go on.
 * @return PTQ_OK also when points failed; an error when the batch could not
 *         run at all (model or tokens unreadable) or the sink refused.
 */
ptq_status ptq_batch_run(const ptq_grid *g, const int64_t *points, int64_t n,
                         const ptq_sink *sink, ptq_err *err);

/** Watches the quantized model of each point come into being. */
typedef struct ptq_block_watch {
  void *ctx; /* borrowed */
  /** A block with the point's quantized weights, in order; borrowed for the
   * call. A failure is the point's. */
  ptq_status (*block)(void *ctx, int64_t point, const ptq_block *b,
                      ptq_err *err);
} ptq_block_watch;

/** The same as ptq_batch_run, watched. */
ptq_status ptq_batch_run_watched(const ptq_grid *g, const int64_t *points,
                                 int64_t n, const ptq_sink *sink,
                                 const ptq_block_watch *watch, ptq_err *err);

/** Baseline NLL, unigram NLL and spectra of a subject. */
ptq_status ptq_subject_run(const ptq_grid *g, int64_t subject,
                           const ptq_sink *sink, ptq_err *err);

#endif /* PTQ_SWEEP_BATCH_H */
