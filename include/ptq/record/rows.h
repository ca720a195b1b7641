/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file rows.h
 * THE table of result fields. One line here is a member of a C row, a column
 * of the HDF5 store, of the CSV and of the documentation.
 *
 * X(kind, name, length, unit, text):
 *   kind    TEXT (char[length], NUL-padded), F64 or I64 (length 1)
 *   text    what it means, one line; definitions in README
 * F64 results are NaN until the row is done.
 */
#ifndef PTQ_RECORD_ROWS_H
#define PTQ_RECORD_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* clang-format off */

/** One row a grid point: identity first, then results. */
#define PTQ_POINT_FIELDS(X) \
  X(TEXT, key,          33, "",      "hash of everything that determines the result") \
  X(TEXT, model,        64, "",      "model name") \
  X(TEXT, family,       32, "",      "model family") \
  X(TEXT, dtype,        64, "",      "number format, canonical spelling") \
  X(TEXT, method,       32, "",      "quantization method") \
  X(TEXT, options,      96, "",      "the method's options, sorted, defaults left out") \
  X(I64,  group,         1, "",      "weights a group; -1 a row, 0 the tensor") \
  X(TEXT, calibration,  96, "",      "calibration text:windows x length[@seed]") \
  X(TEXT, evaluation,   96, "",      "evaluation text:windows x length[@seed]") \
  X(TEXT, compute,       8, "",      "arithmetic of the forward pass's products: f32 or bf16") \
  X(TEXT, requests,     96, "",      "requests file[:limit][xlength][/...]; empty without requests") \
  X(TEXT, numerics,     96, "",      "BLAS and kernels that computed the row") \
  X(F64,  bits_per_weight,  1, "bit",    "storage of the quantized weights over their number") \
  X(F64,  bits_model,       1, "bit",    "storage of the whole checkpoint") \
  X(F64,  nll,              1, "nat",    "mean negative log-likelihood a scored token") \
  X(F64,  nll_se,           1, "nat",    "standard error of nll over windows (describes the text)") \
  X(F64,  nll_byte,         1, "nat",    "negative log-likelihood a scored byte") \
  X(F64,  ppl,              1, "",       "exp(nll)") \
  X(F64,  dnll,             1, "nat",    "mean difference of NLL to the unquantized model") \
  X(F64,  dnll_se,          1, "nat",    "moving-block bootstrap error of dnll over windows") \
  X(F64,  kl,               1, "nat",    "mean KL divergence from the unquantized model") \
  X(F64,  kl_rev,           1, "nat",    "mean KL divergence to the unquantized model") \
  X(F64,  kl_se,            1, "nat",    "moving-block bootstrap error of kl over windows") \
  X(F64,  kl_p99,           1, "nat",    "99th percentile of KL over positions") \
  X(F64,  top1,             1, "",       "share of positions whose most probable token agrees") \
  X(F64,  sqnr_weight,      1, "dB",     "weight SQNR pooled over quantized layers") \
  X(F64,  sqnr_output,      1, "dB",     "output SQNR on reference inputs, mean over layers") \
  X(F64,  sqnr_output_prop, 1, "dB",     "output SQNR on propagated inputs, mean over layers") \
  X(F64,  accuracy,         1, "",       "share of requests whose most probable choice is right") \
  X(F64,  accuracy_se,      1, "",       "standard error of accuracy over requests") \
  X(F64,  accuracy_norm,    1, "",       "the same of log-likelihoods a character (lm-eval's acc_norm)") \
  X(F64,  accuracy_norm_se, 1, "",       "standard error of accuracy_norm") \
  X(F64,  accuracy_byte,    1, "",       "the same of log-likelihoods a byte (lm-eval's acc_bytes)") \
  X(F64,  accuracy_byte_se, 1, "",       "standard error of accuracy_byte") \
  X(F64,  accuracy_token,   1, "",       "the same of log-likelihoods a token") \
  X(F64,  accuracy_token_se, 1, "",      "standard error of accuracy_token") \
  X(F64,  daccuracy,        1, "",       "difference of accuracy to the unquantized model") \
  X(F64,  daccuracy_se,     1, "",       "standard error of daccuracy, paired by request") \
  X(F64,  daccuracy_norm,   1, "",       "difference of accuracy_norm to the unquantized model") \
  X(F64,  daccuracy_norm_se, 1, "",      "standard error of daccuracy_norm, paired by request") \
  X(F64,  flips,            1, "",       "share of requests whose choice differs from the unquantized model's") \
  X(F64,  flips_se,         1, "",       "standard error of flips over requests") \
  X(F64,  flips_norm,       1, "",       "the same of choices by log-likelihood a character") \
  X(F64,  flips_norm_se,    1, "",       "standard error of flips_norm")

/** One row a (point, linear layer). */
#define PTQ_LAYER_FIELDS(X) \
  X(I64,  point,             1, "",   "row of /points") \
  X(TEXT, layer,            96, "",   "tensor name in the checkpoint") \
  X(TEXT, layer_dtype,      64, "",   "number format of this layer: a mixture's differ") \
  X(I64,  layer_group,       1, "",   "weights a group of this layer; -1 a row, 0 the tensor") \
  X(I64,  weights,           1, "",   "weights of the layer") \
  X(F64,  layer_bits,        1, "bit", "storage of the layer's weights over their number") \
  X(F64,  sqnr_weight,       1, "dB", "weight SQNR") \
  X(F64,  sqnr_output,       1, "dB", "output SQNR, reference inputs for both") \
  X(F64,  sqnr_output_prop,  1, "dB", "output SQNR, error as it arrives") \
  X(F64,  err_hessian,       1, "",   "tr(E H E') / tr(W H W'), H of the calibration text") \
  X(F64,  damp,              1, "",   "damping used, relative to the mean diagonal of H") \
  X(I64,  calib_tokens,      1, "",   "calibration tokens that reached the layer; without any H is the identity") \
  X(TEXT, codes,            17, "",   "hash of the codes and group parameters")

/** One row a (point, evaluation window): sums over scored positions. */
#define PTQ_WINDOW_FIELDS(X) \
  X(I64,  point,   1, "",    "row of /points") \
  X(I64,  window,  1, "",    "window number in text order") \
  X(F64,  nll,     1, "nat", "sum of NLL over scored positions") \
  X(F64,  kl,      1, "nat", "sum of KL over scored positions") \
  X(F64,  top1,    1, "",    "positions whose most probable token agrees")

/** What a model answers to a request; in two tables. */
#define PTQ_CHOICE_FIELDS(X) \
  X(I64,  choice,        1, "",    "its most probable choice, from 0") \
  X(I64,  choice_norm,   1, "",    "choice by log-likelihood a character") \
  X(I64,  choice_byte,   1, "",    "choice by log-likelihood a byte") \
  X(I64,  choice_token,  1, "",    "choice by log-likelihood a token") \
  X(F64,  logp,          1, "nat", "log-likelihood of the right choice") \
  X(F64,  margin,        1, "nat", "logp less the largest of the other choices'")

/** One row a (point, request). */
#define PTQ_ANSWER_FIELDS(X) \
  X(I64,  point,    1, "",    "row of /points") \
  X(I64,  request,  1, "",    "request in the order of its file, from 0") \
  PTQ_CHOICE_FIELDS(X)

/** One row a (model, calibration, evaluation): a subject of the sweep. */
#define PTQ_MODEL_FIELDS(X) \
  X(TEXT, model,        64, "",    "model name") \
  X(TEXT, family,       32, "",    "model family") \
  X(TEXT, architecture, 32, "",    "row of the architecture table") \
  X(TEXT, fingerprint,  33, "",    "hash of the checkpoint's files") \
  X(TEXT, provenance,   16, "",    "native or dequantized") \
  X(TEXT, calibration,  96, "",    "calibration text:windows x length[@seed]") \
  X(TEXT, selection,    96, "",    "selection text:windows x length[@seed]") \
  X(TEXT, evaluation,   96, "",    "evaluation text:windows x length[@seed]") \
  X(TEXT, compute,       8, "",    "arithmetic of the forward pass's products: f32 or bf16") \
  X(TEXT, requests,     96, "",    "requests file[:limit][xlength][/...]; empty without requests") \
  X(TEXT, covariates,  192, "",    "what the sweep file says of the model, k=v,...") \
  X(I64,  params,               1, "", "parameters, tied tensors once") \
  X(I64,  params_nonembedding,  1, "", "without embeddings and head") \
  X(I64,  params_quantizable,   1, "", "weights of the blocks' linear layers") \
  X(I64,  n_blocks,  1, "",    "blocks") \
  X(I64,  d_model,   1, "",    "width of the residual stream") \
  X(I64,  d_ff,      1, "",    "width of the MLP") \
  X(I64,  n_heads,   1, "",    "attention heads") \
  X(I64,  n_kv_heads, 1, "",   "key and value heads") \
  X(I64,  vocab,     1, "",    "tokens of the vocabulary") \
  X(I64,  calib_tokens, 1, "", "tokens behind the second moments") \
  X(I64,  tokens,    1, "",    "scored tokens") \
  X(I64,  bytes,     1, "",    "scored bytes of text") \
  X(F64,  nll,       1, "nat", "unquantized mean negative log-likelihood a token") \
  X(F64,  nll_se,    1, "nat", "standard error of nll over windows") \
  X(F64,  nll_byte,  1, "nat", "unquantized negative log-likelihood a byte") \
  X(F64,  nll_unigram, 1, "nat", "NLL of the calibration text's unigram model") \
  X(I64,  n_requests,        1, "", "requests answered") \
  X(F64,  accuracy,          1, "", "share of requests whose most probable choice is right") \
  X(F64,  accuracy_se,       1, "", "standard error of accuracy over requests") \
  X(F64,  accuracy_norm,     1, "", "the same of log-likelihoods a character (lm-eval's acc_norm)") \
  X(F64,  accuracy_norm_se,  1, "", "standard error of accuracy_norm") \
  X(F64,  accuracy_byte,     1, "", "the same of log-likelihoods a byte (lm-eval's acc_bytes)") \
  X(F64,  accuracy_byte_se,  1, "", "standard error of accuracy_byte") \
  X(F64,  accuracy_token,    1, "", "the same of log-likelihoods a token") \
  X(F64,  accuracy_token_se, 1, "", "standard error of accuracy_token")

/** One row a (subject, evaluation window) of the unquantized model. */
#define PTQ_BASELINE_FIELDS(X) \
  X(I64,  subject, 1, "",    "row of /models") \
  X(I64,  window,  1, "",    "window number in text order") \
  X(I64,  start,   1, "",    "first token's position in the text") \
  X(I64,  tokens,  1, "",    "scored tokens") \
  X(I64,  bytes,   1, "",    "scored bytes of text") \
  X(F64,  nll,     1, "nat", "sum of the unquantized model's NLL")

/** One row a (subject, request) of the unquantized model. */
#define PTQ_BASELINE_ANSWER_FIELDS(X) \
  X(I64,  subject,  1, "",    "row of /models") \
  X(I64,  request,  1, "",    "request in the order of its file, from 0") \
  X(I64,  choices,  1, "",    "choices that it offers") \
  X(I64,  right,    1, "",    "the right one, from 0") \
  PTQ_CHOICE_FIELDS(X)

/** One row an item of a model's loss landscape: a direction in the space of
 * its linear layers' weights, (kind hessian) the derivatives at them, or (kind
 * sensitivity) what each layer of a block costs. */
#define PTQ_DIRECTION_FIELDS(X) \
  X(TEXT, key,          33, "",      "hash of everything that determines the result") \
  X(I64,  subject,       1, "",      "row of /models") \
  X(TEXT, model,        64, "",      "model name") \
  X(TEXT, kind,         16, "",      "gaussian, uniform: random; rtn, gptq: what that method does to the weights; hessian: derivatives; sensitivity: layers rounded alone and left out") \
  X(TEXT, scaling,      16, "",      "of a random direction: layer, row (each as long as its weights); else empty") \
  X(I64,  number,        1, "",      "of random directions of one kind and scaling, from 0; of a sensitivity its block") \
  X(TEXT, dtype,        64, "",      "number format of a displacement or sensitivity") \
  X(I64,  group,         1, "",      "weights a group of it; -1 a row, 0 the tensor") \
  X(TEXT, calibration,  96, "",      "calibration text:windows x length[@seed]") \
  X(TEXT, evaluation,   96, "",      "evaluation text:windows x length[@seed]") \
  X(TEXT, numerics,     96, "",      "BLAS and kernels that computed the row") \
  X(F64,  size,          1, "",      "length of the direction over that of the weights") \
  X(F64,  nll,           1, "nat",   "mean NLL of the evaluation text at the weights") \
  X(F64,  nll_calib,     1, "nat",   "mean NLL of the calibration text at the weights") \
  X(F64,  slope,         1, "nat",   "gradient of the calibration text's mean NLL times the direction") \
  X(F64,  curvature,     1, "nat",   "direction times Hessian of the calibration text's mean NLL times direction") \
  X(F64,  gauss_newton,  1, "nat",   "direction times Gauss-Newton matrix (curvature without the logits' own: the Fisher matrix of the model's own tokens) times direction") \
  X(F64,  gradient_curvature, 1, "nat", "gradient times that Hessian times direction (kinds rtn, gptq)") \
  X(F64,  fisher_diagonal, 1, "nat^2", "the direction's squares times the empirical Fisher's diagonal, summed (kinds rtn, gptq)") \
  X(F64,  kronecker,     1, "nat^2", "direction times the empirical Fisher matrix in Kronecker's factors, layer by layer, times direction (kinds rtn, gptq)") \
  X(F64,  dnll,          1, "nat",   "what the whole displacement adds to the evaluation text's mean NLL (kinds rtn, gptq, sensitivity: all layers rounded)") \
  X(F64,  dnll_se,       1, "nat",   "moving-block bootstrap error of dnll over windows") \
  X(F64,  dnll_calib,    1, "nat",   "the same on the calibration text (kinds rtn, gptq)") \
  X(F64,  dnll_quadratic, 1, "nat",  "what derivatives predict of dnll_calib: slope + curvature / 2") \
  X(F64,  quadratic_radius, 1, "",   "largest radius of the profile up to which dnll_quadratic is within a tenth of dnll_calib, or 0.01 nat") \
  X(F64,  gradient_norm, 1, "nat",   "length of the gradient (kind hessian)") \
  X(F64,  trace,         1, "nat",   "Hutchinson's estimate of the Hessian's trace (kind hessian)") \
  X(F64,  trace_se,      1, "nat",   "its standard error over probes") \
  X(F64,  eigen_max,     1, "nat",   "largest Ritz value of the Hessian (kind hessian)") \
  X(F64,  eigen_min,     1, "nat",   "smallest Ritz value of the Hessian (kind hessian)") \
  X(F64,  gauss_newton_trace,    1, "nat", "Hutchinson's estimate of the Gauss-Newton matrix's trace (kind hessian)") \
  X(F64,  gauss_newton_trace_se, 1, "nat", "its standard error over probes") \
  X(F64,  gauss_newton_max,      1, "nat", "its largest Ritz value (kind hessian)") \
  X(F64,  fisher,        1, "nat^2", "trace of the empirical Fisher matrix of windows: sum over calibration windows of the squared gradient of their NLL, over scored tokens (kind hessian)")

/** One row a (direction, step): the loss at weights + factor * direction. */
#define PTQ_PROFILE_FIELDS(X) \
  X(I64,  direction,  1, "",    "row of /landscape/directions") \
  X(I64,  step,       1, "",    "from 0, by radius") \
  X(F64,  factor,     1, "",    "multiple of the direction; 1 is the rounded model itself (kind rtn)") \
  X(F64,  radius,     1, "",    "length of the displacement over that of the weights: factor * size") \
  X(F64,  nll,        1, "nat", "mean NLL of the evaluation text; NaN: not finite") \
  X(F64,  nll_se,     1, "nat", "standard error of nll over windows (describes the text)") \
  X(F64,  dnll,       1, "nat", "mean difference of NLL to radius 0") \
  X(F64,  dnll_se,    1, "nat", "moving-block bootstrap error of dnll over windows") \
  X(F64,  dnll_calib, 1, "nat", "the same difference on the calibration text; NaN: not measured or not finite") \
  X(F64,  dnll_quadratic, 1, "nat", "what derivatives at the weights predict of it: factor slope + factor^2 curvature / 2; NaN: not measured")

/** One row a (direction, linear layer), where derivatives are measured; of a
 * sensitivity the layers of its block. E is the direction's part, H the second
 * moment of the layer's inputs over the calibration text. */
#define PTQ_DIRECTION_LAYER_FIELDS(X) \
  X(I64,  direction,     1, "",    "row of /landscape/directions") \
  X(TEXT, layer,        96, "",    "tensor name in the checkpoint") \
  X(I64,  weights,       1, "",    "weights of the layer") \
  X(I64,  outputs,       1, "",    "rows of the layer; 0 in stores of before the column") \
  X(F64,  weight_norm,   1, "",    "length of the layer's weights") \
  X(F64,  size,          1, "",    "length of the direction's part over that of the layer's weights") \
  X(F64,  slope,         1, "nat", "gradient of the layer times the direction's part") \
  X(F64,  curvature,     1, "nat", "the direction's part times this part of Hessian times direction: they sum up to the whole") \
  X(F64,  gradient_norm, 1, "nat", "length of the gradient of the layer (kind hessian)") \
  X(F64,  trace,         1, "nat", "trace of the layer's block of the Hessian (kind hessian)") \
  X(F64,  trace_se,      1, "nat", "its standard error over probes") \
  X(F64,  gauss_newton,  1, "nat", "the direction's part times this part of Gauss-Newton matrix times direction: they sum up to the whole") \
  X(F64,  gauss_newton_trace,    1, "nat", "trace of the layer's block of the Gauss-Newton matrix (kind hessian)") \
  X(F64,  gauss_newton_trace_se, 1, "nat", "its standard error over probes") \
  X(F64,  gradient_curvature, 1, "nat", "gradient of the layer times this part of Hessian times direction (kinds rtn, gptq)") \
  X(F64,  fisher_diagonal, 1, "nat^2", "the part's squares times the layer's part of the empirical Fisher's diagonal, summed (kinds rtn, gptq)") \
  X(F64,  kronecker,     1, "nat^2", "tr(B E H E'): the part times the layer's block of the empirical Fisher matrix in Kronecker's factors times the part; B below, H here of each layer's inputs in the text's windows (kinds rtn, gptq)") \
  X(F64,  output_noise,  1, "",    "tr(E H E'): what E changes of the outputs, squared, a token (kinds rtn, gptq)") \
  X(F64,  err_hessian,   1, "",    "the same over tr(W H W') (kinds rtn, gptq)") \
  X(F64,  err_top,       1, "",    "share of tr(E H E') along the top sixteenth of H's eigenvectors (kinds rtn, gptq)") \
  X(F64,  size_top,      1, "",    "share of |E|^2 along them; 1/16 where errors lie anyhow (kinds rtn, gptq)") \
  X(F64,  fisher,        1, "nat^2", "the layer's part of the empirical Fisher's trace (kind hessian)") \
  X(F64,  input_trace,   1, "",    "trace of H, the input side of the layer's Kronecker factors (kind hessian)") \
  X(F64,  input_max,     1, "",    "its largest eigenvalue (kind hessian)") \
  X(F64,  input_rank,    1, "",    "its effective rank: exp(entropy of its eigenvalues' shares) (kind hessian)") \
  X(F64,  input_condition, 1, "",  "largest eigenvalue over that of rank 9/10 (kind hessian)") \
  X(F64,  input_tail,    1, "",    "exponent of the fall of its eigenvalues by rank, from a tenth to half of them (kind hessian)") \
  X(F64,  output_trace,  1, "nat^2", "trace of the output side, B: the second moment of the NLL's derivatives by the layer's outputs, a scored token (kind hessian)") \
  X(F64,  output_max,    1, "nat^2", "its largest eigenvalue (kind hessian)") \
  X(F64,  output_rank,   1, "",    "its effective rank: exp(entropy of its eigenvalues' shares) (kind hessian)") \
  X(F64,  alone,         1, "nat", "what rounding the layer alone adds to the evaluation text's mean NLL (kind sensitivity)") \
  X(F64,  alone_se,      1, "nat", "moving-block bootstrap error of alone over windows") \
  X(F64,  restored,      1, "nat", "what rounding it adds where all other layers are rounded (kind sensitivity)") \
  X(F64,  restored_se,   1, "nat", "moving-block bootstrap error of restored over windows")

/** One row a (direction of kind hessian, start vector, Ritz value): a node of
 * the Hessian's spectral density by stochastic Lanczos quadrature. */
#define PTQ_RITZ_FIELDS(X) \
  X(I64,  direction, 1, "",    "row of /landscape/directions") \
  X(I64,  start,     1, "",    "start vector, from 0") \
  X(I64,  rank,      1, "",    "place of the value, 0 the largest") \
  X(F64,  value,     1, "nat", "Ritz value; NaN: Lanczos' iteration ended before") \
  X(F64,  weight,    1, "",    "of the quadrature; those of a start sum up to 1") \
  X(F64,  bound,     1, "nat", "an eigenvalue is that close")

/** One row a point, volatile: outside checksums and --stable exports. */
#define PTQ_ATTEMPT_FIELDS(X) \
  X(I64,  attempts,   1, "",  "times the point was tried; not what a stop or kill of the whole run cut short") \
  X(I64,  deaths,     1, "",  "ranks that died while running the point alone") \
  X(F64,  seconds,    1, "s", "time of the last attempt, shared work divided") \
  X(I64,  rank,       1, "",  "rank that wrote the row") \
  X(TEXT, host,      64, "",  "host of that rank") \
  X(TEXT, message,  240, "",  "why the point failed, or what its rank died of")

/* clang-format on */

typedef enum ptq_kind { PTQ_KIND_TEXT, PTQ_KIND_F64, PTQ_KIND_I64 } ptq_kind;

/** One column of a table. */
typedef struct ptq_field {
  const char *name;
  ptq_kind kind;
  size_t offset; /* in the C row */
  size_t size;   /* bytes */
  const char *unit, *text;
} ptq_field;

#define PTQ_MEMBER_TEXT(name, length) char name[length];
#define PTQ_MEMBER_F64(name, length) double name;
#define PTQ_MEMBER_I64(name, length) int64_t name;
#define PTQ_MEMBER(kind, name, length, unit, text) \
  PTQ_MEMBER_##kind(name, length)

typedef struct ptq_point_row {
  PTQ_POINT_FIELDS(PTQ_MEMBER)
} ptq_point_row;
typedef struct ptq_layer_row {
  PTQ_LAYER_FIELDS(PTQ_MEMBER)
} ptq_layer_row;
typedef struct ptq_window_row {
  PTQ_WINDOW_FIELDS(PTQ_MEMBER)
} ptq_window_row;
typedef struct ptq_model_row {
  PTQ_MODEL_FIELDS(PTQ_MEMBER)
} ptq_model_row;
typedef struct ptq_baseline_row {
  PTQ_BASELINE_FIELDS(PTQ_MEMBER)
} ptq_baseline_row;
typedef struct ptq_answer_row {
  PTQ_ANSWER_FIELDS(PTQ_MEMBER)
} ptq_answer_row;
typedef struct ptq_baseline_answer_row {
  PTQ_BASELINE_ANSWER_FIELDS(PTQ_MEMBER)
} ptq_baseline_answer_row;
typedef struct ptq_direction_row {
  PTQ_DIRECTION_FIELDS(PTQ_MEMBER)
} ptq_direction_row;
typedef struct ptq_profile_row {
  PTQ_PROFILE_FIELDS(PTQ_MEMBER)
} ptq_profile_row;
typedef struct ptq_direction_layer_row {
  PTQ_DIRECTION_LAYER_FIELDS(PTQ_MEMBER)
} ptq_direction_layer_row;
typedef struct ptq_ritz_row {
  PTQ_RITZ_FIELDS(PTQ_MEMBER)
} ptq_ritz_row;
typedef struct ptq_attempt_row {
  PTQ_ATTEMPT_FIELDS(PTQ_MEMBER)
} ptq_attempt_row;

/** The tables that rows come from. */
typedef enum ptq_table_id {
  PTQ_TABLE_POINTS,
  PTQ_TABLE_LAYERS,
  PTQ_TABLE_WINDOWS,
  PTQ_TABLE_MODELS,
  PTQ_TABLE_BASELINE,
  PTQ_TABLE_ATTEMPTS,
  PTQ_TABLE_ANSWERS,
  PTQ_TABLE_BASELINE_ANSWERS,
  PTQ_TABLE_DIRECTIONS,
  PTQ_TABLE_PROFILES,
  PTQ_TABLE_DIRECTION_LAYERS,
  PTQ_TABLE_RITZ,
  PTQ_TABLE_COUNT
} ptq_table_id;

typedef struct ptq_table {
  const char *name;        /* "points" */
  const ptq_field *fields; /* static */
  size_t n_fields;
  size_t row_size; /* sizeof the C row */
} ptq_table;

/** Never NULL for id < PTQ_TABLE_COUNT; static storage. */
const ptq_table *ptq_table_get(ptq_table_id id);
/** Column by name, NULL if there is none. */
const ptq_field *ptq_table_field(const ptq_table *t, const char *name);
/** Whether two rows have the same bits in a column. calib_tokens is 0 in rows
 * of stores that are older than the column, and then the same as any. */
bool ptq_field_same(const ptq_field *f, const void *a, const void *b);
/** Fill a row: text empty, F64 NaN, I64 0. */
void ptq_row_clear(const ptq_table *t, void *row);

/** State of a point or subject in the store. */
typedef enum ptq_state {
  PTQ_STATE_PENDING = 0,
  PTQ_STATE_STARTED = 1,
  PTQ_STATE_DONE = 2,
  PTQ_STATE_FAILED = 3
} ptq_state;
/** "pending", ... */
const char *ptq_state_name(int state);

#endif /* PTQ_RECORD_ROWS_H */
