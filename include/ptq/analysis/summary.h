/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file summary.h
 * Everything `fit` says and `report` draws: the law by each estimator with
 * its held-out validation, and other formulas beside it.
 */
#ifndef PTQ_ANALYSIS_SUMMARY_H
#define PTQ_ANALYSIS_SUMMARY_H

#include "ptq/analysis/bootstrap.h"
#include "ptq/analysis/contest.h"
#include "ptq/analysis/seeds.h"
#include "ptq/analysis/statement.h"
#include "ptq/base/text.h"

enum { PTQ_ALSO_MAX = 8, PTQ_VALIDATED_MAX = 2000, PTQ_SAMPLE = 1000 };

/** One formula by one estimator. */
typedef struct ptq_law_result {
  char name[32];       /* of the law, "given" for one's own */
  const char *formula; /* as written; borrowed */
  const ptq_estimator *estimator;
  bool fitted; /* false: failure says why, all else is empty */
  char failure[480];
  ptq_fit fit;                          /* owned */
  ptq_validation splits[PTQ_SPLIT_MAX]; /* owned; [n_splits] */
  int n_splits;
} ptq_law_result;

typedef struct ptq_summary {
  const ptq_frame *frame; /* borrowed */
  ptq_law_result law;     /* the default estimator */
  ptq_law_result beside;  /* the censored fit, or quasi beside another */
  ptq_law_result also[PTQ_ALSO_MAX]; /* the same by every other estimator */
  int n_also;
  ptq_resampled *resampled; /* owned; [law.fit.matrix.k] by models, NULL: not
                               asked for */
  int64_t n_resamples, n_resamples_failed;
  ptq_statements statements; /* of the paper, tested */
  ptq_seeds seeds;           /* where seeds of calibration are an axis */
  ptq_contest contest;       /* all laws under all splits */
  ptq_frame sample; /* owned; what is validated, the frame itself or some of
                       its points: obs of held-out points live here */
} ptq_summary;

typedef struct ptq_summary_options {
  const char *formula;   /* NULL: the first named law; borrowed */
  const char *estimator; /* NULL: quasi */
  ptq_fit_options fit;
  int64_t resamples;  /* of the cluster bootstrap of the law; 0: none */
  bool no_trees;      /* leave forest and boosting out of the comparison */
  bool no_comparison; /* the law alone: an empty contest */
} ptq_summary_options;

/**
 * Fit and validate. PTQ_E_ARG: the formula or estimator is not understood, or
 * the law itself cannot be fitted; failures of the fits beside it are kept in
 * them.
 */
ptq_status ptq_summary_build(const ptq_frame *frame,
                             const ptq_summary_options *options,
                             ptq_summary *out, ptq_err *err);
void ptq_summary_release(ptq_summary *s);

/** The summary for a terminal; `store` names it. */
void ptq_summary_text(const ptq_summary *s, const char *store, ptq_text *out);

/** A table a split, best first; what was not learned, with its reason. */
void ptq_contest_text(const ptq_contest *c, ptq_text *out);

/** How losses spread between seeds of calibration; nothing if no axis. */
void ptq_seeds_text(const ptq_seeds *s, ptq_text *out);

/** "dnll = exp(3.49 - 0.156 log(params) ...)", one line. */
void ptq_fit_equation(const ptq_fit *f, ptq_text *out);
/** One coefficient as a factor of dnll, "10 x params_nonembedding: dnll x
 * 0.70"; empty where it has no such reading. */
void ptq_fit_effect(const ptq_fit *f, int64_t j, char *text, size_t size);

/** "32", "row" or "tensor". */
void ptq_group_text(int64_t group, char text[24]);
/** "llama-1m mxint3 gptq 32": a point in a few words. */
void ptq_obs_name(const ptq_obs *o, char *text, size_t size);

/** Counts by use: "480 points: 470 used, 10 collapsed" and, for collapsed and
 * failed ones, by dtype. */
void ptq_frame_account(const ptq_frame *f, ptq_text *out);

#endif /* PTQ_ANALYSIS_SUMMARY_H */
