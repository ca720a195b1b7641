/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file landscape.h
 * The loss around a model's weights, an item a direction: the loss at weights
 * + factor * direction for factors from 0 past the collapse, by forward passes
 * alone; and with `landscape: full` derivatives along it.
 *
 * Directions are displacements of all linear layers' weights, which are what
 * is quantized. A random one has in every layer (or every output row) the
 * length of the weights there, so that its factor is a relative size; it
 * depends on the checkpoint, its kind and its number alone. A displacement
 * (W^ - W) has the size that it has; its factor 1 is the rounded model itself,
 * bit for bit.
 */
#ifndef PTQ_SWEEP_LANDSCAPE_H
#define PTQ_SWEEP_LANDSCAPE_H

#include "ptq/record/result.h"
#include "ptq/sweep/grid.h"

/** How many rows a direction has in each of its tables. */
typedef struct ptq_direction_size {
  int64_t steps, layers, ritz;
} ptq_direction_size;
void ptq_direction_rows(const ptq_grid *g, int64_t direction,
                        ptq_direction_size *out);

/** Measure and hand over; a failure is handed over as failed.
 * @return PTQ_E_STOPPED, or what the sink returns */
ptq_status ptq_direction_run(const ptq_grid *g, int64_t direction,
                             const ptq_sink *sink, ptq_err *err);

/** Seed of a random direction's elements, and the seed of part (block, layer)
 * of direction `number` is ptq_probe_seed(seed, number, block *
 * ptq_layer_count + layer). */
uint64_t ptq_direction_seed(const ptq_subject *s, int kind);

/** FLOPs and bytes of the item. */
double ptq_direction_flops(const ptq_grid *g, int64_t direction);
int64_t ptq_direction_bytes(const ptq_grid *g, int64_t direction);

#endif /* PTQ_SWEEP_LANDSCAPE_H */
