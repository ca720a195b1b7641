/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "displaced.h"

#include <string.h>

#include "collect.h"
#include "directions.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "setup.h"
#include "stream.h"

/* Of d eigenvectors, as many are the top ones. */
static int64_t top_of(int64_t d) {
  return d > 16 ? d / 16 : 1;
}

/* Buffers of a layer's alignment, for the largest one. */
typedef struct scratch {
  double *h;       /* owned; [in, in] eats the moment; again E H [out, in] */
  double *e;       /* owned; [out, in] */
  double *vectors; /* owned; [top, in] of the site at hand */
  double *values;  /* owned; [in] */
  double *along;   /* owned; [out, top] */
} scratch;

typedef struct sizes {
  int64_t weights, width, top, along; /* most of each */
} sizes;

static int64_t larger(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static sizes sizes_of(const ptq_model_info *info) {
  sizes s = {0};
  for (int l = 0; l < ptq_layer_count(info); l++) {
    if (!ptq_layer_present(info, l)) continue;
    const int64_t out = ptq_role_outputs(info, ptq_layer_role(l));
    const int64_t in = ptq_role_inputs(info, ptq_layer_role(l));
    s.weights = larger(s.weights, out * in);
    s.width = larger(s.width, in);
    s.top = larger(s.top, top_of(in) * in);
    s.along = larger(s.along, out * top_of(in));
  }
  return s;
}

/* The walk over the calibration text. */
typedef struct walk {
  ptq_displaced *out;
  bool gptq, aligned;
  ptq_setup setup;         /* owned */
  ptq_displacer displacer; /* owned; of RTN, and of GPTQ's method */
  ptq_hands hands;         /* owned */
  ptq_stream calib;        /* owned */
  ptq_collected inputs;    /* owned */
  ptq_factor_cache *cache; /* owned */
  ptq_block block;         /* owned */
  scratch s;               /* owned */
  int site;                /* whose eigenvectors are at hand; -1: none */
  int64_t layer;           /* at hand, of all blocks */
} walk;

static ptq_status open_scratch(walk *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const sizes n = sizes_of(w->setup.info);
  const int64_t square = larger(n.width * n.width, n.weights);
  PTQ_TRY(ptq_alloc(&w->s.h, square, sizeof(double), "H", err));
  PTQ_TRY(ptq_alloc(&w->s.e, n.weights, sizeof(double), "an error", err));
  PTQ_TRY(ptq_alloc(&w->s.vectors, n.top, sizeof(double), "vectors", err));
  PTQ_TRY(ptq_alloc(&w->s.values, n.width, sizeof(double), "values", err));
  PTQ_TRY(ptq_alloc(&w->s.along, n.along, sizeof(double), "errors", err));
done:
  return rc;
}

static ptq_status embed(walk *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_embedding e = {0};
  const ptq_setup *s = &w->setup;
  PTQ_TRY(ptq_model_load_embedding(s->model, &e, err));
  PTQ_TRY(ptq_stream_embed(&w->calib, s->room, s->info, &e, &s->calib, err));
done:
  ptq_embedding_release(&e);
  return rc;
}

static ptq_status walk_open(walk *w, const ptq_grid *g, int64_t direction,
                            ptq_displaced *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_direction *d = &g->directions[direction];
  *w = (walk){.out = out,
              .gptq = d->kind == PTQ_DIRECTION_GPTQ,
              .aligned = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL,
              .calib = {.h = {.fd = -1}}};
  PTQ_TRY(ptq_setup_open(&w->setup, g, d->subject, err));
  const ptq_setup *s = &w->setup;
  PTQ_TRY(ptq_displacer_open(&w->displacer, g, d, s->model, NULL, err));
  PTQ_TRY(embed(w, err));
  PTQ_TRY(ptq_hands_open(&w->hands, s->info, s->room.hands,
                         ptq_setup_max_length(s), err));
  PTQ_TRY(ptq_collected_open(&w->inputs, s->info, s->room, PTQ_COLLECT_MOMENTS,
                             0, s->calib.n, s->calib.length, err));
  PTQ_TRY(ptq_factor_cache_create(&w->cache, err));
  if (w->gptq)
    PTQ_TRY(ptq_spool_open(&out->weights, s->room, s->info->n_blocks,
                           ptq_displacer_weights(s->info), "quantized weights",
                           err));
  if (!w->aligned) return PTQ_OK;
  PTQ_TRY(open_scratch(w, err));
  PTQ_TRY(ptq_alloc(&out->alignment,
                    ptq_subject_layers(&g->subjects[d->subject]),
                    sizeof *out->alignment, "alignments", err));
done:
  return rc;
}

static void walk_close(walk *w) {
  ptq_free(w->s.h);
  ptq_free(w->s.e);
  ptq_free(w->s.vectors);
  ptq_free(w->s.values);
  ptq_free(w->s.along);
  ptq_block_release(&w->block);
  ptq_factor_cache_free(w->cache);
  ptq_collected_close(&w->inputs);
  ptq_stream_release(&w->calib);
  ptq_hands_close(&w->hands);
  ptq_displacer_close(&w->displacer);
  ptq_setup_close(&w->setup);
}

static ptq_status see_input(void *ctx, int site, const float *x, int64_t n,
                            int64_t width, ptq_err *err) {
  return ptq_collect_input(ctx, site, x, n, width, err);
}

static ptq_status see_routed(void *ctx, int expert, const int32_t *tokens,
                             int64_t n, ptq_err *err) {
  return ptq_collect_routed(ctx, expert, tokens, n, err);
}

static ptq_status push_window(void *ctx, int hand, int64_t i, ptq_order *order,
                              ptq_err *err) {
  walk *w = ctx;
  ptq_status rc = PTQ_OK;
  ptq_collector in = ptq_collect_window(&w->inputs, hand, i, order);
  const ptq_forward_hook hook = {
      .ctx = &in, .input = see_input, .routed = see_routed};
  PTQ_TRY(
      ptq_stream_push(&w->calib, &w->hands, hand, i, &w->block, &hook, err));
  PTQ_TRY(ptq_collect_window_end(&in, err));
done:
  return rc;
}

/* Top eigenvectors of a site's H, which several layers share. */
static ptq_status find_vectors(walk *w, int site, const double *h, int64_t d,
                               ptq_err *err) {
  if (w->site == site) return PTQ_OK;
  w->site = site;
  memcpy(w->s.h, h, (size_t)(d * d) * sizeof *h);
  return ptq_eigenvectors(w->s.h, d, top_of(d), w->s.values, w->s.vectors, err);
}

static double dot(const double *x, const double *y, int64_t n) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
  return sum;
}

/* tr(A H A') of a[out, in], through w->s.h. */
static double quadratic(walk *w, const double *a, const double *h, int64_t out,
                        int64_t in) {
  ptq_dgemm_nn(out, in, in, 1.0, a, in, h, in, 0.0, w->s.h, in);
  return dot(w->s.h, a, out * in);
}

/* With v_j the top eigenvectors, of values u_j: E is along them E v_j, of
 * squared lengths |E v_j|^2, which H weighs by u_j. A layer that loses nothing
 * has no error to lie anyhow: NaN. */
static ptq_status align(walk *w, int layer, const double *h, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_linear *l = &w->block.linear[layer];
  const int64_t n = l->out * l->in, top = top_of(l->in);
  ptq_alignment *a = &w->out->alignment[w->layer];
  double *e = w->s.e, along = 0.0, weighed = 0.0;
  for (int64_t i = 0; i < n; i++) e[i] = (double)l->weight[i];
  const double signal = quadratic(w, e, h, l->out, l->in);
  for (int64_t i = 0; i < n; i++) e[i] = (double)w->displacer.d[layer][i];
  const double noise = quadratic(w, e, h, l->out, l->in);
  PTQ_TRY(find_vectors(w, ptq_layer_site(layer), h, l->in, err));
  ptq_dgemm_nt(l->out, top, l->in, 1.0, e, l->in, w->s.vectors, l->in, 0.0,
               w->s.along, top);
  for (int64_t i = 0; i < l->out; i++)
    for (int64_t j = 0; j < top; j++) {
      const double square = w->s.along[i * top + j] * w->s.along[i * top + j];
      along += square;
      weighed += square * w->s.values[j];
    }
  *a = (ptq_alignment){.output_noise = noise,
                       .err_hessian = noise / signal,
                       .err_top = weighed / noise,
                       .size_top = along / dot(e, e, n)};
done:
  return rc;
}

static ptq_status take_block(walk *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = w->setup.info;
  w->site = -1;
  ptq_factor_cache_reset(w->cache);
  for (int layer = 0; layer < ptq_layer_count(info); layer++) {
    const ptq_site_moments *m = NULL;
    if (!ptq_layer_present(info, layer)) continue;
    PTQ_TRY(ptq_collected_site(&w->inputs, ptq_layer_site(layer), &m, err));
    PTQ_TRY(ptq_displacer_quantize(&w->displacer, &w->block, layer, m->h,
                                   w->cache, w->setup.room.hands, err));
    if (w->aligned) PTQ_TRY(align(w, layer, m->h, err));
    w->layer++;
  }
  if (!w->gptq) return PTQ_OK;
  float *to = ptq_spool_fresh(&w->out->weights, 0, w->block.index);
  const int64_t n = ptq_displacer_weights(info);
  memcpy(to, ptq_displacer_rounded(&w->displacer), (size_t)n * sizeof *to);
  PTQ_TRY(ptq_spool_put(&w->out->weights, 0, n, err));
done:
  return rc;
}

bool ptq_displaced_is_needed(const ptq_grid *g, int64_t direction) {
  const int kind = g->directions[direction].kind;
  return kind == PTQ_DIRECTION_GPTQ ||
         (kind == PTQ_DIRECTION_RTN &&
          g->spec->landscape.mode == PTQ_LANDSCAPE_FULL);
}

ptq_status ptq_displaced_run(ptq_displaced *out, const ptq_grid *g,
                             int64_t direction, const ptq_sink *sink,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  walk w = {0};
  *out = (ptq_displaced){.weights = {.fd = -1}};
  PTQ_TRY(walk_open(&w, g, direction, out, err));
  const int64_t blocks = w.setup.info->n_blocks;
  for (int64_t i = 0; i < blocks; i++) {
    ptq_block_release(&w.block);
    PTQ_TRY(ptq_model_load_block(w.setup.model, i, &w.block, err));
    PTQ_TRY(ptq_collect_pass(&w.inputs, (ptq_site)0, PTQ_SITE_MLP_OUT,
                             push_window, &w, err));
    PTQ_TRY(take_block(&w, err));
    PTQ_TRY(
        sink->alive(sink->ctx, (double)(i + 1) / (double)(blocks + 1), err));
  }
done:
  walk_close(&w);
  return rc;
}

void ptq_displaced_close(ptq_displaced *d) {
  if (d->weights.n > 0) ptq_spool_close(&d->weights);
  ptq_free(d->alignment);
  *d = (ptq_displaced){.weights = {.fd = -1}};
}

int64_t ptq_displaced_left_bytes(const ptq_grid *g, int64_t direction) {
  const ptq_direction *d = &g->directions[direction];
  const ptq_model_info *info = &g->subjects[d->subject].info;
  if (d->kind != PTQ_DIRECTION_GPTQ) return 0;
  return ptq_spool_bytes(ptq_room_of(g), info->n_blocks,
                         ptq_displacer_weights(info));
}

int64_t ptq_displaced_bytes(const ptq_grid *g, int64_t direction) {
  const ptq_direction *d = &g->directions[direction];
  const ptq_model_info *info = &g->subjects[d->subject].info;
  const ptq_texts t = ptq_texts_of(g, d->subject);
  const sizes n = sizes_of(info);
  const int64_t calib = t.calib->windows, length = t.calib->length;
  ptq_collected_size in =
      ptq_collected_bytes(info, t.room, PTQ_COLLECT_MOMENTS, 0, calib, length);
  int64_t bytes = in.fixed + in.sums, built = 0, factors = 0;
  for (int s = 0; s < PTQ_SITE_COUNT; s++) {
    const int64_t width = ptq_site_width(info, s);
    bytes += in.kept[s];
    built = larger(built, in.built[s]);
    factors += 2 * width * width * (int64_t)sizeof(double);
  }
  bytes += built;
  bytes += ptq_spool_bytes(t.room, calib, length * info->d_model) +
           ptq_hands_bytes(info, t.room.hands, larger(length, t.eval->length)) +
           ptq_displacer_bytes(info, d->kind) + ptq_model_block_bytes(info) +
           ptq_model_embedding_bytes(info) +
           ptq_displaced_left_bytes(g, direction);
  if (d->kind == PTQ_DIRECTION_GPTQ)
    bytes += factors + 2 * n.weights * (int64_t)sizeof(double);
  if (g->spec->landscape.mode == PTQ_LANDSCAPE_FULL)
    bytes +=
        (int64_t)sizeof(double) * (2 * larger(n.width * n.width, n.weights) +
                                   n.weights + n.top + n.width + n.along);
  return bytes;
}

/* Products of an error with H in float64, twice as slow; LAPACK's dsyevr with
 * a few vectors costs about as much as without; GPTQ's own work. */
double ptq_displaced_flops(const ptq_grid *g, int64_t direction) {
  const ptq_direction *d = &g->directions[direction];
  const ptq_model_info *info = &g->subjects[d->subject].info;
  const bool aligned = g->spec->landscape.mode == PTQ_LANDSCAPE_FULL;
  double flops = 0.0;
  ptq_method m;
  if (ptq_displacer_method(d->kind, &m, NULL) != PTQ_OK) return 0.0;
  for (int l = 0; l < ptq_layer_count(info); l++) {
    if (!ptq_layer_present(info, l)) continue;
    const int64_t out = ptq_role_outputs(info, ptq_layer_role(l));
    const int64_t in = ptq_role_inputs(info, ptq_layer_role(l));
    const double weights = (double)out * (double)in, width = (double)in;
    flops += m.family->flops(&m, out, in);
    if (aligned)
      flops += 2.0 * 2.0 * 2.0 * weights * width +
               (4.0 * width + 700.0) * width * width / 2.0;
  }
  return flops * (double)info->n_blocks;
}
