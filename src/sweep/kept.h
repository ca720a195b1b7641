/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file kept.h
 * Rows that a forward pass showed, kept by window: those of a kind of site or
 * of a role, in a mixture of experts each expert's own.
 */
#ifndef PTQ_SWEEP_KEPT_H
#define PTQ_SWEEP_KEPT_H

#include "ptq/model/model.h"
#include "spool.h"

typedef struct ptq_kept {
  ptq_spool rows; /* owned; [n] windows of [most, width] */
  int64_t n, most, width;
  int mlps;        /* parts of a window: experts, or 1 */
  int64_t *first;  /* owned; [n, mlps + 1] where in its window a part begins;
                      of all ranks' windows once they are shared */
  int32_t *tokens; /* owned; [own, most] each row's token; NULL where rows are
                      the window's tokens in order */
} ptq_kept;

/** A part of a window: what one expert saw, or all. */
typedef struct ptq_kept_part {
  const float *x;        /* [n, width] */
  const int32_t *tokens; /* [n] ascending, or NULL: 0, 1, ... */
  int64_t n;
} ptq_kept_part;

/** Rows that a window of `length` tokens has at a kind of site at most. */
int64_t ptq_kept_most(const ptq_model_info *info, ptq_site kind,
                      int64_t length);

/** Room for the rows of n windows, which different hands may have at once. */
ptq_status ptq_kept_open(ptq_kept *k, ptq_room room, const ptq_model_info *info,
                         ptq_site kind, int64_t n, int64_t length,
                         int64_t width, ptq_err *err);
void ptq_kept_close(ptq_kept *k);

/** Start window i over. */
void ptq_kept_begin(ptq_kept *k, int hand, int64_t i);
/** Append to the window that the hand began; experts come in ascending
 * order. */
void ptq_kept_add(ptq_kept *k, int hand, int expert, const float *x,
                  const int32_t *tokens, int64_t n);
/** That window is whole. */
ptq_status ptq_kept_end(ptq_kept *k, int hand, ptq_err *err);
/** Borrowed until the hand asks for another window. */
ptq_status ptq_kept_get(ptq_kept *k, int hand, int64_t i, int expert,
                        ptq_kept_part *part, ptq_err *err);
/** All ranks know how many rows there are. */
ptq_status ptq_kept_share(ptq_kept *k, ptq_team *team, ptq_err *err);
/** Rows of an expert in all windows, or in the first n. */
int64_t ptq_kept_count(const ptq_kept *k, int expert);
int64_t ptq_kept_count_first(const ptq_kept *k, int expert, int64_t n);

/** Two parts' rows of equal tokens, one after the other: at first *i = *j = -1;
 * false behind the last. */
bool ptq_kept_next(const ptq_kept_part *a, const ptq_kept_part *b, int64_t *i,
                   int64_t *j);

/** Bytes of memory. */
int64_t ptq_kept_bytes(ptq_room room, const ptq_model_info *info, ptq_site kind,
                       int64_t n, int64_t length, int64_t width);

#endif /* PTQ_SWEEP_KEPT_H */
