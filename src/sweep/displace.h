/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file displace.h
 * A direction's part of a block, and the block displaced along it.
 */
#ifndef PTQ_SWEEP_DISPLACE_H
#define PTQ_SWEEP_DISPLACE_H

#include "ptq/sweep/grid.h"

struct ptq_displaced;

typedef struct ptq_displacer {
  const ptq_grid *grid;           /* borrowed */
  const ptq_direction *direction; /* borrowed */
  ptq_model *model;               /* borrowed */
  const ptq_model_info *info;     /* borrowed */
  struct ptq_displaced *from;     /* borrowed; GPTQ's weights; nullable */
  uint64_t seed;                  /* of a random direction */
  ptq_method method;              /* of displacements */
  ptq_block moved; /* all but weights borrowed of the block at hand; `linear`
                      owned */
  float *weights;  /* owned; what follows points into it */
  float **d;       /* owned; [layers] of [out, in]: the direction's part */
  float **rounded; /* owned; [layers]: the quantized weights; NULLs of random
                      directions */
  float **at;      /* owned; [layers]: weights + factor * d */
  int16_t *codes;  /* owned; [largest layer]; of displacements */
  ptq_group_params *params; /* owned; likewise */
  double *elements;         /* owned; [largest layer]; of random ones */
} ptq_displacer;

/** @param from GPTQ's weights as ptq_displaced_run left them; of other
 *              directions, and where only ptq_displacer_quantize is called,
 *              NULL */
ptq_status ptq_displacer_open(ptq_displacer *s, const ptq_grid *g,
                              const ptq_direction *direction, ptq_model *model,
                              struct ptq_displaced *from, ptq_err *err);
void ptq_displacer_close(ptq_displacer *s);

/** Fill s->d for a block; of displacements and sensitivities also
 * s->rounded. */
ptq_status ptq_displacer_block(ptq_displacer *s, const ptq_block *b,
                               ptq_err *err);
/** The same of one layer, by the method itself.
 * @param h     second moment of its inputs, for GPTQ; nullable
 * @param cache nullable */
ptq_status ptq_displacer_quantize(ptq_displacer *s, const ptq_block *b,
                                  int layer, const double *h,
                                  ptq_factor_cache *cache, int threads,
                                  ptq_err *err);
/** How a kind of direction displaces weights. */
ptq_status ptq_displacer_method(int kind, ptq_method *out, ptq_err *err);
/** All of s->rounded as one array, layer by layer, and its length. */
const float *ptq_displacer_rounded(const ptq_displacer *s);
int64_t ptq_displacer_weights(const ptq_model_info *info);
/** The block, whose direction is in s->d, displaced; borrowed until the next
 * call. */
const ptq_block *ptq_displacer_move(ptq_displacer *s, const ptq_block *b,
                                    double factor);
/** Squared lengths of s->d and of the block's weights, by layer in order. */
void ptq_displacer_add_energies(const ptq_displacer *s, const ptq_block *b,
                                double *direction, double *weights);

int64_t ptq_displacer_bytes(const ptq_model_info *info, int kind);

#endif /* PTQ_SWEEP_DISPLACE_H */
