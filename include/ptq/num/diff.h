/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file diff.h
 * Vectorized kernels of derivatives: what backward and tangent passes do
 * elementwise and by row, of first and second order.
 *
 * A quantity's tangent (its derivative along a direction) ends in d, the
 * derivative of the loss by it begins with d: x, xd, dx, and dxd for the
 * tangent of dx. As in ptq/num/vec.h a kernel exists in several instruction
 * sets; an element's bits do not depend on where in an array it stands. An
 * output may be one of the inputs, and must not overlap them otherwise.
 */
#ifndef PTQ_NUM_DIFF_H
#define PTQ_NUM_DIFF_H

#include <stdbool.h>
#include <stdint.h>

typedef enum ptq_act_kind {
  PTQ_ACT_SILU,
  PTQ_ACT_RELU,      /* its derivative at 0 is 0 */
  PTQ_ACT_GELU,      /* x Phi(x) */
  PTQ_ACT_GELU_TANH, /* its approximation by tanh */
  PTQ_ACT_COUNT
} ptq_act_kind;

/* Each declared for float and, as ptq_diff64_, for double. */

/** A row of a norm: y = (x - mean) scale w + b, where scale = (mean square of
 * x - mean, + eps)^(-1/2) follows x, and so does mean if `centred` (else it
 * is 0). */
#define PTQ_DIFF_NORM(real) \
  const real *x, const real *w, int64_t n, real mean, real scale, bool centred

#define PTQ_DIFF_KERNELS(p, real)                                              \
  /** out = act'(x) t: an activation's tangent, or its derivative. */          \
  void p##act(ptq_act_kind act, const real *x, const real *t, int64_t n,       \
              real *out);                                                      \
  /** dxd = act''(x) xd dy + act'(x) dyd. */                                   \
  void p##act_tangent(ptq_act_kind act, const real *x, const real *xd,         \
                      const real *dy, const real *dyd, int64_t n, real *dxd);  \
  /** Of y = act(g) u: dg and du from dy. */                                   \
  void p##gate(ptq_act_kind act, const real *g, const real *u, const real *dy, \
               int64_t n, real *dg, real *du);                                 \
  /** yd from gd and ud. */                                                    \
  void p##gate_jvp(ptq_act_kind act, const real *g, const real *u,             \
                   const real *gd, const real *ud, int64_t n, real *yd);       \
  /** dgd and dud from gd, ud, dy and dyd. */                                  \
  void p##gate_tangent(ptq_act_kind act, const real *g, const real *u,         \
                       const real *gd, const real *ud, const real *dy,         \
                       const real *dyd, int64_t n, real *dgd, real *dud);      \
  /** Softmax, row by row, with p proportional to probabilities: t = dp - d    \
   * (t may be NULL) and ds = p (dp - d). */                                   \
  void p##soft(const real *p, const real *dp, int64_t n, real d, real *t,      \
               real *ds);                                                      \
  /** sd *= p; returns the sum, added up as ptq_vec_exp does. */               \
  double p##soft_jvp(const real *p, int64_t n, real *sd);                      \
  /** With u = sd - r: dpd = p (u t + dpd - dd), then sd = p u. */             \
  void p##soft_tangent(const real *p, const real *t, int64_t n, real r,        \
                       real dd, real *sd, real *dpd);                          \
  /** Of y = cap tanh(x / cap): t *= 1 - (y / cap)^2. */                       \
  void p##cap(const real *y, real cap, int64_t n, real *t);                    \
  /** dxd = (1 - (y / cap)^2) dyd - 2 y yd dy / cap^2, dyd in dxd's place. */  \
  void p##cap_tangent(const real *y, const real *yd, const real *dy, real cap, \
                      int64_t n, real *dxd);                                   \
  /** t *= 1 - (y / cap)^2 - 2 y / cap^2: t (y' + y'' / y'). */                \
  void p##cap_bend(const real *y, real cap, int64_t n, real *t);               \
  /** Undoes the angles of ptq_vec_rotate: its derivative. */                  \
  void p##unrotate(const real *x, const real *cosines, const real *sines,      \
                   int64_t half, real *y);                                     \
  void p##norm(PTQ_DIFF_NORM(real), const real *dy, real *dx);                 \
  void p##norm_jvp(PTQ_DIFF_NORM(real), const real *xd, real *yd);             \
  void p##norm_tangent(PTQ_DIFF_NORM(real), const real *xd, const real *dy,    \
                       const real *dyd, real *dxd)

PTQ_DIFF_KERNELS(ptq_diff_, float);
PTQ_DIFF_KERNELS(ptq_diff64_, double);

#endif /* PTQ_NUM_DIFF_H */
