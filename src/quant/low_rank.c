/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * With M = S S' the minimizer is U_r U_r' E, U_r the top left singular vectors
 * of E S: the truncated singular value decomposition U_r D_r V_r' of E S, times
 * the inverse of S, is U_r U_r' (E S) S^-1. The vectors are those of E S S' E'
 * = E M E', so neither a root of M nor an inverse is needed, and directions
 * that M does not see do no harm.
 */
#include "low_rank.h"

#include <math.h>
#include <string.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

const char *const ptq_factor_type_names[PTQ_FACTOR_COUNT + 1] = {
    [PTQ_FACTOR_F32] = "f32",
    [PTQ_FACTOR_F16] = "f16",
    [PTQ_FACTOR_BF16] = "bf16",
};

/* clang-format off */
static const struct { double bits; int mantissa, emin, emax; } types[] = {
  [PTQ_FACTOR_F32]  = {32.0, 23, -126, 127},
  [PTQ_FACTOR_F16]  = {16.0, 10,  -14,  15},
  [PTQ_FACTOR_BF16] = {16.0,  7, -126, 127},
};
/* clang-format on */
_Static_assert(sizeof types / sizeof types[0] == PTQ_FACTOR_COUNT,
               "one row a type");

double ptq_factor_bits(ptq_factor_type type) {
  return types[type].bits;
}

double ptq_factor_round(ptq_factor_type type, double x) {
  if (x == 0.0 || !isfinite(x)) return x;
  int e = 0;
  (void)frexp(x, &e);
  e = e - 1 > types[type].emin ? e - 1 : types[type].emin;
  const double step = ldexp(1.0, e - types[type].mantissa);
  const double y = rint(x / step) * step;
  const double beyond = ldexp(1.0, types[type].emax + 1);
  return fabs(y) < beyond ? y : copysign((double)INFINITY, x);
}

static double largest(const double *x, int64_t n) {
  double most = 0.0;
  for (int64_t i = 0; i < n; i++) most = fmax(most, fabs(x[i]));
  return most;
}

/* b u' stays the same; powers of two lose no bits. */
static void balance(double *b, int64_t rows, double *a, int64_t cols) {
  const double nb = largest(b, rows), na = largest(a, cols);
  if (nb == 0.0 || na == 0.0) return;
  const int half = (int)floor(log2(na / nb) / 2.0);
  for (int64_t i = 0; i < rows; i++) b[i] = ldexp(b[i], half);
  for (int64_t i = 0; i < cols; i++) a[i] = ldexp(a[i], -half);
}

ptq_status ptq_low_rank(const double *e, int64_t rows, int64_t cols,
                        const double *metric, bool diagonal, int64_t rank,
                        double *b, double *a, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *em = NULL, *gram = NULL, *values = NULL;
  PTQ_ASSERT(rank > 0 && rank <= rows);
  PTQ_TRY(ptq_alloc(&em, rows * cols, sizeof *em, "an error", err));
  PTQ_TRY(ptq_alloc(&gram, rows * rows, sizeof *gram, "errors' Gram", err));
  PTQ_TRY(ptq_alloc(&values, rows, sizeof *values, "eigenvalues", err));
  if (diagonal) {
    for (int64_t r = 0; r < rows; r++)
      for (int64_t c = 0; c < cols; c++)
        em[r * cols + c] = e[r * cols + c] * metric[c];
  } else {
    ptq_dgemm_nn(rows, cols, cols, 1.0, e, cols, metric, cols, 0.0, em, cols);
  }
  ptq_dgemm_nt(rows, rows, cols, 1.0, em, cols, e, cols, 0.0, gram, rows);
  PTQ_TRY(ptq_eigenvectors(gram, rows, rank, values, b, err));
  ptq_dgemm_nn(rank, cols, rows, 1.0, b, rows, e, cols, 0.0, a, cols);
  for (int64_t k = 0; k < rank; k++)
    balance(b + k * rows, rows, a + k * cols, cols);
done:
  ptq_free(em);
  ptq_free(gram);
  ptq_free(values);
  return rc;
}
