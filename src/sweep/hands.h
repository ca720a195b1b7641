/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file hands.h
 * The threads of a rank that push windows through a model, each with a
 * workspace of its own.
 */
#ifndef PTQ_SWEEP_HANDS_H
#define PTQ_SWEEP_HANDS_H

#include "ptq/base/team.h"
#include "ptq/model/forward.h"

typedef struct ptq_hands {
  const ptq_model_info *info; /* borrowed */
  int n;                      /* threads; >= 1 */
  ptq_team *team;             /* borrowed, nullable; set by who has one */
  ptq_workspace **ws;         /* owned; [n] */
} ptq_hands;

/** n threads, for windows of up to max_tokens. */
ptq_status ptq_hands_open(ptq_hands *h, const ptq_model_info *info, int n,
                          int64_t max_tokens, ptq_err *err);
void ptq_hands_close(ptq_hands *h);

/** Bytes of memory, with what each thread itself takes. */
int64_t ptq_hands_bytes(const ptq_model_info *info, int n, int64_t max_tokens);

#endif /* PTQ_SWEEP_HANDS_H */
