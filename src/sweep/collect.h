/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file collect.h
 * What methods want of a block's inputs over the calibration text, gathered
 * window by window: second moments and what PTQ_NEED_... bits ask for.
 */
#ifndef PTQ_SWEEP_COLLECT_H
#define PTQ_SWEEP_COLLECT_H

#include "ptq/model/forward.h"
#include "ptq/num/moment.h"
#include "ptq/quant/method.h"

/** Results by site; what `needs` does not name is NULL. */
typedef struct ptq_collected {
  unsigned needs;
  double *h[PTQ_SITE_COUNT];         /* owned; [d, d] */
  double *h_train[PTQ_SITE_COUNT];   /* owned; [d, d] */
  double *h_holdout[PTQ_SITE_COUNT]; /* owned; [d, d] */
  double *cross[PTQ_SITE_COUNT];     /* owned; [d, d] */
  double *mean_abs[PTQ_SITE_COUNT];  /* owned; [d] */
  float *reference[PTQ_SITE_COUNT];  /* owned; [length, d]: the unquantized
                                        model's inputs of the window at hand,
                                        for `cross`; else NULL */
  float *product; /* owned; [widest, widest]: of a window, for `cross` */
} ptq_collected;

/** Room for windows up to `length` tokens. */
ptq_status ptq_collected_open(ptq_collected *c, const ptq_model_info *info,
                              unsigned needs, int64_t length, ptq_err *err);
void ptq_collected_close(ptq_collected *c);

/** One pass over a text. */
typedef struct ptq_collector {
  ptq_collected *to;    /* borrowed */
  ptq_moment *moment;   /* borrowed; [PTQ_SITE_COUNT], scratch */
  ptq_site first, last; /* sites to collect */
  int64_t n, n_train;   /* windows; those before the holdout */
} ptq_collector;

/** Start over at sites first..last, for n windows. */
ptq_collector ptq_collect_begin(ptq_collected *to, ptq_moment *moment,
                                ptq_site first, ptq_site last, int64_t n);
/** Hook: add the inputs of a site. */
ptq_status ptq_collect_input(void *collector, ptq_site site, const float *x,
                             int64_t n, int64_t width, ptq_err *err);
/** Hook: keep the inputs of a site as the unquantized model's of this window;
 * before ptq_collect_input sees the same window. */
ptq_status ptq_collect_reference(void *collector, ptq_site site, const float *x,
                                 int64_t n, int64_t width, ptq_err *err);
/** Call behind window i; behind the last one the results are there. */
void ptq_collect_window(ptq_collector *c, int64_t i);

/** Bytes of the results for windows of `length` tokens. */
int64_t ptq_collected_bytes(const ptq_model_info *info, unsigned needs,
                            int64_t length);

#endif /* PTQ_SWEEP_COLLECT_H */
