/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * The laws from another program:
 *
 *   cc with_c.c $(pkg-config --cflags --libs ptqsweep) -o with_c
 *   ./with_c quick.h5
 *
 * fits one formula to a store, prints its coefficients with their errors
 * clustered by model, and predicts the store's first point.
 */
#include <stdio.h>

#include "ptq/analysis/fit.h"

int main(int argc, char **argv) {
  ptq_err err = {0};
  ptq_view *view = NULL;
  ptq_frame frame = {0};
  ptq_formula formula;
  const ptq_estimator *estimator = NULL;
  const ptq_fit_options options = {0};
  ptq_fit fit = {0};
  if (argc != 2) return 2;
  if (ptq_view_open(argv[1], &view, &err) != PTQ_OK ||
      ptq_frame_from_view(view, &frame, &err) != PTQ_OK ||
      ptq_formula_parse("log(params_nonembedding) + bits_per_weight + method",
                        &formula, &err) != PTQ_OK ||
      ptq_estimator_find("censored", &estimator, &err) != PTQ_OK ||
      ptq_fit_frame(estimator, &formula, &options, &frame, &fit, &err) !=
          PTQ_OK) {
    fprintf(stderr, "%s\n", err.msg);
    return 1;
  }
  for (int64_t j = 0; j < fit.matrix.k; j++)
    printf("%-26s %9.4f +- %.4f\n", fit.matrix.columns[j].name,
           fit.coef[j].estimate, fit.coef[j].std_error_cluster);
  const ptq_prediction p = ptq_fit_predict(&fit, &frame.obs[0]);
  printf("first point: dnll %.4f [%.4f, %.4f]\n", p.dnll, p.low, p.high);
  ptq_fit_release(&fit);
  ptq_frame_release(&frame);
  ptq_view_close(view);
  return 0;
}
