/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/grad/hessian.h"

#include "flat.h"
#include "ptq/base/mem.h"

ptq_status ptq_flat_gradient(ptq_grad *g, double *nll, double *gradient,
                             ptq_err *err) {
  const ptq_model_info *info = ptq_grad_info(g);
  ptq_flat f = {.info = info,
                .scale = 1.0 / (double)ptq_grad_tokens(g),
                .gradient = gradient};
  const ptq_grad_sink sink = {
      .ctx = &f, .gradient = true, .layer = ptq_flat_take};
  for (int64_t i = 0; i < ptq_flat_size(info); i++) gradient[i] = 0.0;
  return ptq_flat_run(g, NULL, &sink, nll, NULL, err);
}

ptq_status ptq_flat_slopes(ptq_grad *g, int64_t k, const double *const *x,
                           double *slopes, ptq_err *err) {
  ptq_flat f = {.info = ptq_grad_info(g), .x = x};
  double nll = 0.0;
  const ptq_directions d = {.k = k, .ctx = &f, .load = ptq_flat_load};
  const ptq_grad_sink sink = {.ctx = &f};
  return ptq_flat_run(g, &d, &sink, &nll, slopes, err);
}

static ptq_status apply(ptq_grad *g, ptq_curvature curvature, int64_t count,
                        const double *const *x, double *const *y,
                        ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_model_info *info = ptq_grad_info(g);
  double nll = 0.0, *nlld = NULL;
  ptq_flat f = {
      .info = info, .scale = 1.0 / (double)ptq_grad_tokens(g), .x = x, .y = y};
  const ptq_directions d = {.k = count, .ctx = &f, .load = ptq_flat_load};
  const ptq_grad_sink sink = {.ctx = &f,
                              .products = true,
                              .curvature = curvature,
                              .layer = ptq_flat_take};
  for (int64_t j = 0; j < count; j++)
    for (int64_t i = 0; i < ptq_flat_size(info); i++) y[j][i] = 0.0;
  PTQ_TRY(ptq_alloc(&nlld, count, sizeof *nlld, "derivatives", err));
  PTQ_TRY(ptq_flat_run(g, &d, &sink, &nll, nlld, err));
done:
  ptq_free(nlld);
  return rc;
}

static ptq_status apply_hessian(void *ctx, int64_t count,
                                const double *const *x, double *const *y,
                                ptq_err *err) {
  return apply(ctx, PTQ_CURVATURE_HESSIAN, count, x, y, err);
}

static ptq_status apply_gauss_newton(void *ctx, int64_t count,
                                     const double *const *x, double *const *y,
                                     ptq_err *err) {
  return apply(ctx, PTQ_CURVATURE_GAUSS_NEWTON, count, x, y, err);
}

static ptq_operator operator_of(
    ptq_grad *g, ptq_status (*apply_to)(void *, int64_t, const double *const *,
                                        double *const *, ptq_err *)) {
  return (ptq_operator){.n = ptq_flat_size(ptq_grad_info(g)),
                        .width = ptq_grad_max_tangents(g),
                        .ctx = g,
                        .apply = apply_to};
}

ptq_operator ptq_hessian_operator(ptq_grad *g) {
  return operator_of(g, apply_hessian);
}

ptq_operator ptq_gauss_newton_operator(ptq_grad *g) {
  return operator_of(g, apply_gauss_newton);
}
