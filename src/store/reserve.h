/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file reserve.h
 * Room on the disk, and a new file that appears under its name whole.
 */
#ifndef PTQ_STORE_RESERVE_H
#define PTQ_STORE_RESERVE_H

#include <stdint.h>

#include "ptq/base/status.h"

/** Is there a writable directory for `path`? PTQ_E_IO names the directory and
 * the remedy. */
ptq_status ptq_reserve_directory(const char *path, ptq_err *err);
/**
 * Can a file of `bytes` be made at `temporary`? Tried with one that is removed
 * again, because HDF5 does not survive a file it cannot close: closing fails
 * on a full disk, and ending the library then crashes.
 * @param path  names the store in messages
 * @return PTQ_OK or PTQ_E_IO
 */
ptq_status ptq_reserve_check(const char *path, const char *temporary,
                             int64_t bytes, ptq_err *err);

/** Remove what killed creations of `path` left: files `<path>.new-*`. */
void ptq_reserve_sweep(const char *path);

/** Reserve the blocks of every byte of `temporary`, so that a full disk shows
 * now and not when a result is written; make it durable; rename it to
 * `path`. PTQ_E_IO. */
ptq_status ptq_reserve_publish(const char *temporary, const char *path,
                               ptq_err *err);

void ptq_reserve_discard(const char *temporary);

#endif /* PTQ_STORE_RESERVE_H */
