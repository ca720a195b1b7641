/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Output SQNR of one layer under many methods, for comparisons on a few layers
 * of a model (output_sqnr.py): one set of factors serves all. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/quant/method.h"

static const char usage[] =
    "usage: layer_sqnr ROWS COLS W H HELDOUT < JOBS\n"
    "W: float32 [ROWS, COLS]; H, HELDOUT: float64 [COLS, COLS], second "
    "moments\n"
    "to calibrate and to measure with. JOBS has a line each: DTYPE GROUP "
    "METHOD\n"
    "[KEY=VALUE ...]; prints a line each: output SQNR in dB on HELDOUT and on\n"
    "H, and seconds; the first job at a site pays for its factors\n";

enum { MAX_OPTIONS = 8, LINE = 256 };

typedef struct layer {
  int64_t rows, cols;
  float *w;                 /* owned; [rows, cols] */
  double *h, *heldout;      /* owned; [cols, cols] */
  double *e, *he;           /* owned; [rows, cols] */
  float *y;                 /* owned; [rows, cols] */
  int16_t *q;               /* owned; [rows, cols] */
  ptq_group_params *params; /* owned; [rows, cols] */
  ptq_factor_cache *cache;  /* owned */
} layer;

static ptq_status read_array(const char *path, int64_t n, size_t size,
                             void *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  FILE *f = fopen(path, "rb");
  if (f == NULL || fread(out, size, (size_t)n, f) != (size_t)n)
    rc = PTQ_FAIL(err, PTQ_E_IO, "'%s': cannot read %lld values", path,
                  (long long)n);
  if (f != NULL) fclose(f);
  return rc;
}

static ptq_status load(layer *l, char **argv, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t rows = strtoll(argv[1], NULL, 10);
  const int64_t cols = strtoll(argv[2], NULL, 10);
  const int64_t n = rows * cols, squares = cols * cols;
  *l = (layer){.rows = rows, .cols = cols};
  if (rows <= 0 || cols <= 0)
    return PTQ_FAIL(err, PTQ_E_ARG, "%s x %s is no size", argv[1], argv[2]);
  PTQ_TRY(ptq_alloc(&l->w, n, sizeof *l->w, "weights", err));
  PTQ_TRY(ptq_alloc(&l->h, squares, sizeof *l->h, "moment", err));
  PTQ_TRY(ptq_alloc(&l->heldout, squares, sizeof *l->heldout, "moment", err));
  PTQ_TRY(ptq_alloc(&l->e, n, sizeof *l->e, "errors", err));
  PTQ_TRY(ptq_alloc(&l->he, n, sizeof *l->he, "errors", err));
  PTQ_TRY(ptq_alloc(&l->y, n, sizeof *l->y, "weights", err));
  PTQ_TRY(ptq_alloc(&l->q, n, sizeof *l->q, "codes", err));
  PTQ_TRY(ptq_alloc(&l->params, n, sizeof *l->params, "parameters", err));
  PTQ_TRY(ptq_factor_cache_create(&l->cache, err));
  PTQ_TRY(read_array(argv[3], n, sizeof *l->w, l->w, err));
  PTQ_TRY(read_array(argv[4], squares, sizeof *l->h, l->h, err));
  PTQ_TRY(read_array(argv[5], squares, sizeof *l->heldout, l->heldout, err));
done:
  return rc;
}

static void release(layer *l) {
  ptq_free(l->w);
  ptq_free(l->h);
  ptq_free(l->heldout);
  ptq_free(l->e);
  ptq_free(l->he);
  ptq_free(l->y);
  ptq_free(l->q);
  ptq_free(l->params);
  ptq_factor_cache_free(l->cache);
}

/* tr(A H A') of the weights, or of their error. */
static double quadratic(layer *l, const double *h, bool of_error) {
  double sum = 0.0;
  for (int64_t i = 0; i < l->rows * l->cols; i++)
    l->e[i] = (double)l->w[i] - (of_error ? (double)l->y[i] : 0.0);
  ptq_dgemm_nn(l->rows, l->cols, l->cols, 1.0, l->e, l->cols, h, l->cols, 0.0,
               l->he, l->cols);
  for (int64_t i = 0; i < l->rows * l->cols; i++) sum += l->e[i] * l->he[i];
  return sum;
}

static double sqnr(layer *l, const double *h) {
  const double signal = quadratic(l, h, false);
  return 10.0 * log10(signal / quadratic(l, h, true));
}

static ptq_status run_job(layer *l, char *line, ptq_err *err) {
  ptq_method m;
  ptq_dtype dt;
  ptq_method_option options[MAX_OPTIONS];
  size_t n = 0;
  char *rest = NULL, *word;
  const char *dtype = strtok_r(line, " \n", &rest);
  const char *group = strtok_r(NULL, " \n", &rest);
  const char *method = strtok_r(NULL, " \n", &rest);
  if (method == NULL)
    return PTQ_FAIL(err, PTQ_E_ARG, "a job is DTYPE GROUP METHOD ...");
  while ((word = strtok_r(NULL, " \n", &rest)) != NULL) {
    char *equals = strchr(word, '=');
    if (equals == NULL || n == MAX_OPTIONS)
      return PTQ_FAIL(err, PTQ_E_ARG, "'%s' is not KEY=VALUE", word);
    *equals = '\0';
    options[n++] = (ptq_method_option){.key = word, .value = equals + 1};
  }
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_method_parse(method, options, n, &m, err));
  PTQ_TRY(ptq_dtype_parse(dtype, &dt, err));
  const ptq_quant_input in = {.w = l->w,
                              .rows = l->rows,
                              .cols = l->cols,
                              .dtype = &dt,
                              .group = strcmp(group, "row") == 0
                                           ? PTQ_GROUP_ROW
                                           : strtoll(group, NULL, 10),
                              .h = l->h,
                              .cache = l->cache,
                              .threads = 1};
  ptq_quant_output out = {.y = l->y, .q = l->q, .params = l->params};
  struct timespec from, to;
  clock_gettime(CLOCK_MONOTONIC, &from);
  PTQ_TRY(ptq_method_quantize(&m, &in, &out, err));
  clock_gettime(CLOCK_MONOTONIC, &to);
  printf("%.6f %.6f %.4f\n", sqnr(l, l->heldout), sqnr(l, l->h),
         (double)(to.tv_sec - from.tv_sec) +
             1e-9 * (double)(to.tv_nsec - from.tv_nsec));
done:
  return rc;
}

int main(int argc, char **argv) {
  if (argc != 6) {
    fputs(usage, stderr);
    return 2;
  }
  ptq_err err = {0};
  layer l = {.rows = 0};
  char line[LINE];
  ptq_status rc = ptq_blas_init(&err);
  if (rc == PTQ_OK) rc = load(&l, argv, &err);
  while (rc == PTQ_OK && fgets(line, sizeof line, stdin) != NULL)
    rc = run_job(&l, line, &err);
  release(&l);
  if (rc == PTQ_OK) return 0;
  fprintf(stderr, "layer_sqnr: %s\n", err.msg);
  return 1;
}
