/* SPDX-License-Identifier: GPL-3.0-or-later */
#define _DEFAULT_SOURCE /* mkstemp's file is unlinked and mapped */
#include "ptq/num/lanczos.h"

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"
#include "ptq/num/vec64.h"

struct ptq_lanczos {
  ptq_lanczos_setup setup;
  int64_t steps;
  bool closed;          /* the vectors span an invariant subspace */
  double *alpha, *beta; /* owned; [max_steps] */
  double *vector;       /* owned; [n] the vector at hand, as stored */
  double *work;         /* owned; [n] */
  void *basis;          /* owned; [max_steps, n] double or float */
  size_t mapped;        /* bytes of the basis in a file; 0: in memory */
};

static size_t basis_bytes(const ptq_lanczos_setup *s) {
  return (size_t)(s->max_steps * s->n) *
         (s->single ? sizeof(float) : sizeof(double));
}

int64_t ptq_lanczos_bytes(const ptq_lanczos_setup *s) {
  const int64_t basis = s->scratch != NULL ? 0 : (int64_t)basis_bytes(s);
  return basis + (2 * s->n + 2 * s->max_steps) * (int64_t)sizeof(double) +
         (int64_t)sizeof(ptq_lanczos);
}

/* A file that has no name any more. */
static ptq_status map_basis(ptq_lanczos *l, ptq_err *err) {
  char path[512];
  const size_t bytes = basis_bytes(&l->setup);
  snprintf(path, sizeof path, "%s/lanczos-XXXXXX", l->setup.scratch);
  const int file = ptq_fault() ? -1 : mkstemp(path);
  if (file < 0)
    return PTQ_FAIL(err, PTQ_E_IO, "cannot make a file in '%s'",
                    l->setup.scratch);
  (void)unlink(path);
  void *at = MAP_FAILED;
  if (posix_fallocate(file, 0, (off_t)bytes) == 0)
    at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  (void)close(file);
  if (at == MAP_FAILED)
    return PTQ_FAIL(err, PTQ_E_IO, "no room for %zu bytes in '%s'", bytes,
                    l->setup.scratch);
  l->basis = at;
  l->mapped = bytes;
  return PTQ_OK;
}

/* Vector i of the basis, widened into `to`. */
static void read_basis(const ptq_lanczos *l, int64_t i, double *to) {
  const int64_t n = l->setup.n;
  if (!l->setup.single) {
    memcpy(to, (const double *)l->basis + i * n, (size_t)n * sizeof *to);
    return;
  }
  const float *from = (const float *)l->basis + i * n;
  for (int64_t k = 0; k < n; k++) to[k] = (double)from[k];
}

/* x becomes vector i as it is stored, in l->vector as well. */
static void write_basis(ptq_lanczos *l, int64_t i, const double *x) {
  const int64_t n = l->setup.n;
  if (l->setup.single) {
    float *to = (float *)l->basis + i * n;
    for (int64_t k = 0; k < n; k++) to[k] = (float)x[k];
  } else {
    memcpy((double *)l->basis + i * n, x, (size_t)n * sizeof *x);
  }
  read_basis(l, i, l->vector);
}

/* work -= (q_i' work) q_i for vector i; returns the factor. */
static double project_out(ptq_lanczos *l, int64_t i) {
  const int64_t n = l->setup.n;
  double c = 0.0;
  if (!l->setup.single) {
    const double *q = (const double *)l->basis + i * n;
    c = ptq_vec64_dot(q, l->work, n);
    ptq_vec64_accumulate(q, n, -c, l->work);
    return c;
  }
  const float *q = (const float *)l->basis + i * n;
  for (int64_t k = 0; k < n; k++) c += (double)q[k] * l->work[k];
  ptq_vec_accumulate(q, n, -c, l->work);
  return c;
}

ptq_status ptq_lanczos_create(const ptq_lanczos_setup *setup, const double *x,
                              ptq_lanczos **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_lanczos *l = NULL;
  *out = NULL;
  const double norm = sqrt(ptq_vec64_sum_sq(x, setup->n));
  if (!(norm > 0.0) || !isfinite(norm))
    return PTQ_FAIL(err, PTQ_E_ARG, "the start vector has the norm %g", norm);
  PTQ_TRY(ptq_alloc(&l, 1, sizeof *l, "Lanczos' iteration", err));
  l->setup = *setup;
  PTQ_TRY(
      ptq_alloc(&l->alpha, setup->max_steps, sizeof *l->alpha, "steps", err));
  PTQ_TRY(ptq_alloc(&l->beta, setup->max_steps, sizeof *l->beta, "steps", err));
  PTQ_TRY(ptq_alloc(&l->vector, setup->n, sizeof *l->vector, "a vector", err));
  PTQ_TRY(ptq_alloc(&l->work, setup->n, sizeof *l->work, "a vector", err));
  if (setup->scratch != NULL)
    PTQ_TRY(map_basis(l, err));
  else
    PTQ_TRY(ptq_alloc(&l->basis, (int64_t)basis_bytes(setup), 1,
                      "the basis of Lanczos' iteration", err));
  memcpy(l->work, x, (size_t)setup->n * sizeof *x);
  ptq_vec64_scale(1.0 / norm, setup->n, l->work);
  write_basis(l, 0, l->work);
  *out = l;
  l = NULL;
done:
  ptq_lanczos_free(l);
  return rc;
}

void ptq_lanczos_free(ptq_lanczos *l) {
  if (l == NULL) return;
  if (l->mapped > 0)
    (void)munmap(l->basis, l->mapped);
  else
    ptq_free(l->basis);
  ptq_free(l->alpha);
  ptq_free(l->beta);
  ptq_free(l->vector);
  ptq_free(l->work);
  ptq_free(l);
}

const double *ptq_lanczos_vector(const ptq_lanczos *l) {
  return l->closed || l->steps == l->setup.max_steps ? NULL : l->vector;
}

ptq_status ptq_lanczos_step(ptq_lanczos *l, const double *product,
                            ptq_err *err) {
  const int64_t n = l->setup.n, at = l->steps;
  PTQ_ASSERT(ptq_lanczos_vector(l) != NULL);
  if (!ptq_vec64_all_finite(product, n))
    return PTQ_FAIL(err, PTQ_E_NUMERIC,
                    "step %lld of Lanczos' iteration: the product is not "
                    "finite",
                    (long long)at);
  memcpy(l->work, product, (size_t)n * sizeof *product);
  const double size = sqrt(ptq_vec64_sum_sq(product, n));
  l->alpha[at] = ptq_vec64_dot(l->vector, product, n);
  for (int twice = 0; twice < 2; twice++)
    for (int64_t i = at; i >= 0; i--) (void)project_out(l, i);
  l->beta[at] = sqrt(ptq_vec64_sum_sq(l->work, n));
  l->steps++;
  /* What is left of a product within the span of all vectors is rounding. */
  const double unit = l->setup.single ? 0x1p-24 : 0x1p-53;
  l->closed = l->steps == n || l->beta[at] <= 64.0 * unit * size;
  if (l->closed) l->beta[at] = 0.0;
  if (l->closed || l->steps == l->setup.max_steps) return PTQ_OK;
  ptq_vec64_scale(1.0 / l->beta[at], n, l->work);
  write_basis(l, l->steps, l->work);
  return PTQ_OK;
}

int64_t ptq_lanczos_steps(const ptq_lanczos *l) {
  return l->steps;
}

const double *ptq_lanczos_alpha(const ptq_lanczos *l) {
  return l->alpha;
}

const double *ptq_lanczos_beta(const ptq_lanczos *l) {
  return l->beta;
}

ptq_status ptq_lanczos_ritz(const ptq_lanczos *l, ptq_ritz *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t m = l->steps;
  double *t = NULL, *v = NULL;
  PTQ_ASSERT(m > 0);
  *out = (ptq_ritz){.steps = m};
  PTQ_TRY(ptq_alloc(&out->value, m, sizeof *out->value, "Ritz values", err));
  PTQ_TRY(ptq_alloc(&out->weight, m, sizeof *out->weight, "weights", err));
  PTQ_TRY(ptq_alloc(&out->bound, m, sizeof *out->bound, "bounds", err));
  PTQ_TRY(ptq_alloc(&t, m * m, sizeof *t, "a tridiagonal matrix", err));
  PTQ_TRY(ptq_alloc(&v, m * m, sizeof *v, "eigenvectors", err));
  for (int64_t i = 0; i < m; i++) {
    t[i * m + i] = l->alpha[i];
    if (i + 1 < m) t[i * m + i + 1] = t[(i + 1) * m + i] = l->beta[i];
  }
  PTQ_TRY(ptq_eigenvectors(t, m, m, out->value, v, err));
  for (int64_t i = 0; i < m; i++) {
    out->weight[i] = v[i * m] * v[i * m];
    out->bound[i] = l->beta[m - 1] * fabs(v[i * m + m - 1]);
  }
done:
  ptq_free(t);
  ptq_free(v);
  if (rc != PTQ_OK) ptq_ritz_release(out);
  return rc;
}

void ptq_ritz_release(ptq_ritz *r) {
  ptq_free(r->value);
  ptq_free(r->weight);
  ptq_free(r->bound);
  *r = (ptq_ritz){0};
}

/* Are the outer Ritz values as exact as asked for? */
static bool converged(const ptq_ritz *r, int64_t largest, int64_t smallest,
                      double tolerance) {
  const double top = fmax(fabs(r->value[0]), fabs(r->value[r->steps - 1]));
  if (r->steps < largest + smallest) return false;
  for (int64_t i = 0; i < r->steps; i++)
    if ((i < largest || i >= r->steps - smallest) &&
        !(r->bound[i] <= tolerance * top))
      return false;
  return true;
}

ptq_status ptq_lanczos_run(const ptq_operator *a,
                           const ptq_lanczos_setup *setup, uint64_t seed,
                           int64_t largest, int64_t smallest, double tolerance,
                           ptq_ritz *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_lanczos *l = NULL;
  double *x = NULL;
  *out = (ptq_ritz){0};
  if (setup->max_steps < 1 || setup->n != a->n)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "%lld steps with vectors of %lld, of a "
                    "matrix of %lld rows",
                    (long long)setup->max_steps, (long long)setup->n,
                    (long long)a->n);
  PTQ_TRY(ptq_alloc(&x, a->n, sizeof *x, "a vector", err));
  ptq_probe_fill(ptq_probe_seed(seed, 0, 0), PTQ_PROBE_GAUSSIAN, a->n, x);
  PTQ_TRY(ptq_lanczos_create(setup, x, &l, err));
  for (;;) {
    const double *q = ptq_lanczos_vector(l);
    if (q == NULL) break;
    PTQ_TRY(a->apply(a->ctx, 1, &q, &x, err));
    PTQ_TRY(ptq_lanczos_step(l, x, err));
    ptq_ritz_release(out);
    PTQ_TRY(ptq_lanczos_ritz(l, out, err));
    if (converged(out, largest, smallest, tolerance)) break;
  }
done:
  ptq_lanczos_free(l);
  ptq_free(x);
  if (rc != PTQ_OK) ptq_ritz_release(out);
  return rc;
}
