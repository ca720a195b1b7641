/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file setup.h
 * What every item on a subject needs: its model open and its windows cut.
 */
#ifndef PTQ_SWEEP_SETUP_H
#define PTQ_SWEEP_SETUP_H

#include "ptq/sweep/grid.h"
#include "ptq/sweep/requests.h"
#include "ptq/sweep/tokens.h"
#include "spool.h"

/** The texts of a subject as the sweep file has them, and where their windows
 * stand. */
typedef struct ptq_texts {
  const ptq_text_spec *calib, *select, *eval; /* borrowed */
  ptq_room room;
} ptq_texts;

ptq_room ptq_room_of(const ptq_grid *g);
ptq_texts ptq_texts_of(const ptq_grid *g, int64_t subject);

typedef struct ptq_setup {
  ptq_model *model;                /* owned */
  const ptq_model_info *info;      /* borrowed from model */
  ptq_tokens calib_tokens;         /* owned; the whole text */
  ptq_windows calib, select, eval; /* owned */
  ptq_requests requests;           /* owned */
  ptq_room room;                   /* of hidden states */
} ptq_setup;

ptq_status ptq_setup_open(ptq_setup *s, const ptq_grid *g, int64_t subject,
                          ptq_err *err);
void ptq_setup_close(ptq_setup *s);

/** Longest window of the three texts, or bundle of requests. */
int64_t ptq_setup_max_length(const ptq_setup *s);

#endif /* PTQ_SWEEP_SETUP_H */
