/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spectra.h
 * Eigenvalues of the second moment of every kind of site's inputs, with and
 * without the first position of each window: a single attention-sink token can
 * own the largest.
 *
 * In a mixture of experts MLP_IN is what the router sees, every token once, and
 * MLP_OUT is pooled over the experts: every token as often as experts take it.
 */
#ifndef PTQ_SWEEP_SPECTRA_H
#define PTQ_SWEEP_SPECTRA_H

#include "ptq/num/moment.h"
#include "ptq/record/result.h"
#include "ptq/sweep/sites.h"
#include "stream.h"

/** Inputs of a kind of site. Rows are kept where a text has fewer than a moment
 * has columns, and summed when their turn comes. */
typedef struct ptq_spectra_inputs {
  int64_t d, most; /* rows of a window at most */
  bool keeps;
  ptq_spool rows;  /* owned; [windows] of [most, d]: without first positions;
                      only where rows are kept */
  int64_t *n_rows; /* owned; [windows] of them */
  ptq_moment rest; /* owned; of the same; without a sum where rows are kept */
  int64_t times;   /* a token is seen here: experts used, or 1 */
  float *firsts;   /* owned; [windows, times][d] first positions */
} ptq_spectra_inputs;

typedef struct ptq_spectra {
  ptq_spectrum rows[PTQ_SPECTRA_ROWS]; /* sites, then sites without first */
  int64_t n_rows;                      /* 0 until initialized */
  double *values[PTQ_SPECTRA_ROWS];    /* owned; [n_blocks, d] */
  ptq_spectra_inputs in[PTQ_SITE_COUNT];
  ptq_moment rest; /* owned; of the kept kind at hand; as all sums shared in a
                      team */
  double *matrix;  /* owned; largest [d, d]; likewise */
  double *found;   /* owned; [2, largest d]; likewise */
  ptq_team *team;  /* borrowed, nullable */
  int hands;       /* threads */
  float **scratch; /* owned, of owned; [hands] of ptq_moment_product */
  bool mixture;
} ptq_spectra;

/** For n windows of `length` tokens. */
ptq_status ptq_spectra_init(ptq_spectra *s, const ptq_model_info *info,
                            ptq_room room, int64_t n, int64_t length,
                            ptq_err *err);
/** Let all go but the eigenvalues. */
void ptq_spectra_end(ptq_spectra *s);
void ptq_spectra_release(ptq_spectra *s);

/** Push the calibration stream through a block and fill its eigenvalues. */
ptq_status ptq_spectra_block(ptq_spectra *s, ptq_stream *calib,
                             const ptq_hands *hands, const ptq_block *b,
                             ptq_err *err);

/** Bytes of memory; after ptq_spectra_end 0 but for the eigenvalues. */
int64_t ptq_spectra_bytes(const ptq_model_info *info, ptq_room room, int64_t n,
                          int64_t length);

#endif /* PTQ_SWEEP_SPECTRA_H */
