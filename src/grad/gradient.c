/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/grad/gradient.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/crew.h"
#include "ptq/base/mem.h"
#include "ptq/grad/hessian.h"
#include "shelf.h"

/* Matrices [out, in] of a block's layers; absent ones are NULL. */
typedef struct layer_set {
  ptq_real *memory; /* owned */
  ptq_real **of;    /* owned; [layers] */
} layer_set;

/* A thread's own. */
typedef struct grad_hand {
  ptq_backspace *bs;        /* owned */
  ptq_lossspace *ls;        /* owned */
  ptq_tangent *tangents;    /* owned; [max_tangents] */
  ptq_loss_tangent *losses; /* owned; likewise */
} grad_hand;

struct ptq_grad {
  ptq_grad_setup setup;
  const ptq_model_info *info;         /* borrowed */
  ptq_embedding embedding;            /* owned */
  ptq_head head;                      /* owned */
  ptq_block block;                    /* owned; where blocks are read */
  grad_hand *hands;                   /* owned; [setup.threads] */
  ptq_shelf shelf;                    /* owned */
  layer_set g;                        /* owned */
  layer_set *e, *he;                  /* owned; [max_tangents] */
  const ptq_real **e_list, **he_list; /* owned; likewise: one layer's */
};

static int64_t set_size(const ptq_model_info *info) {
  return ptq_flat_at(info, 1, 0);
}

static ptq_status set_init(const ptq_model_info *info, layer_set *s,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int layers = ptq_layer_count(info);
  PTQ_TRY(ptq_alloc(&s->memory, set_size(info), sizeof(ptq_real),
                    "derivatives of a block", err));
  PTQ_TRY(
      ptq_alloc(&s->of, layers, sizeof *s->of, "derivatives of a block", err));
  for (int l = 0; l < layers; l++)
    if (ptq_layer_present(info, l))
      s->of[l] = s->memory + ptq_flat_at(info, 0, l);
done:
  return rc;
}

static void set_release(layer_set *s) {
  ptq_free(s->memory);
  ptq_free(s->of);
}

static void set_clear(const ptq_model_info *info, layer_set *s) {
  memset(s->memory, 0, (size_t)set_size(info) * sizeof *s->memory);
}

static ptq_status hand_init(const ptq_grad *g, grad_hand *h, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = g->setup.max_tangents, length = g->setup.length;
  PTQ_TRY(ptq_backspace_create(g->info, length, k, &h->bs, err));
  PTQ_TRY(ptq_lossspace_create(g->info, length, k, &h->ls, err));
  PTQ_TRY(ptq_alloc(&h->tangents, k, sizeof *h->tangents, "directions", err));
  PTQ_TRY(ptq_alloc(&h->losses, k, sizeof *h->losses, "directions", err));
done:
  return rc;
}

static void hand_release(grad_hand *h) {
  ptq_backspace_free(h->bs);
  ptq_lossspace_free(h->ls);
  ptq_free(h->tangents);
  ptq_free(h->losses);
}

/* Threads that have something to do. */
static int threads_of(const ptq_grad_setup *s) {
  const int64_t most =
      s->n_windows < PTQ_GRAD_CHUNK ? s->n_windows : PTQ_GRAD_CHUNK;
  if (s->threads < 1) return 1;
  return s->threads < most ? s->threads : (int)most;
}

static ptq_status check(const ptq_grad_setup *s, ptq_err *err) {
  const ptq_model_info *info = ptq_model_get_info(s->model);
  if (s->n_windows < 1)
    return PTQ_FAIL(err, PTQ_E_ARG, "a gradient needs at least one window");
  if (s->length < 2 || s->length > info->max_positions)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "windows of %lld tokens for a gradient; 2 to %lld fit the "
                    "model",
                    (long long)s->length, (long long)info->max_positions);
  if (s->first < 0 || s->first >= s->length)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "windows of %lld tokens scored from token %lld on",
                    (long long)s->length, (long long)s->first);
  for (int64_t i = 0; i < s->n_windows * s->length; i++)
    if ((int64_t)s->ids[i] >= info->vocab)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "token %lld of window %lld is %lu, the vocabulary has "
                      "%lld",
                      (long long)(i % s->length), (long long)(i / s->length),
                      (unsigned long)s->ids[i], (long long)info->vocab);
  return PTQ_OK;
}

static ptq_status make(ptq_grad *g, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t k = g->setup.max_tangents, length = g->setup.length;
  PTQ_TRY(ptq_model_load_embedding(g->setup.model, &g->embedding, err));
  PTQ_TRY(ptq_model_load_head(g->setup.model, &g->head, err));
  PTQ_TRY(ptq_alloc(&g->hands, g->setup.threads, sizeof *g->hands,
                    "threads of a gradient", err));
  for (int i = 0; i < g->setup.threads; i++)
    PTQ_TRY(hand_init(g, &g->hands[i], err));
  PTQ_TRY(ptq_shelf_init(g->info, length, k, g->setup.budget_bytes, &g->shelf,
                         err));
  PTQ_TRY(ptq_alloc(&g->e, k, sizeof *g->e, "directions", err));
  PTQ_TRY(ptq_alloc(&g->he, k, sizeof *g->he, "directions", err));
  PTQ_TRY(ptq_alloc(&g->e_list, k, sizeof *g->e_list, "directions", err));
  PTQ_TRY(ptq_alloc(&g->he_list, k, sizeof *g->he_list, "directions", err));
  PTQ_TRY(set_init(g->info, &g->g, err));
  for (int64_t j = 0; j < k; j++) {
    PTQ_TRY(set_init(g->info, &g->e[j], err));
    PTQ_TRY(set_init(g->info, &g->he[j], err));
  }
done:
  return rc;
}

ptq_status ptq_grad_create(const ptq_grad_setup *setup, ptq_grad **out,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_grad *g = NULL;
  *out = NULL;
  PTQ_TRY(check(setup, err));
  PTQ_TRY(ptq_alloc(&g, 1, sizeof *g, "a gradient", err));
  g->setup = *setup;
  if (g->setup.first == 0) g->setup.first = 1;
  g->setup.threads = threads_of(setup);
  g->info = ptq_model_get_info(setup->model);
  PTQ_TRY(make(g, err));
  *out = g;
  g = NULL;
done:
  ptq_grad_free(g);
  return rc;
}

void ptq_grad_free(ptq_grad *g) {
  if (g == NULL) return;
  ptq_embedding_release(&g->embedding);
  ptq_head_release(&g->head);
  ptq_block_release(&g->block);
  for (int i = 0; g->hands != NULL && i < g->setup.threads; i++)
    hand_release(&g->hands[i]);
  ptq_free(g->hands);
  ptq_shelf_release(&g->shelf);
  set_release(&g->g);
  for (int64_t j = 0; j < g->setup.max_tangents; j++) {
    if (g->e != NULL) set_release(&g->e[j]);
    if (g->he != NULL) set_release(&g->he[j]);
  }
  ptq_free(g->e);
  ptq_free(g->he);
  ptq_free(g->e_list);
  ptq_free(g->he_list);
  ptq_free(g);
}

int64_t ptq_grad_bytes(const ptq_model_info *info,
                       const ptq_grad_setup *setup) {
  const int64_t k = setup->max_tangents, length = setup->length;
  const int64_t sets = (1 + 2 * k) * set_size(info) * (int64_t)sizeof(ptq_real);
  const int64_t hand = ptq_backspace_bytes(info, length, k) +
                       ptq_lossspace_bytes(info, length, k);
  return sets + threads_of(setup) * hand +
         ptq_shelf_bytes(info, length, k, setup->budget_bytes);
}

void ptq_grad_kept(const ptq_grad *g, int64_t windows[PTQ_KEEP_COUNT]) {
  memset(windows, 0, PTQ_KEEP_COUNT * sizeof *windows);
  for (int64_t w = 0; w < PTQ_GRAD_CHUNK; w++) windows[g->shelf.keep[w]]++;
}

const ptq_model_info *ptq_grad_info(const ptq_grad *g) {
  return g->info;
}

int64_t ptq_grad_max_tangents(const ptq_grad *g) {
  return g->setup.max_tangents;
}

int64_t ptq_grad_chunks(const ptq_grad *g) {
  return (g->setup.n_windows + PTQ_GRAD_CHUNK - 1) / PTQ_GRAD_CHUNK;
}

/* Windows of a chunk. */
static int64_t chunk_windows(const ptq_grad *g, int64_t chunk) {
  const int64_t left = g->setup.n_windows - chunk * PTQ_GRAD_CHUNK;
  return left < PTQ_GRAD_CHUNK ? left : PTQ_GRAD_CHUNK;
}

int64_t ptq_grad_tokens(const ptq_grad *g) {
  return g->setup.n_windows * (g->setup.length - g->setup.first);
}

int64_t ptq_grad_chunk_tokens(const ptq_grad *g, int64_t chunk) {
  return chunk_windows(g, chunk) * (g->setup.length - g->setup.first);
}

/* A run's way through one chunk. */
typedef struct pass {
  ptq_grad *g;
  const ptq_directions *d;   /* borrowed; nullable */
  const ptq_grad_sink *sink; /* borrowed */
  int64_t k, chunk, windows; /* directions; the chunk and its windows */
  int64_t block;             /* at grad_hand */
  int64_t lane;              /* that goes back through it: 0 with its tangents,
                                or a product's alone */
  const ptq_block *b;        /* borrowed; likewise */
  /* What the head gave of each window. */
  double nll[PTQ_GRAD_CHUNK];
  double *nlld; /* owned; [PTQ_GRAD_CHUNK, k] */
} pass;

/* Window w of the chunk, in ids or labels. */
static const uint32_t *window_of(const pass *p, const uint32_t *ids,
                                 int64_t w) {
  return ids + (p->chunk * PTQ_GRAD_CHUNK + w) * p->g->setup.length;
}

/* Block p->block and its displacements. */
static ptq_status fetch(pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_grad *g = p->g;
  p->b = &g->block;
  if (g->setup.alive != NULL) PTQ_TRY(g->setup.alive(g->setup.ctx, err));
  if (g->setup.blocks != NULL) {
    p->b = &g->setup.blocks[p->block];
  } else if (g->block.memory == NULL || g->block.index != p->block) {
    ptq_block_release(&g->block);
    PTQ_TRY(ptq_model_load_block(g->setup.model, p->block, &g->block, err));
  }
  for (int64_t j = 0; j < p->k; j++)
    PTQ_TRY(p->d->load(p->d->ctx, p->block, j, g->e[j].of, err));
done:
  return rc;
}

/* The tangents of window w in a block, for the way `back` or forth. */
static void aim(const pass *p, grad_hand *hand, int64_t w, bool back) {
  ptq_grad *g = p->g;
  for (int64_t j = 0; j < p->k; j++) {
    ptq_real *stream = ptq_shelf_stream(&g->shelf, w, 1 + j);
    hand->tangents[j] =
        (ptq_tangent){.e = (const ptq_real *const *)g->e[j].of,
                      .tape = ptq_shelf_tape(&g->shelf, w, p->block, 1 + j),
                      .hd = back ? NULL : stream,
                      .dhd = back ? stream : NULL,
                      .g = back && p->sink->products ? g->he[j].of : NULL};
  }
}

static ptq_status embed_window(void *ctx, int at, int64_t w, ptq_order *order,
                               ptq_err *err) {
  const pass *p = ctx;
  const ptq_grad *g = p->g;
  const int64_t n = g->setup.length, size = n * g->info->d_model;
  (void)at, (void)order;
  for (int64_t j = 1; j <= p->k; j++)
    memset(ptq_shelf_stream(&g->shelf, w, j), 0,
           (size_t)size * sizeof(ptq_real));
  return ptq_embed(g->info, &g->embedding, window_of(p, g->setup.ids, w), n,
                   ptq_shelf_stream(&g->shelf, w, 0), err);
}

static ptq_status record_window(void *ctx, int at, int64_t w, ptq_order *order,
                                ptq_err *err) {
  const pass *p = ctx;
  const ptq_grad *g = p->g;
  grad_hand *hand = &g->hands[at];
  const int64_t n = g->setup.length;
  const ptq_tape t = ptq_shelf_tape(&g->shelf, w, p->block, 0);
  ptq_real *h = ptq_shelf_stream(&g->shelf, w, 0);
  (void)order;
  if (p->k == 0)
    return ptq_block_record(g->info, p->b, h, n,
                            ptq_backspace_workspace(hand->bs), &t, NULL, err);
  aim(p, hand, w, false);
  return ptq_block_record_tangents(g->info, p->b, h, n, hand->bs, &t, p->k,
                                   hand->tangents, err);
}

static ptq_status go_forth(pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_grad *g = p->g;
  const int threads = g->setup.threads;
  PTQ_TRY(ptq_crew_run(threads, p->windows, embed_window, p, err));
  for (p->block = 0; p->block < g->info->n_blocks; p->block++) {
    PTQ_TRY(fetch(p, err));
    PTQ_TRY(ptq_crew_run(threads, p->windows, record_window, p, err));
  }
done:
  return rc;
}

static bool goes_back(const pass *p) {
  return p->sink->layer != NULL || p->sink->window != NULL;
}

static ptq_status turn_window(void *ctx, int at, int64_t w, ptq_order *order,
                              ptq_err *err) {
  pass *p = ctx;
  const ptq_grad *g = p->g;
  grad_hand *hand = &g->hands[at];
  const uint32_t *labels =
      g->setup.labels != NULL ? g->setup.labels : g->setup.ids;
  const ptq_scored scored = {window_of(p, labels, w), g->setup.length,
                             g->setup.first};
  const bool back = goes_back(p);
  ptq_real *h = ptq_shelf_stream(&g->shelf, w, 0);
  (void)order;
  for (int64_t j = 0; j < p->k; j++) {
    ptq_real *hd = ptq_shelf_stream(&g->shelf, w, 1 + j);
    hand->losses[j] = (ptq_loss_tangent){.hd = hd, .dhd = back ? hd : NULL};
  }
  const ptq_status rc =
      ptq_head_loss(g->info, &g->head, &scored, h, hand->ls, p->sink->curvature,
                    &p->nll[w], back ? h : NULL, p->k, hand->losses, err);
  for (int64_t j = 0; j < p->k; j++)
    p->nlld[w * p->k + j] = hand->losses[j].nll;
  return rc;
}

/* Streams become derivatives of the loss by them. */
static ptq_status turn(pass *p, double *nll, double *nlld, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_crew_run(p->g->setup.threads, p->windows, turn_window, p, err));
  *nll = 0.0;
  for (int64_t j = 0; j < p->k; j++) nlld[j] = 0.0;
  for (int64_t w = 0; w < p->windows; w++) {
    *nll += p->nll[w];
    for (int64_t j = 0; j < p->k; j++) nlld[j] += p->nlld[w * p->k + j];
  }
done:
  return rc;
}

/* A window's way back through a block. */
typedef struct way {
  const pass *p;
  int64_t window; /* of the chunk */
} way;

/* The block's hook: on to the sink. */
static ptq_status show(void *ctx, int layer, const ptq_real *x,
                       const ptq_real *dy, int64_t n, ptq_err *err) {
  const way *y = ctx;
  const pass *p = y->p;
  ptq_grad *g = p->g;
  for (int64_t j = 0; j < p->k; j++) g->e_list[j] = g->e[j].of[layer];
  const ptq_grad_window seen = {.window = p->chunk * PTQ_GRAD_CHUNK + y->window,
                                .block = p->block,
                                .layer = layer,
                                .n = n,
                                .x = x,
                                .dy = dy,
                                .k = p->k,
                                .e = g->e_list};
  return p->sink->window(p->sink->ctx, &seen, err);
}

static ptq_status deliver(const pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_grad *g = p->g;
  const ptq_block *b = p->b;
  if (p->sink->layer == NULL) return PTQ_OK;
  for (int l = 0; l < ptq_layer_count(g->info); l++) {
    if (b->linear[l].weight == NULL) continue;
    for (int64_t j = 0; j < p->k; j++) {
      g->e_list[j] = g->e[j].of[l];
      g->he_list[j] = g->he[j].of[l];
    }
    const ptq_grad_layer result = {.chunk = p->chunk,
                                   .block = p->block,
                                   .layer = l,
                                   .out = b->linear[l].out,
                                   .in = b->linear[l].in,
                                   .k = p->k,
                                   .g = p->sink->gradient ? g->g.of[l] : NULL,
                                   .e = g->e_list,
                                   .he = p->sink->products ? g->he_list : NULL};
    PTQ_TRY(p->sink->layer(p->sink->ctx, &result, err));
  }
done:
  return rc;
}

static ptq_status return_window(void *ctx, int at, int64_t w, ptq_order *order,
                                ptq_err *err) {
  const pass *p = ctx;
  const ptq_grad *g = p->g;
  grad_hand *hand = &g->hands[at];
  way y = {.p = p, .window = w};
  const ptq_backward_hook hook = {
      .ctx = &y,
      .layer = p->sink->window != NULL ? show : NULL,
      .order = order,
      .index = w};
  const ptq_tape t = ptq_shelf_tape(&g->shelf, w, p->block, 0);
  if (p->lane > 0)
    return ptq_block_backward(g->info, p->b, g->setup.length, hand->bs, &t,
                              ptq_shelf_stream(&g->shelf, w, p->lane),
                              g->he[p->lane - 1].of, 0, NULL, &hook, err);
  aim(p, hand, w, true);
  return ptq_block_backward(g->info, p->b, g->setup.length, hand->bs, &t,
                            ptq_shelf_stream(&g->shelf, w, 0),
                            p->sink->gradient ? g->g.of : NULL, p->k,
                            hand->tangents, &hook, err);
}

/* A Gauss-Newton product goes back as a derivative does, each by itself. */
static ptq_status return_lanes(pass *p, int threads, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool own = p->sink->curvature == PTQ_CURVATURE_HESSIAN;
  const int64_t last = own ? 0 : p->k;
  for (p->lane = own ? 0 : 1; p->lane <= last; p->lane++)
    PTQ_TRY(ptq_crew_run_ordered(threads, 0, p->windows,
                                 ptq_layer_count(p->g->info), return_window, p,
                                 err));
done:
  return rc;
}

static ptq_status go_back(pass *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_grad *g = p->g;
  /* The sink sees windows one by one. */
  const int threads = p->sink->window != NULL ? 1 : g->setup.threads;
  for (p->block = g->info->n_blocks - 1; p->block >= 0; p->block--) {
    PTQ_TRY(fetch(p, err));
    set_clear(g->info, &g->g);
    for (int64_t j = 0; j < p->k; j++) set_clear(g->info, &g->he[j]);
    PTQ_TRY(return_lanes(p, threads, err));
    PTQ_TRY(deliver(p, err));
  }
done:
  return rc;
}

ptq_status ptq_grad_run(ptq_grad *g, int64_t c0, int64_t c1,
                        const ptq_directions *d, const ptq_grad_sink *sink,
                        double *nll, double *nlld, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  pass p = {.g = g, .d = d, .sink = sink, .k = d != NULL ? d->k : 0};
  PTQ_ASSERT(0 <= c0 && c0 <= c1 && c1 <= ptq_grad_chunks(g));
  PTQ_ASSERT(p.k <= g->setup.max_tangents);
  PTQ_ASSERT(sink->curvature == PTQ_CURVATURE_HESSIAN ||
             (!sink->gradient && sink->window == NULL));
  PTQ_TRY(ptq_alloc(&p.nlld, PTQ_GRAD_CHUNK * p.k, sizeof *p.nlld,
                    "derivatives", err));
  for (p.chunk = c0; p.chunk < c1; p.chunk++) {
    const int64_t i = p.chunk - c0;
    p.windows = chunk_windows(g, p.chunk);
    PTQ_TRY(go_forth(&p, err));
    PTQ_TRY(turn(&p, &nll[i], nlld != NULL ? nlld + i * p.k : NULL, err));
    if (goes_back(&p)) PTQ_TRY(go_back(&p, err));
  }
done:
  ptq_free(p.nlld);
  return rc;
}
