/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/batch.h"

#include "clock.h"
#include "gate.h"
#include "lane.h"
#include "ptq/base/mem.h"
#include "ptq/sweep/cost.h"
#include "scoring.h"

/* Everything a batch holds. */
typedef struct batch {
  ptq_setup setup;
  ptq_reference reference;
  ptq_workbench bench;
  ptq_hands hands;
  ptq_lane *lanes;
  int64_t n;
} batch;

static void batch_close(batch *b) {
  for (int64_t i = 0; b->lanes != NULL && i < b->n; i++)
    ptq_lane_close(&b->lanes[i]);
  ptq_free(b->lanes);
  ptq_hands_close(&b->hands);
  ptq_workbench_close(&b->bench);
  ptq_reference_close(&b->reference);
  ptq_setup_close(&b->setup);
}

/* On failure too the caller closes it. */
static ptq_status batch_open(batch *b, const ptq_grid *g, const int64_t *points,
                             int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_load load = {0};
  PTQ_TRY(ptq_setup_open(&b->setup, g, g->points[points[0]].subject, err));
  for (int64_t i = 0; i < n; i++) ptq_load_add(&load, g, points[i]);
  PTQ_TRY(ptq_reference_open(&b->reference, &b->setup, &load, err));
  PTQ_TRY(ptq_alloc(&b->lanes, n, sizeof *b->lanes, "a batch", err));
  b->n = n;
  for (int64_t i = 0; i < n; i++)
    PTQ_TRY(ptq_lane_open(&b->lanes[i], g, points[i], &b->reference, err));
  PTQ_TRY(ptq_workbench_open(&b->bench, &b->setup, &load, err));
  PTQ_TRY(ptq_hands_open(&b->hands, b->setup.info, b->setup.room.hands,
                         ptq_setup_max_length(&b->setup), err));
  b->hands.team = g->team;
done:
  return rc;
}

/* Show the lane's quantized block; a refusal is the lane's failure. */
static void show(const ptq_block_watch *watch, const batch *b, ptq_lane *l) {
  if (watch == NULL || l->status != PTQ_OK) return;
  l->status = watch->block(watch->ctx, l->point, &b->bench.block, &l->err);
}

/* A lane that one rank of a team cannot go on with fails on all. */
static void agree_on_lane(ptq_team *team, ptq_lane *l) {
  l->status = ptq_team_agree(team, l->status, &l->err);
}

/* What scoring does not take makes room for the head. */
static void end_blocks(batch *b) {
  for (int64_t i = 0; i < b->n; i++) ptq_lane_end(&b->lanes[i]);
  ptq_hands_close(&b->hands);
  ptq_workbench_close(&b->bench);
  ptq_reference_end(&b->reference);
}

static ptq_status walk(batch *b, const ptq_grid *g, const int64_t *points,
                       int64_t n, const ptq_sink *sink,
                       const ptq_block_watch *watch, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double shared_seconds = 0.0, start = ptq_clock();
  PTQ_TRY(ptq_team_agree(g->team, batch_open(b, g, points, n, err), err));
  const int64_t n_blocks = b->setup.info->n_blocks;
  for (int64_t i = 0; i < n_blocks; i++) {
    PTQ_TRY(ptq_team_agree(
        g->team, ptq_reference_block(&b->reference, i, &b->hands, err), err));
    shared_seconds += ptq_clock() - start;
    ptq_factor_cache_reset(b->bench.shared);
    for (int64_t j = 0; j < n; j++) {
      const double within = (double)(j + 1) / (double)n;
      ptq_lane_block(&b->lanes[j], &b->reference, &b->bench, &b->hands);
      agree_on_lane(g->team, &b->lanes[j]);
      show(watch, b, &b->lanes[j]);
      PTQ_TRY(sink->alive(sink->ctx,
                          ((double)i + within) / (double)(n_blocks + 1), err));
    }
    start = ptq_clock();
  }
  end_blocks(b);
  PTQ_TRY(ptq_score_lanes(g, &b->reference, b->lanes, n, shared_seconds, sink,
                          err));
done:
  return rc;
}

ptq_status ptq_batch_run(const ptq_grid *g, const int64_t *points, int64_t n,
                         const ptq_sink *sink, ptq_err *err) {
  return ptq_batch_run_watched(g, points, n, sink, NULL, err);
}

ptq_status ptq_batch_run_watched(const ptq_grid *g, const int64_t *points,
                                 int64_t n, const ptq_sink *sink,
                                 const ptq_block_watch *watch, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (ptq_team_leads(g->team)) rc = sink->begin(sink->ctx, points, n, err);
  rc = ptq_team_agree(g->team, rc, err);
  if (rc != PTQ_OK) return rc;
  batch b = {0};
  ptq_gate gate = {.team = g->team, .sink = sink};
  const ptq_sink gated = ptq_gate_sink(&gate);
  ptq_err why = {0};
  rc = walk(&b, g, points, n, &gated, watch, &why);
  batch_close(&b);
  if (ptq_gate_shut(&gate, rc))
    return ptq_err_set(err, rc, why.file, why.line, "%s", why.msg);
  /* Narrower batches may fit. */
  if (rc == PTQ_E_NOMEM && n > 1)
    return ptq_err_set(err, rc, why.file, why.line, "%s", why.msg);
  /* What every point needs failed (a weight is NaN, memory ran out): the
   * points not handed over yet failed with it. */
  rc = PTQ_OK;
  for (int64_t i = gate.handed_over; i < n && rc == PTQ_OK; i++)
    rc = ptq_hand_over_failed(g, points[i], why.msg, &gated, err);
  return rc;
}
