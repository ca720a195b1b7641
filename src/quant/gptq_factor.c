/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "gptq_factor.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "tiles.h"

typedef struct ranked {
  double best; /* largest diagonal of the column's run */
  int64_t run;
  double diagonal;
  int64_t column;
} ranked;

static int by_descending_diagonal(const void *a, const void *b) {
  const ranked *x = a, *y = b;
  if (x->best != y->best) return x->best < y->best ? 1 : -1;
  if (x->run != y->run) return x->run < y->run ? -1 : 1;
  if (x->diagonal != y->diagonal) return x->diagonal < y->diagonal ? 1 : -1;
  return (x->column > y->column) - (x->column < y->column);
}

static ptq_status order_columns(ptq_gptq_factor *f, const double *diag,
                                int64_t run, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ranked *list = NULL;
  PTQ_TRY(ptq_alloc(&list, f->n, sizeof *list, "ranks of columns", err));
  PTQ_TRY(
      ptq_alloc(&f->order, f->n, sizeof *f->order, "order of columns", err));
  for (int64_t first = 0; first < f->n; first += run) {
    const int64_t end = first + run < f->n ? first + run : f->n;
    double best = diag[first];
    for (int64_t i = first; i < end; i++) best = fmax(best, diag[i]);
    if (end - first < run) best = -(double)INFINITY;
    for (int64_t i = first; i < end; i++)
      list[i] = (ranked){
          .best = best, .run = first / run, .diagonal = diag[i], .column = i};
  }
  qsort(list, (size_t)f->n, sizeof *list, by_descending_diagonal);
  for (int64_t i = 0; i < f->n; i++) f->order[i] = list[i].column;
done:
  ptq_free(list);
  return rc;
}

/* Copying H in the order of the columns. The power of two brings the mean of
 * the diagonal near 1, exactly: U's squares fit float64 whatever H's unit. */
typedef struct copy {
  const double *h;      /* borrowed; [n, n] */
  const double *diag;   /* borrowed; [n], repaired and damped */
  const int64_t *order; /* borrowed, nullable */
  int64_t n;
  double unit;
  double *out;         /* borrowed; [n, n] */
  atomic_bool coupled; /* some element off the diagonal is not 0 */
} copy;

enum { COPY_ROWS = 64 };

static ptq_status copy_rows(void *ctx, int64_t index, ptq_err *err) {
  (void)err;
  copy *c = ctx;
  double off = 0.0;
  const int64_t n = c->n, first = index * COPY_ROWS;
  for (int64_t i = first; i < n && i < first + COPY_ROWS; i++) {
    const int64_t at = c->order != NULL ? c->order[i] : i;
    const double *from = c->h + at * n;
    double *to = c->out + i * n;
    if (c->order == NULL)
      for (int64_t j = 0; j < n; j++) to[j] = from[j] * c->unit;
    else
      for (int64_t j = 0; j < n; j++) to[j] = from[c->order[j]] * c->unit;
    to[i] = 0.0;
    for (int64_t j = 0; j < n && off == 0.0; j++) off = to[j];
    to[i] = c->diag[at] * c->unit;
  }
  if (off != 0.0) atomic_store(&c->coupled, true);
  return PTQ_OK;
}

/* Diagonal with dead columns repaired; returns its mean. */
static double repair_diagonal(const double *h, int64_t n, double *diag,
                              unsigned char *dead) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) {
    diag[i] = h[i * n + i];
    if (diag[i] == 0.0) {
      dead[i] = 1;
      diag[i] = 1.0;
    }
    sum += diag[i];
  }
  return sum / (double)n;
}

/* An attempt that failed left what is below the diagonal of u as it was:
 * what is above it comes from there. */
static void mirror(const copy *c) {
  enum { SIDE = 32 };
  const int64_t n = c->n;
  for (int64_t i0 = 0; i0 < n; i0 += SIDE)
    for (int64_t j0 = i0; j0 < n; j0 += SIDE)
      for (int64_t i = i0; i < i0 + SIDE && i < n; i++)
        for (int64_t j = j0 > i ? j0 : i + 1; j < j0 + SIDE && j < n; j++)
          c->out[i * n + j] = c->out[j * n + i];
}

/* H in the order of the columns, with the damped diagonal. */
static ptq_status lay_out(copy *c, bool again, const double *damped,
                          int threads, ptq_err *err) {
  c->diag = damped;
  if (!again)
    return ptq_tiles_run((c->n + COPY_ROWS - 1) / COPY_ROWS, threads, copy_rows,
                         c, err);
  mirror(c);
  for (int64_t i = 0; i < c->n; i++) {
    const int64_t at = c->order != NULL ? c->order[i] : i;
    c->out[i * (c->n + 1)] = damped[at] * c->unit;
  }
  return PTQ_OK;
}

/* Factorize at f->damp and, where that fails, at the next one. */
static ptq_status factorize(ptq_gptq_factor *f, copy *c, const double *diag,
                            double mean, int threads, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  double *damped = NULL;
  const double asked = f->damp;
  int exponent = 0;
  (void)frexp(mean, &exponent);
  c->unit = f->unit = ldexp(1.0, 1 - exponent);
  PTQ_TRY(ptq_alloc(&damped, f->n, sizeof *damped, "a damped diagonal", err));
  for (bool again = false;; again = true) {
    for (int64_t i = 0; i < f->n; i++) damped[i] = diag[i] + f->damp * mean;
    PTQ_TRY(lay_out(c, again, damped, threads, err));
    ptq_err attempt = {0};
    rc = ptq_inverse_factor(f->u, f->n, threads, &attempt);
    if (rc != PTQ_E_NUMERIC) {
      if (rc != PTQ_OK && err != NULL) *err = attempt;
      goto done;
    }
    if (f->damp >= 1.0) {
      rc = PTQ_FAIL(err, rc,
                    "the second moment of %lld inputs is not positive "
                    "definite, damped by %g or anything up to 1 (%s); look "
                    "for NaN, Inf or a lone huge activation",
                    (long long)f->n, asked, attempt.msg);
      goto done;
    }
    f->damp = f->damp > 0.0 ? 10.0 * f->damp : 1e-4;
    if (f->damp > 1.0) f->damp = 1.0;
  }
done:
  ptq_free(damped);
  return rc;
}

/* `place` is h itself or NULL, for a matrix of the factor's own. */
static ptq_status create(const double *h, double *place, int64_t n, double damp,
                         int64_t run, int threads, ptq_gptq_factor **out,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_gptq_factor *f = NULL;
  double *diag = NULL;
  copy c = {.h = h, .n = n};
  *out = NULL;
  PTQ_TRY(ptq_alloc(&f, 1, sizeof *f, "a GPTQ factor", err));
  f->n = n;
  f->damp = damp;
  PTQ_TRY(ptq_alloc(&diag, n, sizeof *diag, "a diagonal", err));
  PTQ_TRY(ptq_alloc(&f->dead, n, 1, "marks of dead columns", err));
  const double mean = repair_diagonal(h, n, diag, f->dead);
  if (!isfinite(mean) || mean <= 0.0) {
    rc = PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "the mean diagonal of the second moment of %lld inputs is "
                  "%g; look for NaN or Inf in the activations",
                  (long long)n, mean);
    goto done;
  }
  if (run > 0) PTQ_TRY(order_columns(f, diag, run, err));
  c.order = f->order;
  f->borrows = place != NULL;
  f->u = place;
  if (place == NULL)
    PTQ_TRY(ptq_alloc(&f->u, n * n, sizeof *f->u, "a GPTQ factor", err));
  c.out = f->u;
  PTQ_TRY(factorize(f, &c, diag, mean, threads, err));
  f->coupled = atomic_load(&c.coupled);
  *out = f;
  f = NULL;
done:
  ptq_gptq_factor_free(f);
  ptq_free(diag);
  return rc;
}

ptq_status ptq_gptq_factor_create(const double *h, int64_t n, double damp,
                                  int64_t run, int threads,
                                  ptq_gptq_factor **out, ptq_err *err) {
  return create(h, NULL, n, damp, run, threads, out, err);
}

ptq_status ptq_gptq_factor_create_in(double *h, int64_t n, double damp,
                                     int threads, ptq_gptq_factor **out,
                                     ptq_err *err) {
  return create(h, h, n, damp, 0, threads, out, err);
}

void ptq_gptq_factor_free(ptq_gptq_factor *f) {
  if (f == NULL) return;
  ptq_free(f->order);
  ptq_free(f->dead);
  if (!f->borrows) ptq_free(f->u);
  ptq_free(f->h);
  ptq_free(f);
}
