/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Kumar et al., Scaling Laws for Precision, arXiv 2411.04330, eq. for
 * post-training quantization; P counts bits a weight. The second row is the
 * law at one training budget, where D^gD is a part of C. */
#include <math.h>

#include "law_list.h"

static double value(const double *q, const double *x) {
  return log(q[0]) + q[1] * log(x[1]) - q[2] * log(x[0]) - x[2] / q[3];
}

const ptq_curve ptq_law_kumar = {
    .name = "kumar",
    .equation = "dnll = C D^gD / N^gN exp(-P/gpost)",
    .source = "Kumar et al., arXiv 2411.04330",
    .text = "post-training loss grows with tokens, falls with size and bits",
    .covariates = {"params_nonembedding", "train_tokens", "bits_per_weight"},
    .params = {{"C", "level", 1e-3, 1e3, true},
               {"gD", "exponent of training tokens", -1.0, 1.5, false},
               {"gN", "exponent of size", -0.5, 1.5, false},
               {"gpost", "bits that divide the loss by e", 0.2, 2.0, true}},
    .value = value,
};

static double value_fixed(const double *q, const double *x) {
  return log(q[0]) - q[1] * log(x[0]) - x[1] / q[2];
}

const ptq_curve ptq_law_kumar_fixed = {
    .name = "kumar-fixed-D",
    .equation = "dnll = C / N^gN exp(-P/gpost)",
    .source = "Kumar et al., arXiv 2411.04330, at one training budget",
    .text = "loss falls with size and bits",
    .covariates = {"params_nonembedding", "bits_per_weight"},
    .params = {{"C", "level", 1e-3, 1e5, true},
               {"gN", "exponent of size", -0.5, 1.5, false},
               {"gpost", "bits that divide the loss by e", 0.2, 2.0, true}},
    .value = value_fixed,
};
