/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file check.h
 * Assertions on our own code. Never for input, files or peers; never compiled
 * out.
 */
#ifndef PTQ_BASE_CHECK_H
#define PTQ_BASE_CHECK_H

#include <stdint.h>

_Noreturn void ptq_check_failed(const char *expr, const char *file, int line);

#define PTQ_ASSERT(expr) \
  ((expr) ? (void)0 : ptq_check_failed(#expr, __FILE__, __LINE__))

/** `v` as an int for a BLAS or MPI call; asserts that it fits. */
int ptq_int(int64_t v);

#endif /* PTQ_BASE_CHECK_H */
