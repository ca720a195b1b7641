/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file step_fit.h  The sigmoid through a loss profile. Private to the module.
 */
#ifndef PTQ_ANALYSIS_STEP_FIT_H
#define PTQ_ANALYSIS_STEP_FIT_H

#include "ptq/analysis/landscape.h"

/** Over the finite steps beyond radius 0; NaN with fewer than five of them,
 * where the loss never rises, where the fit does not settle, or where no
 * plateau is seen: the radius where it levels off most lies beyond the largest,
 * or the height's error is above the height. */
ptq_step_fit ptq_step_fit_of(const ptq_profile_row *steps, int64_t n);

#endif /* PTQ_ANALYSIS_STEP_FIT_H */
