/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/numerics.h"

#include <stdio.h>

#include "ptq/base/check.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

void ptq_numerics_text(ptq_compute compute, char text[PTQ_NUMERICS_MAX]) {
  const bool bf16 = compute == PTQ_COMPUTE_BF16;
  const int n = snprintf(text, PTQ_NUMERICS_MAX, "%s, kernels %s%s%s",
                         ptq_blas_name(), ptq_vec_isa(), bf16 ? ", bf16 " : "",
                         bf16 ? ptq_bf16_name() : "");
  PTQ_ASSERT(n < PTQ_NUMERICS_MAX); /* a text cut short would tell less */
}
