/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file basins.h  What each loss profile comes to, as a table for exports. */
#ifndef PTQ_ANALYSIS_BASINS_H
#define PTQ_ANALYSIS_BASINS_H

#include "ptq/analysis/landscape.h"
#include "ptq/record/rows.h"

/* clang-format off */

/** One row a finished direction with a profile; of a direction that a joined
 * store holds twice the one with derivatives. Radii are lengths of
 * displacements over that of the weights. */
#define PTQ_BASIN_FIELDS(X) \
  X(TEXT, key,         33, "",    "of the direction") \
  X(TEXT, model,       64, "",    "model name") \
  X(TEXT, calibration, 96, "",    "calibration text:windows x length[@seed]") \
  X(TEXT, evaluation,  96, "",    "evaluation text:windows x length[@seed]") \
  X(TEXT, kind,        16, "",    "gaussian, uniform: random; rtn, gptq: what that method does to the weights") \
  X(TEXT, scaling,     16, "",    "of a random direction: layer, row; else empty") \
  X(I64,  number,       1, "",    "of random directions of one kind and scaling, from 0") \
  X(TEXT, dtype,       64, "",    "number format of a displacement") \
  X(I64,  group,        1, "",    "weights a group of it; -1 a row, 0 the tensor") \
  X(F64,  size,         1, "",    "length of the direction over that of the weights") \
  X(I64,  n_radii,      1, "",    "radii of the profile beyond 0") \
  X(F64,  radius_min,   1, "",    "the smallest of them") \
  X(F64,  radius_max,   1, "",    "the largest of them") \
  X(F64,  basin_01,     1, "",    "radius at which dnll reaches 0.1 nat, between steps on ln(radius); infinite: beyond radius_max; NaN: below radius_min; where dnll is not finite before, the last finite radius") \
  X(F64,  basin_05,     1, "",    "the same at 0.5 nat") \
  X(F64,  basin_1,      1, "",    "the same at 1 nat") \
  X(F64,  step_height,  1, "nat", "height of the sigmoid height / (1 + exp(-(ln(radius) - center) / width)) through dnll by least squares; NaN with all of it where the profile does not bound the height") \
  X(F64,  step_height_se, 1, "nat", "its standard error, from the residuals") \
  X(F64,  step_center,  1, "",    "ln(radius) at half of that height") \
  X(F64,  step_center_se, 1, "",  "its standard error, from the residuals") \
  X(F64,  step_width,   1, "",    "width of that sigmoid in ln(radius)") \
  X(F64,  step_width_se, 1, "",   "its standard error, from the residuals") \
  X(F64,  slope_at_0,   1, "nat", "first derivative of dnll by radius at 0, of a parabola through the steps below basin_01") \
  X(F64,  curvature_at_0, 1, "nat", "second derivative of it") \
  X(F64,  size_over_basin, 1, "", "size over basin_05; 0: beyond radius_max; NaN: no displacement, or basin_05 below radius_min") \
  X(F64,  inside,       1, "",    "1: the displacement lies within basin_05 along itself; 0: beyond; NaN: no displacement")

/* clang-format on */

typedef struct ptq_basin_row {
  PTQ_BASIN_FIELDS(PTQ_MEMBER)
} ptq_basin_row;
/** Its columns. */
const ptq_table *ptq_basin_table(void);

/** Has it a profile? Derivatives at the weights and sensitivities have none. */
bool ptq_basin_has(const ptq_direction_traits *d);
/** Fill a row from a direction with a profile. */
void ptq_basin_of(const ptq_direction_traits *d, ptq_basin_row *out);

#endif /* PTQ_ANALYSIS_BASINS_H */
