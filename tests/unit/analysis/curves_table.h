/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file curves_table.h  tests/golden/fit/curves.csv as a frame. */
#ifndef PTQ_TEST_ANALYSIS_CURVES_TABLE_H
#define PTQ_TEST_ANALYSIS_CURVES_TABLE_H

#include "tables.h"

/* tests/golden/fit/curves.csv */
static inline void curves_table(tables *t, ptq_frame *frame,
                                const ptq_obs **obs) {
  static csv c;
  csv_read(&c, PTQ_SOURCE_DIR "/tests/golden/fit/curves.csv");
  memset(t, 0, sizeof *t);
  for (int i = 0; i < c.rows; i++) {
    char dtype[32];
    ptq_model_row *m =
        tables_model(t, csv_text(&c, i, "model"), csv_text(&c, i, "family"));
    (void)snprintf(dtype, sizeof dtype, "mxint%s", csv_text(&c, i, "bits"));
    m->params_nonembedding = (int64_t)csv_number(&c, i, "params");
    m->params_quantizable = m->params_nonembedding;
    m->params = (int64_t)csv_number(&c, i, "params_all");
    m->calib_tokens = (int64_t)csv_number(&c, i, "calib");
    (void)snprintf(m->covariates, sizeof m->covariates,
                   "lr_state=decayed,train_tokens=%.17g",
                   csv_number(&c, i, "tokens"));
    m->nll = csv_number(&c, i, "nll_model");
    m->nll_unigram = 4.6;
    ptq_point_row *p =
        tables_point(t, m, dtype, "rtn", (int64_t)csv_number(&c, i, "group"));
    p->bits_per_weight = csv_number(&c, i, "bpw");
    p->nll = csv_number(&c, i, "nll");
    p->dnll = csv_number(&c, i, "dnll");
    p->dnll_se = csv_number(&c, i, "dnll_se");
  }
  const ptq_frame_source source = tables_source(t);
  if (ptq_frame_build(&source, frame, NULL) != PTQ_OK) abort();
  for (int64_t i = 0; i < frame->n; i++) obs[i] = &frame->obs[i];
}

#endif /* PTQ_TEST_ANALYSIS_CURVES_TABLE_H */
