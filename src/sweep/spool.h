/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spool.h
 * Floats window by window, in memory or in a scratch file that has no name.
 */
#ifndef PTQ_SWEEP_SPOOL_H
#define PTQ_SWEEP_SPOOL_H

#include <stdint.h>

#include "ptq/base/status.h"

typedef struct ptq_spool {
  float *memory; /* owned; [n, size], of one window where there is a file */
  int fd;        /* owned; -1: none */
  int64_t n, size;
  int64_t at; /* the window in memory, of a file; -1: none */
} ptq_spool;

/**
 * Room for n windows of `size` floats, all 0.
 * @param scratch nullable; directory of the file, which is gone with the
 *                process
 * @param what    names them in messages
 */
ptq_status ptq_spool_open(ptq_spool *s, const char *scratch, int64_t n,
                          int64_t size, const char *what, ptq_err *err);
void ptq_spool_close(ptq_spool *s);

/** Window i, borrowed until another of the same spool is asked for. */
ptq_status ptq_spool_get(ptq_spool *s, int64_t i, float **x, ptq_err *err);
/** The same to be overwritten: what it holds is not read. */
float *ptq_spool_fresh(ptq_spool *s, int64_t i);
/** Keep what was changed in the window last asked for, its first n floats. */
ptq_status ptq_spool_put(ptq_spool *s, int64_t n, ptq_err *err);

/** Bytes of memory. */
int64_t ptq_spool_bytes(const char *scratch, int64_t n, int64_t size);

#endif /* PTQ_SWEEP_SPOOL_H */
