/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file feature.h
 * What a formula can name: numbers and factors of a point. Adding one is one
 * row in feature.c.
 */
#ifndef PTQ_ANALYSIS_FEATURE_H
#define PTQ_ANALYSIS_FEATURE_H

#include <stddef.h>

#include "ptq/analysis/frame.h"

/** What a feature costs to know before the point is run. */
typedef enum ptq_tier {
  PTQ_TIER_CONFIG,      /* the model's config and the format */
  PTQ_TIER_WEIGHTS,     /* quantizing the weights, no forward pass */
  PTQ_TIER_CALIBRATION, /* a forward pass over calibration or selection text */
  PTQ_TIER_LANDSCAPE,   /* the loss along random directions, derivatives */
  PTQ_TIER_DISPLACED,   /* the loss along quantization's own displacements: it
                           contains the answer, and predicts nothing */
  PTQ_TIER_COUNT
} ptq_tier;
const char *ptq_tier_name(ptq_tier tier);

/** A number of a point; NaN where it is not known. */
typedef struct ptq_feature {
  const char *name, *unit, *text;
  ptq_tier tier;
  double (*get)(const ptq_obs *o);
} ptq_feature;

/** A label of a point, written into text[size]. */
typedef struct ptq_factor {
  const char *name, *text;
  const char *reference; /* its base level if present, else the first in
                            alphabetical order; may be NULL */
  void (*get)(const ptq_obs *o, char *text, size_t size);
} ptq_factor;

const ptq_feature *ptq_feature_at(size_t i); /* NULL past the end */
const ptq_factor *ptq_factor_at(size_t i);   /* NULL past the end */
const ptq_feature *ptq_feature_find(const char *name);
const ptq_factor *ptq_factor_find(const char *name);

/** The number `name` among a model's covariates; NaN if it is not there, or
 * is no number. */
double ptq_covariate(const ptq_model_row *m, const char *name);
/** Its text; false, and `text` as it was, if it is not there or has no room. */
bool ptq_covariate_text(const ptq_model_row *m, const char *name, char *text,
                        size_t size);

enum { PTQ_LEVEL_MAX = 160 }; /* bytes of a level's name */

/** Width of the element in bits as its name says: "mxint4:x" is 4; the
 * rounded bits_per_weight where the name has no number; of a point of mixed
 * precision the rounded mean over its weights. */
int ptq_nominal_bits(const ptq_obs *o);

/**
 * Weights that share a scale: the group; for `row` the geometric mean width
 * of the linear layers, weighted by their weights (down projections read
 * d_ff, all others d_model); for `tensor` the mean weights of a layer. Of a
 * point of mixed precision the geometric mean over its weights.
 */
double ptq_effective_group(const ptq_obs *o);

#endif /* PTQ_ANALYSIS_FEATURE_H */
