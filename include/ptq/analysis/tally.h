/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file tally.h  What became of the points, by number format. */
#ifndef PTQ_ANALYSIS_TALLY_H
#define PTQ_ANALYSIS_TALLY_H

#include "ptq/analysis/frame.h"

/** One number format; all mixtures are one, "mixed". */
typedef struct ptq_tally_row {
  const char *format; /* borrowed from the frame */
  int64_t all;
  int64_t count[PTQ_USE_COUNT];
} ptq_tally_row;

typedef struct ptq_tally {
  ptq_tally_row *row; /* owned; in the frame's order */
  int64_t n;
} ptq_tally;

ptq_status ptq_tally_formats(const ptq_frame *f, ptq_tally *out, ptq_err *err);
void ptq_tally_release(ptq_tally *t);

#endif /* PTQ_ANALYSIS_TALLY_H */
