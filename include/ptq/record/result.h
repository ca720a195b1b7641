/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file result.h
 * What a worker hands to the store: finished points and subjects.
 */
#ifndef PTQ_RECORD_RESULT_H
#define PTQ_RECORD_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/record/rows.h"

/** A finished or failed grid point. All pointers are borrowed by a sink for
 * the call only. */
typedef struct ptq_point_result {
  int64_t point;   /* row of /points */
  ptq_state state; /* PTQ_STATE_DONE or PTQ_STATE_FAILED */
  ptq_point_row row;
  const ptq_layer_row *layers; /* [n_layers]; NULL when failed */
  int64_t n_layers;
  const ptq_window_row *windows; /* [n_windows]; NULL when failed */
  int64_t n_windows;
  const ptq_answer_row *answers; /* [n_answers]; NULL when failed */
  int64_t n_answers;
  double seconds;
  char message[240]; /* why it failed */
} ptq_point_result;

/** Eigenvalues of one input site over the blocks of a model. */
typedef struct ptq_spectrum {
  const char *site; /* "attn_in" or "attn_in_nofirst": without the first
                       position of each window */
  int64_t n_blocks, d;
  const double *values; /* [n_blocks, d], descending; NULL when not asked */
  int64_t n_tokens;
} ptq_spectrum;

/** A finished or failed subject: one model on one calibration and evaluation
 * text. */
typedef struct ptq_subject_result {
  int64_t subject; /* row of /models */
  ptq_state state;
  ptq_model_row row;
  const ptq_baseline_row *windows; /* [n_windows] */
  int64_t n_windows;
  const ptq_baseline_answer_row *answers; /* [n_answers] */
  int64_t n_answers;
  const ptq_spectrum *spectra; /* [n_spectra] */
  int64_t n_spectra;
  double seconds;
  char message[240];
} ptq_subject_result;

/** A finished or failed item of a model's landscape. */
typedef struct ptq_direction_result {
  int64_t direction; /* row of /landscape/directions */
  ptq_state state;
  ptq_direction_row row;
  const ptq_profile_row *profile; /* [n_profile]; NULL when failed */
  int64_t n_profile;
  const ptq_direction_layer_row *layers; /* [n_layers] */
  int64_t n_layers;
  const ptq_ritz_row *ritz; /* [n_ritz] */
  int64_t n_ritz;
  double seconds;
  char message[240];
} ptq_direction_result;

/** Rows of a profile that are finished while their direction is not. */
typedef struct ptq_steps {
  int64_t direction;     /* row of /landscape/directions */
  const char *key;       /* borrowed; the direction's */
  ptq_profile_row *rows; /* borrowed; [n] */
  int64_t n;
} ptq_steps;

/** Where results go, and where the runner asks whether to go on. */
typedef struct ptq_sink {
  void *ctx; /* borrowed */
  /** An attempt at these points begins. */
  ptq_status (*begin)(void *ctx, const int64_t *points, int64_t n,
                      ptq_err *err);
  ptq_status (*point)(void *ctx, const ptq_point_result *r, ptq_err *err);
  ptq_status (*subject)(void *ctx, const ptq_subject_result *r, ptq_err *err);
  ptq_status (*direction)(void *ctx, const ptq_direction_result *r,
                          ptq_err *err);
  /** Some rows of a direction's profile, whole as `direction` will have them.
   * NULL: nobody keeps them. */
  ptq_status (*steps)(void *ctx, const ptq_steps *s, ptq_err *err);
  /** What was kept of the direction's whole profile, rows [n]: fill those that
   * are there and mark them in there[n], which is false before. NULL: nothing
   * is. */
  ptq_status (*left)(void *ctx, const ptq_steps *s, bool *there, ptq_err *err);
  /** Called between blocks with the share done; PTQ_E_STOPPED drops the
   * batch. */
  ptq_status (*alive)(void *ctx, double done, ptq_err *err);
} ptq_sink;

#endif /* PTQ_RECORD_RESULT_H */
