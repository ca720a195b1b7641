/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A power law plus irreducible loss, in effective parameters: a model of N
 * weights at P bits is as good as one of N (1 - exp(-P/g)) (Kumar et al.,
 * arXiv 2411.04330, at one training budget). Fitted to nll, so families of
 * one tokenizer only should be compared. */
#include <math.h>

#include "law_list.h"

static double value(const double *q, const double *x) {
  const double size = x[0] * -expm1(-x[1] / q[3]);
  return q[0] + q[1] * pow(size, -q[2]);
}

static double base(const double *q, const double *x) {
  return q[0] + q[1] * pow(x[0], -q[2]);
}

const ptq_curve ptq_law_power = {
    .name = "power-irreducible",
    .equation = "nll = E + A [N (1 - exp(-P/g))]^-a",
    .source = "Kumar et al., arXiv 2411.04330; Hoffmann et al., 2203.15556",
    .text = "power law in effective parameters plus irreducible loss",
    .covariates = {"params_nonembedding", "bits_per_weight"},
    .params = {{"E", "irreducible loss, nats", 0.3, 4.0, true},
               {"A", "level", 1.0, 1e3, true},
               {"a", "exponent of size", 0.05, 0.8, true},
               {"g", "bits that keep 63 % of the parameters", 0.2, 3.0, true}},
    .value = value,
    .base = base,
};
