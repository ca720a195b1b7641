/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file selfcheck.h  Do the libraries multiply rightly on this CPU? */
#ifndef PTQ_CLI_SELFCHECK_H
#define PTQ_CLI_SELFCHECK_H

#include "ptq/base/status.h"
#include "ptq/num/bf16.h"

/**
 * Compare products of odd and even sizes by BLAS with plain loops in double,
 * and a symmetric eigenproblem with its trace: some builds of OpenBLAS are
 * wrong on some CPUs. Where `compute` is bf16, its products too. Takes some ms.
 * PTQ_E_NUMERIC names the routine, the kernel in use and the remedy.
 * PTQSWEEP_BREAK_BLAS=1 and PTQSWEEP_BREAK_BF16=1 make it fail (for the
 * tests). Rank-local.
 */
ptq_status ptq_selfcheck(ptq_compute compute, ptq_err *err);

#endif /* PTQ_CLI_SELFCHECK_H */
