/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file scoring.h
 * The last step of a batch: every lane's evaluation windows against the
 * reference's, and the point rows that follow.
 */
#ifndef PTQ_SWEEP_SCORING_H
#define PTQ_SWEEP_SCORING_H

#include "lane.h"
#include "ptq/record/result.h"

/** Norm and score the streams (which end here) and hand every lane to the
 * sink, done or failed. `shared_seconds` is what the batch spent for all. */
ptq_status ptq_score_lanes(const ptq_grid *g, ptq_reference *r, ptq_lane *lanes,
                           int64_t n, double shared_seconds,
                           const ptq_sink *sink, ptq_err *err);

/** Hand a point over as failed. */
ptq_status ptq_hand_over_failed(const ptq_grid *g, int64_t point,
                                const char *why, const ptq_sink *sink,
                                ptq_err *err);

#endif /* PTQ_SWEEP_SCORING_H */
