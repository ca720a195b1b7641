/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file frame.h
 * The points of a sweep as observations for a regression: every point with
 * its model, what became of it, and why it takes part in fits or does not.
 */
#ifndef PTQ_ANALYSIS_FRAME_H
#define PTQ_ANALYSIS_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/analysis/landscape.h"
#include "ptq/analysis/traits.h"
#include "ptq/base/status.h"
#include "ptq/record/rows.h"
#include "ptq/store/view.h"

/** What a point is to the analysis. X(enum, name, text). */
#define PTQ_USE_LIST(X)                                                 \
  X(PTQ_USE_OK, "used", "finished, native model, not collapsed")        \
  X(PTQ_USE_COLLAPSED, "collapsed",                                     \
    "NLL not below the unigram model's: right-censored or left out")    \
  X(PTQ_USE_DEQUANTIZED, "dequantized",                                 \
    "model restored from a quantized file: parity only, never fitted")  \
  X(PTQ_USE_PROBE, "probes",                                            \
    "measure layers' sensitivity on the selection text: no results")    \
  X(PTQ_USE_FAILED, "failed", "the point failed; its message says why") \
  X(PTQ_USE_PENDING, "pending", "not run yet")                          \
  X(PTQ_USE_INCOMPLETE, "incomplete",                                   \
    "finished, but its loss is not finite or its model is not finished")

#define PTQ_USE_ENUM(id, name, text) id,
typedef enum ptq_use { PTQ_USE_LIST(PTQ_USE_ENUM) PTQ_USE_COUNT } ptq_use;
#undef PTQ_USE_ENUM

/** "used", "collapsed", ... and one line of text. */
const char *ptq_use_name(ptq_use use);
const char *ptq_use_text(ptq_use use);

/** One grid point. Pointers are borrowed from the frame's tables. */
typedef struct ptq_obs {
  const ptq_point_row *point;
  const ptq_model_row *model; /* its subject's row of /models */
  int64_t subject;
  int64_t n_layers;       /* linear layers behind the point */
  double log_err_hessian; /* mean over layers of ln(err_hessian), or NaN */
  ptq_layer_traits layers;
  const ptq_model_traits *traits;           /* borrowed; NULL without spectra */
  const ptq_landscape_traits *landscape;    /* borrowed; NULL without one */
  const ptq_direction_traits *displacement; /* borrowed; RTN's of the model and
                                               dtype; NULL: none */
  double sqnr_rtn; /* sqnr_weight of the point that only rounds the same model
                      to the same dtype and group; NaN if there is none */
  const char *run; /* borrowed; training run: the covariate of that name, else
                      the model's name. Models of one run are not independent */
  bool held;       /* its model has the covariate holdout=true: predicted, and
                      shown, but nothing learns from it */
  ptq_use use;
} ptq_obs;

/** Longest name of a training run, with its end. */
enum { PTQ_RUN_MAX = 64 };
/** Is the point one of mixed precision, its dtype a mixture's name? */
bool ptq_obs_is_mixed(const ptq_obs *o);
/** A mixture of such a name is a probe: no result, but it tells how sensitive
 * layers are. */
#define PTQ_PROBE_PREFIX "probe."
bool ptq_obs_is_probe(const ptq_obs *o);

/** All points of a sweep in grid order. */
typedef struct ptq_frame {
  ptq_obs *obs; /* owned; [n] */
  int64_t n;
  int64_t count[PTQ_USE_COUNT];
  int64_t n_held;              /* of them all: of models held out for good */
  const ptq_model_row *models; /* borrowed; [n_models] subjects */
  int64_t n_models;
  ptq_model_traits *traits;  /* owned; [n_models], NULL without spectra */
  ptq_landscape landscape;   /* owned; empty without one */
  char (*runs)[PTQ_RUN_MAX]; /* owned; [n_models] */
  bool sampled;              /* some of another frame's points */
} ptq_frame;

/** Does a law learn from the point? */
bool ptq_obs_learned(const ptq_obs *o);

/** The tables a frame is made of; borrowed, and outlive the frame. */
typedef struct ptq_frame_source {
  const ptq_point_row *points; /* [n_points] */
  const int *states;           /* [n_points] ptq_state */
  const int64_t *subject;      /* [n_points] row of models */
  int64_t n_points;
  const ptq_model_row *models; /* [n_models] */
  int64_t n_models;
  const ptq_layer_row *layers;      /* may be NULL */
  const int64_t *first_layer;       /* [n_points + 1]; NULL when layers is */
  const ptq_view_spectrum *spectra; /* may be NULL */
  int64_t n_spectra;
  ptq_landscape *landscape; /* may be NULL; handed over, also on failure */
} ptq_frame_source;

/** Classify every point. PTQ_E_ARG: a subject out of range. */
ptq_status ptq_frame_build(const ptq_frame_source *source, ptq_frame *out,
                           ptq_err *err);
/** The same from a store, also a half-finished one. */
ptq_status ptq_frame_from_view(ptq_view *view, ptq_frame *out, ptq_err *err);
void ptq_frame_release(ptq_frame *f);

/** `most` of the frame's points, drawn without replacement from `seed` and in
 * the frame's order; all of them if there are not more. Borrows the frame. */
ptq_status ptq_frame_sample(const ptq_frame *f, int64_t most, uint64_t seed,
                            ptq_frame *out, ptq_err *err);

#endif /* PTQ_ANALYSIS_FRAME_H */
