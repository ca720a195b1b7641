/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file displace.h
 * A direction's part of a block, and the block displaced along it.
 */
#ifndef PTQ_SWEEP_DISPLACE_H
#define PTQ_SWEEP_DISPLACE_H

#include "ptq/sweep/grid.h"

typedef struct ptq_displacer {
  const ptq_grid *grid;           /* borrowed */
  const ptq_direction *direction; /* borrowed */
  ptq_model *model;               /* borrowed */
  const ptq_model_info *info;     /* borrowed */
  uint64_t seed;                  /* of a random direction */
  ptq_method rtn;
  ptq_block moved; /* all but weights borrowed of the block at hand; `linear`
                      owned */
  float *weights;  /* owned; what follows points into it */
  float **d;       /* owned; [layers] of [out, in]: the direction's part */
  float **rounded; /* owned; [layers]: the rounded weights; of RTN */
  float **at;      /* owned; [layers]: weights + factor * d */
  int16_t *codes;  /* owned; [largest layer]; of RTN */
  ptq_group_params *params; /* owned; likewise */
  double *elements;         /* owned; [largest layer]; of random ones */
} ptq_displacer;

ptq_status ptq_displacer_open(ptq_displacer *s, const ptq_grid *g,
                              const ptq_direction *direction, ptq_model *model,
                              ptq_err *err);
void ptq_displacer_close(ptq_displacer *s);

/** Fill s->d for a block. */
ptq_status ptq_displacer_block(ptq_displacer *s, const ptq_block *b,
                               ptq_err *err);
/** The block, whose direction is in s->d, displaced; borrowed until the next
 * call. */
const ptq_block *ptq_displacer_move(ptq_displacer *s, const ptq_block *b,
                                    double factor);
/** Squared lengths of s->d and of the block's weights, by layer in order. */
void ptq_displacer_add_energies(const ptq_displacer *s, const ptq_block *b,
                                double *direction, double *weights);

int64_t ptq_displacer_bytes(const ptq_model_info *info, int kind);

#endif /* PTQ_SWEEP_DISPLACE_H */
