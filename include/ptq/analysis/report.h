/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file report.h
 * One self-contained HTML page about a sweep, its plots as SVG and their data
 * as CSV.
 */
#ifndef PTQ_ANALYSIS_REPORT_H
#define PTQ_ANALYSIS_REPORT_H

#include "ptq/analysis/summary.h"
#include "ptq/store/view.h"

typedef struct ptq_report {
  ptq_view *view;             /* borrowed */
  const ptq_frame *frame;     /* borrowed */
  const ptq_summary *summary; /* borrowed; NULL: no law, why_not says why */
  const char *why_not;        /* borrowed; may be NULL */
  const char *version;        /* of the program; borrowed */
} ptq_report;

/**
 * Write index.html and, for each plot, <id>.svg and <id>.csv into the
 * directory `dir`, which is made if it is not there. Files of these names are
 * replaced, others left alone. PTQ_E_UNSUPPORTED: gnuplot is missing.
 * PTQ_E_IO names the file.
 */
ptq_status ptq_report_write(const ptq_report *report, const char *dir,
                            ptq_err *err);

#endif /* PTQ_ANALYSIS_REPORT_H */
