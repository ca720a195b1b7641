/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file lane.h
 * One grid point on its way through the model: its own activations, its
 * layers' errors, and what happened to it.
 */
#ifndef PTQ_SWEEP_LANE_H
#define PTQ_SWEEP_LANE_H

#include "ptq/record/rows.h"
#include "reference.h"

typedef struct ptq_lane {
  int64_t point;            /* index in the grid */
  const ptq_dtype *dtype;   /* borrowed */
  const ptq_method *method; /* borrowed */
  int64_t group;
  ptq_calibration_mode mode;
  ptq_stream calib, select, eval;     /* owned; calib only where sequential */
  ptq_layer_row *layers;              /* owned; [n_blocks * roles] */
  int64_t n_layers;                   /* filled so far */
  int64_t first_layer;                /* of the block at hand */
  double weight_energy, weight_noise; /* pooled over layers */
  double storage_bits;                /* of the quantized weights */
  ptq_status status;                  /* first failure; then it rests */
  ptq_err err;
  double seconds; /* own work, without what the batch shares */
} ptq_lane;

/** Scratch that lanes use one after the other: a quantized block and the
 * buffers of quantizing it. */
typedef struct ptq_workbench {
  ptq_block block; /* norms, biases borrowed from the reference;
                      weights point to it or into `weights` */
  float *weights;  /* owned; quantized weights of a block */
  float *role_weights[PTQ_ROLE_COUNT]; /* into weights */
  ptq_packed *packed[PTQ_ROLE_COUNT];  /* owned; the same as bf16 products take
                                          them; NULL in float32 */
  float *error;                        /* owned; largest [out, in] */
  int16_t *codes;           /* owned; [out, in] of the largest site's layers */
  ptq_group_params *params; /* owned; [out, groups] of the same */
  float *fold[PTQ_SITE_COUNT]; /* owned; [width]: scales of the site's inputs,
                                  taken by what comes before */
  float *divisor;              /* owned; [2 d_ff] */
  float *hidden;               /* owned; [calib length, d_model] */
  ptq_collected inputs;        /* owned; of a sequential lane */
  ptq_factor_cache *shared;    /* owned; factors of the reference's H */
  ptq_factor_cache *own;       /* owned; factors of one lane's H */
} ptq_workbench;

/** `smallest_group` sizes the parameter buffer: the least positive group of
 * the lanes, or 0 when all are rows or tensors. `own_needs`: PTQ_NEED_... bits
 * of the sequential lanes. */
ptq_status ptq_workbench_open(ptq_workbench *b, const ptq_setup *setup,
                              int64_t smallest_group, bool sequential,
                              unsigned own_needs, ptq_err *err);
void ptq_workbench_close(ptq_workbench *b);

/** A lane at the embedding. */
ptq_status ptq_lane_open(ptq_lane *l, const ptq_grid *g, int64_t point,
                         const ptq_reference *r, ptq_err *err);
void ptq_lane_close(ptq_lane *l);

/** Quantize the reference's block at hand, record its layers and push the
 * lane's activations through it. A failure is the lane's (l->status). */
void ptq_lane_block(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                    ptq_workspace *ws);

/** 10 log10(signal / noise): infinite when noise is 0, NaN when both are. */
double ptq_decibel(double signal, double noise);

#endif /* PTQ_SWEEP_LANE_H */
