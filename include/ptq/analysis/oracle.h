/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file oracle.h
 * Predictions for configurations that may never have been run: from laws that
 * need no more than the model's config, its baseline and the format.
 */
#ifndef PTQ_ANALYSIS_ORACLE_H
#define PTQ_ANALYSIS_ORACLE_H

#include "ptq/analysis/hull.h"
#include "ptq/analysis/validate.h"

enum { PTQ_ORACLE_LAWS = 24 };

typedef struct ptq_oracle_law {
  ptq_recipe recipe;
  ptq_learned learned; /* owned; its recipe points to the one above */
  ptq_hull hull;
  ptq_accuracy accuracy; /* over models held out */
} ptq_oracle_law;

/** Laws of the config tier, least error over held-out models first. */
typedef struct ptq_oracle {
  ptq_oracle_law *law; /* owned; [n] */
  int n;
} ptq_oracle;

/** A prediction and what it rests on. */
typedef struct ptq_forecast {
  ptq_prediction dnll;       /* NaN: why says what is missing */
  const ptq_oracle_law *law; /* that made it; NULL if none could */
  const ptq_feature *outside[PTQ_HULL_MAX]; /* [n_outside] beyond the data */
  int n_outside;
  double by_method; /* dnll by the best law that tells methods apart,
                       to choose between what `law` takes for alike;
                       NaN if there is none */
} ptq_forecast;

/**
 * Learn every law of the config tier, or the one called `name` (also
 * "forest-config"). PTQ_E_ARG: no such law, of a dearer tier, or none can be
 * learned from these points, with the reason.
 */
ptq_status ptq_oracle_learn(const ptq_frame *frame, const char *name,
                            ptq_oracle *out, ptq_err *err);
void ptq_oracle_release(ptq_oracle *o);

/** Ask the best law that has something to say of the point. */
ptq_status ptq_oracle_ask(const ptq_oracle *o, const ptq_obs *obs,
                          ptq_forecast *out, ptq_err *err);

#endif /* PTQ_ANALYSIS_ORACLE_H */
