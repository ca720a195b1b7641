/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/analysis/feature.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/text.h"

const char *ptq_tier_name(ptq_tier tier) {
  static const char *const names[PTQ_TIER_COUNT] = {
      [PTQ_TIER_CONFIG] = "config",
      [PTQ_TIER_WEIGHTS] = "weights",
      [PTQ_TIER_CALIBRATION] = "calibration",
      [PTQ_TIER_LANDSCAPE] = "landscape",
      [PTQ_TIER_DISPLACED] = "displaced"};
  PTQ_ASSERT((unsigned)tier < PTQ_TIER_COUNT);
  return names[tier];
}

/* Of a mixture the mean over its weights; 0: not known. */
static double name_bits(const ptq_obs *o) {
  const double storage = o->point->bits_per_weight;
  if (!ptq_obs_is_mixed(o))
    return ptq_name_bits(o->point->dtype,
                         isfinite(storage) ? rint(storage) : 0);
  return isfinite(o->layers.bits) ? o->layers.bits : ptq_name_bits("", storage);
}

int ptq_nominal_bits(const ptq_obs *o) {
  return (int)lround(name_bits(o));
}

static double row_width(const ptq_model_row *m) {
  if (m->d_model <= 0 || m->params_quantizable <= 0) return NAN;
  const double down = (double)m->d_ff * (double)m->d_model *
                      (double)m->n_blocks / (double)m->params_quantizable;
  const double share = fmin(1.0, fmax(0.0, down));
  const double log_ff = m->d_ff > 0 ? log((double)m->d_ff) : 0.0;
  return exp((1.0 - share) * log((double)m->d_model) + share * log_ff);
}

double ptq_effective_group(const ptq_obs *o) {
  if (ptq_obs_is_mixed(o) && isfinite(o->layers.row_share)) {
    const double rows = o->layers.row_share;
    return exp((1.0 - rows) * o->layers.log_group +
               (rows > 0.0 ? rows * log(row_width(o->model)) : 0.0));
  }
  if (o->point->group > 0) return (double)o->point->group;
  if (o->point->group < 0) return row_width(o->model);
  return o->n_layers > 0
             ? (double)o->model->params_quantizable / (double)o->n_layers
             : NAN;
}

#define POINT_NUMBER(field)                     \
  static double get_##field(const ptq_obs *o) { \
    return o->point->field;                     \
  }
#define MODEL_NUMBER(field)                     \
  static double get_##field(const ptq_obs *o) { \
    return (double)o->model->field;             \
  }
POINT_NUMBER(bits_per_weight)
POINT_NUMBER(bits_model)
POINT_NUMBER(sqnr_weight)
POINT_NUMBER(sqnr_output)
MODEL_NUMBER(params)
MODEL_NUMBER(params_nonembedding)
MODEL_NUMBER(params_quantizable)
MODEL_NUMBER(n_blocks)
MODEL_NUMBER(d_model)
MODEL_NUMBER(vocab)
MODEL_NUMBER(d_ff)
MODEL_NUMBER(n_heads)
MODEL_NUMBER(n_kv_heads)
MODEL_NUMBER(calib_tokens)

/* The value of `name` among the covariates "k=v,...", *len characters; NULL
 * if it is not there. */
static const char *find_covariate(const ptq_model_row *m, const char *name,
                                  size_t *len) {
  const size_t n = strlen(name);
  for (const char *at = m->covariates; *at != '\0'; at += *at == ',') {
    *len = strcspn(at, ",");
    if (*len > n && strncmp(at, name, n) == 0 && at[n] == '=') {
      *len -= n + 1;
      return at + n + 1;
    }
    at += *len;
  }
  return NULL;
}

double ptq_covariate(const ptq_model_row *m, const char *name) {
  size_t len = 0;
  char *end = NULL;
  const char *at = find_covariate(m, name, &len);
  const double v = at != NULL ? strtod(at, &end) : (double)NAN;
  return at != NULL && end == at + len ? v : (double)NAN;
}

bool ptq_covariate_text(const ptq_model_row *m, const char *name, char *text,
                        size_t size) {
  size_t len = 0;
  const char *at = find_covariate(m, name, &len);
  if (at == NULL || len >= size) return false;
  memcpy(text, at, len);
  text[len] = '\0';
  return true;
}

#define COVARIATE(name)                        \
  static double get_##name(const ptq_obs *o) { \
    return ptq_covariate(o->model, #name);     \
  }
COVARIATE(train_tokens)
COVARIATE(train_seed)

static double get_log_params(const ptq_obs *o) {
  return log((double)o->model->params_nonembedding);
}
static double get_tokens_per_param(const ptq_obs *o) {
  return get_train_tokens(o) / get_params_nonembedding(o);
}
static double get_share_quantized(const ptq_obs *o) {
  return get_params_quantizable(o) / get_params(o);
}
static double get_aspect(const ptq_obs *o) {
  return get_d_model(o) / get_n_blocks(o);
}
static double get_headroom(const ptq_obs *o) {
  return o->model->nll_unigram - o->model->nll;
}
static double get_nll_byte(const ptq_obs *o) {
  return o->model->nll_byte;
}
static double get_sqnr_rtn(const ptq_obs *o) {
  return o->sqnr_rtn;
}

#define LAYER_NUMBER(name, member)             \
  static double get_##name(const ptq_obs *o) { \
    return o->layers.member;                   \
  }
LAYER_NUMBER(sqnr_weight_min, weight_min)
LAYER_NUMBER(sqnr_weight_max, weight_max)
LAYER_NUMBER(sqnr_weight_sd, weight_sd)
LAYER_NUMBER(sqnr_output_min, output_min)
LAYER_NUMBER(sqnr_output_max, output_max)
LAYER_NUMBER(sqnr_output_sd, output_sd)

static double get_err_hessian_max(const ptq_obs *o) {
  return exp(o->layers.log_err_max);
}

#define SPECTRUM_NUMBER(name, member)                                   \
  static double get_##name(const ptq_obs *o) {                          \
    return o->traits != NULL ? o->traits->all.member : (double)NAN;     \
  }                                                                     \
  static double get_##name##_nofirst(const ptq_obs *o) {                \
    return o->traits != NULL ? o->traits->nofirst.member : (double)NAN; \
  }
SPECTRUM_NUMBER(log_trace, log_trace)
SPECTRUM_NUMBER(top_share, top_share)
SPECTRUM_NUMBER(rank, rank)
SPECTRUM_NUMBER(log_cond, log_cond)
SPECTRUM_NUMBER(tail, tail)

static double get_h_trace(const ptq_obs *o) {
  return exp(get_log_trace(o));
}
static double get_h_trace_nofirst(const ptq_obs *o) {
  return exp(get_log_trace_nofirst(o));
}
static double get_h_cond(const ptq_obs *o) {
  return exp(get_log_cond(o));
}
static double get_h_cond_nofirst(const ptq_obs *o) {
  return exp(get_log_cond_nofirst(o));
}

#define LANDSCAPE_NUMBER(name, member)                                \
  static double get_##name(const ptq_obs *o) {                        \
    return o->landscape != NULL ? o->landscape->member : (double)NAN; \
  }
LANDSCAPE_NUMBER(log_basin_01, log_basin[0])
LANDSCAPE_NUMBER(log_basin_05, log_basin[1])
LANDSCAPE_NUMBER(log_basin_1, log_basin[2])
LANDSCAPE_NUMBER(step_height, height)
LANDSCAPE_NUMBER(step_width, width)
LANDSCAPE_NUMBER(step_center, center)
LANDSCAPE_NUMBER(loss_curvature, curvature)
LANDSCAPE_NUMBER(anisotropy, anisotropy)
LANDSCAPE_NUMBER(gradient_norm, gradient_norm)
LANDSCAPE_NUMBER(hessian_trace, trace)
LANDSCAPE_NUMBER(hessian_max, eigen_max)
LANDSCAPE_NUMBER(hessian_min, eigen_min)
LANDSCAPE_NUMBER(gauss_newton_trace, gauss_newton_trace)
LANDSCAPE_NUMBER(gauss_newton_max, gauss_newton_max)
LANDSCAPE_NUMBER(output_trace, output_trace)
LANDSCAPE_NUMBER(fisher_trace, fisher)

static double get_basin_01(const ptq_obs *o) {
  return exp(get_log_basin_01(o));
}
static double get_basin_05(const ptq_obs *o) {
  return exp(get_log_basin_05(o));
}
static double get_basin_1(const ptq_obs *o) {
  return exp(get_log_basin_1(o));
}

/* A displacement's length over that of the weights, from its SQNR. */
static double size_of(double sqnr) {
  return pow(10.0, -sqnr / 20.0);
}
static double get_noise_over_basin(const ptq_obs *o) {
  return size_of(o->point->sqnr_weight) / get_basin_05(o);
}
static double get_rtn_over_basin(const ptq_obs *o) {
  return o->displacement != NULL
             ? size_of(o->sqnr_rtn) / o->displacement->basin[1]
             : (double)NAN;
}
static double get_quadratic_radius(const ptq_obs *o) {
  return o->displacement != NULL ? o->displacement->quadratic_radius
                                 : (double)NAN;
}
static double get_dnll_quadratic(const ptq_obs *o) {
  return o->displacement != NULL ? ptq_landscape_quadratic(o->displacement->row,
                                                           size_of(o->sqnr_rtn))
                                 : (double)NAN;
}

/* Half of a matrix's form with RTN's displacement, drawn to the point's
 * length. */
#define FORM(name, member)                                \
  static double get_##name(const ptq_obs *o) {            \
    if (o->displacement == NULL) return (double)NAN;      \
    const ptq_direction_row *d = o->displacement->row;    \
    const double factor = size_of(o->sqnr_rtn) / d->size; \
    return factor * factor * d->member / 2.0;             \
  }
FORM(dnll_gauss_newton, gauss_newton)
FORM(dnll_fisher, fisher_diagonal)
FORM(dnll_kronecker, kronecker)

static double get_nll_model(const ptq_obs *o) {
  return o->model->nll;
}
static double get_bits(const ptq_obs *o) {
  return name_bits(o);
}
static double get_err_hessian(const ptq_obs *o) {
  return exp(o->log_err_hessian);
}

/* clang-format off */
static const ptq_feature features[] = {
  {"params", "", "parameters, tied tensors once", PTQ_TIER_CONFIG, get_params},
  {"params_nonembedding", "", "parameters without embeddings and head",
   PTQ_TIER_CONFIG, get_params_nonembedding},
  {"log_params", "", "ln(params_nonembedding), for squares of it",
   PTQ_TIER_CONFIG, get_log_params},
  {"params_quantizable", "", "weights of the blocks' linear layers",
   PTQ_TIER_CONFIG, get_params_quantizable},
  {"n_blocks", "", "blocks", PTQ_TIER_CONFIG, get_n_blocks},
  {"d_model", "", "width of the residual stream", PTQ_TIER_CONFIG,
   get_d_model},
  {"vocab", "", "tokens of the vocabulary", PTQ_TIER_CONFIG, get_vocab},
  {"bits", "bit", "width of the element as its name says; of mixtures the mean",
   PTQ_TIER_CONFIG, get_bits},
  {"bits_per_weight", "bit", "storage of the quantized weights over their number",
   PTQ_TIER_CONFIG, get_bits_per_weight},
  {"bits_model", "bit", "storage of the whole checkpoint", PTQ_TIER_CONFIG,
   get_bits_model},
  {"group", "", "weights that share a scale; rows and tensors by their mean width",
   PTQ_TIER_CONFIG, ptq_effective_group},
  {"d_ff", "", "width of the MLP", PTQ_TIER_CONFIG, get_d_ff},
  {"n_heads", "", "attention heads", PTQ_TIER_CONFIG, get_n_heads},
  {"n_kv_heads", "", "key and value heads", PTQ_TIER_CONFIG, get_n_kv_heads},
  {"aspect", "", "d_model over blocks", PTQ_TIER_CONFIG, get_aspect},
  {"share_quantized", "", "quantized weights over all parameters",
   PTQ_TIER_CONFIG, get_share_quantized},
  {"calib_tokens", "", "tokens of the calibration text", PTQ_TIER_CONFIG,
   get_calib_tokens},
  {"train_tokens", "", "tokens the model was trained on (covariate)",
   PTQ_TIER_CONFIG, get_train_tokens},
  {"tokens_per_param", "", "train_tokens over params_nonembedding",
   PTQ_TIER_CONFIG, get_tokens_per_param},
  {"train_seed", "", "seed of its training (covariate)", PTQ_TIER_CONFIG,
   get_train_seed},
  {"sqnr_rtn", "dB", "weight SQNR of the same dtype and group, only rounded",
   PTQ_TIER_WEIGHTS, get_sqnr_rtn},
  {"sqnr_weight", "dB", "weight SQNR pooled over layers", PTQ_TIER_WEIGHTS,
   get_sqnr_weight},
  {"sqnr_weight_min", "dB", "least weight SQNR of a layer", PTQ_TIER_WEIGHTS,
   get_sqnr_weight_min},
  {"sqnr_weight_max", "dB", "largest weight SQNR of a layer", PTQ_TIER_WEIGHTS,
   get_sqnr_weight_max},
  {"sqnr_weight_sd", "dB", "spread of weight SQNR over layers",
   PTQ_TIER_WEIGHTS, get_sqnr_weight_sd},
  {"sqnr_output", "dB", "output SQNR on reference inputs, mean over layers",
   PTQ_TIER_CALIBRATION, get_sqnr_output},
  {"err_hessian", "", "geometric mean over layers of tr(E H E') / tr(W H W')",
   PTQ_TIER_CALIBRATION, get_err_hessian},
  {"sqnr_output_min", "dB", "least output SQNR of a layer",
   PTQ_TIER_CALIBRATION, get_sqnr_output_min},
  {"sqnr_output_max", "dB", "largest output SQNR of a layer",
   PTQ_TIER_CALIBRATION, get_sqnr_output_max},
  {"sqnr_output_sd", "dB", "spread of output SQNR over layers",
   PTQ_TIER_CALIBRATION, get_sqnr_output_sd},
  {"err_hessian_max", "", "largest tr(E H E') / tr(W H W') of a layer",
   PTQ_TIER_CALIBRATION, get_err_hessian_max},
  {"h_trace", "", "geometric mean of tr(H) / d over sites and blocks",
   PTQ_TIER_CALIBRATION, get_h_trace},
  {"h_top", "", "mean share of the largest eigenvalue of H in its trace",
   PTQ_TIER_CALIBRATION, get_top_share},
  {"h_rank", "", "mean effective rank of H (entropy) over d",
   PTQ_TIER_CALIBRATION, get_rank},
  {"h_cond", "", "largest eigenvalue of H over that at 9/10 of the ranks",
   PTQ_TIER_CALIBRATION, get_h_cond},
  {"h_tail", "", "exponent of the fall of H's eigenvalues by rank",
   PTQ_TIER_CALIBRATION, get_tail},
  {"h_trace_nofirst", "", "h_trace without the first position of windows",
   PTQ_TIER_CALIBRATION, get_h_trace_nofirst},
  {"h_top_nofirst", "", "h_top without the first position of windows",
   PTQ_TIER_CALIBRATION, get_top_share_nofirst},
  {"h_rank_nofirst", "", "h_rank without the first position of windows",
   PTQ_TIER_CALIBRATION, get_rank_nofirst},
  {"h_cond_nofirst", "", "h_cond without the first position of windows",
   PTQ_TIER_CALIBRATION, get_h_cond_nofirst},
  {"h_tail_nofirst", "", "h_tail without the first position of windows",
   PTQ_TIER_CALIBRATION, get_tail_nofirst},
  {"basin_01", "", "radius over |W| where the loss has risen by 0.1 nat, "
   "geometric mean over random directions", PTQ_TIER_LANDSCAPE,
   get_basin_01},
  {"basin_05", "", "the same of 0.5 nat", PTQ_TIER_LANDSCAPE, get_basin_05},
  {"basin_1", "", "the same of 1 nat", PTQ_TIER_LANDSCAPE, get_basin_1},
  {"step_height", "nat", "height of the loss's step by ln radius, mean over "
   "random directions", PTQ_TIER_LANDSCAPE, get_step_height},
  {"step_width", "", "width of that step in ln radius", PTQ_TIER_LANDSCAPE,
   get_step_width},
  {"step_center", "", "ln radius at half the height of that step",
   PTQ_TIER_LANDSCAPE, get_step_center},
  {"loss_curvature", "nat", "second derivative of the loss by radius at 0, "
   "mean over random directions", PTQ_TIER_LANDSCAPE, get_loss_curvature},
  {"anisotropy", "", "ln of the basin (0.5 nat) along RTN over that along "
   "random directions, mean over dtypes", PTQ_TIER_DISPLACED,
   get_anisotropy},
  {"noise_over_basin", "", "length of the weights' displacement over |W|, over "
   "basin_05", PTQ_TIER_LANDSCAPE, get_noise_over_basin},
  {"rtn_over_basin", "", "RTN's displacement of the dtype over |W|, over its "
   "basin (0.5 nat) along itself: below 1 inside", PTQ_TIER_DISPLACED,
   get_rtn_over_basin},
  {"gradient_norm", "nat", "length of the gradient by the weights",
   PTQ_TIER_LANDSCAPE, get_gradient_norm},
  {"hessian_trace", "nat", "trace of the loss's Hessian", PTQ_TIER_LANDSCAPE,
   get_hessian_trace},
  {"hessian_max", "nat", "largest Ritz value of the loss's Hessian",
   PTQ_TIER_LANDSCAPE, get_hessian_max},
  {"hessian_min", "nat", "smallest Ritz value of the loss's Hessian",
   PTQ_TIER_LANDSCAPE, get_hessian_min},
  {"gauss_newton_trace", "nat", "trace of the loss's Gauss-Newton matrix",
   PTQ_TIER_LANDSCAPE, get_gauss_newton_trace},
  {"gauss_newton_max", "nat", "largest Ritz value of the loss's Gauss-Newton "
   "matrix", PTQ_TIER_LANDSCAPE, get_gauss_newton_max},
  {"output_trace", "nat^2", "trace of the second moment of the NLL's "
   "derivatives by layers' outputs, sum over layers", PTQ_TIER_LANDSCAPE,
   get_output_trace},
  {"quadratic_radius", "", "radius up to which g'e + e'He / 2 along RTN's "
   "displacement of the dtype is within a tenth, or 0.01 nat",
   PTQ_TIER_DISPLACED, get_quadratic_radius},
  {"dnll_quadratic", "nat", "g'e + e'He / 2 of RTN's displacement of the dtype "
   "at its size in this group", PTQ_TIER_LANDSCAPE, get_dnll_quadratic},
  {"fisher_trace", "nat^2", "trace of the empirical Fisher matrix of windows",
   PTQ_TIER_LANDSCAPE, get_fisher_trace},
  {"dnll_fisher", "nat^2", "half the squares of that displacement times the "
   "empirical Fisher's diagonal", PTQ_TIER_LANDSCAPE, get_dnll_fisher},
  {"dnll_gauss_newton", "nat", "half that displacement times the Gauss-Newton "
   "matrix times itself", PTQ_TIER_LANDSCAPE, get_dnll_gauss_newton},
  {"dnll_kronecker", "nat^2", "the same with the empirical Fisher matrix in "
   "Kronecker's factors", PTQ_TIER_LANDSCAPE, get_dnll_kronecker},
  {"nll_byte_model", "nat", "NLL a byte of the unquantized model",
   PTQ_TIER_CALIBRATION, get_nll_byte},
  {"headroom", "nat", "unigram model's NLL less the model's: what can be lost",
   PTQ_TIER_CALIBRATION, get_headroom},
  {"nll_model", "nat", "NLL of the unquantized model", PTQ_TIER_CALIBRATION,
   get_nll_model},
};
/* clang-format on */

#define POINT_LABEL(field)                                               \
  static void label_##field(const ptq_obs *o, char *text, size_t size) { \
    (void)ptq_text_copy(text, size, o->point->field);                    \
  }
POINT_LABEL(model)
POINT_LABEL(family)
POINT_LABEL(dtype)

/* A method with its options is a level of its own: gptq(hessian=static). */
static void label_method(const ptq_obs *o, char *text, size_t size) {
  const ptq_point_row *p = o->point;
  if (p->options[0] == '\0')
    (void)ptq_text_copy(text, size, p->method);
  else
    (void)snprintf(text, size, "%s(%s)", p->method, p->options);
}

/* The covariate's text, "?" where the sweep file says nothing. */
static void label_lr_state(const ptq_obs *o, char *text, size_t size) {
  if (!ptq_covariate_text(o->model, "lr_state", text, size))
    (void)ptq_text_copy(text, size, "?");
}

/* The name before options and width: "mxint4:x" is mxint. */
static void label_element(const ptq_obs *o, char *text, size_t size) {
  size_t n = strcspn(o->point->dtype, ":0123456789");
  if (n >= size) n = size - 1;
  memcpy(text, o->point->dtype, n);
  text[n] = '\0';
}

/* clang-format off */
static const ptq_factor factors[] = {
  {"method", "quantization method with its options", "rtn", label_method},
  {"element", "kind of number format: int, mxint, ...", NULL, label_element},
  {"dtype", "number format", NULL, label_dtype},
  {"lr_state", "learning-rate schedule at the checkpoint (covariate)", NULL,
   label_lr_state},
  {"family", "model family", NULL, label_family},
  {"model", "model", NULL, label_model},
};
/* clang-format on */

const ptq_feature *ptq_feature_at(size_t i) {
  return i < sizeof features / sizeof features[0] ? &features[i] : NULL;
}

const ptq_factor *ptq_factor_at(size_t i) {
  return i < sizeof factors / sizeof factors[0] ? &factors[i] : NULL;
}

const ptq_feature *ptq_feature_find(const char *name) {
  for (size_t i = 0; ptq_feature_at(i) != NULL; i++)
    if (strcmp(features[i].name, name) == 0) return &features[i];
  return NULL;
}

const ptq_factor *ptq_factor_find(const char *name) {
  for (size_t i = 0; ptq_factor_at(i) != NULL; i++)
    if (strcmp(factors[i].name, name) == 0) return &factors[i];
  return NULL;
}
