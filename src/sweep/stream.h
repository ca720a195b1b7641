/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file stream.h
 * The residual stream of a text's windows through a model, window by window.
 */
#ifndef PTQ_SWEEP_STREAM_H
#define PTQ_SWEEP_STREAM_H

#include "hands.h"
#include "ptq/sweep/tokens.h"
#include "spool.h"

typedef struct ptq_stream {
  ptq_spool h; /* owned; [n] windows of [length, d] */
  ptq_room room;
  int64_t n, length, d;
} ptq_stream;

/** The embedded windows. */
ptq_status ptq_stream_embed(ptq_stream *s, ptq_room room,
                            const ptq_model_info *info, const ptq_embedding *e,
                            const ptq_windows *w, ptq_err *err);
/** A stream of the size of `from`, and its windows. */
ptq_status ptq_stream_copy(ptq_stream *s, ptq_stream *from, ptq_err *err);
/** The windows of `from` again. */
ptq_status ptq_stream_assign(ptq_stream *s, ptq_stream *from, ptq_err *err);
void ptq_stream_release(ptq_stream *s);

/** Hidden states [length, d] of window i in a thread's hand; borrowed until it
 * asks for another window of the same stream. */
ptq_status ptq_stream_window(ptq_stream *s, int hand, int64_t i, float **h,
                             ptq_err *err);
/** Keep what was changed in that window. */
ptq_status ptq_stream_keep(ptq_stream *s, int hand, ptq_err *err);

/** Push window i through a block, watched, and keep it. */
ptq_status ptq_stream_push(ptq_stream *s, const ptq_hands *hands, int hand,
                           int64_t i, const ptq_block *b,
                           const ptq_forward_hook *hook, ptq_err *err);
/** Push every window through a block. */
ptq_status ptq_stream_advance(ptq_stream *s, const ptq_hands *hands,
                              const ptq_block *b, ptq_err *err);

#endif /* PTQ_SWEEP_STREAM_H */
