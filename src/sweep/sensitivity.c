/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "sensitivity.h"

#include <math.h>
#include <string.h>

#include "displace.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/statistics.h"
#include "ptq/num/vec.h"
#include "setup.h"
#include "stream_score.h"

/* Lanes: the unquantized model, the rounded one, then two a layer. */
enum { CLEAN, ROUNDED, LAYERS };

typedef struct lane {
  ptq_stream eval; /* owned */
  double *nll;     /* owned; [windows] sums */
} lane;

typedef struct work {
  ptq_setup setup;         /* owned */
  ptq_displacer displacer; /* owned */
  ptq_hands hands;         /* owned */
  ptq_block block, mixed;  /* owned; mixed: only its linear */
  lane *lanes;             /* owned; [n] */
  int64_t n, number;       /* lanes; the block whose layers are measured */
  int *layer;              /* owned; [(n - LAYERS) / 2] */
  double *x, *w;           /* owned; [windows] */
} work;

static int64_t present(const ptq_model_info *info) {
  int64_t n = 0;
  for (int l = 0; l < ptq_layer_count(info); l++)
    n += ptq_layer_present(info, l);
  return n;
}

int64_t ptq_sensitivity_lanes(const ptq_model_info *info) {
  return LAYERS + 2 * present(info);
}

double ptq_sensitivity_pushes(const ptq_model_info *info, int64_t block) {
  return (double)(LAYERS * info->n_blocks +
                  2 * present(info) * (info->n_blocks - block));
}

static void work_close(work *w) {
  for (int64_t i = 0; w->lanes != NULL && i < w->n; i++) {
    ptq_stream_release(&w->lanes[i].eval);
    ptq_free(w->lanes[i].nll);
  }
  ptq_free(w->lanes);
  ptq_free(w->layer);
  ptq_free(w->mixed.linear);
  ptq_free(w->x);
  ptq_free(w->w);
  ptq_block_release(&w->block);
  ptq_hands_close(&w->hands);
  ptq_displacer_close(&w->displacer);
  ptq_setup_close(&w->setup);
}

static ptq_status embed(work *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_embedding e = {0};
  const ptq_setup *s = &w->setup;
  PTQ_TRY(ptq_model_load_embedding(s->model, &e, err));
  for (int i = 0; i < LAYERS; i++)
    PTQ_TRY(ptq_stream_embed(&w->lanes[i].eval, s->room, s->info, &e, &s->eval,
                             err));
done:
  ptq_embedding_release(&e);
  return rc;
}

static ptq_status work_open(work *w, const ptq_grid *g, int64_t direction,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_direction *d = &g->directions[direction];
  int64_t at = 0;
  *w = (work){.number = d->number};
  PTQ_TRY(ptq_setup_open(&w->setup, g, d->subject, err));
  const ptq_setup *s = &w->setup;
  const int64_t n = ptq_sensitivity_lanes(s->info), windows = s->eval.n;
  PTQ_TRY(ptq_displacer_open(&w->displacer, g, d, s->model, NULL, err));
  PTQ_TRY(ptq_alloc(&w->lanes, n, sizeof *w->lanes, "a sensitivity", err));
  w->n = n;
  for (int64_t i = 0; i < n; i++) w->lanes[i].eval.h.fd = -1;
  for (int64_t i = 0; i < n; i++)
    PTQ_TRY(ptq_alloc(&w->lanes[i].nll, windows, sizeof(double),
                      "a sensitivity", err));
  PTQ_TRY(ptq_alloc(&w->layer, n, sizeof *w->layer, "layers", err));
  for (int l = 0; l < ptq_layer_count(s->info); l++)
    if (ptq_layer_present(s->info, l)) w->layer[at++] = l;
  PTQ_TRY(ptq_alloc(&w->mixed.linear, ptq_layer_count(s->info),
                    sizeof *w->mixed.linear, "a mixed block", err));
  PTQ_TRY(ptq_alloc(&w->x, windows, sizeof *w->x, "a sensitivity", err));
  PTQ_TRY(ptq_alloc(&w->w, windows, sizeof *w->w, "a sensitivity", err));
  PTQ_TRY(embed(w, err));
  PTQ_TRY(ptq_hands_open(&w->hands, s->info, s->room.hands,
                         ptq_setup_max_length(s), err));
done:
  return rc;
}

/* The block with one layer rounded (`alone`), or with all but that one; layer
 * -1: none, or all. */
static const ptq_block *mix(work *w, int layer, bool alone) {
  ptq_linear *linear = w->mixed.linear;
  w->mixed = w->block;
  w->mixed.linear = linear;
  for (int l = 0; l < ptq_layer_count(w->setup.info); l++) {
    linear[l] = w->block.linear[l];
    if (linear[l].weight != NULL && (l == layer) == alone)
      linear[l].weight = w->displacer.rounded[l];
  }
  return &w->mixed;
}

static ptq_status advance(work *w, lane *l, int layer, bool alone,
                          ptq_err *err) {
  return ptq_stream_advance(&l->eval, &w->hands, mix(w, layer, alone), err);
}

/* Streams part at their block: before it they are the models' own. */
static ptq_status part(work *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t i = LAYERS; i < w->n; i++)
    PTQ_TRY(ptq_stream_copy(&w->lanes[i].eval,
                            &w->lanes[i % 2 == 0 ? CLEAN : ROUNDED].eval, err));
done:
  return rc;
}

static ptq_status walk_block(work *w, int64_t block, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_block_release(&w->block);
  PTQ_TRY(ptq_model_load_block(w->setup.model, block, &w->block, err));
  PTQ_TRY(ptq_displacer_block(&w->displacer, &w->block, err));
  if (block == w->number) PTQ_TRY(part(w, err));
  PTQ_TRY(advance(w, &w->lanes[CLEAN], -1, true, err));
  PTQ_TRY(advance(w, &w->lanes[ROUNDED], -1, false, err));
  for (int64_t i = LAYERS; block >= w->number && i < w->n; i++) {
    const int layer = block == w->number ? w->layer[(i - LAYERS) / 2] : -1;
    PTQ_TRY(advance(w, &w->lanes[i], layer, i % 2 == 0, err));
  }
done:
  return rc;
}

static ptq_status score(work *w, const ptq_sink *sink, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const double blocks = (double)w->setup.info->n_blocks;
  ptq_stream_score s = {0};
  ptq_block_release(&w->block); /* makes room */
  ptq_displacer_close(&w->displacer);
  ptq_hands_close(&w->hands);
  PTQ_TRY(ptq_stream_score_open(&s, &w->setup, err));
  for (int64_t i = 0; i < w->n; i++) {
    const double share = (double)(i + 1) / (double)(w->n + 1);
    PTQ_TRY(ptq_stream_score_run(&s, &w->lanes[i].eval, &w->setup.eval,
                                 w->lanes[i].nll, err));
    PTQ_TRY(sink->alive(sink->ctx, (blocks + share) / (blocks + 1.0), err));
  }
done:
  ptq_stream_score_close(&s);
  return rc;
}

/* What lane a loses more than lane b, with its error. */
static double difference(work *w, int64_t a, int64_t b, uint64_t seed,
                         double *se) {
  const int64_t n = w->setup.eval.n;
  for (int64_t i = 0; i < n; i++)
    w->x[i] = w->lanes[a].nll[i] - w->lanes[b].nll[i];
  *se = ptq_block_bootstrap_se(w->x, w->w, n, seed);
  return ptq_score_mean(w->x, w->w, n);
}

/* The seed of resampling is the hash of the key, as of points. */
static void summarize(work *w, ptq_sensitivity *out, ptq_direction_row *row) {
  const int64_t n = w->setup.eval.n;
  const uint64_t seed = ptq_hash64(row->key, strlen(row->key));
  for (int64_t i = 0; i < n; i++)
    w->w[i] = (double)ptq_windows_scored(&w->setup.eval, i);
  row->nll = ptq_score_mean(w->lanes[CLEAN].nll, w->w, n);
  row->dnll = difference(w, ROUNDED, CLEAN, seed, &row->dnll_se);
  for (int64_t k = 0; k < out->n; k++) {
    ptq_direction_layer_row *r = &out->rows[k];
    const int64_t at = LAYERS + 2 * k;
    r->alone = difference(w, at, CLEAN, seed, &r->alone_se);
    r->restored = difference(w, ROUNDED, at + 1, seed, &r->restored_se);
  }
}

/* Names and sizes of the block's layers, while its weights are there. */
static ptq_status begin_rows(work *w, int64_t direction, ptq_sensitivity *out,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = present(w->setup.info);
  PTQ_TRY(ptq_alloc(&out->rows, n, sizeof *out->rows, "layers", err));
  out->n = n;
  for (int64_t k = 0; k < n; k++) {
    ptq_direction_layer_row *r = &out->rows[k];
    const int layer = w->layer[k];
    const ptq_linear *l = &w->block.linear[layer];
    const int64_t size = l->out * l->in;
    ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTION_LAYERS), r);
    r->direction = direction;
    r->weights = size;
    r->outputs = l->out;
    r->weight_norm = sqrt(ptq_vec_sum_sq(l->weight, size));
    r->size =
        sqrt(ptq_vec_sum_sq(w->displacer.d[layer], size)) / r->weight_norm;
    ptq_layer_tensor_name(w->setup.model, w->number, layer, r->layer);
  }
done:
  return rc;
}

ptq_status ptq_sensitivity_run(ptq_sensitivity *out, const ptq_grid *g,
                               int64_t direction, const ptq_sink *sink,
                               ptq_direction_row *row, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  work w = {0};
  *out = (ptq_sensitivity){0};
  PTQ_TRY(work_open(&w, g, direction, err));
  const int64_t blocks = w.setup.info->n_blocks;
  for (int64_t b = 0; b < blocks; b++) {
    PTQ_TRY(walk_block(&w, b, err));
    if (b == w.number) PTQ_TRY(begin_rows(&w, direction, out, err));
    PTQ_TRY(
        sink->alive(sink->ctx, (double)(b + 1) / (double)(blocks + 1), err));
  }
  PTQ_TRY(score(&w, sink, err));
  summarize(&w, out, row);
done:
  work_close(&w);
  return rc;
}

void ptq_sensitivity_release(ptq_sensitivity *s) {
  ptq_free(s->rows);
  *s = (ptq_sensitivity){0};
}
