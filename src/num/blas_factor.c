/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * ptq_inverse_factor: H = R R' with R upper triangular, then U = R^-1, so
 * that H^-1 = R^-T R^-1 = U' U. A plain Cholesky factorization, its inverse
 * and another Cholesky factorization (as the GPTQ reference does) take 2.5
 * times the operations.
 *
 * Work is cut into tiles of fixed size. A task computes whole tiles with
 * single-threaded BLAS calls, and no two tasks of a phase touch the same
 * tile, so bits depend neither on the number of threads nor on their luck.
 */
#include "ptq/num/blas.h"

#include <cblas.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"

void dpotrf_(const char *uplo, const int *n, double *a, const int *lda,
             int *info, size_t uplo_len);
void dtrtri_(const char *uplo, const char *diag, const int *n, double *a,
             const int *lda, int *info, size_t uplo_len, size_t diag_len);

enum { TILE = 256, MAX_THREADS = 64 };

typedef struct factor {
  double *h;    /* borrowed; [n, n] */
  double *diag; /* owned; [n_tiles, TILE, TILE]: transposed inverses of R's
                   diagonal tiles */
  int64_t n, n_tiles;
  int64_t step; /* tile column of the current phase */
} factor;

typedef void (*task_fn)(const factor *f, int64_t task);

typedef struct crew {
  const factor *f;
  task_fn run;
  int64_t n_tasks;
  atomic_llong next;
} crew;

static void *crew_member(void *arg) {
  crew *c = arg;
  for (;;) {
    const int64_t task = atomic_fetch_add(&c->next, 1);
    if (task >= c->n_tasks) return NULL;
    c->run(c->f, task);
  }
}

/* Run all tasks; a thread that cannot be had is done without. */
static void run_tasks(const factor *f, task_fn run, int64_t n_tasks,
                      int threads) {
  crew c = {.f = f, .run = run, .n_tasks = n_tasks};
  pthread_t ids[MAX_THREADS];
  int started = 0;
  while (started < threads - 1 && started < n_tasks - 1 &&
         started < MAX_THREADS) {
    if (pthread_create(&ids[started], NULL, crew_member, &c) != 0) break;
    started++;
  }
  (void)crew_member(&c);
  for (int i = 0; i < started; i++) (void)pthread_join(ids[i], NULL);
}

static int64_t tile_size(const factor *f, int64_t t) {
  const int64_t rest = f->n - t * TILE;
  return rest < TILE ? rest : TILE;
}

static double *tile(const factor *f, int64_t row, int64_t col) {
  return f->h + row * TILE * f->n + col * TILE;
}

/* The diagonal tile t: A = R R' by the ordinary factorization of A with rows
 * and columns reversed, B = J A J = L L', R = J L J; and R^-T into diag.
 * Returns the 1-based row of A where it is not positive definite, or 0. */
static int64_t factor_diagonal(const factor *f, int64_t t, double *buf) {
  const int64_t size = tile_size(f, t), n = f->n;
  const int order = ptq_int(size);
  double *a = tile(f, t, t), *inv = f->diag + t * TILE * TILE;
  for (int64_t i = 0; i < size; i++) /* upper triangle of A, transposed */
    for (int64_t j = i; j < size; j++)
      buf[(size - 1 - j) * size + (size - 1 - i)] = a[i * n + j];
  int info = 0; /* upper by rows is lower by columns */
  dpotrf_("L", &order, buf, &order, &info, 1);
  for (int64_t i = 0; info == 0 && i < size; i++) /* NaN passes dpotrf */
    if (!isfinite(buf[i * size + i])) info = ptq_int(i + 1);
  if (info != 0) return t * TILE + size + 1 - info;
  for (int64_t i = 0; i < size; i++)
    for (int64_t j = 0; j < size; j++) {
      const double r =
          j < i ? 0.0 : buf[(size - 1 - j) * size + (size - 1 - i)];
      if (j >= i) a[i * n + j] = r; /* A stays below the diagonal */
      inv[i * size + j] = r;
    }
  /* Upper by rows is lower by columns; its inverse by rows is R^-1. */
  dtrtri_("L", "N", &order, inv, &order, &info, 1, 1);
  for (int64_t i = 0; i < size; i++)
    for (int64_t j = i + 1; j < size; j++) {
      inv[j * size + i] = inv[i * size + j];
      inv[i * size + j] = 0.0;
    }
  return 0;
}

/* R_ik = A_ik R_kk^-T for the tile row i = task above the step's diagonal. A
 * product with the inverse runs at twice the speed of a solution. */
static void panel_task(const factor *f, int64_t task) {
  const int64_t k = f->step;
  const int size = ptq_int(tile_size(f, k));
  cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit,
              ptq_int(tile_size(f, task)), size, 1.0, f->diag + k * TILE * TILE,
              size, tile(f, task, k), ptq_int(f->n));
}

/* A_ij -= R_ik R_jk' for the task-th tile of the triangle i <= j < k. */
static void update_task(const factor *f, int64_t task) {
  const int64_t k = f->step;
  int64_t i = 0;
  while (task >= k - i) {
    task -= k - i;
    i++;
  }
  const int64_t j = i + task;
  const int ld = ptq_int(f->n);
  if (i == j)
    cblas_dsyrk(CblasRowMajor, CblasUpper, CblasNoTrans,
                ptq_int(tile_size(f, i)), ptq_int(tile_size(f, k)), -1.0,
                tile(f, i, k), ld, 1.0, tile(f, i, i), ld);
  else
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans,
                ptq_int(tile_size(f, i)), ptq_int(tile_size(f, j)),
                ptq_int(tile_size(f, k)), -1.0, tile(f, i, k), ld,
                tile(f, j, k), ld, 1.0, tile(f, i, j), ld);
}

/*
 * Column j of U, the longest first, from R U = I:
 *   U_ij = -R_ii^-1 (sum over m = i+1 .. j of R_im U_mj),  i = j-1 .. 0.
 * V = U' is kept in the unused lower triangle (tile row j, columns i < j),
 * its diagonal in diag:
 *   V_ji = -(sum over m of V_jm R_im') R_ii^-T.
 */
static void inverse_task(const factor *f, int64_t task) {
  const int64_t j = f->n_tiles - 1 - task;
  const int size = ptq_int(tile_size(f, j)), ld = ptq_int(f->n);
  const double *diag = f->diag + j * TILE * TILE;
  for (int64_t i = j - 1; i >= 0; i--) {
    const int width = ptq_int(tile_size(f, i));
    const int64_t between = j - i - 1; /* all of these tiles are whole */
    double *out = tile(f, j, i);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, size, width, size, 1.0,
                diag, size, tile(f, i, j), ld, 0.0, out, ld);
    if (between > 0)
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, size, width,
                  ptq_int(between * TILE), 1.0, tile(f, j, i + 1), ld,
                  tile(f, i, i + 1), ld, 1.0, out, ld);
    cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans,
                CblasNonUnit, size, width, -1.0, f->diag + i * TILE * TILE,
                width, out, ld);
  }
}

/* to[rows, cols] = from[cols, rows]', which becomes 0; both in h. */
static void move_transposed(const factor *f, double *to, double *from,
                            int64_t rows, int64_t cols) {
  enum { STRIP = 16 }; /* rows and columns of a transposed piece */
  for (int64_t j0 = 0; j0 < cols; j0 += STRIP)
    for (int64_t i0 = 0; i0 < rows; i0 += STRIP)
      for (int64_t j = j0; j < j0 + STRIP && j < cols; j++)
        for (int64_t i = i0; i < i0 + STRIP && i < rows; i++) {
          to[i * f->n + j] = from[j * f->n + i];
          from[j * f->n + i] = 0.0;
        }
}

/* Tile row `task` of U from diag and the tiles of V in that tile column. */
static void output_task(const factor *f, int64_t task) {
  const int64_t n = f->n, rows = tile_size(f, task);
  const double *diag = f->diag + task * TILE * TILE;
  double *u = tile(f, task, task);
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < rows; j++)
      u[i * n + j] = j < i ? 0.0 : diag[j * rows + i];
  for (int64_t j = task + 1; j < f->n_tiles; j++)
    move_transposed(f, tile(f, task, j), tile(f, j, task), rows,
                    tile_size(f, j));
}

ptq_status ptq_inverse_factor(double *h, int64_t n, int threads, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *buf = NULL;
  factor f = {.h = h, .n = n, .n_tiles = (n + TILE - 1) / TILE};
  PTQ_TRY(ptq_alloc(&f.diag, f.n_tiles * TILE * TILE, sizeof *f.diag,
                    "diagonal tiles of a factor", err));
  PTQ_TRY(ptq_alloc(&buf, TILE * TILE, sizeof *buf, "tile of a factor", err));
  for (f.step = f.n_tiles - 1; f.step >= 0; f.step--) {
    const int64_t bad = factor_diagonal(&f, f.step, buf);
    if (bad != 0) {
      rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "matrix of order %lld is not positive definite: seen at "
                    "row %lld, from the last; more damping helps",
                    (long long)n, (long long)(bad - 1));
      goto done;
    }
    run_tasks(&f, panel_task, f.step, threads);
    run_tasks(&f, update_task, f.step * (f.step + 1) / 2, threads);
  }
  run_tasks(&f, inverse_task, f.n_tiles, threads);
  run_tasks(&f, output_task, f.n_tiles, threads);
done:
  ptq_free(buf);
  ptq_free(f.diag);
  return rc;
}
