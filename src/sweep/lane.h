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
#include "workbench.h"

typedef struct ptq_lane {
  const ptq_grid *grid;     /* borrowed */
  int64_t point;            /* index in it */
  const ptq_method *method; /* borrowed */
  ptq_calibration_mode mode;
  ptq_stream calib, select, eval;     /* owned; calib only where sequential or
                                         with PTQ_NEED_BLOCK_LOSS */
  ptq_request_states requests;        /* owned */
  ptq_tuning *tuning;                 /* owned, of owned; [layers] of the block
                                         at hand, where the method tunes it */
  ptq_layer_row *layers;              /* owned; [all blocks' layers] */
  int64_t n_layers;                   /* filled so far */
  int64_t first_layer;                /* of the block at hand */
  double weight_energy, weight_noise; /* pooled over layers */
  double storage_bits;                /* of the quantized weights */
  ptq_status status;                  /* first failure; then it rests */
  ptq_err err;
  double seconds; /* own work, without what the batch shares */
} ptq_lane;

/** A lane at the embedding. */
ptq_status ptq_lane_open(ptq_lane *l, const ptq_grid *g, int64_t point,
                         ptq_reference *r, ptq_err *err);
void ptq_lane_close(ptq_lane *l);
/** Let the streams go that scoring does not take. */
void ptq_lane_end(ptq_lane *l);

/** Quantize the reference's block at hand, record its layers and push the
 * lane's activations through it. A failure is the lane's (l->status). */
void ptq_lane_block(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                    const ptq_hands *hands);

/** The layers of one site: quantize them and fill their rows but for the
 * propagated errors. */
ptq_status ptq_lane_site(ptq_lane *l, ptq_reference *r, ptq_workbench *b,
                         const ptq_hands *hands, int site, ptq_err *err);
/** Before the block's sites: l->tuning, of a method that tunes blocks; and its
 * end. */
ptq_status ptq_lane_tune(ptq_lane *l, ptq_reference *r, const ptq_workbench *b,
                         ptq_err *err);
void ptq_lane_untune(ptq_lane *l, const ptq_model_info *info);
/** Row of a present layer of the block at hand. */
ptq_layer_row *ptq_lane_row(const ptq_lane *l, const ptq_model_info *info,
                            int layer);

/** 10 log10(signal / noise): infinite when noise is 0, NaN when both are. */
double ptq_decibel(double signal, double noise);

#endif /* PTQ_SWEEP_LANE_H */
