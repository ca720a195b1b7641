/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file awq_clip.h
 * AWQ's search for the largest magnitude that a group of weights may keep.
 */
#ifndef PTQ_QUANT_AWQ_CLIP_H
#define PTQ_QUANT_AWQ_CLIP_H

#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/base/team.h"
#include "ptq/num/dtype.h"

/**
 * Clip the weights of each group at the multiple 1, 0.95, ..., 0.55 of its
 * largest magnitude whose quantized values err least, e H e' with H the
 * group's block of the second moment; of equals at the largest.
 * @param dt    prepared on w where groups share something
 * @param w     [rows, cols], weights times `scale`; clipped in place
 * @param group > 0 or PTQ_GROUP_ROW
 * @param h     [cols, cols] second moment of the inputs before `scale` is
 *              taken off them
 * @param scale [cols], of the columns
 * @param threads bits do not depend on it
 * @return PTQ_E_NUMERIC naming row and column where a scale overflows,
 *         PTQ_E_NOMEM (w undefined)
 */
ptq_status ptq_awq_clip(const ptq_dtype *dt, float *w, int64_t rows,
                        int64_t cols, int64_t group, const double *h,
                        const float *scale, int threads, ptq_team *team,
                        ptq_err *err);

#endif /* PTQ_QUANT_AWQ_CLIP_H */
