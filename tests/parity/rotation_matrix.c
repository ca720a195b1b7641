/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Writes the rotation that the quarot method takes, for comparisons with
 * models that were rotated by others (quarot_reference.py). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "rotation.h"

static const char usage[] =
    "usage: rotation_matrix WIDTH SEED stream|inner OUT\n"
    "OUT: float64 [WIDTH, WIDTH], R of the seed; inner: without signs\n";

static ptq_status run(char **argv, ptq_err *err) {
  const int64_t n = strtoll(argv[1], NULL, 10);
  const bool stream = strcmp(argv[3], "stream") == 0;
  ptq_status rc = PTQ_OK;
  ptq_rotation r = {0};
  double *x = NULL;
  FILE *f = NULL;
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_rotation_init(
      &r, n, stream,
      ptq_rotation_seed(strtoll(argv[2], NULL, 10), NULL, argv[3]), err));
  PTQ_TRY(ptq_alloc(&x, n * n, sizeof *x, "a rotation", err));
  for (int64_t i = 0; i < n; i++) x[i * n + i] = 1.0;
  PTQ_TRY(ptq_rotate_columns(&r, false, x, n, err));
  f = fopen(argv[4], "wb");
  if (f == NULL || fwrite(x, sizeof *x, (size_t)(n * n), f) != (size_t)(n * n))
    rc = PTQ_FAIL(err, PTQ_E_IO, "'%s': cannot write", argv[4]);
  if (f != NULL && fclose(f) != 0 && rc == PTQ_OK)
    rc = PTQ_FAIL(err, PTQ_E_IO, "'%s': cannot write", argv[4]);
done:
  ptq_rotation_release(&r);
  ptq_free(x);
  return rc;
}

int main(int argc, char **argv) {
  if (argc != 5) {
    fputs(usage, stderr);
    return 2;
  }
  ptq_err err = {0};
  if (run(argv, &err) == PTQ_OK) return 0;
  fprintf(stderr, "rotation_matrix: %s\n", err.msg);
  return 1;
}
