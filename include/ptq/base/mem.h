/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file mem.h
 * Allocation: zero-filled, 64-byte aligned, overflow-checked, countable.
 *
 * PTQ_FAIL_NTH=n in the environment makes the n-th counted operation of the
 * process fail (allocations here; I/O layers count through ptq_fault()).
 */
#ifndef PTQ_BASE_MEM_H
#define PTQ_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/base/status.h"

/**
 * Allocate `n` elements of `size` bytes, zero-filled, 64-byte aligned.
 * @param[out] out  `*(void **)out` receives the block (NULL on failure);
 *                  freed with ptq_free. n == 0 gives a valid one-byte block.
 * @param what      names the block in the message, e.g. "hidden states"
 * @return PTQ_OK or PTQ_E_NOMEM. Rank-local.
 */
ptq_status ptq_alloc(void *out, int64_t n, size_t size, const char *what,
                     ptq_err *err);

/** Free a block from ptq_alloc or ptq_strdup; NULL is allowed. */
void ptq_free(void *block);

/** Grow a block from ptq_alloc (or NULL) from `have` to `want` elements;
 * the new tail is zero. On failure `*(void **)block` is unchanged. */
ptq_status ptq_grow(void *block, int64_t have, int64_t want, size_t size,
                    const char *what, ptq_err *err);

/** Copy of `s`, freed with ptq_free. */
ptq_status ptq_strdup(char **out, const char *s, ptq_err *err);

/** True when this counted operation shall fail (PTQ_FAIL_NTH). The file that
 * PTQ_FAIL_MARK names, if it does, is there from then on. */
bool ptq_fault(void);

#endif /* PTQ_BASE_MEM_H */
