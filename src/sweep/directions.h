/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file directions.h
 * The items of the models' landscapes in a grid.
 */
#ifndef PTQ_SWEEP_DIRECTIONS_H
#define PTQ_SWEEP_DIRECTIONS_H

#include "ptq/sweep/grid.h"

/** After the points: what the sweep file asks for of each subject. */
ptq_status ptq_grid_add_directions(ptq_grid *g, ptq_err *err);

/** Whether a kind is what a method does to the weights. */
bool ptq_direction_displaces(int kind);

/** Steps of a direction's profile, layers and Ritz values that it has. */
int64_t ptq_direction_steps(const ptq_grid *g, const ptq_direction *d);

/** Radius of step i of a random direction's profile, from 0 to radii. */
double ptq_landscape_radius(const ptq_landscape_spec *l, int64_t i);

#endif /* PTQ_SWEEP_DIRECTIONS_H */
