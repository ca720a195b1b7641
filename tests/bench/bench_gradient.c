/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a gradient and products with the Hessian and the Gauss-Newton matrix
 * cost in forward passes: two threads of one process share the windows of a
 * chunk of random tokens out, in turn for forward passes, a gradient and
 * products. Tokens a second are by the wall clock; costs in forward passes by
 * processor time, so that what else the machine does matters little.
 *
 *   bench_gradient [--max-gradient R] [--max-product R] MODEL_DIR
 *                  [TOKENS [TURNS]]
 *
 * A forward pass is embedding, blocks, final norm and NLL of each window, as a
 * sweep does it; a gradient and a product are of a chunk's NLL by all linear
 * layers, sums of the chunk handed out. The costs are those of the best turn of
 * each; exit 1 above a bound R.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ptq/base/crew.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/eval/score.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

enum { THREADS = 2, WINDOWS = PTQ_GRAD_CHUNK, MOST_AT_ONCE = 3 };

/* What is timed, in turn. */
enum { FORWARD, GRADIENT, PRODUCT, PRODUCTS, HALF, HALVES, PHASES };

static const struct {
  const char *name;
  int64_t width; /* directions at once; 0: no product */
  ptq_curvature curvature;
} phases[PHASES] = {
    [FORWARD] = {"forward pass", 0, PTQ_CURVATURE_HESSIAN},
    [GRADIENT] = {"gradient", 0, PTQ_CURVATURE_HESSIAN},
    [PRODUCT] = {"product, at once:", 1, PTQ_CURVATURE_HESSIAN},
    [PRODUCTS] = {"product, at once:", MOST_AT_ONCE, PTQ_CURVATURE_HESSIAN},
    [HALF] = {"Gauss-Newton:", 1, PTQ_CURVATURE_GAUSS_NEWTON},
    [HALVES] = {"Gauss-Newton:", MOST_AT_ONCE, PTQ_CURVATURE_GAUSS_NEWTON},
};

typedef struct bench {
  ptq_model *model;     /* owned */
  ptq_block *blocks;    /* owned; [n_blocks] */
  ptq_embedding tokens; /* owned */
  ptq_head head;        /* owned */
  int64_t length;
  int turns;
  uint32_t *ids;               /* owned; [WINDOWS, length] */
  float *h[THREADS];           /* owned; [length, d_model] */
  ptq_workspace *ws[THREADS];  /* owned */
  ptq_scorer *scorer[THREADS]; /* owned */
  ptq_grad *grad;              /* owned */
  ptq_random_directions random;
  double norm;                         /* of the results, and so of use */
  double seconds[PHASES], cpu[PHASES]; /* least of a turn: wall, processor */
} bench;

static double now_s(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static ptq_status load(const char *dir, bench *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_model_open(dir, &s->model, err));
  const ptq_model_info *info = ptq_model_get_info(s->model);
  PTQ_TRY(
      ptq_alloc(&s->blocks, info->n_blocks, sizeof *s->blocks, "blocks", err));
  for (int64_t i = 0; i < info->n_blocks; i++)
    PTQ_TRY(ptq_model_load_block(s->model, i, &s->blocks[i], err));
  PTQ_TRY(ptq_model_load_embedding(s->model, &s->tokens, err));
  PTQ_TRY(ptq_model_load_head(s->model, &s->head, err));
done:
  return rc;
}

static void unload(bench *s) {
  const int64_t n =
      s->blocks != NULL ? ptq_model_get_info(s->model)->n_blocks : 0;
  for (int64_t i = 0; i < n; i++) ptq_block_release(&s->blocks[i]);
  ptq_free(s->blocks);
  ptq_embedding_release(&s->tokens);
  ptq_head_release(&s->head);
  ptq_model_close(s->model);
}

static ptq_status begin(bench *b, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = ptq_model_get_info(b->model);
  const int64_t n = WINDOWS * b->length;
  ptq_rng rng;
  ptq_rng_init(&rng, 1);
  PTQ_TRY(ptq_alloc(&b->ids, n, sizeof *b->ids, "tokens", err));
  for (int64_t i = 0; i < n; i++)
    b->ids[i] = (uint32_t)ptq_rng_below(&rng, (uint64_t)info->vocab);
  for (int t = 0; t < THREADS; t++) {
    PTQ_TRY(ptq_alloc(&b->h[t], b->length * info->d_model, sizeof(float),
                      "activations", err));
    PTQ_TRY(ptq_workspace_create(info, b->length, &b->ws[t], err));
    PTQ_TRY(ptq_scorer_create(info, b->length, 0, &b->scorer[t], err));
  }
  const ptq_grad_setup setup = {.model = b->model,
                                .blocks = b->blocks,
                                .ids = b->ids,
                                .n_windows = WINDOWS,
                                .length = b->length,
                                .max_tangents = MOST_AT_ONCE,
                                .threads = THREADS,
                                .budget_bytes = INT64_C(6) << 30};
  PTQ_TRY(ptq_grad_create(&setup, &b->grad, err));
  PTQ_TRY(
      ptq_random_directions_init(info, 1, PTQ_PROBE_SIGNS, &b->random, err));
  for (int phase = 0; phase < PHASES; phase++)
    b->seconds[phase] = b->cpu[phase] = (double)INFINITY;
done:
  return rc;
}

static void end(bench *b) {
  ptq_free(b->ids);
  for (int t = 0; t < THREADS; t++) {
    ptq_free(b->h[t]);
    ptq_workspace_free(b->ws[t]);
    ptq_scorer_free(b->scorer[t]);
  }
  ptq_grad_free(b->grad);
  ptq_random_directions_release(&b->random);
}

static ptq_status forward_window(void *ctx, int hand, int64_t i,
                                 ptq_order *order, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bench *b = ctx;
  const ptq_model_info *info = ptq_model_get_info(b->model);
  const uint32_t *ids = b->ids + i * b->length;
  float *h = b->h[hand];
  double nll = 0.0;
  (void)order;
  PTQ_TRY(ptq_embed(info, &b->tokens, ids, b->length, h, err));
  for (int64_t k = 0; k < info->n_blocks; k++)
    PTQ_TRY(ptq_block_forward(info, &b->blocks[k], h, b->length, b->ws[hand],
                              NULL, PTQ_SITE_COUNT, err));
  ptq_head_norm(info, &b->head, h, b->length);
  PTQ_TRY(ptq_score_window(b->scorer[hand], &b->head, ids, b->length, h, NULL,
                           0, &nll, NULL, NULL, err));
done:
  return rc;
}

/* A use of what is handed out: sums of squares. */
static ptq_status take(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  bench *b = ctx;
  (void)err;
  if (l->g != NULL) b->norm += ptq_vec_sum_sq(l->g, l->out * l->in);
  for (int64_t j = 0; j < l->k; j++)
    b->norm += ptq_vec_sum_sq(l->he[j], l->out * l->in);
  return PTQ_OK;
}

static ptq_status run_phase(bench *b, int phase, ptq_err *err) {
  if (phase == FORWARD)
    return ptq_crew_run(THREADS, WINDOWS, forward_window, b, err);
  ptq_grad_sink sink = {.ctx = b,
                        .gradient = phase == GRADIENT,
                        .products = phase != GRADIENT,
                        .curvature = phases[phase].curvature,
                        .layer = take};
  double nll = 0.0, slopes[8];
  if (phase == GRADIENT)
    return ptq_grad_run(b->grad, 0, 1, NULL, &sink, &nll, NULL, err);
  const ptq_directions d =
      ptq_random_directions_at(&b->random, 0, phases[phase].width);
  return ptq_grad_run(b->grad, 0, 1, &d, &sink, &nll, slopes, err);
}

/* The first turn warms up and does not count. */
static ptq_status measure(bench *b, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int turn = 0; turn <= b->turns; turn++)
    for (int phase = 0; phase < PHASES; phase++) {
      const double from = now_s(CLOCK_MONOTONIC);
      const double cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
      PTQ_TRY(run_phase(b, phase, err));
      if (turn == 0) continue;
      b->seconds[phase] =
          fmin(b->seconds[phase], now_s(CLOCK_MONOTONIC) - from);
      b->cpu[phase] =
          fmin(b->cpu[phase], now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    }
done:
  return rc;
}

static void print(const bench *b, double cost[PHASES]) {
  const double tokens = (double)(WINDOWS * b->length);
  for (int phase = 0; phase < PHASES; phase++) {
    const int64_t width = phases[phase].width;
    const double per = width > 0 ? (double)width : 1.0;
    cost[phase] = b->cpu[phase] / per / b->cpu[FORWARD];
    if (width == 0)
      printf("%-22s", phases[phase].name);
    else
      printf("%-18s %2lld ", phases[phase].name, (long long)width);
    printf(" %5lld: %7.1f tokens/s, %.2f forward passes\n",
           (long long)b->length, per * tokens / b->seconds[phase], cost[phase]);
  }
  fflush(stdout);
}

static int run(const char *dir, bench *b, double most_gradient,
               double most_product) {
  ptq_err err = {0};
  double cost[PHASES] = {0.0};
  int rc = 1;
  if (ptq_blas_init(&err) != PTQ_OK || load(dir, b, &err) != PTQ_OK ||
      begin(b, &err) != PTQ_OK) {
    fprintf(stderr, "bench_gradient: %s\n", err.msg);
    goto done;
  }
  printf("%d threads; %s, kernels %s\n", THREADS, ptq_blas_name(),
         ptq_vec_isa());
  fflush(stdout);
  if (measure(b, &err) != PTQ_OK) {
    fprintf(stderr, "bench_gradient: %s\n", err.msg);
    goto done;
  }
  print(b, cost);
  rc = cost[GRADIENT] > most_gradient || cost[PRODUCTS] > most_product;
done:
  end(b);
  unload(b);
  return rc;
}

int main(int argc, char **argv) {
  bench b = {.length = 512, .turns = 2};
  double most[2] = {1e9, 1e9};
  int at = 1;
  for (; at + 1 < argc && argv[at][0] == '-'; at += 2)
    most[strcmp(argv[at], "--max-product") == 0] = strtod(argv[at + 1], NULL);
  if (argc <= at || argc > at + 3) {
    fprintf(stderr, "usage: bench_gradient [--max-gradient R] [--max-product R]"
                    " MODEL_DIR [TOKENS [TURNS]]\n");
    return 2;
  }
  if (argc > at + 1) b.length = strtoll(argv[at + 1], NULL, 10);
  if (argc > at + 2) b.turns = (int)strtol(argv[at + 2], NULL, 10);
  if (b.length < 2 || b.turns < 1) {
    fprintf(stderr, "bench_gradient: lengths are 2 and more, turns 1\n");
    return 2;
  }
  return run(argv[at], &b, most[0], most[1]);
}
