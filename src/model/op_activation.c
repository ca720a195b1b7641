/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Activation and gate of an MLP. */
#include <string.h>

#include "op.h"
#include "ptq/base/check.h"
#include "ptq/num/kernels.h"

static void activate(ptq_act_kind act, int64_t n, ptq_real *x) {
  switch (act) {
    case PTQ_ACT_SILU:
      PTQ_VEC(silu, n, x);
      return;
    case PTQ_ACT_RELU:
      PTQ_VEC(relu, n, x);
      return;
    case PTQ_ACT_GELU:
      PTQ_VEC(gelu, n, x);
      return;
    case PTQ_ACT_GELU_TANH:
      PTQ_VEC(gelu_tanh, n, x);
      return;
    case PTQ_ACT_COUNT:
      break;
  }
  ptq_check_failed("an activation without a kernel", __FILE__, __LINE__);
}

/* gate = act(gate) * up */
static void open_gate(ptq_act_kind act, const ptq_real *up, int64_t n,
                      ptq_real *gate) {
  if (act == PTQ_ACT_SILU) {
    PTQ_VEC(silu_mul, up, n, gate);
    return;
  }
  activate(act, n, gate);
  PTQ_VEC(multiply, up, n, gate);
}

void ptq_activate(const ptq_model_info *info, int64_t n, const ptq_inner *x,
                  ptq_real *y) {
  const int64_t ff = info->d_ff;
  const ptq_real *from = x->gate != NULL ? x->gate : x->up;
  for (int64_t i = 0; i < n; i++) {
    ptq_real *row = y + i * ff;
    if (row != from + i * x->row)
      memcpy(row, from + i * x->row, (size_t)ff * sizeof *row);
    if (x->gate != NULL)
      open_gate(info->act, x->up + i * x->row, ff, row);
    else
      activate(info->act, ff, row);
  }
}

void ptq_activate_jvp(const ptq_model_info *info, int64_t n, const ptq_inner *x,
                      const ptq_inner *xd, ptq_real *yd) {
  const int64_t ff = info->d_ff;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = i * x->row, dot = i * xd->row;
    if (x->gate != NULL)
      PTQ_DIFF(gate_jvp, info->act, x->gate + at, x->up + at, xd->gate + dot,
               xd->up + dot, ff, yd + i * ff);
    else
      PTQ_DIFF(act, info->act, x->up + at, xd->up + dot, ff, yd + i * ff);
  }
}

void ptq_activate_vjp(const ptq_model_info *info, int64_t n, const ptq_inner *x,
                      const ptq_real *dy, const ptq_inner *dx) {
  const int64_t ff = info->d_ff;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = i * x->row, to = i * dx->row;
    if (x->gate != NULL)
      PTQ_DIFF(gate, info->act, x->gate + at, x->up + at, dy + i * ff, ff,
               dx->gate + to, dx->up + to);
    else
      PTQ_DIFF(act, info->act, x->up + at, dy + i * ff, ff, dx->up + to);
  }
}

void ptq_activate_tangent(const ptq_model_info *info, int64_t n,
                          const ptq_inner *x, const ptq_inner *xd,
                          const ptq_real *dy, const ptq_real *dyd,
                          const ptq_inner *dxd) {
  const int64_t ff = info->d_ff;
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = i * x->row, dot = i * xd->row, to = i * dxd->row;
    if (x->gate != NULL)
      PTQ_DIFF(gate_tangent, info->act, x->gate + at, x->up + at,
               xd->gate + dot, xd->up + dot, dy + i * ff, dyd + i * ff, ff,
               dxd->gate + to, dxd->up + to);
    else
      PTQ_DIFF(act_tangent, info->act, x->up + at, xd->up + dot, dy + i * ff,
               dyd + i * ff, ff, dxd->up + to);
  }
}
