/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file reference.h
 * The unquantized model that walks beside a batch, and what a block of it
 * gives to every point: inputs of its sites, outputs, signal energies.
 */
#ifndef PTQ_SWEEP_REFERENCE_H
#define PTQ_SWEEP_REFERENCE_H

#include "collect.h"
#include "ptq/sweep/cost.h"
#include "request_states.h"
#include "setup.h"
#include "stream.h"

/** Energies of an unquantized layer. */
typedef struct ptq_energies {
  double weight; /* sum W^2 */
  double calib;  /* tr(W H W'), calibration text */
  double select; /* the same, selection text */
} ptq_energies;

typedef struct ptq_reference {
  const ptq_setup *setup;           /* borrowed */
  ptq_stream calib, select, eval;   /* owned; behind the blocks done so far */
  ptq_request_states requests;      /* owned; likewise */
  ptq_block block;                  /* owned; the block at hand */
  ptq_collected calib_inputs;       /* owned; of the calibration text */
  ptq_collected select_inputs;      /* owned; of the selection text */
  ptq_kept outputs[PTQ_ROLE_COUNT]; /* owned; over the selection text */
  ptq_energies *energy;             /* owned; [layers] */
  float **product;                  /* owned, of owned; [hands] scratch of
                                       ptq_collected_errors */
  ptq_stream before; /* owned; calib before the block at hand, where
                        PTQ_NEED_CROSS asks for it; else empty */
  /* Inputs and outputs of attention and MLP (sites ATTN_IN and MLP_IN) on the
   * first module_windows of calib; owned; [own ones, length, d_model]
   * where PTQ_NEED_MODULE_LOSS asks for them; else NULL. */
  float *module_in[PTQ_SITE_COUNT], *module_out[PTQ_SITE_COUNT];
  int64_t module_windows;
} ptq_reference;

/** For a batch of points that ask for `load`. */
ptq_status ptq_reference_open(ptq_reference *r, const ptq_setup *setup,
                              const ptq_load *load, ptq_err *err);
void ptq_reference_close(ptq_reference *r);
/** Let all go but the stream of the evaluation text. */
void ptq_reference_end(ptq_reference *r);

/** Load block `index`, collect what points need of it, and advance the
 * reference streams behind it. */
ptq_status ptq_reference_block(ptq_reference *r, int64_t index,
                               const ptq_hands *hands, ptq_err *err);

/** Whether a module's inputs and outputs are kept for PTQ_NEED_MODULE_LOSS. */
bool ptq_reference_has_module(const ptq_model_info *info, int site);

/** Bytes, by when they are there. */
typedef struct ptq_reference_size {
  int64_t fixed;                    /* in all blocks */
  ptq_collected_size calib, select; /* inputs of the two texts */
} ptq_reference_size;
ptq_reference_size ptq_reference_bytes(const ptq_model_info *info,
                                       const ptq_texts *texts,
                                       const ptq_load *load);

#endif /* PTQ_SWEEP_REFERENCE_H */
