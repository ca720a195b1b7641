/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Cao et al., arXiv 2410.06722: the loss gap is exponential in the share of
 * the model that is quantized, a power law in the block size, and
 * multiplicative in size. Theirs is for one precision; exp(-P/g) joins
 * several. */
#include <math.h>

#include "law_list.h"

static double value(const double *q, const double *x) {
  return log(q[0]) - q[1] * log(x[0]) + q[2] * x[1] + q[3] * log(x[2]) -
         x[3] / q[4];
}

const ptq_curve ptq_law_cao = {
    .name = "cao",
    .equation = "dnll = k N^-a exp(c Qr) Qb^b exp(-P/g)",
    .source = "Cao et al., arXiv 2410.06722; exp(-P/g) is added here",
    .text = "share quantized Qr, block size Qb, size and bits",
    .covariates = {"params_nonembedding", "share_quantized", "group",
                   "bits_per_weight"},
    .params = {{"k", "level", 1e-3, 1e5, true},
               {"a", "exponent of size", -0.5, 1.5, false},
               {"c", "rate of the share quantized", -5.0, 5.0, false},
               {"b", "exponent of the group", -0.5, 0.5, false},
               {"g", "bits that divide the loss by e", 0.2, 2.0, true}},
    .value = value,
};
