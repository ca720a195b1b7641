/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "restore_error.h"

#include <math.h>
#include <string.h>

#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

/* What parse reads before it is packed with the base. */
typedef struct own_options {
  int64_t rank;
  int precision, hessian;
} own_options;

enum { HESSIAN_STATIC, HESSIAN_SEQUENTIAL };
enum { RANK_MAX = 65536 };

static const char *const hessian_names[] = {"static", "sequential", NULL};
static const char *const not_below[] = {"eora", "lqer", "quarot", "rht", NULL};
static const own_options defaults = {.rank = 32, .precision = PTQ_FACTOR_F16};

/* clang-format off */
#define AT(field) offsetof(own_options, field)
static const ptq_option_row rows_over_calibrated[] = {
  {"precision", PTQ_OPTION_CHOICE, AT(precision), 0.0, 0.0,
   ptq_factor_type_names},
  {"rank",      PTQ_OPTION_INT,    AT(rank),      1.0, RANK_MAX, NULL},
  {NULL,        PTQ_OPTION_BOOL,   0,             0.0, 0.0, NULL},
};
/* A base that is not calibrated leaves the choice of H to this method. */
static const ptq_option_row rows_over_plain[] = {
  {"hessian",   PTQ_OPTION_CHOICE, AT(hessian),   0.0, 0.0, hessian_names},
  {"precision", PTQ_OPTION_CHOICE, AT(precision), 0.0, 0.0,
   ptq_factor_type_names},
  {"rank",      PTQ_OPTION_INT,    AT(rank),      1.0, RANK_MAX, NULL},
  {NULL,        PTQ_OPTION_BOOL,   0,             0.0, 0.0, NULL},
};
/* clang-format on */

ptq_restore ptq_restore_of(const ptq_method *m) {
  ptq_restore o;
  memcpy(&o, m->own.bytes, sizeof o);
  return o;
}

static bool is_calibrated(const char *base) {
  ptq_method m;
  return ptq_method_parse(base, NULL, 0, &m, NULL) == PTQ_OK &&
         m.family->mode(&m) != PTQ_CALIB_NONE;
}

ptq_status ptq_restore_parse(ptq_method *m, const ptq_method_option *options,
                             size_t n, const char *fallback, ptq_err *err) {
  const char *base = fallback;
  for (size_t i = 0; i < n; i++)
    if (strcmp(options[i].key, "base") == 0) base = options[i].value;
  const ptq_option_table table = {
      .rows = is_calibrated(base) ? rows_over_calibrated : rows_over_plain,
      .defaults = &defaults};
  own_options own;
  ptq_restore o = {.rank = 0};
  const ptq_status rc =
      ptq_base_parse(m, &table, options, n, fallback, not_below, &own,
                     sizeof own, &o.base, err);
  if (rc != PTQ_OK) return rc;
  o.rank = own.rank;
  o.precision = own.precision;
  o.hessian = own.hessian;
  memcpy(m->own.bytes, &o, sizeof o);
  return PTQ_OK;
}

ptq_calibration_mode ptq_restore_mode(const ptq_method *m) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  const ptq_calibration_mode mode = base.family->mode(&base);
  if (mode != PTQ_CALIB_NONE) return mode;
  return o.hessian == HESSIAN_STATIC ? PTQ_CALIB_STATIC : PTQ_CALIB_SEQUENTIAL;
}

ptq_status ptq_restore_accepts(const ptq_method *m, const ptq_dtype *dt,
                               int64_t group, ptq_err *err) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  return base.family->accepts(&base, dt, group, err);
}

unsigned ptq_restore_needs(const ptq_method *m) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  return ptq_method_needs(&base);
}

double ptq_restore_module_evals(const ptq_method *m) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  return base.family->module_evals != NULL ? base.family->module_evals(&base)
                                           : 0.0;
}

/* The error, its product with the metric, the Gram matrix and the solver's
 * vectors, in float64. */
double ptq_restore_bytes(const ptq_method *m, int64_t rows, int64_t cols) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  const double r = (double)rows, c = (double)cols, k = fmin((double)o.rank, r);
  const double below =
      base.family->bytes != NULL ? base.family->bytes(&base, rows, cols) : 0.0;
  return below + 8.0 * (r * c + r * r + k * (r + c) + 40.0 * r + c);
}

/* E M and its Gram matrix, the factors and their product; tridiagonal form of
 * the Gram matrix at a quarter of a product's speed. */
double ptq_restore_flops(const ptq_method *m, int64_t rows, int64_t cols) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_method base = ptq_base_get(&o.base);
  const double r = (double)rows, c = (double)cols;
  const double k = fmin((double)o.rank, fmin(r, c));
  return base.family->flops(&base, rows, cols) +
         2.0 * (2.0 * r * c * c + 2.0 * r * r * c + 4.0 * k * r * c) +
         4.0 * 4.0 / 3.0 * r * r * r + 40.0 * r * c;
}

/* Factors as they are kept. PTQ_E_NUMERIC where one is beyond the type. */
static ptq_status round_factors(ptq_factor_type type, double *x, int64_t n,
                                ptq_err *err) {
  bool fits = true;
  for (int64_t i = 0; i < n; i++) {
    x[i] = ptq_factor_round(type, x[i]);
    fits = fits && isfinite(x[i]);
  }
  if (fits) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "a low-rank factor is beyond %s; keep it in another "
                  "precision",
                  ptq_factor_type_names[type]);
}

ptq_status ptq_restore_add(const ptq_method *m, const ptq_quant_input *in,
                           const double *metric, bool diagonal,
                           ptq_quant_output *out, ptq_err *err) {
  const ptq_restore o = ptq_restore_of(m);
  const ptq_factor_type type = (ptq_factor_type)o.precision;
  const int64_t rows = in->rows, cols = in->cols, n = rows * cols;
  const int64_t least = rows < cols ? rows : cols;
  const int64_t rank = o.rank < least ? o.rank : least;
  const int64_t n_factors = rank * (rows + cols);
  ptq_status rc = PTQ_OK;
  double *e = NULL, *factors = NULL;
  PTQ_TRY(ptq_alloc(&e, n, sizeof *e, "an error of weights", err));
  PTQ_TRY(
      ptq_alloc(&factors, n_factors, sizeof *factors, "low-rank factors", err));
  for (int64_t i = 0; i < n; i++) e[i] = (double)in->w[i] - (double)out->y[i];
  double *b = factors, *a = factors + rank * rows;
  PTQ_TRY(ptq_low_rank(e, rows, cols, metric, diagonal, rank, b, a, err));
  PTQ_TRY(round_factors(type, factors, n_factors, err));
  for (int64_t i = 0; i < n; i++) e[i] = (double)out->y[i];
  ptq_dgemm_tn(rows, cols, rank, 1.0, b, rows, a, cols, 1.0, e, cols);
  for (int64_t i = 0; i < n; i++) out->y[i] = (float)e[i];
  out->storage_bits += ptq_factor_bits(type) * (double)n_factors;
  const uint64_t parts[2] = {
      out->extra_hash,
      ptq_hash64(factors, (size_t)n_factors * sizeof *factors)};
  out->extra_hash = ptq_hash64(parts, sizeof parts);
done:
  ptq_free(e);
  ptq_free(factors);
  return rc;
}
