/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gnuplot.h
 * Drawing with gnuplot as a child process. No shell is involved: the script
 * goes in as a file descriptor, the picture comes back through a pipe.
 * Private to the module.
 */
#ifndef PTQ_ANALYSIS_GNUPLOT_H
#define PTQ_ANALYSIS_GNUPLOT_H

#include "ptq/base/status.h"
#include "ptq/base/text.h"

/**
 * Run `script` with an SVG terminal of width x height and hand back the
 * picture. `id` (letters, digits, -) prefixes every id in it, so that several
 * pictures live in one page; `title` (no markup) is what it is called there.
 * PTQ_E_UNSUPPORTED: gnuplot is missing, with the package's name;
 * PTQ_E_NUMERIC: it failed, with its first complaint.
 */
ptq_status ptq_gnuplot_svg(const char *id, const char *title, int width,
                           int height, const char *script, ptq_text *svg,
                           ptq_err *err);

/** `text` as a gnuplot string constant: quoted, without control characters.
 * Its markup means nothing where the script says noenhanced. */
void ptq_gnuplot_quote(ptq_text *out, const char *text);

#endif /* PTQ_ANALYSIS_GNUPLOT_H */
