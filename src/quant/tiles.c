/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "tiles.h"

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

ptq_status ptq_tiles_split(const ptq_tile_split *s, ptq_tile_fn *fn, void *ctx,
                           ptq_err *err) {
  const int64_t n = (s->rows + s->tile - 1) / s->tile;
  const int most = s->threads < PTQ_CREW_MAX ? s->threads : PTQ_CREW_MAX;
  tiles t = {.fn = fn, .ctx = ctx};
  ptq_status rc = ptq_team_run(s->team, most, n, run_one, &t, err);
  for (size_t i = 0; i < sizeof s->out / sizeof s->out[0] && rc == PTQ_OK; i++)
    if (s->out[i].rows != NULL)
      rc = ptq_team_share(s->team, s->out[i].rows, s->rows, s->out[i].bytes,
                          s->tile, err);
  return rc;
}
