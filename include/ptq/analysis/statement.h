/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file statement.h
 * What the paper states, tested on the points: statements are named here
 * beforehand, and their p-values corrected for their number (Holm 1979).
 */
#ifndef PTQ_ANALYSIS_STATEMENT_H
#define PTQ_ANALYSIS_STATEMENT_H

#include "ptq/analysis/fit.h"

typedef enum ptq_verdict {
  PTQ_VERDICT_SHOWN,    /* Holm's p < 0.05, in the stated direction */
  PTQ_VERDICT_REFUTED,  /* Holm's p < 0.05, in the other */
  PTQ_VERDICT_OPEN,     /* neither, or why says what speaks against it */
  PTQ_VERDICT_UNTESTED, /* the points do not allow the test: why says so */
  PTQ_VERDICT_COUNT
} ptq_verdict;
const char *ptq_verdict_name(ptq_verdict v);

enum { PTQ_STATEMENTS_MAX = 12 };

typedef struct ptq_statement {
  const char *name;           /* static */
  char text[320];             /* of GPTQ: with the level that stands for it */
  const char *test;           /* what is estimated; static */
  double estimate, low, high; /* 95 % interval */
  double p, p_holm;           /* two-sided */
  int64_t n;
  int n_models;
  ptq_verdict verdict;
  char why[240]; /* untested, or held open for more than its p */
} ptq_statement;

typedef struct ptq_statements {
  ptq_statement row[PTQ_STATEMENTS_MAX];
  int n;
} ptq_statements;

/** Test every statement on a frame. Those of GPTQ are of `gptq` without
 * options, or where no point is, of the level of it that has most points.
 * Fails only for want of memory. */
ptq_status ptq_statements_test(const ptq_frame *frame, ptq_statements *out,
                               ptq_err *err);

/** Holm's step-down correction of n p-values into out[n]; NaN stay NaN and do
 * not count. */
void ptq_holm(const double *p, int n, double *out);

#endif /* PTQ_ANALYSIS_STATEMENT_H */
