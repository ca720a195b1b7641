/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gate.h
 * What stands between an item and its sink: it tells the sink's refusals (the
 * run must end, or rank 0 is gone) from the item's own failures, which are
 * results.
 */
#ifndef PTQ_SWEEP_GATE_H
#define PTQ_SWEEP_GATE_H

#include <stdbool.h>

#include "ptq/base/team.h"
#include "ptq/record/result.h"

typedef struct ptq_gate {
  ptq_team *team;       /* borrowed, nullable */
  const ptq_sink *sink; /* borrowed; its begin() is not gone through */
  bool refused;         /* the sink took something not, or stops the item */
  int64_t handed_over;  /* points, in order */
} ptq_gate;

/**
 * The sink that an item sees, on every rank of the team: results are the
 * leader's to hand over, whether they were taken is for all, and one that must
 * stop stops all.
 *
 * @param[in] gate  borrowed for as long as the sink is used
 */
ptq_sink ptq_gate_sink(ptq_gate *gate);

/**
 * True when an item that ended with `rc` has no result of its own: it was
 * refused or dropped, or a rank of its team is gone.
 */
bool ptq_gate_shut(const ptq_gate *gate, ptq_status rc);

#endif /* PTQ_SWEEP_GATE_H */
