/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The loss falls by a constant factor with each bit, whatever the model: what
 * a rounding error of 2^-P does to a loss that is quadratic in it. */
#include <math.h>

#include "law_list.h"

static double value(const double *q, const double *x) {
  return log(q[0]) - q[1] * x[0];
}

const ptq_curve ptq_law_exponential = {
    .name = "exponential",
    .equation = "dnll = A exp(-b P)",
    .source = "quadratic loss of a rounding error 2^-P: b = 2 ln 2",
    .text = "exponential in bits alone",
    .covariates = {"bits_per_weight"},
    .params = {{"A", "level", 1e-2, 1e4, true},
               {"b", "rate by bit", 0.2, 3.0, false}},
    .value = value,
};
