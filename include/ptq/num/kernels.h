/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file kernels.h
 * The kernels that code in ptq_real calls: PTQ_VEC, PTQ_DIFF, PTQ_GEMM.
 */
#ifndef PTQ_NUM_KERNELS_H
#define PTQ_NUM_KERNELS_H

#include "ptq/num/blas.h"
#include "ptq/num/diff.h"
#include "ptq/num/real.h"
#include "ptq/num/vec.h"
#include "ptq/num/vec64.h"

#endif /* PTQ_NUM_KERNELS_H */
