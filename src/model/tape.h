/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file tape.h
 * Tapes from within.
 */
#ifndef PTQ_MODEL_TAPE_H
#define PTQ_MODEL_TAPE_H

#include "op.h"
#include "ptq/model/backward.h"

/** The MLP's inner activations on a tape that has them, from row `first` on. */
ptq_inner ptq_tape_inner(const ptq_model_info *info, const ptq_tape *t,
                         int64_t first);
/** `t` with what it does not keep in `spare`, a tape of PTQ_KEEP_ALL. */
ptq_tape ptq_tape_completed(const ptq_tape *t, const ptq_tape *spare);
/** What `kept` has of a block's forward pass with the rest computed again into
 * `spare`; scratch[n, d_model]. */
ptq_tape ptq_block_replay(const ptq_model_info *info, const ptq_block *b,
                          int64_t n, ptq_workspace *ws, const ptq_tape *kept,
                          const ptq_tape *spare, ptq_real *scratch);

#endif /* PTQ_MODEL_TAPE_H */
