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
      [PTQ_TIER_CALIBRATION] = "calibration"};
  PTQ_ASSERT((unsigned)tier < PTQ_TIER_COUNT);
  return names[tier];
}

int ptq_nominal_bits(const ptq_obs *o) {
  for (const char *c = o->point->dtype; *c != '\0' && *c != ':'; c++)
    if (*c >= '0' && *c <= '9') {
      const long bits = strtol(c, NULL, 10);
      if (bits >= 1 && bits <= 16) return (int)bits;
      break;
    }
  const double b = o->point->bits_per_weight;
  return b >= 0.5 && b < 16.5 ? (int)lround(b) : 0;
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

static double get_nll_model(const ptq_obs *o) {
  return o->model->nll;
}
static double get_bits(const ptq_obs *o) {
  return (double)ptq_nominal_bits(o);
}
static double get_err_hessian(const ptq_obs *o) {
  return exp(o->log_err_hessian);
}

/* clang-format off */
static const ptq_feature features[] = {
  {"params", "", "parameters, tied tensors once", PTQ_TIER_CONFIG, get_params},
  {"params_nonembedding", "", "parameters without embeddings and head",
   PTQ_TIER_CONFIG, get_params_nonembedding},
  {"params_quantizable", "", "weights of the blocks' linear layers",
   PTQ_TIER_CONFIG, get_params_quantizable},
  {"n_blocks", "", "blocks", PTQ_TIER_CONFIG, get_n_blocks},
  {"d_model", "", "width of the residual stream", PTQ_TIER_CONFIG,
   get_d_model},
  {"vocab", "", "tokens of the vocabulary", PTQ_TIER_CONFIG, get_vocab},
  {"bits", "bit", "width of the element as its name says", PTQ_TIER_CONFIG,
   get_bits},
  {"bits_per_weight", "bit", "storage of the quantized weights over their number",
   PTQ_TIER_CONFIG, get_bits_per_weight},
  {"bits_model", "bit", "storage of the whole checkpoint", PTQ_TIER_CONFIG,
   get_bits_model},
  {"group", "", "weights that share a scale; rows and tensors by their mean width",
   PTQ_TIER_CONFIG, ptq_effective_group},
  {"sqnr_weight", "dB", "weight SQNR pooled over layers", PTQ_TIER_WEIGHTS,
   get_sqnr_weight},
  {"sqnr_output", "dB", "output SQNR on reference inputs, mean over layers",
   PTQ_TIER_CALIBRATION, get_sqnr_output},
  {"err_hessian", "", "geometric mean over layers of tr(E H E') / tr(W H W')",
   PTQ_TIER_CALIBRATION, get_err_hessian},
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
