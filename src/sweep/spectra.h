/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spectra.h
 * Eigenvalues of the second moment of every site's inputs, with and without
 * the first position of each window: a single attention-sink token can own
 * the largest.
 */
#ifndef PTQ_SWEEP_SPECTRA_H
#define PTQ_SWEEP_SPECTRA_H

#include "ptq/num/moment.h"
#include "ptq/record/result.h"
#include "ptq/sweep/sites.h"
#include "stream.h"

typedef struct ptq_spectra {
  ptq_spectrum rows[PTQ_SPECTRA_ROWS]; /* sites, then sites without first */
  int64_t n_rows;                      /* 0 until initialized */
  double *values[PTQ_SPECTRA_ROWS];    /* owned; [n_blocks, d] */
  ptq_moment rest[PTQ_SITE_COUNT];     /* owned; positions 1.. */
  ptq_moment first[PTQ_SITE_COUNT];    /* owned; position 0 */
  double *matrix;                      /* owned; largest [d, d] */
} ptq_spectra;

ptq_status ptq_spectra_init(ptq_spectra *s, const ptq_model_info *info,
                            ptq_err *err);
void ptq_spectra_release(ptq_spectra *s);

/** Push the calibration stream through a block and fill its eigenvalues. */
ptq_status ptq_spectra_block(ptq_spectra *s, ptq_stream *calib,
                             const ptq_model_info *info, const ptq_block *b,
                             ptq_workspace *ws, ptq_err *err);

#endif /* PTQ_SWEEP_SPECTRA_H */
