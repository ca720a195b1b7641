/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "rotation.h"

#include <math.h>
#include <string.h>

#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"

uint64_t ptq_rotation_seed(int64_t seed, const char *name, const char *what) {
  if (name == NULL) name = "";
  const uint64_t parts[3] = {(uint64_t)seed, ptq_hash64(name, strlen(name)),
                             ptq_hash64(what, strlen(what))};
  return ptq_hash64(parts, sizeof parts);
}

/* A sum of twelve uniform numbers: normal enough, and exact everywhere. */
static double normal(ptq_rng *rng) {
  double v = -6.0;
  for (int k = 0; k < 12; k++) v += ptq_rng_unit(rng);
  return v;
}

/* Row i loses its parts along the rows before it, twice, and gets length 1.
 * Returns its length before. */
static double orthonormalize(double *q, int64_t m, int64_t i) {
  double *row = q + i * m, length = 0.0;
  for (int pass = 0; pass < 2; pass++)
    for (int64_t k = 0; k < i; k++) {
      double dot = 0.0;
      for (int64_t j = 0; j < m; j++) dot += row[j] * q[k * m + j];
      for (int64_t j = 0; j < m; j++) row[j] -= dot * q[k * m + j];
    }
  for (int64_t j = 0; j < m; j++) length += row[j] * row[j];
  length = sqrt(length);
  for (int64_t j = 0; j < m; j++) row[j] /= length;
  return length;
}

static void random_orthogonal(int64_t m, ptq_rng *rng, double *q) {
  for (int64_t i = 0; i < m; i++) {
    do {
      for (int64_t j = 0; j < m; j++) q[i * m + j] = normal(rng);
    } while (!(orthonormalize(q, m, i) > 1e-6));
  }
}

ptq_status ptq_rotation_init(ptq_rotation *r, int64_t n, bool random,
                             uint64_t seed, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  *r = (ptq_rotation){.n = n};
  r->m = ptq_rotation_block(n, &r->hadamard);
  r->power = n / r->m;
  PTQ_TRY(ptq_alloc(&r->signs, n, sizeof *r->signs, "signs", err));
  for (int64_t i = 0; i < n; i++)
    r->signs[i] = random && ptq_rng_below(&rng, 2) == 1 ? -1.0 : 1.0;
  if (r->m > 1) {
    const int64_t size = r->m * r->m;
    PTQ_TRY(ptq_alloc(&r->block, size, sizeof *r->block, "a rotation", err));
    if (r->hadamard) {
      PTQ_TRY(ptq_hadamard(r->m, r->block, err));
      const double unit = 1.0 / sqrt((double)r->m);
      for (int64_t i = 0; i < size; i++) r->block[i] *= unit;
    } else {
      random_orthogonal(r->m, &rng, r->block);
    }
  }
done:
  if (rc != PTQ_OK) ptq_rotation_release(r);
  return rc;
}

void ptq_rotation_release(ptq_rotation *r) {
  ptq_free(r->block);
  ptq_free(r->signs);
  *r = (ptq_rotation){0};
}

/* Sylvester's matrix of order `power` on vectors whose elements are runs of
 * `run` numbers, and a factor that makes it orthonormal. */
static void butterflies(double *x, int64_t power, int64_t run) {
  for (int64_t half = run; half < power * run; half *= 2)
    for (int64_t i = 0; i < power * run; i += 2 * half)
      for (int64_t j = i; j < i + half; j++) {
        const double a = x[j], b = x[j + half];
        x[j] = a + b;
        x[j + half] = a - b;
      }
  const double unit = 1.0 / sqrt((double)power);
  for (int64_t i = 0; i < power * run; i++) x[i] *= unit;
}

ptq_status ptq_rotate_rows(const ptq_rotation *r, bool back, double *x,
                           int64_t rows, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *copy = NULL;
  const int64_t n = r->n, m = r->m;
  for (int64_t i = 0; !back && i < rows; i++)
    for (int64_t j = 0; j < n; j++) x[i * n + j] *= r->signs[j];
  for (int64_t i = 0; i < rows; i++) butterflies(x + i * n, r->power, m);
  if (m > 1) {
    PTQ_TRY(ptq_alloc(&copy, rows * n, sizeof *copy, "rotated rows", err));
    memcpy(copy, x, (size_t)(rows * n) * sizeof *x);
    if (back)
      ptq_dgemm_nn(rows * r->power, m, m, 1.0, copy, m, r->block, m, 0.0, x, m);
    else
      ptq_dgemm_nt(rows * r->power, m, m, 1.0, copy, m, r->block, m, 0.0, x, m);
  }
  for (int64_t i = 0; back && i < rows; i++)
    for (int64_t j = 0; j < n; j++) x[i * n + j] *= r->signs[j];
done:
  ptq_free(copy);
  return rc;
}

ptq_status ptq_rotate_columns(const ptq_rotation *r, bool back, double *x,
                              int64_t cols, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *copy = NULL;
  const int64_t n = r->n, m = r->m;
  for (int64_t i = 0; !back && i < n; i++)
    for (int64_t j = 0; j < cols; j++) x[i * cols + j] *= r->signs[i];
  butterflies(x, r->power, m * cols);
  if (m > 1) {
    PTQ_TRY(ptq_alloc(&copy, m * cols, sizeof *copy, "rotated columns", err));
    for (int64_t p = 0; p < r->power; p++) {
      double *at = x + p * m * cols;
      memcpy(copy, at, (size_t)(m * cols) * sizeof *x);
      if (back)
        ptq_dgemm_tn(m, cols, m, 1.0, r->block, m, copy, cols, 0.0, at, cols);
      else
        ptq_dgemm_nn(m, cols, m, 1.0, r->block, m, copy, cols, 0.0, at, cols);
    }
  }
  for (int64_t i = 0; back && i < n; i++)
    for (int64_t j = 0; j < cols; j++) x[i * cols + j] *= r->signs[i];
done:
  ptq_free(copy);
  return rc;
}
