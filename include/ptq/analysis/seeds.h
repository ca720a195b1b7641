/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file seeds.h
 * How far losses spread between random draws of the calibration text: points
 * that differ in the calibration's seed and in nothing else. The windows they
 * are evaluated on are the same, so this comes on top of the windows' error.
 */
#ifndef PTQ_ANALYSIS_SEEDS_H
#define PTQ_ANALYSIS_SEEDS_H

#include "ptq/analysis/frame.h"

/** The spread of a method at a number of nominal bits (0: mixed ones), pooled
 * over sets of points that differ in the seed alone. */
typedef struct ptq_seed_spread {
  const char *method, *options; /* borrowed from the frame */
  double bits;
  int64_t n_sets, n_points;
  double sd_nats; /* of dnll: root of the sets' pooled variance */
  double rms_se;  /* root of the mean dnll_se^2, beside it */
  /* Of ln(dnll), over sets whose points are all above noise and below
   * collapse, with a 95 % interval by chi squared; NaN without such a set. */
  double sd_log, low, high;
  int64_t n_log_sets, df;
} ptq_seed_spread;

/** No rows: seeds of calibration are no axis of the points. */
typedef struct ptq_seeds {
  ptq_seed_spread *row; /* owned; by method, then bits */
  int64_t n;
} ptq_seeds;

ptq_status ptq_seeds_measure(const ptq_frame *f, ptq_seeds *out, ptq_err *err);
void ptq_seeds_release(ptq_seeds *s);

#endif /* PTQ_ANALYSIS_SEEDS_H */
