/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file numerics.h
 * What decides the last bits of a result: BLAS and own kernels.
 */
#ifndef PTQ_NUM_NUMERICS_H
#define PTQ_NUM_NUMERICS_H

enum { PTQ_NUMERICS_MAX = 96 };

/** "openblas 0.3.21 Haswell, kernels avx512": equal texts promise equal bits.
 * Call after ptq_blas_init. */
void ptq_numerics_text(char text[PTQ_NUMERICS_MAX]);

#endif /* PTQ_NUM_NUMERICS_H */
