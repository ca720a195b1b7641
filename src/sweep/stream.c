/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "stream.h"

#include <string.h>

#include "ptq/base/mem.h"

static ptq_status make(ptq_stream *s, int64_t n, int64_t length, int64_t d,
                       ptq_err *err) {
  *s = (ptq_stream){.n = n, .length = length, .d = d};
  return ptq_alloc(&s->h, n * length * d, sizeof *s->h,
                   "the hidden states of a text", err);
}

ptq_status ptq_stream_embed(ptq_stream *s, const ptq_model_info *info,
                            const ptq_embedding *e, const ptq_windows *w,
                            ptq_err *err) {
  ptq_status rc = make(s, w->n, w->length, info->d_model, err);
  for (int64_t i = 0; i < w->n && rc == PTQ_OK; i++)
    rc = ptq_embed(info, e, w->ids + i * w->length, w->length,
                   ptq_stream_window(s, i), err);
  return rc;
}

ptq_status ptq_stream_copy(ptq_stream *s, const ptq_stream *from,
                           ptq_err *err) {
  const ptq_status rc = make(s, from->n, from->length, from->d, err);
  if (rc == PTQ_OK)
    memcpy(s->h, from->h, (size_t)(s->n * s->length * s->d) * sizeof *s->h);
  return rc;
}

void ptq_stream_release(ptq_stream *s) {
  ptq_free(s->h);
  *s = (ptq_stream){0};
}

float *ptq_stream_window(const ptq_stream *s, int64_t i) {
  return s->h + i * s->length * s->d;
}

ptq_status ptq_stream_advance(ptq_stream *s, const ptq_model_info *info,
                              const ptq_block *b, ptq_workspace *ws,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < s->n && rc == PTQ_OK; i++)
    rc = ptq_block_forward(info, b, ptq_stream_window(s, i), s->length, ws,
                           NULL, PTQ_SITE_COUNT, err);
  return rc;
}
