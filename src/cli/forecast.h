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
  double measured;       /* dnll of the store's own point, NaN if it has none */
  const char *unseen[2]; /* [n_unseen] method, element: factors whose level no
                            finished point has; static */
  int n_unseen;
  double loss; /* what --best and --pareto compare; NaN: cannot be */
} ptq_guess;

typedef struct ptq_guesses {
  ptq_guess *row; /* owned; [n] */
  int64_t n;
  bool by_byte;           /* losses are nats a byte: tokenizers differ */
  int64_t n_incomparable; /* left out: no NLL of the unquantized model */
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

/** Fill every row's loss: dnll of one model; of several the NLL, a token, or
 * a byte where they do not split the text into the same tokens and all know
 * its bytes. */
void ptq_guess_compare(ptq_guesses *g);
/** After ptq_guess_compare: keep the least loss with at most `bits` a weight
 * and `bytes` in all (NaN: no bound); PTQ_E_ARG: nothing fits, with the
 * smallest. */
ptq_status ptq_guess_best(ptq_guesses *g, double bits, double bytes,
                          ptq_err *err);
/** After ptq_guess_compare: keep what no other configuration beats in both
 * bits_model and loss, by bits. */
void ptq_guess_frontier(ptq_guesses *g);

/** `chosen`: the rows are what --best or --pareto left. */
void ptq_guess_print(const ptq_guesses *g, const ptq_oracle *oracle,
                     bool chosen);
ptq_status ptq_guess_print_json(const ptq_guesses *g, const ptq_oracle *oracle,
                                ptq_err *err);

#endif /* PTQ_CLI_FORECAST_H */
