/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Ouyang et al., Low-Bit Quantization Favors Undertrained LLMs, arXiv
 * 2411.17691: joint law of size, training tokens and bits. */
#include <math.h>

#include "law_list.h"

static double value(const double *q, const double *x) {
  return log(q[0]) + q[1] * log(x[1]) - q[2] * log(x[0]) - q[3] * log(x[2]);
}

const ptq_curve ptq_law_ouyang = {
    .name = "ouyang",
    .equation = "dnll = k D^b / (N^a P^g)",
    .source = "Ouyang et al., arXiv 2411.17691",
    .text = "a power law in size, training tokens and bits",
    .covariates = {"params_nonembedding", "train_tokens", "bits_per_weight"},
    .params = {{"k", "level", 1e-3, 1e3, true},
               {"b", "exponent of training tokens", -1.0, 1.5, false},
               {"a", "exponent of size", -0.5, 1.5, false},
               {"g", "exponent of bits", 1.0, 10.0, false}},
    .value = value,
};

static double value_fixed(const double *q, const double *x) {
  return log(q[0]) - q[1] * log(x[0]) - q[2] * log(x[1]);
}

const ptq_curve ptq_law_ouyang_fixed = {
    .name = "ouyang-fixed-D",
    .equation = "dnll = k / (N^a P^g)",
    .source = "Ouyang et al., arXiv 2411.17691, at one training budget",
    .text = "a power law in size and bits",
    .covariates = {"params_nonembedding", "bits_per_weight"},
    .params = {{"k", "level", 1e-3, 1e5, true},
               {"a", "exponent of size", -0.5, 1.5, false},
               {"g", "exponent of bits", 1.0, 10.0, false}},
    .value = value_fixed,
};
