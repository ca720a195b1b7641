/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file validate.h
 * Held-out accuracy of a law beside the dumbest baseline: the median dnll of
 * the dtype over the training points.
 */
#ifndef PTQ_ANALYSIS_VALIDATE_H
#define PTQ_ANALYSIS_VALIDATE_H

#include "ptq/analysis/recipe.h"

/** What is held out together. One row each in split.c. */
struct ptq_split {
  const char *name;  /* "leave-one-model-out" */
  const char *title; /* "models", of a table's column */
  const char *what;  /* "model" */
  int least;         /* groups that make it a validation */
  int most;          /* folds; more groups than this share them */
  bool of_model;     /* all points of a model are in one group */
  bool held;         /* groups are of models held out for good, and of no
                        others */
  /** Writes the group of a point; false: it is never held out. */
  bool (*group)(const ptq_frame *f, const ptq_obs *o, char *text, size_t size);
};
const ptq_split *ptq_split_at(size_t i); /* NULL past the end */
/** The split for choices inside of the training points of `outer` (NULL: of
 * models): of the same kind, in at most three folds. */
ptq_split ptq_split_inside(const ptq_split *outer);

enum { PTQ_BITS_MAX = 17 };
/** Accuracy is judged between these, nats. */
#define PTQ_BAND_LOW 0.01
#define PTQ_BAND_HIGH 1.0

/** Accuracy over a set of points. Medians are of |ln(predicted/measured)|
 * over 0.01 < dnll < 1; a prediction that is not positive counts as
 * infinitely wrong. */
typedef struct ptq_accuracy {
  int64_t n;          /* points in the band */
  double median;      /* of the law */
  double median_base; /* of the baseline */
  double r2;          /* of ln(dnll), in the band */
  double r2_base;
  double mae, mae_base; /* nats, in the band */
  double coverage;      /* of the 90 % interval, in the band */
  double rank;          /* Spearman's correlation with the measured, in the
                           band */
} ptq_accuracy;

/** A held-out point. */
typedef struct ptq_holdout {
  const ptq_obs *obs;
  ptq_prediction law;
  double base;  /* median of the dtype in training; without a point of it of
                   its nominal bits, else of all */
  bool outside; /* outside of the hull (range of each number) of training */
} ptq_holdout;

typedef struct ptq_validation {
  const ptq_split *split;
  int64_t n_groups;      /* models, families, ... */
  int64_t n_folds;       /* as often the law was fitted */
  int64_t n_failed;      /* of them: the law could not be fitted without it */
  char failure[320];     /* the first such failure */
  int64_t n_unpredicted; /* points with a level or value unseen in training */
  ptq_holdout *points;   /* owned; [n_points] predicted points, grid order */
  int64_t n_points;
  int64_t n_outside; /* of them outside of the hull */
  ptq_accuracy all;
  ptq_accuracy by_bits[PTQ_BITS_MAX]; /* index: nominal bits */
} ptq_validation;

/** Learn again without each group in turn. A split with fewer groups than it
 * needs gives their number and nothing else. */
ptq_status ptq_validate(const ptq_recipe *recipe, const ptq_split *split,
                        const ptq_frame *f, ptq_validation *out, ptq_err *err);
void ptq_validation_release(ptq_validation *v);

/** A named formula. One row each in law.c; the first is the default. */
typedef struct ptq_law {
  const char *name, *formula, *text;
} ptq_law;
const ptq_law *ptq_law_at(size_t i); /* NULL past the end */

#endif /* PTQ_ANALYSIS_VALIDATE_H */
