/* SPDX-License-Identifier: GPL-3.0-or-later */
/** @file selfcheck.h  Is the BLAS in use right on this CPU? */
#ifndef PTQ_CLI_SELFCHECK_H
#define PTQ_CLI_SELFCHECK_H

#include "ptq/base/status.h"

/**
 * Compare products of odd and even sizes by BLAS with plain loops in double,
 * and a symmetric eigenproblem with its trace: some builds of OpenBLAS are
 * wrong on some CPUs. Takes some ms. PTQ_E_NUMERIC names the routine, the
 * kernel in use and the remedy. PTQSWEEP_BREAK_BLAS=1 makes it fail (for the
 * tests). Rank-local.
 */
ptq_status ptq_selfcheck(ptq_err *err);

#endif /* PTQ_CLI_SELFCHECK_H */
