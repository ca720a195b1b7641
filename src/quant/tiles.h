/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file tiles.h
 * Independent pieces of one computation on several threads.
 */
#ifndef PTQ_QUANT_TILES_H
#define PTQ_QUANT_TILES_H

#include <stdint.h>

#include "ptq/base/team.h"

/** Computes piece `index`; pieces touch nothing of each other. */
typedef ptq_status ptq_tile_fn(void *ctx, int64_t index, ptq_err *err);

/**
 * Run pieces 0 .. n-1 on up to `threads` threads, the caller's among them. The
 * failure returned, of the lowest piece that fails, does not depend on luck.
 */
ptq_status ptq_tiles_run(int64_t n, int threads, ptq_tile_fn *fn, void *ctx,
                         ptq_err *err);

/** What tiles of rows give: [n_rows] rows of so many bytes. */
typedef struct ptq_tile_output {
  void *rows; /* borrowed; NULL: nothing */
  size_t bytes;
} ptq_tile_output;

/** The ranks that split tiles of rows, and what all then have. */
typedef struct ptq_tile_split {
  ptq_team *team; /* borrowed; NULL: no ranks but this */
  int threads;
  int64_t rows, tile; /* in all, of a tile */
  ptq_tile_output out[3];
} ptq_tile_split;

/** The same over the tiles of a team's ranks: each makes its own, and has those
 * of the others behind it. */
ptq_status ptq_tiles_split(const ptq_tile_split *s, ptq_tile_fn *fn, void *ctx,
                           ptq_err *err);

#endif /* PTQ_QUANT_TILES_H */
