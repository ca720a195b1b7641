/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file shelf.h
 * Tapes of a chunk's windows in all blocks, and of their tangents, within a
 * budget.
 */
#ifndef PTQ_GRAD_SHELF_H
#define PTQ_GRAD_SHELF_H

#include "ptq/grad/gradient.h"

typedef struct ptq_shelf {
  const ptq_model_info *info; /* borrowed */
  int64_t length, lanes;      /* 1 + tangents */
  ptq_keep keep[PTQ_GRAD_CHUNK];
  ptq_real *tapes[PTQ_GRAD_CHUNK]; /* owned; [n_blocks, lanes] */
  ptq_real *streams; /* owned; [PTQ_GRAD_CHUNK, lanes][length, d_model] */
} ptq_shelf;

ptq_status ptq_shelf_init(const ptq_model_info *info, int64_t length,
                          int64_t tangents, int64_t budget_bytes, ptq_shelf *s,
                          ptq_err *err);
void ptq_shelf_release(ptq_shelf *s);
int64_t ptq_shelf_bytes(const ptq_model_info *info, int64_t length,
                        int64_t tangents, int64_t budget_bytes);
/** The tape of window w (of the chunk) in a block: lane 0 its own. */
ptq_tape ptq_shelf_tape(const ptq_shelf *s, int64_t w, int64_t block,
                        int64_t lane);
/** The window's stream, or its derivative: between blocks. */
ptq_real *ptq_shelf_stream(const ptq_shelf *s, int64_t w, int64_t lane);

#endif /* PTQ_GRAD_SHELF_H */
