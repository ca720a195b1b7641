/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tiles.h"

#include "ptq/base/crew.h"

typedef struct tiles {
  ptq_tile_fn *fn; /* borrowed, as ctx */
  void *ctx;
} tiles;

static ptq_status run_one(void *ctx, int hand, int64_t index, ptq_order *order,
                          ptq_err *err) {
  const tiles *t = ctx;
  (void)hand, (void)order;
  return t->fn(t->ctx, index, err);
}

ptq_status ptq_tiles_run(int64_t n, int threads, ptq_tile_fn *fn, void *ctx,
                         ptq_err *err) {
  tiles t = {.fn = fn, .ctx = ctx};
  const int most = threads < PTQ_CREW_MAX ? threads : PTQ_CREW_MAX;
  return ptq_crew_run(most, n, run_one, &t, err);
}
