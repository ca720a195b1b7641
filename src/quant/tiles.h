/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file tiles.h
 * Independent pieces of one computation on several threads.
 */
#ifndef PTQ_QUANT_TILES_H
#define PTQ_QUANT_TILES_H

#include <stdint.h>

#include "ptq/base/status.h"

/** Computes piece `index`; pieces touch nothing of each other. */
typedef ptq_status ptq_tile_fn(void *ctx, int64_t index, ptq_err *err);

/**
 * Run pieces 0 .. n-1 on up to `threads` threads, the caller's among them. The
 * failure returned, of the lowest piece that fails, does not depend on luck.
 */
ptq_status ptq_tiles_run(int64_t n, int threads, ptq_tile_fn *fn, void *ctx,
                         ptq_err *err);

#endif /* PTQ_QUANT_TILES_H */
