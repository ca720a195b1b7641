/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file mixed.h
 * Points of mixed precision beside what was predicted of them, and beside what
 * a uniform format does with the same bits.
 */
#ifndef PTQ_ANALYSIS_MIXED_H
#define PTQ_ANALYSIS_MIXED_H

#include "ptq/analysis/layers.h"
#include "ptq/base/text.h"

/** One point. Uniform points are of the same model, texts and method. */
typedef struct ptq_mixed_row {
  const ptq_obs *obs;
  ptq_prediction predicted; /* dnll NaN: none */
  bool ahead; /* it stands in the sweep file, so it was made before the point
                 was run; else it is from the errors of the point's layers and
                 the model's uniform points, all layers equally sensitive */
  const ptq_obs *uniform; /* of least dnll with at most these bits, to within a
                             hundredth; NULL: none */
  double difference;      /* dnll less that one's, over the same windows */
  double difference_se; /* moving-block bootstrap of the paired differences; the
                           seed is the XXH3-64 of the point's key */
  double equal_bits;    /* dnll of uniform formats at exactly these bits: their
                           lower envelope, straight in ln(dnll) between two of
                           them; NaN beyond them */
  bool equal_clear;     /* those are above noise and have not collapsed */
} ptq_mixed_row;

/** dnll over a uniform format's, where both are above noise and neither has
 * collapsed: means of its logarithm by model, their 95 % interval by Student's
 * t over models; NaN where there are too few. */
typedef struct ptq_mixed_ratio {
  double ratio, low, high;
  int64_t n_pairs;
  int n_models;
} ptq_mixed_ratio;

typedef struct ptq_mixed {
  ptq_mixed_row *row; /* owned; finished ones, in grid order */
  int64_t n;
  ptq_mixed_ratio within;    /* over the best uniform format of at most the
                                mixture's bits, which may have fewer */
  ptq_mixed_ratio equal;     /* over uniform formats at exactly its bits */
  ptq_mixed_ratio any;       /* the same, with those whose envelope rests on a
                                point within noise: one that happens to lie near
                                zero draws it down, one left out draws it up */
  double fewer;              /* bits a weight that the rivals of `within` have
                                fewer, mean over its pairs */
  int64_t n_better, n_worse; /* by more than two standard errors */
  double median_error; /* of |ln(predicted / measured)|, points above noise */
  int64_t n_predicted;
} ptq_mixed;

/** Compare the frame's mixed points; none give an empty result. Points that
 * were evaluated on the selection text are probes, not results. */
ptq_status ptq_mixed_compare(ptq_view *view, const ptq_frame *frame,
                             ptq_mixed *out, ptq_err *err);
void ptq_mixed_release(ptq_mixed *m);
/** Is there a finished one? */
bool ptq_frame_has_mixed(const ptq_frame *f);

/** A table for a terminal; nothing without points. */
void ptq_mixed_text(const ptq_mixed *m, ptq_text *out);

#endif /* PTQ_ANALYSIS_MIXED_H */
