/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpirun -n R bench_engine --empty ITEMS
 *   how many items without any work go through rank 0 a second;
 * mpirun -n R bench_engine --busy SECONDS
 *   what rank 0 takes of a core while every other rank computes without a
 *   pause, on however few cores, and how long those wait for their next item;
 * bench_engine --store FILE POINTS BLOCKS
 *   creating and resuming a store of so many points of a model of so many
 *   blocks with seven linear layers each, and of 64 windows;
 * bench_engine --points FILE N
 *   writing N results into a store with and without --durable. */
#include <mpi.h>
#include <stdlib.h>

#include "fake.h"
#include "ptq/base/log.h"
#include "ptq/base/text.h"
#include "ptq/store/store.h"

enum { LAYERS_A_BLOCK = 7, WINDOWS = 64, DTYPES = 50 };

static double now_s(clockid_t clock) {
  struct timespec t;
  (void)clock_gettime(clock, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double cpu_s(void) {
  return now_s(CLOCK_PROCESS_CPUTIME_ID);
}

static double wall_s(void) {
  return now_s(CLOCK_MONOTONIC);
}

static int failed(const char *what, const ptq_err *err) {
  fprintf(stderr, "bench_engine: %s: %s\n", what, err->msg);
  return 1;
}

/* --- Rank 0's loop ------------------------------------------------------ */

static ptq_status empty_work(void *ctx, int64_t subject, const int64_t *points,
                             int64_t n, const ptq_sink *sink, ptq_err *err) {
  (void)ctx;
  (void)subject;
  (void)points;
  (void)n;
  (void)sink;
  (void)err;
  return PTQ_OK;
}

static int run_empty(int64_t items) {
  static fake f;
  ptq_dist_summary sum = {0};
  ptq_err err = {0};
  const ptq_dist_options options = {0};
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  if (fake_init(&f, 0, 1, items, 1.0, &err) != PTQ_OK)
    return failed("items", &err);
  ptq_dist_ops ops = fake_ops(&f);
  ops.work = empty_work;
  const double cpu = cpu_s();
  const ptq_status rc =
      ptq_dist_run(MPI_COMM_WORLD, &f.plan, &ops, &options, &sum, &err);
  if (rank == 0)
    printf("%d workers, %lld empty items: %.0f items/s; %.0f a second of rank "
           "0's own time\n",
           size - 1, (long long)sum.items_done,
           (double)sum.items_done / sum.seconds,
           (double)sum.items_done / (cpu_s() - cpu));
  fake_release(&f);
  return ptq_dist_finalize(MPI_COMM_WORLD, &sum, rc != PTQ_OK);
}

/* --- Rank 0 beside ranks that never rest --------------------------------- */

/* What a rank knows of its own waiting. */
typedef struct busy {
  double last_end_s; /* 0: nothing yet */
  double waited_s;
  int64_t n_waits;
} busy;

static ptq_status busy_work(void *ctx, int64_t subject, const int64_t *points,
                            int64_t n, const ptq_sink *sink, ptq_err *err) {
  static const double block_s = 0.01;
  enum { BLOCKS = 5 };
  ptq_status rc = PTQ_OK;
  busy *b = ctx;
  const double start = wall_s();
  (void)subject;
  (void)points;
  (void)n;
  if (b->last_end_s > 0.0) {
    b->waited_s += start - b->last_end_s;
    b->n_waits++;
  }
  for (int i = 0; i < BLOCKS; i++) {
    const double until = cpu_s() + block_s;
    while (cpu_s() < until) continue;
    PTQ_TRY(sink->alive(sink->ctx, (double)i / BLOCKS, err));
  }
done:
  b->last_end_s = wall_s();
  return rc;
}

static int run_busy(double seconds) {
  static fake f;
  busy b = {0};
  ptq_dist_summary sum = {0};
  ptq_err err = {0};
  int rank = 0, size = 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  const ptq_dist_options options = {.time_limit_s = seconds};
  if (fake_init(&f, 0, 1, 1000000, 1e-6, &err) != PTQ_OK)
    return failed("items", &err);
  ptq_dist_ops ops = fake_ops(&f);
  ops.ctx = &b;
  ops.work = busy_work;
  ops.sink = (ptq_sink){0};
  ptq_log_set_level(PTQ_LOG_ERROR);
  const double cpu = cpu_s();
  const ptq_status rc =
      ptq_dist_run(MPI_COMM_WORLD, &f.plan, &ops, &options, &sum, &err);
  const double share = (cpu_s() - cpu) / sum.seconds;
  double mine[2] = {b.waited_s, (double)b.n_waits}, all[2] = {0.0, 0.0};
  if (rc == PTQ_OK && sum.ranks_lost == 0)
    MPI_Reduce(mine, all, 2, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0)
    printf("%d workers that never rest, %ld cores: rank 0 takes %.2f %% of a "
           "core; a worker waits %.1f ms for its next item, of 50 ms of CPU "
           "(%.0f items)\n",
           size - 1, sysconf(_SC_NPROCESSORS_ONLN), 100.0 * share,
           all[1] > 0.0 ? 1e3 * all[0] / all[1] : 0.0, all[1]);
  fake_release(&f);
  return ptq_dist_finalize(MPI_COMM_WORLD, &sum, rc != PTQ_OK);
}

/* --- The store ----------------------------------------------------------- */

/* A sweep of one model. */
typedef struct sweep {
  ptq_store_layout layout;
  ptq_point_row *points;
  int64_t *subject, *layers, *windows;
  ptq_model_row model;
  int64_t model_windows;
} sweep;

static ptq_status sweep_init(sweep *s, int64_t n, int64_t blocks,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  memset(s, 0, sizeof *s);
  PTQ_TRY(ptq_alloc(&s->points, n, sizeof *s->points, "points", err));
  PTQ_TRY(ptq_alloc(&s->subject, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&s->layers, n, sizeof(int64_t), "points", err));
  PTQ_TRY(ptq_alloc(&s->windows, n, sizeof(int64_t), "points", err));
  for (int64_t i = 0; i < n; i++) {
    ptq_point_row *p = &s->points[i];
    ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), p);
    (void)snprintf(p->key, sizeof p->key, "%032llx",
                   (unsigned long long)i * 11400714819323198485U);
    (void)ptq_text_copy(p->model, sizeof p->model, "a-model");
    (void)snprintf(p->dtype, sizeof p->dtype, "dtype%d", (int)(i % DTYPES));
    (void)ptq_text_copy(p->method, sizeof p->method, "gptq");
    p->group = i / DTYPES;
    s->layers[i] = LAYERS_A_BLOCK * blocks;
    s->windows[i] = WINDOWS;
  }
  ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), &s->model);
  (void)ptq_text_copy(s->model.model, sizeof s->model.model, "a-model");
  s->model_windows = WINDOWS;
  s->layout =
      (ptq_store_layout){.spec_text = "name: bench\n",
                         .program_version = "0",
                         .numerics = "bench",
                         .fingerprint = "0123456789abcdef0123456789abcdef",
                         .n_points = n,
                         .points = s->points,
                         .point_subject = s->subject,
                         .point_layers = s->layers,
                         .point_windows = s->windows,
                         .n_subjects = 1,
                         .subjects = &s->model,
                         .subject_windows = &s->model_windows};
done:
  return rc;
}

static void sweep_release(sweep *s) {
  ptq_free(s->points);
  ptq_free(s->subject);
  ptq_free(s->layers);
  ptq_free(s->windows);
}

static ptq_status put(ptq_store *st, const sweep *s, int64_t point,
                      ptq_layer_row *layers, ptq_window_row *windows,
                      ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_point_result r = {.point = point,
                        .state = PTQ_STATE_DONE,
                        .row = s->points[point],
                        .layers = layers,
                        .n_layers = s->layers[point],
                        .windows = windows,
                        .n_windows = s->windows[point]};
  for (int64_t i = 0; i < r.n_layers; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_LAYERS), &layers[i]);
    layers[i].point = point;
    (void)snprintf(layers[i].layer, sizeof layers[i].layer, "blocks.%d",
                   (int)i);
  }
  for (int64_t i = 0; i < r.n_windows; i++)
    windows[i] = (ptq_window_row){point, i, 100.0, 0.5, 10.0};
  PTQ_TRY(ptq_store_begin(st, &point, 1, err));
  PTQ_TRY(ptq_store_put_point(st, &r, err));
done:
  return rc;
}

/* Open, finish `n` points, close; *open_s: the opening. */
static ptq_status visit(const char *path, const sweep *s, int64_t n,
                        double *open_s, double *put_s, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_store *st = NULL;
  ptq_layer_row *layers = NULL;
  ptq_window_row *windows = NULL;
  PTQ_TRY(ptq_alloc(&layers, s->layers[0], sizeof *layers, "layers", err));
  PTQ_TRY(ptq_alloc(&windows, s->windows[0], sizeof *windows, "rows", err));
  const double start = wall_s();
  PTQ_TRY(ptq_store_open(MPI_COMM_SELF, path, &s->layout, &st, err));
  const double opened = wall_s();
  for (int64_t i = 0; i < n; i++) PTQ_TRY(put(st, s, i, layers, windows, err));
  *open_s = opened - start;
  *put_s = wall_s() - opened;
done:
  if (st != NULL) {
    const ptq_status closed = ptq_store_close(st, err);
    if (rc == PTQ_OK) rc = closed;
  }
  ptq_free(layers);
  ptq_free(windows);
  return rc;
}

static int run_store(const char *path, int64_t n, int64_t blocks) {
  ptq_err err = {0};
  sweep s;
  double made_s = 0.0, empty_s = 0.0, half_s = 0.0, puts_s = 0.0;
  ptq_status rc = sweep_init(&s, n, blocks, &err);
  (void)unlink(path);
  const double cpu = cpu_s();
  if (rc == PTQ_OK) rc = visit(path, &s, 0, &made_s, &puts_s, &err);
  const double made_cpu_s = cpu_s() - cpu;
  if (rc == PTQ_OK) rc = visit(path, &s, n, &empty_s, &puts_s, &err);
  const double before = cpu_s();
  double ignored = 0.0;
  if (rc == PTQ_OK) rc = visit(path, &s, 0, &half_s, &ignored, &err);
  if (rc == PTQ_OK)
    printf("store of %lld points, %lld layers each: created in %.2f s (CPU "
           "%.2f), resumed empty in %.2f s, with %lld results in %.2f s (CPU "
           "%.2f); %.0f us a result\n",
           (long long)n, (long long)s.layers[0], made_s, made_cpu_s, empty_s,
           (long long)n, half_s, cpu_s() - before, 1e6 * puts_s / (double)n);
  sweep_release(&s);
  (void)unlink(path);
  return rc == PTQ_OK ? 0 : failed("store", &err);
}

static int by_size(const void *a, const void *b) {
  const double *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static ptq_status time_points(const char *path, sweep *s, bool durable,
                              double *us, int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_store *st = NULL;
  ptq_layer_row *layers = NULL;
  ptq_window_row *windows = NULL;
  (void)unlink(path);
  s->layout.durable = durable;
  PTQ_TRY(ptq_alloc(&layers, s->layers[0], sizeof *layers, "layers", err));
  PTQ_TRY(ptq_alloc(&windows, s->windows[0], sizeof *windows, "rows", err));
  PTQ_TRY(ptq_store_open(MPI_COMM_SELF, path, &s->layout, &st, err));
  for (int64_t i = 0; i < n; i++) {
    const double start = wall_s();
    PTQ_TRY(put(st, s, i, layers, windows, err));
    us[i] = 1e6 * (wall_s() - start);
  }
done:
  (void)ptq_store_close(st, NULL);
  ptq_free(layers);
  ptq_free(windows);
  (void)unlink(path);
  return rc;
}

static int run_points(const char *path, int64_t n) {
  ptq_err err = {0};
  sweep s;
  double *us = NULL;
  ptq_status rc = sweep_init(&s, n, 30, &err);
  if (rc == PTQ_OK) rc = ptq_alloc(&us, n, sizeof *us, "times", &err);
  for (int durable = 0; rc == PTQ_OK && durable < 2; durable++) {
    double sum = 0.0;
    rc = time_points(path, &s, durable != 0, us, n, &err);
    if (rc != PTQ_OK) break;
    for (int64_t i = 0; i < n; i++) sum += us[i];
    qsort(us, (size_t)n, sizeof *us, by_size);
    printf("a result%s: median %.0f us, mean %.0f us, 99 %% below %.0f us\n",
           durable ? " with --durable" : "", us[n / 2], sum / (double)n,
           us[n * 99 / 100]);
  }
  ptq_free(us);
  sweep_release(&s);
  return rc == PTQ_OK ? 0 : failed("points", &err);
}

static int usage(void) {
  fprintf(stderr,
          "usage: bench_engine --empty ITEMS | --busy SECONDS | --store FILE "
          "POINTS BLOCKS | --points FILE N\n");
  return 2;
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  if (argc == 3 && strcmp(argv[1], "--empty") == 0)
    return run_empty(atol(argv[2]));
  if (argc == 3 && strcmp(argv[1], "--busy") == 0)
    return run_busy(atof(argv[2]));
  int code = 2;
  if (argc == 5 && strcmp(argv[1], "--store") == 0)
    code = run_store(argv[2], atol(argv[3]), atol(argv[4]));
  else if (argc == 4 && strcmp(argv[1], "--points") == 0)
    code = run_points(argv[2], atol(argv[3]));
  else
    code = usage();
  ptq_store_shutdown();
  MPI_Finalize();
  return code;
}
