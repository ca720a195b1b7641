/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "shelf.h"

#include "ptq/base/mem.h"

/* Reals that a window takes: its own tape in every block, and those of its
 * tangents, which have no tape between input and everything. */
static int64_t window_size(const ptq_shelf *s, ptq_keep keep) {
  const ptq_keep of_tangents =
      keep == PTQ_KEEP_ALL ? PTQ_KEEP_ALL : PTQ_KEEP_INPUT;
  return s->info->n_blocks *
         (ptq_tape_size(s->info, s->length, keep) +
          (s->lanes - 1) * ptq_tape_size(s->info, s->length, of_tangents));
}

/* Each window in turn keeps the most that leaves the others their least. */
static int64_t plan(ptq_shelf *s, int64_t budget_bytes) {
  const int64_t least = window_size(s, PTQ_KEEP_INPUT);
  int64_t left = budget_bytes / (int64_t)sizeof(ptq_real), total = 0;
  for (int64_t w = 0; w < PTQ_GRAD_CHUNK; w++) {
    const int64_t others = (PTQ_GRAD_CHUNK - 1 - w) * least;
    s->keep[w] = PTQ_KEEP_ALL;
    while (s->keep[w] > PTQ_KEEP_INPUT &&
           window_size(s, s->keep[w]) + others > left)
      s->keep[w]--;
    left -= window_size(s, s->keep[w]);
    total += window_size(s, s->keep[w]);
  }
  return total;
}

static int64_t streams_size(const ptq_shelf *s) {
  return PTQ_GRAD_CHUNK * s->lanes * s->length * s->info->d_model;
}

ptq_status ptq_shelf_init(const ptq_model_info *info, int64_t length,
                          int64_t tangents, int64_t budget_bytes, ptq_shelf *s,
                          ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *s = (ptq_shelf){.info = info, .length = length, .lanes = 1 + tangents};
  (void)plan(s, budget_bytes);
  PTQ_TRY(ptq_alloc(&s->streams, streams_size(s), sizeof(ptq_real),
                    "the streams of a chunk", err));
  for (int64_t w = 0; w < PTQ_GRAD_CHUNK; w++)
    PTQ_TRY(ptq_alloc(&s->tapes[w], window_size(s, s->keep[w]),
                      sizeof(ptq_real), "what is kept of a window", err));
done:
  if (rc != PTQ_OK) ptq_shelf_release(s);
  return rc;
}

void ptq_shelf_release(ptq_shelf *s) {
  for (int64_t w = 0; w < PTQ_GRAD_CHUNK; w++) ptq_free(s->tapes[w]);
  ptq_free(s->streams);
  *s = (ptq_shelf){0};
}

int64_t ptq_shelf_bytes(const ptq_model_info *info, int64_t length,
                        int64_t tangents, int64_t budget_bytes) {
  ptq_shelf s = {.info = info, .length = length, .lanes = 1 + tangents};
  const int64_t tapes = plan(&s, budget_bytes);
  return (tapes + streams_size(&s)) * (int64_t)sizeof(ptq_real);
}

ptq_tape ptq_shelf_tape(const ptq_shelf *s, int64_t w, int64_t block,
                        int64_t lane) {
  const int64_t blocks = s->info->n_blocks;
  const int64_t own = ptq_tape_size(s->info, s->length, s->keep[w]);
  const ptq_keep keep =
      lane == 0 || s->keep[w] == PTQ_KEEP_ALL ? s->keep[w] : PTQ_KEEP_INPUT;
  const int64_t size = ptq_tape_size(s->info, s->length, keep);
  ptq_real *at = s->tapes[w] + block * own;
  if (lane > 0)
    at = s->tapes[w] + blocks * own + ((lane - 1) * blocks + block) * size;
  ptq_tape t;
  ptq_tape_at(s->info, s->length, keep, at, &t);
  return t;
}

ptq_real *ptq_shelf_stream(const ptq_shelf *s, int64_t w, int64_t lane) {
  return s->streams + (w * s->lanes + lane) * s->length * s->info->d_model;
}
