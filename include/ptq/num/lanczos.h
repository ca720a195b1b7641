/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file lanczos.h
 * Eigenvalues of a symmetric operator by Lanczos' iteration with full
 * reorthogonalization, and its spectral density by stochastic Lanczos
 * quadrature.
 *
 * ptq_lanczos asks for one product after the other, so that several can be
 * carried along together, stopped and gone on with; the functions below it
 * drive it with a ptq_operator. Results depend on the start vector (a seed)
 * and on the operator's products alone.
 */
#ifndef PTQ_NUM_LANCZOS_H
#define PTQ_NUM_LANCZOS_H

#include <stdbool.h>

#include "ptq/num/operator.h"

/** How the basis is stored; it is used as it is stored. */
typedef struct ptq_lanczos_setup {
  int64_t n;
  int64_t max_steps;
  bool single;         /* the basis rounded to float32: half the memory, and
                          eigenvalues to about 1e-7 of the largest */
  const char *scratch; /* borrowed; nullable: a directory, in a file of which
                          the basis stands instead of in memory */
} ptq_lanczos_setup;

typedef struct ptq_lanczos ptq_lanczos;

/** Start from x[n], which must not be 0 (PTQ_E_ARG). */
ptq_status ptq_lanczos_create(const ptq_lanczos_setup *setup, const double *x,
                              ptq_lanczos **out, ptq_err *err);
void ptq_lanczos_free(ptq_lanczos *l);
/** Bytes of memory, a basis in scratch not counted. */
int64_t ptq_lanczos_bytes(const ptq_lanczos_setup *setup);
/** The vector, of length 1, whose product is asked for; NULL when all
 * steps are done or the vectors span an invariant subspace. */
const double *ptq_lanczos_vector(const ptq_lanczos *l);
/** Take its product, and orthogonalize the next vector against all before it,
 * twice. PTQ_E_NUMERIC: the product is not finite. */
ptq_status ptq_lanczos_step(ptq_lanczos *l, const double *product,
                            ptq_err *err);
/** Steps done, and the tridiagonal matrix so far: alpha[steps] and beta[steps],
 * beta[i] beside alpha[i] and alpha[i + 1]. Borrowed. */
int64_t ptq_lanczos_steps(const ptq_lanczos *l);
const double *ptq_lanczos_alpha(const ptq_lanczos *l);
const double *ptq_lanczos_beta(const ptq_lanczos *l);

/** Ritz values, descending. */
typedef struct ptq_ritz {
  int64_t steps;
  double *value;  /* owned; [steps] */
  double *weight; /* owned; [steps] squared first element of the tridiagonal
                     matrix's eigenvector: weights of the quadrature, sum 1 */
  double *bound;  /* owned; [steps] an eigenvalue is that close to it */
} ptq_ritz;
/** At least one step is done. */
ptq_status ptq_lanczos_ritz(const ptq_lanczos *l, ptq_ritz *out, ptq_err *err);
void ptq_ritz_release(ptq_ritz *r);

/**
 * Step until the `largest` largest and `smallest` smallest Ritz values have
 * bounds within tolerance * the largest magnitude, or the steps are used up.
 * @param seed of a start vector of normal elements
 */
ptq_status ptq_lanczos_run(const ptq_operator *a,
                           const ptq_lanczos_setup *setup, uint64_t seed,
                           int64_t largest, int64_t smallest, double tolerance,
                           ptq_ritz *out, ptq_err *err);

/** Quadratures of the spectral distribution, one a probe: the eigenvalue
 * density is their mean, times n. */
typedef struct ptq_quadrature {
  int64_t n, probes;
  ptq_ritz *of; /* owned; [probes] */
} ptq_quadrature;
/** From `probes` vectors of signs, `steps` steps each; a->width of them go
 * together. PTQ_E_ARG: no probes. */
ptq_status ptq_quadrature_run(const ptq_operator *a,
                              const ptq_lanczos_setup *setup, uint64_t seed,
                              int64_t probes, ptq_quadrature *out,
                              ptq_err *err);
void ptq_quadrature_release(ptq_quadrature *q);
/** Density of eigenvalues, integral 1, at x[count]: each node a normal density
 * of standard deviation sigma > 0. */
void ptq_quadrature_density(const ptq_quadrature *q, double sigma,
                            const double *x, int64_t count, double *density);
/** The mean of f over all eigenvalues: of probes, so with its error. n times
 * that of f(x) = x estimates the trace. */
ptq_estimate ptq_quadrature_mean(const ptq_quadrature *q,
                                 double (*f)(double x, void *ctx), void *ctx);

#endif /* PTQ_NUM_LANCZOS_H */
