/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file forecast.h  Predicted points of `ptqsweep predict`: made, chosen
 * among, printed. */
#ifndef PTQ_CLI_FORECAST_H
#define PTQ_CLI_FORECAST_H

#include "geometry.h"
#include "ptq/analysis/oracle.h"
#include "ptq/sweep/grid.h"

/** One configuration of one model. */
typedef struct ptq_guess {
  const ptq_geometry *model; /* borrowed */
  ptq_point_row point;       /* identity and bits */
  ptq_forecast forecast;
  double measured; /* dnll of the store's own point, NaN if it has none */
} ptq_guess;

typedef struct ptq_guesses {
  ptq_guess *row; /* owned; [n] */
  int64_t n;
} ptq_guesses;

void ptq_guesses_release(ptq_guesses *g);

/** Predict one configuration; its row is added at the end. */
ptq_status ptq_guess_add(ptq_guesses *g, const ptq_oracle *oracle,
                         const ptq_frame *frame, const ptq_geometry *model,
                         const ptq_dtype *dtype, const ptq_method *method,
                         int64_t group, ptq_err *err);
/** Every point of a sweep whose model is called `model` (NULL: any), mixtures
 * too; `models` [grid->n_subjects] outlive the guesses. */
ptq_status ptq_guess_sweep(ptq_guesses *g, const ptq_oracle *oracle,
                           const ptq_frame *frame, const ptq_grid *grid,
                           const ptq_geometry *models, const char *model,
                           ptq_err *err);
/** Every dtype, method and group that the store's uniform points have, on
 * `model`. */
ptq_status ptq_guess_all(ptq_guesses *g, const ptq_oracle *oracle,
                         const ptq_frame *frame, const ptq_geometry *model,
                         ptq_err *err);

/** nll of the model and dnll; dnll alone where no baseline is known. */
double ptq_guess_loss(const ptq_guess *g);
/** Keep the least loss with at most `bits` a weight and `bytes` in all (NaN:
 * no bound); PTQ_E_ARG: nothing fits, with the smallest. */
ptq_status ptq_guess_best(ptq_guesses *g, double bits, double bytes,
                          ptq_err *err);
/** Keep what no other configuration beats in both bits_model and loss, by
 * bits. */
void ptq_guess_frontier(ptq_guesses *g);

void ptq_guess_print(const ptq_guesses *g, const ptq_oracle *oracle);
ptq_status ptq_guess_print_json(const ptq_guesses *g, const ptq_oracle *oracle,
                                ptq_err *err);

#endif /* PTQ_CLI_FORECAST_H */
