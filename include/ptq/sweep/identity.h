/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file identity.h
 * The columns of a row that say what it is about, known before any work.
 */
#ifndef PTQ_SWEEP_IDENTITY_H
#define PTQ_SWEEP_IDENTITY_H

#include "ptq/record/rows.h"
#include "ptq/sweep/grid.h"

/** Clear `row` and fill its identity columns; keys must be set. */
void ptq_point_identity(const ptq_grid *g, int64_t point, const char *numerics,
                        ptq_point_row *row);
void ptq_subject_identity(const ptq_grid *g, int64_t subject,
                          ptq_model_row *row);
void ptq_direction_identity(const ptq_grid *g, int64_t direction,
                            const char *numerics, ptq_direction_row *row);

#endif /* PTQ_SWEEP_IDENTITY_H */
