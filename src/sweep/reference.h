/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file reference.h
 * The unquantized model that walks beside a batch, and what a block of it
 * gives to every point: second moments, outputs, signal energies.
 */
#ifndef PTQ_SWEEP_REFERENCE_H
#define PTQ_SWEEP_REFERENCE_H

#include "collect.h"
#include "request_states.h"
#include "setup.h"
#include "stream.h"

typedef struct ptq_reference {
  const ptq_setup *setup;            /* borrowed */
  ptq_stream calib, select, eval;    /* owned; behind the blocks done so far */
  ptq_request_states requests;       /* owned; likewise */
  ptq_block block;                   /* owned; the block at hand */
  ptq_moment moment[PTQ_SITE_COUNT]; /* owned; scratch, also of sequential
                                        points */
  ptq_collected inputs;              /* owned; of the calibration text */
  float *h_calib32[PTQ_SITE_COUNT];  /* owned; [d, d] */
  float *h_select32[PTQ_SITE_COUNT]; /* owned; [d, d] */
  float *outputs[PTQ_ROLE_COUNT];    /* owned; [select.n, length, out] */
  float *product;    /* owned; scratch [out, in] of tr(A H A') */
  ptq_stream before; /* owned; calib before the block at hand, where
                        PTQ_NEED_CROSS asks for it; else empty */
  /* Inputs and outputs of attention and MLP (sites ATTN_IN and MLP_IN) on the
   * first module_windows of calib; owned; [module_windows, length, d_model]
   * where PTQ_NEED_MODULE_LOSS asks for them; else NULL. */
  float *module_in[PTQ_SITE_COUNT], *module_out[PTQ_SITE_COUNT];
  int64_t module_windows;
  /* Energies of the unquantized layers. */
  double weight_energy[PTQ_ROLE_COUNT]; /* sum W^2 */
  double calib_energy[PTQ_ROLE_COUNT];  /* tr(W H W'), calibration text */
  double select_energy[PTQ_ROLE_COUNT]; /* the same, selection text */
  double output_energy[PTQ_ROLE_COUNT]; /* sum (XW)^2, selection text */
} ptq_reference;

/** `needs`: of the points calibrated on the unquantized model;
 * `own_needs`: of those with inputs of their own. */
ptq_status ptq_reference_open(ptq_reference *r, const ptq_setup *setup,
                              unsigned needs, unsigned own_needs, ptq_err *err);
void ptq_reference_close(ptq_reference *r);

/** Load block `index`, collect what points need of it, and advance the
 * reference streams behind it. */
ptq_status ptq_reference_block(ptq_reference *r, int64_t index,
                               ptq_workspace *ws, ptq_err *err);

#endif /* PTQ_SWEEP_REFERENCE_H */
