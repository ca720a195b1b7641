/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A linear layer. Each product's shape depends on the layer and the window
 * alone: tangents are not stacked. */
#include "op.h"
#include "op_bf16.h"
#include "ptq/base/check.h"
#include "ptq/model/forward.h"
#include "ptq/num/kernels.h"

void ptq_linear_apply(const ptq_linear *l, const ptq_real *x, int64_t n,
                      ptq_real *y) {
  PTQ_GEMM(nt, n, l->out, l->in, 1.0F, x, l->in, l->weight, l->in, 0.0F, y,
           l->out);
}

ptq_status ptq_linear_product(const ptq_linear *l, const ptq_real *x, int64_t n,
                              ptq_workspace *ws, ptq_real *y, ptq_err *err) {
  if (PTQ_BF16(ws->mul != NULL)) return ptq_bf16_linear(l, x, n, ws, y, err);
  ptq_linear_apply(l, x, n, y);
  return PTQ_OK;
}

ptq_status ptq_linear_replace(ptq_linear *l, ptq_real *weight,
                              ptq_packed *packed, ptq_workspace *ws,
                              ptq_err *err) {
  PTQ_ASSERT((packed != NULL) == (ws->mul != NULL));
  l->weight = weight;
  l->packed = packed;
  return PTQ_BF16(ws->mul != NULL) ? ptq_bf16_pack(l, ws->mul, err) : PTQ_OK;
}

void ptq_linear_bias(const ptq_linear *l, int64_t n, ptq_real *y) {
  if (l->bias == NULL) return;
  for (int64_t i = 0; i < n; i++) PTQ_VEC(add, l->bias, l->out, y + i * l->out);
}

void ptq_linear_jvp(const ptq_linear *l, const ptq_real *e, const ptq_real *x,
                    const ptq_real *xd, int64_t n, ptq_real *yd) {
  ptq_linear_apply(l, xd, n, yd);
  if (e == NULL) return;
  PTQ_GEMM(nt, n, l->out, l->in, 1.0F, x, l->in, e, l->in, 1.0F, yd, l->out);
}

void ptq_linear_vjp(const ptq_linear *l, const ptq_real *dy, int64_t n,
                    ptq_real beta, ptq_real *dx) {
  PTQ_GEMM(nn, n, l->in, l->out, 1.0F, dy, l->out, l->weight, l->in, beta, dx,
           l->in);
}

void ptq_linear_vjp_weight(const ptq_linear *l, const ptq_real *x,
                           const ptq_real *dy, int64_t n, ptq_real *g) {
  PTQ_GEMM(tn, l->out, l->in, n, 1.0F, dy, l->out, x, l->in, 1.0F, g, l->in);
}

void ptq_linear_tangent(const ptq_linear *l, const ptq_real *e,
                        const ptq_real *dy, const ptq_real *dyd, int64_t n,
                        ptq_real beta, ptq_real *dxd) {
  PTQ_GEMM(nn, n, l->in, l->out, 1.0F, dyd, l->out, l->weight, l->in, beta, dxd,
           l->in);
  if (e == NULL) return;
  PTQ_GEMM(nn, n, l->in, l->out, 1.0F, dy, l->out, e, l->in, 1.0F, dxd, l->in);
}

void ptq_linear_tangent_weight(const ptq_linear *l, const ptq_real *x,
                               const ptq_real *xd, const ptq_real *dy,
                               const ptq_real *dyd, int64_t n, ptq_real *gd) {
  ptq_linear_vjp_weight(l, x, dyd, n, gd);
  ptq_linear_vjp_weight(l, xd, dy, n, gd);
}
