/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file workbench.h
 * Scratch that lanes use one after the other: a quantized block and the
 * buffers of quantizing it.
 */
#ifndef PTQ_SWEEP_WORKBENCH_H
#define PTQ_SWEEP_WORKBENCH_H

#include "collect.h"
#include "ptq/sweep/cost.h"
#include "setup.h"

typedef struct ptq_workbench {
  bool alone;      /* the batch has one point: what it has used may go */
  bool in_place;   /* and quantized weights take the reference's place: nobody
                      asks for those behind their own site */
  ptq_block block; /* norms, router, biases borrowed from
                      the reference; weights point to it or
                      into `weights`; `linear` owned */
  float *weights;  /* owned; quantized weights of a block; in place NULL */
  float **layer_weights; /* owned; [layers] into weights */
  ptq_packed **packed;   /* owned, of owned; [layers] these as bf16 products
                            take them; NULL in float32 and in place */
  int n_packed;
  /* Of the largest site; where `alone`, of the site at hand. */
  float *error;             /* owned; largest [out, in] */
  float *site_weights;      /* owned; [out, in] of its layers; only in place */
  int16_t *codes;           /* owned; [out, in] of its layers */
  ptq_group_params *params; /* owned; [out, groups] of its layers */
  int64_t smallest_group;
  float **fold;   /* owned, of owned; [sites][width]: scales of the site's
                     inputs, taken by what comes before */
  float *divisor; /* owned; [2 d_ff] */
  float **hidden; /* owned, of owned; [hands][calib length, d_model]; of
                     sequential lanes */
  int hands;
  double *noise, *signal;   /* owned; [layers] of the selection pass, shared in
                               a team */
  ptq_team *team;           /* borrowed, nullable */
  ptq_collected inputs;     /* owned; of a sequential lane */
  ptq_factor_cache *shared; /* owned; factors of the reference's H */
  ptq_factor_cache *own;    /* owned; factors of one lane's H */
} ptq_workbench;

/** For a batch of points that ask for `load`. */
ptq_status ptq_workbench_open(ptq_workbench *b, const ptq_setup *setup,
                              const ptq_load *load, ptq_err *err);
void ptq_workbench_close(ptq_workbench *b);
/** Begin with the unquantized block. */
void ptq_workbench_begin(ptq_workbench *b, const ptq_model_info *info,
                         const ptq_block *reference);

/** Buffers for a site, freed with ptq_workbench_end_site. */
ptq_status ptq_workbench_begin_site(ptq_workbench *b,
                                    const ptq_model_info *info, int site,
                                    ptq_err *err);
void ptq_workbench_end_site(ptq_workbench *b);

/** Bytes, by when they are there. */
typedef struct ptq_workbench_size {
  int64_t fixed;                /* in all blocks */
  int64_t site[PTQ_SITE_COUNT]; /* while a site of a kind is quantized */
  ptq_collected_size inputs;    /* of sequential lanes */
} ptq_workbench_size;
ptq_workbench_size ptq_workbench_bytes(const ptq_model_info *info,
                                       const ptq_texts *texts,
                                       const ptq_load *load);

#endif /* PTQ_SWEEP_WORKBENCH_H */
