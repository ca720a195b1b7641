/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Speed of the forward pass as a share of what matrix products reach: two
 * single-threaded processes walk disjoint windows of random tokens, and every
 * few blocks both stop and multiply 2048 x 2048 matrices, so that whatever
 * else the machine does slows both alike. Times are wall-clock.
 *
 *   bench_forward [--bf16] [--min-share S] MODEL_DIR [TOKENS...]
 *
 * The pass is embedding, blocks, final norm and NLL; its FLOPs are those of
 * linear layers, causal attention (half) and head. With --bf16 the pass and
 * the matrices multiply bfloat16. Exit 1 below the share S.
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
#include "ptq/model/forward.h"
#include "ptq/num/blas.h"
#include "ptq/num/numerics.h"

enum { PROCESSES = 2, ORDER = 2048, BLOCKS_A_TURN = 3, MAX_LENGTHS = 8 };

/* What both processes see. */
typedef struct shared {
  pthread_barrier_t gate;
  double forward_s[PROCESSES], matrix_s[PROCESSES];
  double forward_flops[PROCESSES], matrix_flops[PROCESSES];
  double nll[PROCESSES];
} shared;

typedef struct bench {
  ptq_model *model;     /* owned */
  ptq_block *blocks;    /* owned; [n_blocks] */
  ptq_embedding tokens; /* owned */
  ptq_head head;        /* owned */
  float *a, *b, *c;     /* owned; [ORDER, ORDER] */
  ptq_compute compute;
} bench;

/* The matrices of one process, which multiplies them now and then. */
typedef struct matrices {
  ptq_multiplier *mul; /* owned; NULL in float32 */
  ptq_packed *packed;  /* owned; b */
} matrices;

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static ptq_status load(const char *dir, bench *s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_model_open(dir, &s->model, err));
  PTQ_TRY(ptq_model_set_compute(s->model, s->compute, err));
  const ptq_model_info *info = ptq_model_get_info(s->model);
  PTQ_TRY(
      ptq_alloc(&s->blocks, info->n_blocks, sizeof *s->blocks, "blocks", err));
  for (int64_t i = 0; i < info->n_blocks; i++)
    PTQ_TRY(ptq_model_load_block(s->model, i, &s->blocks[i], err));
  PTQ_TRY(ptq_model_load_embedding(s->model, &s->tokens, err));
  PTQ_TRY(ptq_model_load_head(s->model, &s->head, err));
  float **const all[] = {&s->a, &s->b, &s->c};
  for (int m = 0; m < 3; m++) {
    PTQ_TRY(ptq_alloc(all[m], ORDER * ORDER, sizeof(float), "a matrix", err));
    for (int64_t i = 0; i < ORDER * ORDER; i++)
      (*all[m])[i] = (float)(i % 1021) / 1021.0F - 0.5F;
  }
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
  ptq_free(s->a);
  ptq_free(s->b);
  ptq_free(s->c);
  ptq_model_close(s->model);
}

static ptq_status matrices_open(const bench *s, matrices *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *m = (matrices){0};
  if (s->compute != PTQ_COMPUTE_BF16) return PTQ_OK;
  PTQ_TRY(ptq_multiplier_create(&m->mul, err));
  PTQ_TRY(ptq_packed_create(m->mul, ORDER, ORDER, &m->packed, err));
  PTQ_TRY(ptq_packed_set(m->packed, m->mul, s->b, err));
done:
  return rc;
}

static void matrices_close(matrices *m) {
  ptq_packed_free(m->packed);
  ptq_multiplier_free(m->mul);
}

static ptq_status multiply(const bench *s, const matrices *m, shared *sh, int p,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  (void)pthread_barrier_wait(&sh->gate);
  const double from = now_s();
  if (m->mul != NULL)
    rc = ptq_bf16_apply(m->mul, ORDER, s->a, m->packed, s->c, err);
  else
    ptq_sgemm_nt(ORDER, ORDER, ORDER, 1.0F, s->a, ORDER, s->b, ORDER, 0.0F,
                 s->c, ORDER);
  sh->matrix_s[p] += now_s() - from;
  sh->matrix_flops[p] += 2.0 * ORDER * ORDER * (double)ORDER;
  (void)pthread_barrier_wait(&sh->gate);
  return rc;
}

/* One window through the model, interleaved with products. */
static ptq_status walk(const bench *s, const matrices *m, shared *sh, int p,
                       const uint32_t *ids, int64_t n, float *h,
                       ptq_workspace *ws, ptq_scorer *sc, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = ptq_model_get_info(s->model);
  double from = now_s(), nll = 0.0;
  PTQ_TRY(ptq_embed(info, &s->tokens, ids, n, h, err));
  for (int64_t i = 0; i < info->n_blocks; i++) {
    PTQ_TRY(ptq_block_forward(info, &s->blocks[i], h, n, ws, NULL,
                              PTQ_SITE_COUNT, err));
    if ((i + 1) % BLOCKS_A_TURN == 0) {
      sh->forward_s[p] += now_s() - from;
      PTQ_TRY(multiply(s, m, sh, p, err));
      from = now_s();
    }
  }
  ptq_head_norm(info, &s->head, h, n);
  PTQ_TRY(ptq_score_window(sc, &s->head, ids, n, h, NULL, 0, &nll, NULL, NULL,
                           err));
  sh->forward_s[p] += now_s() - from;
  sh->forward_flops[p] += ptq_forward_flops(info, n, true);
  sh->nll[p] += nll / (double)(n - 1);
  PTQ_TRY(multiply(s, m, sh, p, err));
done:
  return rc;
}

/* A process: the first window warms up and does not count. */
static ptq_status work(const bench *s, shared *sh, int p, int64_t n,
                       int windows, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = ptq_model_get_info(s->model);
  ptq_workspace *ws = NULL;
  ptq_scorer *sc = NULL;
  uint32_t *ids = NULL;
  float *h = NULL;
  matrices m;
  ptq_rng rng;
  ptq_rng_init(&rng, 1 + (uint64_t)p);
  PTQ_TRY(matrices_open(s, &m, err));
  PTQ_TRY(ptq_workspace_create(info, n, &ws, err));
  PTQ_TRY(ptq_scorer_create(info, n, 0, &sc, err));
  PTQ_TRY(ptq_alloc(&ids, n, sizeof *ids, "tokens", err));
  PTQ_TRY(ptq_alloc(&h, n * info->d_model, sizeof *h, "activations", err));
  for (int w = 0; w <= windows; w++) {
    for (int64_t i = 0; i < n; i++)
      ids[i] = (uint32_t)ptq_rng_below(&rng, (uint64_t)info->vocab);
    PTQ_TRY(walk(s, &m, sh, p, ids, n, h, ws, sc, err));
    if (w > 0) continue;
    sh->forward_s[p] = sh->forward_flops[p] = sh->nll[p] = 0.0;
    sh->matrix_s[p] = sh->matrix_flops[p] = 0.0;
  }
done:
  ptq_free(ids);
  ptq_free(h);
  ptq_scorer_free(sc);
  ptq_workspace_free(ws);
  matrices_close(&m);
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
static int run_processes(const bench *s, shared *sh, int64_t n, int windows) {
  pid_t ids[PROCESSES] = {0};
  int failed = 0;
  for (int p = 0; p < PROCESSES; p++) {
    ids[p] = fork();
    if (ids[p] == 0) {
      ptq_err err = {0};
      const ptq_status rc = work(s, sh, p, n, windows, &err);
      if (rc != PTQ_OK) fprintf(stderr, "bench_forward: %s\n", err.msg);
      _exit(rc == PTQ_OK ? 0 : 1);
    }
    if (ids[p] < 0) {
      failed = 1;
      break;
    }
  }
  for (int p = 0; failed && p < PROCESSES && ids[p] > 0; p++)
    (void)kill(ids[p], SIGKILL);
  for (int p = 0; p < PROCESSES; p++) {
    int status = 0;
    const pid_t pid = wait(&status);
    if (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    failed = 1;
    for (int k = 0; k < PROCESSES; k++)
      if (ids[k] > 0 && ids[k] != pid) (void)kill(ids[k], SIGKILL);
  }
  return failed;
}

/* Share of the matrices' rate, or -1. */
static double measure(const bench *s, int64_t n) {
  const int windows = n >= 2048 ? 2 : (int)(4096 / n);
  shared *sh = share();
  if (sh == NULL) return -1.0;
  double share_of_peak = -1.0;
  if (run_processes(s, sh, n, windows) == 0) {
    double forward = 0.0, matrix = 0.0, tokens = 0.0;
    for (int p = 0; p < PROCESSES; p++) {
      forward += sh->forward_flops[p] / sh->forward_s[p];
      matrix += sh->matrix_flops[p] / sh->matrix_s[p];
      tokens += (double)(windows * n) / sh->forward_s[p];
    }
    share_of_peak = forward / matrix;
    printf("forward %5lld: %7.1f tokens/s %6.1f GFLOP/s, %d x %d %s matrices "
           "%6.1f GFLOP/s, share %.3f (NLL %.3f)\n",
           (long long)n, tokens, forward * 1e-9, ORDER, ORDER,
           ptq_compute_name(s->compute), matrix * 1e-9, share_of_peak,
           sh->nll[0] / windows);
    fflush(stdout);
  }
  (void)pthread_barrier_destroy(&sh->gate);
  (void)munmap(sh, sizeof *sh);
  return share_of_peak;
}

static int run(const char *dir, ptq_compute compute, const int64_t *lengths,
               int n_lengths, double least) {
  bench s = {.compute = compute};
  char numerics[PTQ_NUMERICS_MAX];
  ptq_err err = {0};
  int rc = 0;
  if (ptq_blas_init(&err) != PTQ_OK ||
      (compute == PTQ_COMPUTE_BF16 && ptq_bf16_init(&err) != PTQ_OK) ||
      load(dir, &s, &err) != PTQ_OK) {
    fprintf(stderr, "bench_forward: %s\n", err.msg);
    unload(&s);
    return 1;
  }
  ptq_numerics_text(compute, numerics);
  printf("%d processes of one thread; %s\n", PROCESSES, numerics);
  fflush(stdout);
  for (int i = 0; i < n_lengths; i++)
    if (measure(&s, lengths[i]) < least) rc = 1;
  unload(&s);
  return rc;
}

int main(int argc, char **argv) {
  int64_t lengths[MAX_LENGTHS] = {512, 2048};
  int n = 2, at = 1;
  double least = 0.0;
  ptq_compute compute = PTQ_COMPUTE_F32;
  if (argc > 1 && strcmp(argv[1], "--bf16") == 0) {
    compute = PTQ_COMPUTE_BF16;
    argc--;
    argv++;
  }
  if (argc > 2 && strcmp(argv[1], "--min-share") == 0) {
    least = strtod(argv[2], NULL);
    at = 3;
  }
  if (argc <= at || argc - at - 1 > MAX_LENGTHS) {
    fprintf(stderr, "usage: bench_forward [--bf16] [--min-share S] MODEL_DIR "
                    "[TOKENS...]\n");
    return 2;
  }
  if (argc - at > 1) n = argc - at - 1;
  for (int i = 0; i < argc - at - 1; i++) {
    lengths[i] = strtoll(argv[at + 1 + i], NULL, 10);
    if (lengths[i] < 2) {
      fprintf(stderr, "bench_forward: '%s' is not a length in tokens\n",
              argv[at + 1 + i]);
      return 2;
    }
  }
  return run(argv[at], compute, lengths, n, least);
}
