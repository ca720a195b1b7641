/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file layer_ranks.h
 * What each layer costs when it alone is rounded, and when it alone is not,
 * beside all that is cheaper to know of it; and how well that ranks layers.
 */
#ifndef PTQ_ANALYSIS_LAYER_RANKS_H
#define PTQ_ANALYSIS_LAYER_RANKS_H

#include "ptq/base/status.h"
#include "ptq/base/text.h"
#include "ptq/record/rows.h"
#include "ptq/store/view.h"

/* clang-format off */

/** What layers may be ranked by. E is what rounding does to the layer, W its
 * weights, H the second moment of its inputs; NaN where the sweep did not
 * measure it. */
#define PTQ_LAYER_PROXY_FIELDS(X) \
  X(F64, size_square,   1, "",      "|E|^2 over |W|^2") \
  X(F64, weight_noise,  1, "",      "|E|^2") \
  X(F64, error_select,  1, "",      "noise over signal of its outputs on the selection text, 10^(-sqnr_output / 10), of the RTN point") \
  X(F64, err_hessian,   1, "",      "tr(E H E') over tr(W H W'), of the RTN point") \
  X(F64, output_noise,  1, "",      "tr(E H E')") \
  X(F64, gradient_norm, 1, "nat",   "length of the gradient") \
  X(F64, trace,         1, "nat",   "trace of its block of the Hessian") \
  X(F64, trace_noise,   1, "nat",   "trace over weights, times |E|^2") \
  X(F64, fisher,        1, "nat^2", "trace of its block of the empirical Fisher") \
  X(F64, fisher_noise,  1, "nat^2", "the same over weights, times |E|^2") \
  X(F64, fisher_diagonal, 1, "nat^2", "E's squares times the empirical Fisher's diagonal, summed") \
  X(F64, kronecker,     1, "nat^2", "E times the empirical Fisher in Kronecker's factors times E, tr(B E H E')") \
  X(F64, kronecker_trace, 1, "nat^2", "the same of B's trace alone: that over outputs, times tr(E H E')") \
  X(F64, slope,         1, "nat",   "gradient times E") \
  X(F64, curvature,     1, "nat",   "E times its part of the Hessian times all layers' E") \
  X(F64, quadratic,     1, "nat",   "slope + curvature / 2") \
  X(F64, gauss_newton,  1, "nat",   "E times its part of the Gauss-Newton matrix times all layers' E") \
  X(F64, err_top,       1, "",      "share of tr(E H E') along the top sixteenth of H's eigenvectors") \
  X(F64, size_top,      1, "",      "share of |E|^2 along them")

/** One row a (model, texts, dtype, layer): a table for exports. */
#define PTQ_SENSITIVITY_FIELDS(X) \
  X(TEXT, model,       64, "",    "model name") \
  X(TEXT, calibration, 96, "",    "calibration text:windows x length[@seed]") \
  X(TEXT, evaluation,  96, "",    "evaluation text:windows x length[@seed]") \
  X(TEXT, dtype,       64, "",    "number format") \
  X(I64,  group,        1, "",    "weights a group; -1 a row, 0 the tensor") \
  X(I64,  block,        1, "",    "block, from 0") \
  X(TEXT, layer,       96, "",    "tensor name in the checkpoint") \
  X(I64,  weights,      1, "",    "weights of the layer") \
  X(F64,  alone,        1, "nat", "what rounding the layer alone adds") \
  X(F64,  alone_se,     1, "nat", "its error over windows") \
  X(F64,  restored,     1, "nat", "what rounding it adds where all others are rounded") \
  X(F64,  restored_se,  1, "nat", "its error over windows") \
  X(F64,  interaction,  1, "nat", "restored - alone: what the other layers' rounding makes of it") \
  X(F64,  dnll,         1, "nat", "what rounding all layers adds") \
  PTQ_LAYER_PROXY_FIELDS(X)

/* clang-format on */

#define PTQ_PROXY_ONE(kind, name, length, unit, text) +1
enum { PTQ_LAYER_PROXIES = 0 PTQ_LAYER_PROXY_FIELDS(PTQ_PROXY_ONE) };
#undef PTQ_PROXY_ONE

typedef struct ptq_sensitivity_row {
  PTQ_SENSITIVITY_FIELDS(PTQ_MEMBER)
} ptq_sensitivity_row;
/** Its columns, and the proxies among them. */
const ptq_table *ptq_sensitivity_table(void);
const ptq_field *ptq_layer_proxy(int proxy);

/** What a proxy is to rank. */
typedef enum ptq_rank_target {
  PTQ_RANK_ALONE,
  PTQ_RANK_RESTORED,
  PTQ_RANK_INTERACTION, /* |restored - alone| */
  PTQ_RANK_TARGETS
} ptq_rank_target;
const char *ptq_rank_target_name(ptq_rank_target t);

/** Spearman's rank correlation over a model's layers: the mean over dtypes,
 * then over the texts of a model, then over models, which are the sample of the
 * 95 % interval (Student's t, cut off at -1 and 1; NaN with one model). */
typedef struct ptq_rank {
  double rho, low, high;
  int n_models;
  int64_t n_layers; /* behind it, models, texts and dtypes counted */
} ptq_rank;

/** All layers of a model at a dtype together, on one pair of texts. */
typedef struct ptq_interaction {
  const ptq_direction_row *row; /* borrowed; of one of its blocks */
  int64_t model; /* first row of /models of the same checkpoint */
  int64_t layers;
  double alone, restored; /* sums over layers */
  bool whole;             /* every block is there */
} ptq_interaction;

typedef struct ptq_sensitivities {
  ptq_sensitivity_row *rows; /* owned; [n] by model, dtype, block */
  int64_t n;
  ptq_interaction *sums; /* owned; [n_sums] */
  int64_t n_sums;
  ptq_rank rank[PTQ_LAYER_PROXIES][PTQ_RANK_TARGETS]; /* NaN: not to be told */
} ptq_sensitivities;

/** From a store, whose rows are borrowed; empty without any. */
ptq_status ptq_sensitivities_read(ptq_view *v, ptq_sensitivities *out,
                                  ptq_err *err);
/** Fill rank from rows and sums. */
ptq_status ptq_sensitivities_rank(ptq_sensitivities *s, ptq_err *err);
void ptq_sensitivities_release(ptq_sensitivities *s);

#endif /* PTQ_ANALYSIS_LAYER_RANKS_H */
