/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file allocate.h
 * A format for each layer under a budget of bits: a knapsack of one choice a
 * layer.
 */
#ifndef PTQ_ANALYSIS_ALLOCATE_H
#define PTQ_ANALYSIS_ALLOCATE_H

#include "ptq/analysis/layers.h"

/** A choice. */
typedef struct ptq_allocation {
  int *choice;  /* owned; [n_layers] option of each layer */
  double bits;  /* a weight, over all layers */
  double cost;  /* sum of s e */
  double bound; /* no choice within the budget costs less: the dual problem's
                   optimum */
} ptq_allocation;

/**
 * The least sum of s e with at most `bits` a weight over all layers: dynamic
 * programming over the budget in 2^15 steps, each layer's bits rounded up, and
 * the best that the Lagrangian relaxation comes upon; whichever costs less.
 * Of equal ones the option that comes first.
 * @return PTQ_E_ARG: no option is narrow enough, with the least there is
 */
ptq_status ptq_allocate(const ptq_layer_table *t, double bits,
                        ptq_allocation *out, ptq_err *err);
void ptq_allocation_release(ptq_allocation *a);

/** Bits a weight and cost of a choice. */
void ptq_allocation_judge(const ptq_layer_table *t, const int *choice,
                          double *bits, double *cost);

#endif /* PTQ_ANALYSIS_ALLOCATE_H */
