/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017): for a vector v of
 * n signs, v' f(A) v / n is the mean of f over the eigenvalues in expectation,
 * and Lanczos' iteration from v gives the nodes and weights of a Gaussian
 * quadrature of it. */
#include <math.h>

#include "ptq/base/mem.h"
#include "ptq/num/lanczos.h"

/* Probes that go together. */
typedef struct team {
  ptq_lanczos **l;  /* owned; [width], and what they point to */
  const double **x; /* owned; [width] vectors whose products are due */
  double **y;       /* owned; [width], into memory */
  double *memory;   /* owned; [width, n] */
  int64_t *who;     /* owned; [width] whose products they are */
} team;

static ptq_status team_init(const ptq_operator *a, team *t, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  *t = (team){0};
  PTQ_TRY(ptq_alloc(&t->l, a->width, sizeof *t->l, "probes", err));
  PTQ_TRY(ptq_alloc(&t->x, a->width, sizeof *t->x, "probes", err));
  PTQ_TRY(ptq_alloc(&t->y, a->width, sizeof *t->y, "probes", err));
  PTQ_TRY(ptq_alloc(&t->who, a->width, sizeof *t->who, "probes", err));
  PTQ_TRY(
      ptq_alloc(&t->memory, a->width * a->n, sizeof *t->memory, "probes", err));
  for (int64_t j = 0; j < a->width; j++) t->y[j] = t->memory + j * a->n;
done:
  return rc;
}

static void team_release(const ptq_operator *a, team *t) {
  for (int64_t j = 0; t->l != NULL && j < a->width; j++)
    ptq_lanczos_free(t->l[j]);
  ptq_free(t->l);
  ptq_free(t->x);
  ptq_free(t->y);
  ptq_free(t->who);
  ptq_free(t->memory);
}

/* All steps of `count` probes from number `first` on. */
static ptq_status run_together(const ptq_operator *a,
                               const ptq_lanczos_setup *setup, uint64_t seed,
                               int64_t first, int64_t count, team *t,
                               ptq_ritz *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  for (int64_t j = 0; j < count; j++) {
    ptq_probe_fill(ptq_probe_seed(seed, first + j, 0), PTQ_PROBE_SIGNS, a->n,
                   t->y[j]);
    ptq_lanczos_free(t->l[j]);
    t->l[j] = NULL;
    PTQ_TRY(ptq_lanczos_create(setup, t->y[j], &t->l[j], err));
  }
  for (;;) {
    int64_t due = 0;
    for (int64_t j = 0; j < count; j++) {
      t->x[due] = ptq_lanczos_vector(t->l[j]);
      t->who[due] = j;
      due += t->x[due] != NULL;
    }
    if (due == 0) break;
    PTQ_TRY(a->apply(a->ctx, due, t->x, t->y, err));
    for (int64_t i = 0; i < due; i++)
      PTQ_TRY(ptq_lanczos_step(t->l[t->who[i]], t->y[i], err));
  }
  for (int64_t j = 0; j < count; j++)
    PTQ_TRY(ptq_lanczos_ritz(t->l[j], &out[j], err));
done:
  return rc;
}

ptq_status ptq_quadrature_run(const ptq_operator *a,
                              const ptq_lanczos_setup *setup, uint64_t seed,
                              int64_t probes, ptq_quadrature *out,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  team t = {0};
  *out = (ptq_quadrature){.n = a->n, .probes = probes};
  if (probes < 1 || setup->max_steps < 1 || setup->n != a->n)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "a quadrature of %lld probes and %lld steps with vectors "
                    "of %lld, of a matrix of %lld rows",
                    (long long)probes, (long long)setup->max_steps,
                    (long long)setup->n, (long long)a->n);
  PTQ_TRY(ptq_alloc(&out->of, probes, sizeof *out->of, "a quadrature", err));
  PTQ_TRY(team_init(a, &t, err));
  for (int64_t p = 0; p < probes; p += a->width) {
    const int64_t left = probes - p;
    PTQ_TRY(run_together(a, setup, seed, p, left < a->width ? left : a->width,
                         &t, out->of + p, err));
  }
done:
  team_release(a, &t);
  if (rc != PTQ_OK) ptq_quadrature_release(out);
  return rc;
}

void ptq_quadrature_release(ptq_quadrature *q) {
  for (int64_t p = 0; q->of != NULL && p < q->probes; p++)
    ptq_ritz_release(&q->of[p]);
  ptq_free(q->of);
  *q = (ptq_quadrature){0};
}

void ptq_quadrature_density(const ptq_quadrature *q, double sigma,
                            const double *x, int64_t count, double *density) {
  const double top = 1.0 / (sqrt(8.0 * atan(1.0)) * sigma * (double)q->probes);
  for (int64_t i = 0; i < count; i++) {
    density[i] = 0.0;
    for (int64_t p = 0; p < q->probes; p++)
      for (int64_t k = 0; k < q->of[p].steps; k++) {
        const double z = (x[i] - q->of[p].value[k]) / sigma;
        density[i] += top * q->of[p].weight[k] * exp(-0.5 * z * z);
      }
  }
}

ptq_estimate ptq_quadrature_mean(const ptq_quadrature *q,
                                 double (*f)(double x, void *ctx), void *ctx) {
  double sum = 0.0, squares = 0.0;
  for (int64_t p = 0; p < q->probes; p++) {
    double mean = 0.0;
    for (int64_t k = 0; k < q->of[p].steps; k++)
      mean += q->of[p].weight[k] * f(q->of[p].value[k], ctx);
    sum += mean;
    squares += mean * mean;
  }
  const double n = (double)q->probes, mean = sum / n;
  const double variance = fmax(squares / n - mean * mean, 0.0);
  return (ptq_estimate){mean, q->probes > 1 ? sqrt(variance / (n - 1.0)) : NAN,
                        q->probes};
}
