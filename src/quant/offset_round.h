/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file offset_round.h
 * Rounding with an offset a weight and clips a group (AutoRound), and its
 * straight-through derivatives.
 *
 * A group from lo to hi has the parameters of the range from clip_lo lo to
 * clip_hi hi, and y = scale (clamp(round(w / scale + v) + zero) - zero).
 * Derivatives take rounding, and storing a scale, for the identity; at the last
 * codes and beyond they are those of the clamp. In blocks of MXINT and BFP the
 * scale is a power of two that the range decides: clips have no effect there.
 */
#ifndef PTQ_QUANT_OFFSET_ROUND_H
#define PTQ_QUANT_OFFSET_ROUND_H

#include "ptq/num/dtype.h"

/** One group: a run of weights of the matrix, its place, and its clips. */
typedef struct ptq_offset_group {
  const ptq_dtype *dtype; /* borrowed */
  const float *w, *v;     /* borrowed; [n]; v NULL: all 0 */
  int64_t n, row, col;    /* the run begins there */
  ptq_range range;        /* of w */
  float clip_lo, clip_hi; /* 0 .. 1 */
} ptq_offset_group;

/** Whether it can be done with a dtype; and whether its scales take clips. */
bool ptq_offset_takes(const ptq_dtype *dt);
bool ptq_offset_clips(const ptq_dtype *dt);

/** The parameters at the group's clips. PTQ_E_NUMERIC: they overflow. */
ptq_status ptq_offset_params(const ptq_offset_group *g, ptq_group_params *p,
                             ptq_err *err);
/** Values y and codes q (nullable), [n]. */
void ptq_offset_round(const ptq_offset_group *g, const ptq_group_params *p,
                      float *y, int16_t *q);
/**
 * From dy, [n], the derivative of a loss by y, those by the offsets and clips.
 * @param[out] dv [n]; may be dy
 */
void ptq_offset_back(const ptq_offset_group *g, const ptq_group_params *p,
                     const float *dy, float *dv, double *dclip_lo,
                     double *dclip_hi);

#endif /* PTQ_QUANT_OFFSET_ROUND_H */
