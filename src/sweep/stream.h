/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file stream.h
 * The residual stream of a text's windows through a model, window by window.
 */
#ifndef PTQ_SWEEP_STREAM_H
#define PTQ_SWEEP_STREAM_H

#include "ptq/model/forward.h"
#include "ptq/sweep/tokens.h"

typedef struct ptq_stream {
  float *h; /* owned; [n, length, d] */
  int64_t n, length, d;
} ptq_stream;

/** The embedded windows. */
ptq_status ptq_stream_embed(ptq_stream *s, const ptq_model_info *info,
                            const ptq_embedding *e, const ptq_windows *w,
                            ptq_err *err);
/** A copy of `from`. */
ptq_status ptq_stream_copy(ptq_stream *s, const ptq_stream *from, ptq_err *err);
void ptq_stream_release(ptq_stream *s);

/** Hidden states [length, d] of window i; borrowed. */
float *ptq_stream_window(const ptq_stream *s, int64_t i);

/** Push every window through a block. */
ptq_status ptq_stream_advance(ptq_stream *s, const ptq_model_info *info,
                              const ptq_block *b, ptq_workspace *ws,
                              ptq_err *err);

#endif /* PTQ_SWEEP_STREAM_H */
