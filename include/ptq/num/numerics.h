/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file numerics.h
 * What decides the last bits of a result: BLAS, own kernels and what multiplies
 * bfloat16.
 */
#ifndef PTQ_NUM_NUMERICS_H
#define PTQ_NUM_NUMERICS_H

#include "ptq/num/bf16.h"

enum { PTQ_NUMERICS_MAX = 96 };

/** "openblas 0.3.21 Haswell, kernels avx512", and for bf16 ", bf16 onednn 2.6.3
 * avx512_core_bf16": equal texts promise equal bits. Call after ptq_blas_init
 * and, for bf16, ptq_bf16_init. */
void ptq_numerics_text(ptq_compute compute, char text[PTQ_NUMERICS_MAX]);

#endif /* PTQ_NUM_NUMERICS_H */
