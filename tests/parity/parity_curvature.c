/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file parity_curvature.c
 * parity_curvature MODEL IDS.npy PROBES STEPS [GRID.npy SIGMA]: of the Hessian
 * and of the Gauss-Newton matrix of the mean NLL of token windows [windows,
 * length], as JSON: the trace and its standard error, the largest five and
 * smallest three eigenvalues, and of the Hessian the eigenvalue density at the
 * points of GRID; and of a direction of alternating signs, by layer, forms with
 * Gauss-Newton matrix and Kronecker's factors.
 * Built twice: parity_curvature64 computes in float64.
 */
#include <stdio.h>
#include <stdlib.h>

#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/grad/hessian.h"
#include "ptq/num/blas.h"
#include "ptq/num/lanczos.h"

enum { LARGEST = 5, SMALLEST = 3, TOGETHER = 4 };

static ptq_status print_trace(ptq_grad *g, ptq_curvature curvature,
                              int64_t probes, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_estimate whole, *by_layer = NULL;
  const int64_t layers = ptq_flat_layers(ptq_grad_info(g));
  PTQ_TRY(ptq_alloc(&by_layer, layers, sizeof *by_layer, "traces", err));
  PTQ_TRY(ptq_curvature_trace(g, curvature, 1, probes, &whole, by_layer, err));
  printf("\"trace\": %.17g, \"trace_se\": %.17g", whole.mean, whole.se);
done:
  ptq_free(by_layer);
  return rc;
}

static ptq_status print_ends(const ptq_operator *h, ptq_err *err) {
  const ptq_lanczos_setup setup = {.n = h->n, .max_steps = 300};
  ptq_ritz r;
  const ptq_status rc =
      ptq_lanczos_run(h, &setup, 2, LARGEST, SMALLEST, 1e-8, &r, err);
  if (rc != PTQ_OK) return rc;
  printf(", \"steps\": %lld, \"largest\": [", (long long)r.steps);
  for (int64_t i = 0; i < LARGEST && i < r.steps; i++)
    printf("%s%.17g", i > 0 ? ", " : "", r.value[i]);
  printf("], \"smallest\": [");
  for (int64_t i = 1; i <= SMALLEST && i <= r.steps; i++)
    printf("%s%.17g", i > 1 ? ", " : "", r.value[r.steps - i]);
  printf("]");
  ptq_ritz_release(&r);
  return PTQ_OK;
}

static ptq_status print_density(const ptq_operator *h, int64_t probes,
                                int64_t steps, const char *path, double sigma,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_lanczos_setup setup = {.n = h->n, .max_steps = steps};
  ptq_quadrature q = {0};
  ptq_npy grid = {0};
  double *density = NULL;
  PTQ_TRY(ptq_npy_read(path, PTQ_NPY_F64, 1, &grid, err));
  PTQ_TRY(ptq_alloc(&density, grid.n, sizeof *density, "density", err));
  PTQ_TRY(ptq_quadrature_run(h, &setup, 3, probes, &q, err));
  ptq_quadrature_density(&q, sigma, grid.data, grid.n, density);
  printf(", \"density\": [");
  for (int64_t i = 0; i < grid.n; i++)
    printf("%s%.17g", i > 0 ? ", " : "", density[i]);
  printf("]");
done:
  ptq_quadrature_release(&q);
  ptq_npy_release(&grid);
  ptq_free(density);
  return rc;
}

/* +1, -1, +1 ... along each layer. */
static ptq_status load_signs(void *ctx, int64_t block, int64_t j,
                             ptq_real *const *e, ptq_err *err) {
  const ptq_model_info *info = ctx;
  (void)block, (void)j, (void)err;
  for (int l = 0; l < ptq_layer_count(info); l++) {
    const int64_t n = ptq_flat_at(info, 0, l + 1) - ptq_flat_at(info, 0, l);
    for (int64_t i = 0; e[l] != NULL && i < n; i++)
      e[l][i] = i % 2 == 0 ? 1.0F : -1.0F;
  }
  return PTQ_OK;
}

static void print_layers(const ptq_model_info *info, const char *name,
                         const double *of) {
  const char *comma = "";
  printf(", \"%s\": [", name);
  for (int64_t i = 0; i < ptq_flat_layers(info); i++) {
    if (!ptq_layer_present(info, (int)(i % ptq_layer_count(info)))) continue;
    printf("%s%.17g", comma, of[i]);
    comma = ", ";
  }
  printf("]");
}

static ptq_status print_forms(ptq_grad *g, ptq_model_info *info, ptq_err *err) {
  ptq_forms f;
  const ptq_directions d = {.k = 1, .ctx = info, .load = load_signs};
  const ptq_status rc =
      ptq_forms_run(g, &d, PTQ_FORMS_GAUSS_NEWTON | PTQ_FORMS_FISHER, &f, err);
  if (rc != PTQ_OK) return rc;
  print_layers(info, "gauss_newton_forms", f.ege);
  print_layers(info, "kronecker_forms", f.eke);
  ptq_forms_release(&f);
  return PTQ_OK;
}

static ptq_status run(int argc, char **argv, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_npy ids = {0};
  ptq_model *m = NULL;
  ptq_grad *g = NULL;
  const int64_t probes = strtoll(argv[3], NULL, 10);
  PTQ_TRY(ptq_blas_init(err));
  PTQ_TRY(ptq_npy_read(argv[2], PTQ_NPY_U32, 2, &ids, err));
  PTQ_TRY(ptq_model_open(argv[1], &m, err));
  const ptq_grad_setup setup = {.model = m,
                                .ids = ids.data,
                                .n_windows = ids.dims[0],
                                .length = ids.dims[1],
                                .max_tangents = TOGETHER,
                                .budget_bytes = INT64_C(1) << 30};
  PTQ_TRY(ptq_grad_create(&setup, &g, err));
  const ptq_operator h = ptq_hessian_operator(g);
  const ptq_operator gn = ptq_gauss_newton_operator(g);
  ptq_model_info info = *ptq_model_get_info(m);
  printf("{");
  PTQ_TRY(print_trace(g, PTQ_CURVATURE_HESSIAN, probes, err));
  PTQ_TRY(print_ends(&h, err));
  if (argc == 7)
    PTQ_TRY(print_density(&h, probes, strtoll(argv[4], NULL, 10), argv[5],
                          strtod(argv[6], NULL), err));
  printf(", \"gauss_newton\": {");
  PTQ_TRY(print_trace(g, PTQ_CURVATURE_GAUSS_NEWTON, probes, err));
  PTQ_TRY(print_ends(&gn, err));
  printf("}");
  PTQ_TRY(print_forms(g, &info, err));
  printf("}\n");
done:
  ptq_grad_free(g);
  ptq_model_close(m);
  ptq_npy_release(&ids);
  return rc;
}

int main(int argc, char **argv) {
  if (argc != 5 && argc != 7) {
    fprintf(stderr, "usage: parity_curvature MODEL IDS.npy PROBES STEPS"
                    " [GRID.npy SIGMA]\n");
    return 2;
  }
  ptq_err err = {0};
  const ptq_status rc = run(argc, argv, &err);
  if (rc != PTQ_OK) fprintf(stderr, "parity_curvature: %s\n", err.msg);
  return rc != PTQ_OK;
}
