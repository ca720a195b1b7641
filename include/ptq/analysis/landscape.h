/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file landscape.h
 * What the loss profiles around a model's weights come to, as numbers for
 * features, tables and plots.
 *
 * Radii are lengths of displacements over that of the weights.
 */
#ifndef PTQ_ANALYSIS_LANDSCAPE_H
#define PTQ_ANALYSIS_LANDSCAPE_H

#include "ptq/base/status.h"
#include "ptq/record/rows.h"
#include "ptq/store/view.h"

/** Rises of the loss whose radius is looked for: 0.1, 0.5 and 1 nat. */
enum { PTQ_BASINS = 3 };
extern const double ptq_basin_rise[PTQ_BASINS];

/** A step: dnll = height / (1 + exp(-(ln radius - center) / width)), by least
 * squares over all finite steps; NaN where it cannot be fitted, and where the
 * data do not bound the height: the profile ends before it levels off most (at
 * 79 % of it), or the error of height or width is above it. Errors are of the
 * fit: its residuals, not the text, are what they know. */
typedef struct ptq_step_fit {
  double height, height_se; /* nat */
  double center, center_se; /* ln radius at half the height */
  double width, width_se;   /* in ln radius */
} ptq_step_fit;

/** One direction. */
typedef struct ptq_direction_traits {
  const ptq_direction_row *row; /* borrowed */
  const ptq_profile_row *steps; /* borrowed; [n] */
  int64_t n;
  double basin[PTQ_BASINS]; /* least radius where the loss has risen by so
                               much, between steps on ln radius; infinite
                               where it never does, NaN where it has at the
                               smallest radius. Where the loss is not finite
                               any more, the last finite radius */
  double slope, curvature;  /* first and second derivative by the radius at 0,
                               of a parabola through the steps below the
                               first basin's end, weighted by their errors */
  ptq_step_fit step;
  double dnll_at_one, calib_at_one; /* of displacements: measured at factor 1 on
                                       either text */
  double quadratic_radius;          /* largest radius up to which the quadratic
                                       prediction is within a tenth of the calibration
                                       text's loss, or 0.01 nat; NaN without one */
  double output_trace; /* of kind hessian: summed over layers; else NaN */
  bool inside; /* of displacements: it lies within basin[1] along itself */
} ptq_direction_traits;

/** Basin, parabola and step of a profile by radius, from radius 0. */
void ptq_profile_traits(const ptq_profile_row *steps, int64_t n,
                        ptq_direction_traits *out);

/** A model: means over its random directions; NaN without any. */
typedef struct ptq_landscape_traits {
  int64_t n_random, n_rtn;
  /* Of the random ones, behind the means: whose basin ends within the radii of
   * the profile, or (not in the mean) below the smallest; and with a step. */
  int64_t n_within[PTQ_BASINS], n_below[PTQ_BASINS], n_steps;
  double log_basin[PTQ_BASINS];    /* mean of ln basin */
  double log_basin_se[PTQ_BASINS]; /* over directions */
  double curvature, curvature_se;
  double height, height_se, width, width_se; /* of steps; errors over
                                                directions */
  double center;                             /* of steps, in ln radius */
  double anisotropy; /* ln of basin[1] along RTN over that along random
                        directions, mean over dtypes: negative where the loss
                        is steeper along quantization */
  /* Of the Hessian's row. */
  double gradient_norm, trace, trace_se, eigen_max, eigen_min, fisher;
  double gauss_newton_trace, gauss_newton_max;
  double output_trace; /* over layers: of the moments of their outputs'
                          gradients */
} ptq_landscape_traits;

typedef struct ptq_landscape {
  ptq_direction_traits
      *directions; /* owned; [n] finished ones; of what a joined
                      store holds twice, that with derivatives */
  int64_t n;
  ptq_landscape_traits *models;  /* owned; [n_models] */
  const ptq_direction_row *rows; /* borrowed; [n_rows] all directions */
  int64_t n_rows;
  const ptq_ritz_row *ritz; /* borrowed; [n_ritz] by direction; NaN where one is
                               not finished */
  int64_t n_ritz;
} ptq_landscape;

/** Read from a store; borrows from the view. */
ptq_status ptq_landscape_read(ptq_view *v, int64_t n_models, ptq_landscape *out,
                              ptq_err *err);
void ptq_landscape_release(ptq_landscape *l);

/** Is it along a random direction; of an RTN displacement; of any? */
bool ptq_direction_is_random(const ptq_direction_row *d);
bool ptq_direction_is_rtn(const ptq_direction_row *d);
bool ptq_direction_quantizes(const ptq_direction_row *d);

/** A model's displacement of a dtype, whatever its group; NULL: none. */
const ptq_direction_traits *ptq_landscape_find(const ptq_landscape *l,
                                               int64_t subject,
                                               const char *dtype);

/** The quadratic prediction of the loss that a displacement of `size` adds,
 * from derivatives along d; NaN where they were not measured. */
double ptq_landscape_quadratic(const ptq_direction_row *d, double size);

#endif /* PTQ_ANALYSIS_LANDSCAPE_H */
