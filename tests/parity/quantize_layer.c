/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Quantizes one layer given as raw little-endian arrays, for comparisons with
 * other implementations (gptq_reference.py). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/quant/method.h"

static const char usage[] =
    "usage: quantize_layer METHOD DTYPE GROUP ROWS COLS W H OUT [KEY=VALUE "
    "...]\n"
    "W: float32 [ROWS, COLS]; H: float64 [COLS, COLS], '-' for none; writes\n"
    "OUT.y float32, OUT.q int16 [ROWS, COLS] and OUT.params float32\n"
    "[ROWS, groups, 2] (scale, zero); GROUP is a number, row or tensor.\n"
    "@cross=FILE: the cross moment, float64 [COLS, COLS]\n";

static ptq_status read_array(const char *path, int64_t n, size_t size,
                             void *out, ptq_err *err) {
  ptq_status rc = ptq_alloc(out, n, size, path, err);
  if (rc != PTQ_OK) return rc;
  void *data;
  memcpy(&data, out, sizeof data);
  FILE *f = fopen(path, "rb");
  if (f == NULL || fread(data, size, (size_t)n, f) != (size_t)n)
    rc = PTQ_FAIL(err, PTQ_E_IO, "'%s': cannot read %lld values", path,
                  (long long)n);
  if (f != NULL) fclose(f);
  return rc;
}

static ptq_status write_array(const char *prefix, const char *suffix,
                              const void *data, int64_t n, size_t size,
                              ptq_err *err) {
  char path[1024];
  snprintf(path, sizeof path, "%s.%s", prefix, suffix);
  FILE *f = fopen(path, "wb");
  ptq_status rc = PTQ_OK;
  if (f == NULL || fwrite(data, size, (size_t)n, f) != (size_t)n)
    rc = PTQ_FAIL(err, PTQ_E_IO, "'%s': cannot write", path);
  if (f != NULL && fclose(f) != 0 && rc == PTQ_OK)
    rc = PTQ_FAIL(err, PTQ_E_IO, "'%s': cannot write", path);
  return rc;
}

/* Options of the method; *cross is the file of @cross, or NULL. */
static ptq_status parse_method(int argc, char **argv, ptq_method *m,
                               const char **cross, ptq_err *err) {
  enum { MAX = 16 };
  ptq_method_option options[MAX];
  size_t n = 0;
  for (int i = 9; i < argc && n < MAX; i++) {
    char *equals = strchr(argv[i], '=');
    if (equals == NULL)
      return PTQ_FAIL(err, PTQ_E_ARG, "'%s' is not KEY=VALUE", argv[i]);
    *equals = '\0';
    if (strcmp(argv[i], "@cross") == 0) {
      *cross = equals + 1;
      continue;
    }
    options[n++] = (ptq_method_option){.key = argv[i], .value = equals + 1};
  }
  return ptq_method_parse(argv[1], options, n, m, err);
}

static int64_t parse_group(const char *text) {
  if (strcmp(text, "row") == 0) return PTQ_GROUP_ROW;
  if (strcmp(text, "tensor") == 0) return PTQ_GROUP_TENSOR;
  return strtoll(text, NULL, 10);
}

static ptq_status run(int argc, char **argv, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_method m;
  ptq_dtype dt;
  float *w = NULL;
  double *h = NULL, *cross = NULL;
  const char *cross_path = NULL;
  ptq_quant_output out = {0};
  const int64_t group = parse_group(argv[3]);
  const int64_t rows = strtoll(argv[4], NULL, 10);
  const int64_t cols = strtoll(argv[5], NULL, 10), n = rows * cols;
  const int64_t groups = rows * ptq_dtype_groups(cols, group);
  PTQ_TRY(parse_method(argc, argv, &m, &cross_path, err));
  PTQ_TRY(ptq_dtype_parse(argv[2], &dt, err));
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(read_array(argv[6], n, sizeof *w, &w, err));
  if (strcmp(argv[7], "-") != 0)
    PTQ_TRY(read_array(argv[7], cols * cols, sizeof *h, &h, err));
  if (cross_path != NULL)
    PTQ_TRY(read_array(cross_path, cols * cols, sizeof *cross, &cross, err));
  PTQ_TRY(ptq_alloc(&out.y, n, sizeof *out.y, "weights", err));
  PTQ_TRY(ptq_alloc(&out.q, n, sizeof *out.q, "codes", err));
  PTQ_TRY(
      ptq_alloc(&out.params, groups, sizeof *out.params, "parameters", err));
  const ptq_quant_input in = {.w = w,
                              .rows = rows,
                              .cols = cols,
                              .dtype = &dt,
                              .group = group,
                              .h = h,
                              .cross = cross,
                              .threads = 2};
  PTQ_TRY(ptq_method_quantize(&m, &in, &out, err));
  PTQ_TRY(write_array(argv[8], "y", out.y, n, sizeof *out.y, err));
  PTQ_TRY(write_array(argv[8], "q", out.q, n, sizeof *out.q, err));
  PTQ_TRY(write_array(argv[8], "params", out.params, groups, sizeof *out.params,
                      err));
  printf("damp %.17g\nstorage_bits %.17g\n", out.damp, out.storage_bits);
done:
  ptq_free(w);
  ptq_free(h);
  ptq_free(cross);
  ptq_free(out.y);
  ptq_free(out.q);
  ptq_free(out.params);
  return rc;
}

int main(int argc, char **argv) {
  if (argc < 9) {
    fputs(usage, stderr);
    return 2;
  }
  ptq_err err = {0};
  if (run(argc, argv, &err) == PTQ_OK) return 0;
  fprintf(stderr, "quantize_layer: %s\n", err.msg);
  return 1;
}
