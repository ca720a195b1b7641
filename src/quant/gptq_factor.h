/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file gptq_factor.h
 * What GPTQ takes from a second moment: the order of the columns, the dead
 * ones, and the factor U of the damped inverse.
 */
#ifndef PTQ_QUANT_GPTQ_FACTOR_H
#define PTQ_QUANT_GPTQ_FACTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "moment_shrink.h"
#include "ptq/base/status.h"
#include "ptq/quant/method.h"

typedef struct ptq_gptq_factor {
  int64_t n;
  double damp;         /* used, relative to the mean diagonal */
  double unit;         /* power of two by which h was multiplied */
  int64_t *order;      /* owned; column at position i, NULL: i itself */
  unsigned char *dead; /* owned; [n] by column: no input ever */
  bool coupled;        /* some two columns are correlated */
  bool borrows;        /* u is the caller's */
  double *u; /* owned unless `borrows`; [n, n] upper triangular, of unit * H in
                that order: U' U = (unit H)^-1 */
  double *h; /* owned, nullable; [n, n] by column: what u is of, kept
                by ptq_gptq_factor_create_shrunk */
} ptq_gptq_factor;

/**
 * Factorize h[n, n] (float64, symmetric, not changed).
 *
 * As the reference does: a dead column (zero diagonal) gets diagonal 1, then
 * damp times the mean of the diagonal is added to it. Where the result is not
 * positive definite, damp grows by tens up to 1.
 *
 * @param run 0: columns as they are; 1: by descending diagonal, ties by index;
 *            more: runs of so many columns stay together, sorted by their
 *            largest diagonal and each within itself; a short one is last
 * @return PTQ_E_NUMERIC when damp 1 does not help or h is not finite
 */
ptq_status ptq_gptq_factor_create(const double *h, int64_t n, double damp,
                                  int64_t run, int threads,
                                  ptq_gptq_factor **out, ptq_err *err);
/** The same with columns as they are, in the place of h, which lives as long
 * as the factor. Where it fails, h is nothing any more. */
ptq_status ptq_gptq_factor_create_in(double *h, int64_t n, double damp,
                                     int threads, ptq_gptq_factor **out,
                                     ptq_err *err);
/**
 * The same of a power of a moment (moment_shrink.h), which is kept in f->h by
 * column: joint_descent.h descends on it.
 * @param h what s was made of: it tells dead columns
 */
ptq_status ptq_gptq_factor_create_shrunk(const double *h, ptq_spectrum *s,
                                         double power, bool act_order,
                                         int threads, ptq_gptq_factor **out,
                                         ptq_err *err);
void ptq_gptq_factor_free(ptq_gptq_factor *f);

/** The same from the cache, made if it is not there; *out is borrowed until
 * the cache is reset. Asserts that h is the one the site was first seen
 * with. */
ptq_status ptq_factor_cache_get(ptq_factor_cache *cache, int site,
                                const double *h, int64_t n, double damp,
                                bool act_order, int threads,
                                const ptq_gptq_factor **out, ptq_err *err);
/** ptq_gptq_factor_create_shrunk's from the cache, where all powers share one
 * set of eigenvectors. */
ptq_status ptq_factor_cache_get_shrunk(ptq_factor_cache *cache, int site,
                                       const double *h, int64_t n, double damp,
                                       double power, bool act_order,
                                       int threads, const ptq_gptq_factor **out,
                                       ptq_err *err);

#endif /* PTQ_QUANT_GPTQ_FACTOR_H */
