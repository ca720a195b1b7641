/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file parity_gradient.c
 * parity_gradient MODEL IDS.npy DIRECTIONS OUT [BUDGET]: derivatives of the
 * mean NLL of token windows [windows, length] by all linear layers. DIRECTIONS
 * holds k vectors of float64, OUT receives float64: the NLL, its derivative
 * along each direction, the gradient, the Hessian and then the Gauss-Newton
 * matrix times each direction.
 * Built twice: parity_gradient64 computes in float64.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/blas.h"

/* Everything the program holds. */
typedef struct parity {
  ptq_npy ids;
  ptq_model *model;
  ptq_grad *grad;
  int64_t n, k;       /* elements of a vector, directions */
  double *directions; /* [k, n] */
  double *out;        /* [1 + k + n + 2 k n] */
} parity;

static ptq_status read_directions(parity *p, const char *path, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  FILE *f = fopen(path, "rb");
  if (f == NULL || fseek(f, 0, SEEK_END) != 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot read '%s'", path));
  const int64_t doubles = (int64_t)ftell(f) / (int64_t)sizeof(double);
  rewind(f);
  p->k = doubles / p->n;
  if (p->k < 1 || p->k * p->n != doubles)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                     "'%s' holds %lld numbers, not a "
                     "multiple of %lld",
                     path, (long long)doubles, (long long)p->n));
  PTQ_TRY(
      ptq_alloc(&p->directions, doubles, sizeof(double), "directions", err));
  if (fread(p->directions, sizeof(double), (size_t)doubles, f) !=
      (size_t)doubles)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot read '%s'", path));
done:
  if (f != NULL) (void)fclose(f);
  return rc;
}

static ptq_status differentiate(parity *p, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_operator hessian = ptq_hessian_operator(p->grad);
  const ptq_operator half = ptq_gauss_newton_operator(p->grad);
  double *gradient = p->out + 1 + p->k;
  const double **x = NULL;
  double **y = NULL;
  PTQ_TRY(ptq_alloc(&x, p->k, sizeof *x, "directions", err));
  PTQ_TRY(ptq_alloc(&y, p->k, sizeof *y, "products", err));
  for (int64_t j = 0; j < p->k; j++) {
    x[j] = p->directions + j * p->n;
    y[j] = gradient + (1 + j) * p->n;
  }
  PTQ_TRY(ptq_flat_gradient(p->grad, p->out, gradient, err));
  PTQ_TRY(hessian.apply(hessian.ctx, p->k, x, y, err));
  for (int64_t j = 0; j < p->k; j++) y[j] += p->k * p->n;
  PTQ_TRY(half.apply(half.ctx, p->k, x, y, err));
  PTQ_TRY(ptq_flat_slopes(p->grad, p->k, x, p->out + 1, err));
done:
  ptq_free(x);
  ptq_free(y);
  return rc;
}

static int64_t results(const parity *p) {
  return 1 + p->k + (1 + 2 * p->k) * p->n;
}

static ptq_status write_out(const parity *p, const char *path, ptq_err *err) {
  const size_t n = (size_t)results(p);
  FILE *f = fopen(path, "wb");
  if (f == NULL) return PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s'", path);
  const size_t done = fwrite(p->out, sizeof *p->out, n, f);
  if (fclose(f) != 0 || done != n)
    return PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s'", path);
  return PTQ_OK;
}

static ptq_status run(parity *p, char **argv, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_npy_read(argv[2], PTQ_NPY_U32, 2, &p->ids, err));
  PTQ_TRY(ptq_model_open(argv[1], &p->model, err));
  p->n = ptq_flat_size(ptq_model_get_info(p->model));
  PTQ_TRY(read_directions(p, argv[3], err));
  const ptq_grad_setup setup = {
      .model = p->model,
      .ids = p->ids.data,
      .n_windows = p->ids.dims[0],
      .length = p->ids.dims[1],
      .max_tangents = p->k,
      .budget_bytes = argv[5] != NULL ? strtoll(argv[5], NULL, 10) : 0};
  PTQ_TRY(ptq_grad_create(&setup, &p->grad, err));
  PTQ_TRY(ptq_alloc(&p->out, results(p), sizeof *p->out, "results", err));
  PTQ_TRY(differentiate(p, err));
  PTQ_TRY(write_out(p, argv[4], err));
done:
  return rc;
}

int main(int argc, char **argv) {
  if (argc != 5 && argc != 6) {
    fprintf(stderr,
            "usage: parity_gradient MODEL IDS.npy DIRECTIONS OUT [BUDGET]\n");
    return 2;
  }
  ptq_err err = {0};
  parity p = {0};
  const ptq_status rc = run(&p, argv, &err);
  if (rc != PTQ_OK) fprintf(stderr, "parity_gradient: %s\n", err.msg);
  ptq_grad_free(p.grad);
  ptq_model_close(p.model);
  ptq_npy_release(&p.ids);
  ptq_free(p.directions);
  ptq_free(p.out);
  return rc != PTQ_OK;
}
