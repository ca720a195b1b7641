/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/numerics.h"

#include <stdio.h>

#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

void ptq_numerics_text(char text[PTQ_NUMERICS_MAX]) {
  snprintf(text, PTQ_NUMERICS_MAX, "%s, kernels %s", ptq_blas_name(),
           ptq_vec_isa());
}
