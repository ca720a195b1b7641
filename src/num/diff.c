/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/num/diff.h"

#include "diff_table.h"

void ptq_diff_act(ptq_act_kind act, const float *x, const float *t, int64_t n,
                  float *out) {
  ptq_diffs()->act[act](x, t, n, out);
}

void ptq_diff_act_tangent(ptq_act_kind act, const float *x, const float *xd,
                          const float *dy, const float *dyd, int64_t n,
                          float *dxd) {
  ptq_diffs()->act_tangent[act](x, xd, dy, dyd, n, dxd);
}

void ptq_diff_gate(ptq_act_kind act, const float *g, const float *u,
                   const float *dy, int64_t n, float *dg, float *du) {
  ptq_diffs()->gate[act](g, u, dy, n, dg, du);
}

void ptq_diff_gate_jvp(ptq_act_kind act, const float *g, const float *u,
                       const float *gd, const float *ud, int64_t n, float *yd) {
  ptq_diffs()->gate_jvp[act](g, u, gd, ud, n, yd);
}

void ptq_diff_gate_tangent(ptq_act_kind act, const float *g, const float *u,
                           const float *gd, const float *ud, const float *dy,
                           const float *dyd, int64_t n, float *dgd,
                           float *dud) {
  ptq_diffs()->gate_tangent[act](g, u, gd, ud, dy, dyd, n, dgd, dud);
}

void ptq_diff_soft(const float *p, const float *dp, int64_t n, float d,
                   float *t, float *ds) {
  ptq_diffs()->soft(p, dp, n, d, t, ds);
}

double ptq_diff_soft_jvp(const float *p, int64_t n, float *sd) {
  return ptq_diffs()->soft_jvp(p, n, sd);
}

void ptq_diff_soft_tangent(const float *p, const float *t, int64_t n, float r,
                           float dd, float *sd, float *dpd) {
  ptq_diffs()->soft_tangent(p, t, n, r, dd, sd, dpd);
}

void ptq_diff_cap(const float *y, float cap, int64_t n, float *t) {
  ptq_diffs()->cap(y, cap, n, t);
}

void ptq_diff_cap_tangent(const float *y, const float *yd, const float *dy,
                          float cap, int64_t n, float *dxd) {
  ptq_diffs()->cap_tangent(y, yd, dy, cap, n, dxd);
}

void ptq_diff_cap_bend(const float *y, float cap, int64_t n, float *t) {
  ptq_diffs()->cap_bend(y, cap, n, t);
}

void ptq_diff_unrotate(const float *x, const float *cosines, const float *sines,
                       int64_t half, float *y) {
  ptq_diffs()->unrotate(x, cosines, sines, half, y);
}

void ptq_diff_norm(PTQ_DIFF_NORM(float), const float *dy, float *dx) {
  ptq_diffs()->norm(x, w, n, mean, scale, centred, dy, dx);
}

void ptq_diff_norm_jvp(PTQ_DIFF_NORM(float), const float *xd, float *yd) {
  ptq_diffs()->norm_jvp(x, w, n, mean, scale, centred, xd, yd);
}

void ptq_diff_norm_tangent(PTQ_DIFF_NORM(float), const float *xd,
                           const float *dy, const float *dyd, float *dxd) {
  ptq_diffs()->norm_tangent(x, w, n, mean, scale, centred, xd, dy, dyd, dxd);
}
