/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What a gradient and a Hessian-vector product cost in forward passes: two
 * single-threaded processes on disjoint windows of random tokens take turns,
 * each chunk with a forward pass, a gradient and products, waiting for one
 * another in between. Tokens a second are by the wall clock; costs in forward
 * passes by processor time, so that what else the machine does matters little.
 *
 *   bench_gradient [--max-gradient R] [--max-product R] MODEL_DIR
 *                  [TOKENS [TURNS]]
 *
 * A forward pass is embedding, blocks, final norm and NLL of each window, as a
 * sweep does it; a gradient and a product are of a chunk's NLL by all linear
 * layers, sums of the chunk handed out. Exit 1 above a bound R.
 */
#define _DEFAULT_SOURCE /* MAP_ANONYMOUS */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/eval/score.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

enum { PROCESSES = 2, WINDOWS = PTQ_GRAD_CHUNK, WIDTHS = 2 };

/* Directions at once in the two kinds of products. */
static const int64_t widths[WIDTHS] = {1, 3};

/* What is timed, in turn. */
enum { FORWARD, GRADIENT, PRODUCT, PHASES = PRODUCT + WIDTHS };

/* What both processes see. */
typedef struct shared {
  pthread_barrier_t gate;
  double seconds[PROCESSES][PHASES]; /* wall clock */
  double cpu[PROCESSES][PHASES];     /* processor time */
  double norm[PROCESSES];            /* of the gradient, and so of use */
} shared;

typedef struct bench {
  ptq_model *model;     /* owned */
  ptq_block *blocks;    /* owned; [n_blocks] */
  ptq_embedding tokens; /* owned */
  ptq_head head;        /* owned */
  int64_t length;
  int turns;
} bench;

/* What a process has of its own. */
typedef struct worker {
  const bench *b; /* borrowed */
  uint32_t *ids;  /* owned; [WINDOWS, length] */
  float *h;       /* owned; [length, d_model] */
  ptq_workspace *ws;
  ptq_scorer *scorer;
  ptq_grad *grad;
  ptq_random_directions random;
  double norm;
} worker;

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

static ptq_status begin(const bench *b, uint64_t seed, worker *w,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = ptq_model_get_info(b->model);
  const int64_t n = WINDOWS * b->length;
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  w->b = b;
  PTQ_TRY(ptq_alloc(&w->ids, n, sizeof *w->ids, "tokens", err));
  for (int64_t i = 0; i < n; i++)
    w->ids[i] = (uint32_t)ptq_rng_below(&rng, (uint64_t)info->vocab);
  PTQ_TRY(ptq_alloc(&w->h, b->length * info->d_model, sizeof *w->h,
                    "activations", err));
  PTQ_TRY(ptq_workspace_create(info, b->length, &w->ws, err));
  PTQ_TRY(ptq_scorer_create(info, b->length, 0, &w->scorer, err));
  const ptq_grad_setup setup = {.model = b->model,
                                .blocks = b->blocks,
                                .ids = w->ids,
                                .n_windows = WINDOWS,
                                .length = b->length,
                                .max_tangents = widths[WIDTHS - 1],
                                .budget_bytes = INT64_C(6) << 30};
  PTQ_TRY(ptq_grad_create(&setup, &w->grad, err));
  PTQ_TRY(
      ptq_random_directions_init(info, seed, PTQ_PROBE_SIGNS, &w->random, err));
done:
  return rc;
}

static void end(worker *w) {
  ptq_free(w->ids);
  ptq_free(w->h);
  ptq_workspace_free(w->ws);
  ptq_scorer_free(w->scorer);
  ptq_grad_free(w->grad);
  ptq_random_directions_release(&w->random);
}

static ptq_status forward(worker *w, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bench *b = w->b;
  const ptq_model_info *info = ptq_model_get_info(b->model);
  for (int i = 0; i < WINDOWS; i++) {
    const uint32_t *ids = w->ids + i * b->length;
    double nll = 0.0;
    PTQ_TRY(ptq_embed(info, &b->tokens, ids, b->length, w->h, err));
    for (int64_t k = 0; k < info->n_blocks; k++)
      PTQ_TRY(ptq_block_forward(info, &b->blocks[k], w->h, b->length, w->ws,
                                NULL, PTQ_SITE_COUNT, err));
    ptq_head_norm(info, &b->head, w->h, b->length);
    PTQ_TRY(ptq_score_window(w->scorer, &b->head, ids, b->length, w->h, NULL, 0,
                             &nll, NULL, NULL, err));
  }
done:
  return rc;
}

/* A use of what is handed out: sums of squares. */
static ptq_status take(void *ctx, const ptq_grad_layer *l, ptq_err *err) {
  worker *w = ctx;
  (void)err;
  if (l->g != NULL) w->norm += ptq_vec_sum_sq(l->g, l->out * l->in);
  for (int64_t j = 0; j < l->k; j++)
    w->norm += ptq_vec_sum_sq(l->he[j], l->out * l->in);
  return PTQ_OK;
}

static ptq_status run_phase(worker *w, int phase, ptq_err *err) {
  if (phase == FORWARD) return forward(w, err);
  ptq_grad_sink sink = {.ctx = w,
                        .gradient = phase == GRADIENT,
                        .products = phase != GRADIENT,
                        .layer = take};
  double nll = 0.0, slopes[8];
  if (phase == GRADIENT)
    return ptq_grad_run(w->grad, 0, 1, NULL, &sink, &nll, NULL, err);
  const ptq_directions d =
      ptq_random_directions_at(&w->random, 0, widths[phase - PRODUCT]);
  return ptq_grad_run(w->grad, 0, 1, &d, &sink, &nll, slopes, err);
}

/* A process: the first turn warms up and does not count. */
static ptq_status work(const bench *b, shared *sh, int p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  worker w = {0};
  PTQ_TRY(begin(b, 1 + (uint64_t)p, &w, err));
  for (int turn = 0; turn <= b->turns; turn++)
    for (int phase = 0; phase < PHASES; phase++) {
      (void)pthread_barrier_wait(&sh->gate);
      const double from = now_s(CLOCK_MONOTONIC);
      const double cpu = now_s(CLOCK_PROCESS_CPUTIME_ID);
      PTQ_TRY(run_phase(&w, phase, err));
      if (turn == 0) continue;
      sh->seconds[p][phase] += now_s(CLOCK_MONOTONIC) - from;
      sh->cpu[p][phase] += now_s(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    }
  sh->norm[p] = w.norm;
done:
  end(&w);
  return rc;
}

static shared *share(void) {
  shared *sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_barrierattr_t attr;
  if (sh == MAP_FAILED) return NULL;
  memset(sh, 0, sizeof *sh);
  if (pthread_barrierattr_init(&attr) != 0 ||
      pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) != 0 ||
      pthread_barrier_init(&sh->gate, &attr, PROCESSES) != 0)
    return NULL;
  return sh;
}

/* Forks the processes; one that fails takes the other with it, which would
 * wait for it forever. */
static int run_processes(const bench *b, shared *sh) {
  pid_t ids[PROCESSES] = {0};
  int failed = 0;
  for (int p = 0; p < PROCESSES && !failed; p++) {
    ids[p] = fork();
    if (ids[p] == 0) {
      ptq_err err = {0};
      const ptq_status rc = work(b, sh, p, &err);
      if (rc != PTQ_OK) fprintf(stderr, "bench_gradient: %s\n", err.msg);
      _exit(rc == PTQ_OK ? 0 : 1);
    }
    failed = ids[p] < 0;
  }
  for (int p = 0; p < PROCESSES; p++) {
    int status = 0;
    const pid_t pid = failed ? 0 : wait(&status);
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    failed = 1;
    for (int k = 0; k < PROCESSES; k++)
      if (ids[k] > 0 && ids[k] != pid) (void)kill(ids[k], SIGKILL);
  }
  return failed;
}

static void print(const bench *b, const shared *sh, double cost[PHASES]) {
  const double tokens = (double)(WINDOWS * b->length * b->turns);
  for (int phase = 0; phase < PHASES; phase++) {
    double rate = 0.0, cpu = 0.0, forward_cpu = 0.0;
    const double per = phase < PRODUCT ? 1.0 : (double)widths[phase - PRODUCT];
    for (int p = 0; p < PROCESSES; p++) {
      rate += per * tokens / sh->seconds[p][phase];
      cpu += sh->cpu[p][phase] / per;
      forward_cpu += sh->cpu[p][FORWARD];
    }
    cost[phase] = cpu / forward_cpu;
    if (phase < PRODUCT)
      printf("%-22s", phase == FORWARD ? "forward pass" : "gradient");
    else
      printf("%-18s %2lld ",
             "product, at once:", (long long)widths[phase - PRODUCT]);
    printf(" %5lld: %7.1f tokens/s, %.2f forward passes\n",
           (long long)b->length, rate, cost[phase]);
  }
  fflush(stdout);
}

static int run(const char *dir, bench *b, double most_gradient,
               double most_product) {
  ptq_err err = {0};
  double cost[PHASES] = {0.0};
  shared *sh = NULL;
  int rc = 1;
  if (ptq_blas_init(&err) != PTQ_OK || load(dir, b, &err) != PTQ_OK) {
    fprintf(stderr, "bench_gradient: %s\n", err.msg);
    goto done;
  }
  printf("%d processes of one thread; %s, kernels %s\n", PROCESSES,
         ptq_blas_name(), ptq_vec_isa());
  fflush(stdout);
  sh = share();
  if (sh == NULL || run_processes(b, sh) != 0) goto done;
  print(b, sh, cost);
  rc = cost[GRADIENT] > most_gradient || cost[PHASES - 1] > most_product;
done:
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
