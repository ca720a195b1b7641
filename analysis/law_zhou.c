/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Zhou et al., arXiv 2508.18609: a power law in size, log bits, log
 * calibration tokens and group size, of theirs for accuracy, here of dnll. */
#include <math.h>

#include "law_list.h"

static double value(const double *q, const double *x) {
  return log(q[0]) + q[1] * log(x[0]) + q[2] * log(log2(x[1])) +
         q[3] * log(log2(x[2])) + q[4] * log(x[3]);
}

const ptq_curve ptq_law_zhou = {
    .name = "zhou",
    .equation = "dnll = A N^a (log2 B)^b (log2 C)^c G^d",
    .source = "Zhou et al., arXiv 2508.18609",
    .text = "size, bits of the code, calibration tokens and group",
    .covariates = {"params_nonembedding", "bits", "calib_tokens", "group"},
    .params = {{"A", "level", 1e-2, 1e5, true},
               {"a", "exponent of size", -1.0, 0.5, false},
               {"b", "exponent of log2 bits", -8.0, 0.0, false},
               {"c", "exponent of log2 calibration tokens", -2.0, 2.0, false},
               {"d", "exponent of the group", -0.5, 0.5, false}},
    .value = value,
};

static double value_fixed(const double *q, const double *x) {
  return log(q[0]) + q[1] * log(x[0]) + q[2] * log(log2(x[1])) +
         q[3] * log(x[2]);
}

const ptq_curve ptq_law_zhou_fixed = {
    .name = "zhou-fixed-C",
    .equation = "dnll = A N^a (log2 B)^b G^d",
    .source = "Zhou et al., arXiv 2508.18609, at one calibration size",
    .text = "size, bits of the code and group",
    .covariates = {"params_nonembedding", "bits", "group"},
    .params = {{"A", "level", 1e-2, 1e5, true},
               {"a", "exponent of size", -1.0, 0.5, false},
               {"b", "exponent of log2 bits", -8.0, 0.0, false},
               {"d", "exponent of the group", -0.5, 0.5, false}},
    .value = value_fixed,
};
