/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "stream.h"

#include <string.h>

static ptq_status make(ptq_stream *s, ptq_room room, int64_t n, int64_t length,
                       int64_t d, ptq_err *err) {
  *s = (ptq_stream){.room = room, .n = n, .length = length, .d = d};
  return ptq_spool_open(&s->h, room, n, length * d,
                        "the hidden states of a text", err);
}

/* A window's last token may be beyond the model's positions where it is only
 * predicted (spec.h: prefixed). Its row is nobody's input: attention is causal,
 * so any finite one will do. */
static ptq_status embed_window(const ptq_model_info *info,
                               const ptq_embedding *e, const ptq_windows *w,
                               int64_t i, float *h, ptq_err *err) {
  const int64_t d = info->d_model;
  const int64_t fed =
      w->length == info->max_positions + 1 ? w->length - 1 : w->length;
  const ptq_status rc = ptq_embed(info, e, w->ids + i * w->length, fed, h, err);
  if (rc == PTQ_OK && fed < w->length)
    memcpy(h + fed * d, h + (fed - 1) * d, (size_t)d * sizeof *h);
  return rc;
}

ptq_status ptq_stream_embed(ptq_stream *s, ptq_room room,
                            const ptq_model_info *info, const ptq_embedding *e,
                            const ptq_windows *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(make(s, room, w->n, w->length, info->d_model, err));
  for (int64_t i = 0; i < w->n; i++) {
    if (!ptq_team_owns(room.team, i)) continue;
    PTQ_TRY(embed_window(info, e, w, i, ptq_spool_fresh(&s->h, 0, i), err));
    PTQ_TRY(ptq_stream_keep(s, 0, err));
  }
done:
  return rc;
}

ptq_status ptq_stream_copy(ptq_stream *s, ptq_stream *from, ptq_err *err) {
  const ptq_status rc =
      make(s, from->room, from->n, from->length, from->d, err);
  return rc == PTQ_OK ? ptq_stream_assign(s, from, err) : rc;
}

ptq_status ptq_stream_assign(ptq_stream *s, ptq_stream *from, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = 0; i < s->n; i++) {
    float *x = NULL;
    if (!ptq_team_owns(s->room.team, i)) continue;
    PTQ_TRY(ptq_stream_window(from, 0, i, &x, err));
    memcpy(ptq_spool_fresh(&s->h, 0, i), x,
           (size_t)(s->length * s->d) * sizeof *x);
    PTQ_TRY(ptq_stream_keep(s, 0, err));
  }
done:
  return rc;
}

void ptq_stream_release(ptq_stream *s) {
  ptq_spool_close(&s->h);
  *s = (ptq_stream){.h = {.fd = -1}};
}

ptq_status ptq_stream_window(ptq_stream *s, int hand, int64_t i, float **h,
                             ptq_err *err) {
  return ptq_spool_get(&s->h, hand, i, h, err);
}

ptq_status ptq_stream_keep(ptq_stream *s, int hand, ptq_err *err) {
  return ptq_spool_put(&s->h, hand, s->length * s->d, err);
}

ptq_status ptq_stream_push(ptq_stream *s, const ptq_hands *hands, int hand,
                           int64_t i, const ptq_block *b,
                           const ptq_forward_hook *hook, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  float *h = NULL;
  PTQ_TRY(ptq_stream_window(s, hand, i, &h, err));
  PTQ_TRY(ptq_block_forward(hands->info, b, h, s->length, hands->ws[hand], hook,
                            PTQ_SITE_COUNT, err));
  PTQ_TRY(ptq_stream_keep(s, hand, err));
done:
  return rc;
}

/* A stream on its way through a block. */
typedef struct advance {
  ptq_stream *s;
  const ptq_hands *hands;
  const ptq_block *b;
} advance;

static ptq_status push_one(void *ctx, int hand, int64_t i, ptq_order *order,
                           ptq_err *err) {
  const advance *a = ctx;
  (void)order;
  return ptq_stream_push(a->s, a->hands, hand, i, a->b, NULL, err);
}

ptq_status ptq_stream_advance(ptq_stream *s, const ptq_hands *hands,
                              const ptq_block *b, ptq_err *err) {
  advance a = {.s = s, .hands = hands, .b = b};
  return ptq_team_run(hands->team, hands->n, s->n, push_one, &a, err);
}
