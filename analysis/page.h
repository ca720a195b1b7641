/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file page.h  Pieces of the report's HTML page. Private to the module. */
#ifndef PTQ_ANALYSIS_PAGE_H
#define PTQ_ANALYSIS_PAGE_H

#include "ptq/analysis/mixed.h"
#include "ptq/analysis/report.h"
#include "ptq/analysis/layer_ranks.h"
#include "ptq/analysis/tally.h"

/** Escaped for HTML text and attributes; control characters become spaces. */
void ptq_html_text(ptq_text *out, const char *text);
/** A number in a table cell: `digits` significant ones, zeros too, or a dash.
 */
void ptq_html_cell(ptq_text *out, double v, int digits);
/** A count with thin spaces between thousands. */
void ptq_html_count(ptq_text *out, int64_t n);

/** The style sheet. */
extern const char ptq_page_style[];
/** Sorts tables of class sortable by a click on a column's head. */
extern const char ptq_page_script[];

void ptq_page_numbers(const ptq_report *r, const ptq_tally *t, ptq_text *out);
void ptq_page_law(const ptq_report *r, ptq_text *out);
void ptq_page_validation(const ptq_report *r, ptq_text *out);
/** What the paper states, and whether the points show it. */
void ptq_page_statements(const ptq_statements *s, ptq_text *out);
/** Spread between seeds of calibration; nothing if they are no axis. */
void ptq_page_seeds(const ptq_seeds *s, ptq_text *out);
/** Points of mixed precision; nothing without them. */
void ptq_page_mixed(const ptq_mixed *m, ptq_text *out);
/** A model's name; where the store has it on several texts, those that tell
 * its row `subject` of /models from the others. */
void ptq_html_subject(ptq_text *out, const ptq_frame *f, int64_t subject);
/** What the loss around the models' weights is like; nothing where it was not
 * measured. */
void ptq_page_landscape(const ptq_frame *f, ptq_text *out);
/** What layers cost one by one, and what ranks them; nothing where it was not
 * measured. */
void ptq_page_sensitivity(const ptq_frame *f, const ptq_sensitivities *s,
                          ptq_text *out);
/** Tables of all laws under each split. */
void ptq_page_contest(const ptq_contest *c, ptq_text *out);
void ptq_page_left_out(const ptq_report *r, const ptq_tally *t, ptq_text *out);
ptq_status ptq_page_models(const ptq_report *r, ptq_text *out, ptq_err *err);
void ptq_page_words(ptq_text *out);

#endif /* PTQ_ANALYSIS_PAGE_H */
