/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file site_moments.h
 * What methods want of a site's inputs, as sums and as means. In a team the
 * arrays are shared, and the counts are each rank's own copies.
 */
#ifndef PTQ_SWEEP_SITE_MOMENTS_H
#define PTQ_SWEEP_SITE_MOMENTS_H

#include "ptq/base/team.h"

/** What PTQ_NEED_... bits do not name is NULL. A site without tokens (of an
 * expert that no token goes to) has the identity as moments, 1 as mean_abs and
 * 0 as cross moment: every input counts alike. */
typedef struct ptq_site_moments {
  double *h;         /* owned; [d, d] */
  double *h_train;   /* owned; [d, d] */
  double *h_holdout; /* owned; [d, d] */
  double *cross;     /* owned; [d, d] */
  double *mean_abs;  /* owned; [d] */
  int64_t n_tokens, n_train;
} ptq_site_moments;

/** What is not there yet of the moments of inputs d wide. */
ptq_status ptq_site_moments_make(ptq_team *team, ptq_site_moments *s,
                                 unsigned needs, int64_t d, ptq_err *err);
void ptq_site_moments_release(ptq_team *team, ptq_site_moments *s);
/** To sums of nothing. A team's leader does it for all: they meet before they
 * add. */
void ptq_site_moments_clear(const ptq_team *team, ptq_site_moments *s,
                            int64_t d);

/** Behind n_train tokens: the moment of these. One rank for all, who meet
 * before they go on. */
void ptq_site_moments_close_train(ptq_site_moments *s, int64_t d);
/** Behind n_tokens: sums become means. One rank for all likewise. */
void ptq_site_moments_close(ptq_site_moments *s, int64_t d);

int64_t ptq_site_moments_bytes(unsigned needs, int64_t d);

#endif /* PTQ_SWEEP_SITE_MOMENTS_H */
