/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Plain float64 twins of diff_kernels.h, where the formulas are derived. */
#include <math.h>
#include <stddef.h>

#include "ptq/base/check.h"
#include "ptq/num/diff.h"

typedef struct jet {
  double y, d1, d2;
} jet;

static jet silu_jet(double x) {
  const double s = 1.0 / (1.0 + exp(-x)), t = s * (1.0 - s);
  return (jet){x * s, s + x * t, t * (2.0 + x * (1.0 - 2.0 * s))};
}

static jet relu_jet(double x) {
  return x > 0.0 ? (jet){x, 1.0, 0.0} : (jet){0.0, 0.0, 0.0};
}

static jet gelu_jet(double x) {
  const double below = 0.5 * erfc(-x * sqrt(0.5));
  const double density = exp(-0.5 * x * x) / sqrt(8.0 * atan(1.0));
  return (jet){x * below, below + x * density, density * (2.0 - x * x)};
}

static jet gelu_tanh_jet(double x) {
  const double root = sqrt(8.0 * atan(1.0)) / 2.0; /* sqrt(pi / 2) */
  const double u = 2.0 * (x + 0.044715 * x * x * x) / root;
  const double s = 1.0 / (1.0 + exp(-u)), t = s * (1.0 - s);
  const double u1 = 2.0 * (1.0 + 3.0 * 0.044715 * x * x) / root;
  const double u2 = 12.0 * 0.044715 * x / root;
  const double s1 = t * u1;
  const double s2 = t * ((1.0 - 2.0 * s) * u1 * u1 + u2);
  return (jet){x * s, s + x * s1, 2.0 * s1 + x * s2};
}

static jet act_jet(ptq_act_kind act, double x) {
  switch (act) {
    case PTQ_ACT_SILU:
      return silu_jet(x);
    case PTQ_ACT_RELU:
      return relu_jet(x);
    case PTQ_ACT_GELU:
      return gelu_jet(x);
    case PTQ_ACT_GELU_TANH:
      return gelu_tanh_jet(x);
    case PTQ_ACT_COUNT:
      break;
  }
  ptq_check_failed("an activation without derivatives", __FILE__, __LINE__);
}

void ptq_diff64_act(ptq_act_kind act, const double *x, const double *t,
                    int64_t n, double *out) {
  for (int64_t i = 0; i < n; i++) out[i] = act_jet(act, x[i]).d1 * t[i];
}

void ptq_diff64_act_tangent(ptq_act_kind act, const double *x, const double *xd,
                            const double *dy, const double *dyd, int64_t n,
                            double *dxd) {
  for (int64_t i = 0; i < n; i++) {
    const jet a = act_jet(act, x[i]);
    dxd[i] = a.d2 * xd[i] * dy[i] + a.d1 * dyd[i];
  }
}

void ptq_diff64_gate(ptq_act_kind act, const double *g, const double *u,
                     const double *dy, int64_t n, double *dg, double *du) {
  for (int64_t i = 0; i < n; i++) {
    const jet a = act_jet(act, g[i]);
    const double d = dy[i];
    dg[i] = a.d1 * u[i] * d;
    du[i] = a.y * d;
  }
}

void ptq_diff64_gate_jvp(ptq_act_kind act, const double *g, const double *u,
                         const double *gd, const double *ud, int64_t n,
                         double *yd) {
  for (int64_t i = 0; i < n; i++) {
    const jet a = act_jet(act, g[i]);
    yd[i] = a.d1 * gd[i] * u[i] + a.y * ud[i];
  }
}

void ptq_diff64_gate_tangent(ptq_act_kind act, const double *g, const double *u,
                             const double *gd, const double *ud,
                             const double *dy, const double *dyd, int64_t n,
                             double *dgd, double *dud) {
  for (int64_t i = 0; i < n; i++) {
    const jet a = act_jet(act, g[i]);
    const double up = u[i], d = dy[i], gdot = gd[i], udot = ud[i], dd = dyd[i];
    dgd[i] = a.d2 * gdot * up * d + a.d1 * (udot * d + up * dd);
    dud[i] = a.d1 * gdot * d + a.y * dd;
  }
}

void ptq_diff64_soft(const double *p, const double *dp, int64_t n, double d,
                     double *t, double *ds) {
  for (int64_t i = 0; i < n; i++) {
    const double off = dp[i] - d, w = p[i];
    if (t != NULL) t[i] = off;
    ds[i] = w * off;
  }
}

double ptq_diff64_soft_jvp(const double *p, int64_t n, double *sd) {
  double sum = 0.0;
  for (int64_t i = 0; i < n; i++) sum += sd[i] *= p[i];
  return sum;
}

void ptq_diff64_soft_tangent(const double *p, const double *t, int64_t n,
                             double r, double dd, double *sd, double *dpd) {
  for (int64_t i = 0; i < n; i++) {
    const double u = sd[i] - r;
    dpd[i] = p[i] * (u * t[i] + dpd[i] - dd);
    sd[i] = p[i] * u;
  }
}

void ptq_diff64_cap(const double *y, double cap, int64_t n, double *t) {
  for (int64_t i = 0; i < n; i++) t[i] *= 1.0 - y[i] / cap * (y[i] / cap);
}

void ptq_diff64_cap_tangent(const double *y, const double *yd, const double *dy,
                            double cap, int64_t n, double *dxd) {
  for (int64_t i = 0; i < n; i++)
    dxd[i] = (1.0 - y[i] / cap * (y[i] / cap)) * dxd[i] -
             2.0 * y[i] / (cap * cap) * yd[i] * dy[i];
}

void ptq_diff64_cap_bend(const double *y, double cap, int64_t n, double *t) {
  for (int64_t i = 0; i < n; i++)
    t[i] *= 1.0 - y[i] / cap * (y[i] / cap) - 2.0 * y[i] / (cap * cap);
}

void ptq_diff64_unrotate(const double *x, const double *cosines,
                         const double *sines, int64_t half, double *y) {
  for (int64_t i = 0; i < half; i++) {
    const double a = x[i], b = x[half + i];
    y[i] = a * cosines[i] + b * sines[i];
    y[half + i] = b * cosines[i] - a * sines[i];
  }
}

void ptq_diff64_norm(PTQ_DIFF_NORM(double), const double *dy, double *dx) {
  double a0 = 0.0, a1 = 0.0;
  for (int64_t i = 0; i < n; i++) {
    a0 += w[i] * dy[i];
    a1 += (x[i] - mean) * scale * w[i] * dy[i];
  }
  a0 = centred ? a0 / (double)n : 0.0;
  a1 /= (double)n;
  for (int64_t i = 0; i < n; i++)
    dx[i] = scale * (w[i] * dy[i] - a0 - (x[i] - mean) * scale * a1);
}

static void norm_means(const double *x, int64_t n, double mean, double scale,
                       bool centred, const double *xd, double *xd_mean,
                       double *hxd_mean) {
  *xd_mean = *hxd_mean = 0.0;
  for (int64_t i = 0; i < n && centred; i++) *xd_mean += xd[i] / (double)n;
  for (int64_t i = 0; i < n; i++)
    *hxd_mean += (x[i] - mean) * scale * (xd[i] - *xd_mean) / (double)n;
}

void ptq_diff64_norm_jvp(PTQ_DIFF_NORM(double), const double *xd, double *yd) {
  double m0 = 0.0, m1 = 0.0;
  norm_means(x, n, mean, scale, centred, xd, &m0, &m1);
  for (int64_t i = 0; i < n; i++)
    yd[i] = scale * (xd[i] - m0 - (x[i] - mean) * scale * m1) * w[i];
}

void ptq_diff64_norm_tangent(PTQ_DIFF_NORM(double), const double *xd,
                             const double *dy, const double *dyd, double *dxd) {
  double m0 = 0.0, m1 = 0.0, a0 = 0.0, a1 = 0.0, b0 = 0.0, b1 = 0.0;
  norm_means(x, n, mean, scale, centred, xd, &m0, &m1);
  for (int64_t i = 0; i < n; i++) {
    const double h = (x[i] - mean) * scale, hd = scale * (xd[i] - m0 - h * m1);
    a0 += centred ? w[i] * dy[i] / (double)n : 0.0;
    b0 += centred ? w[i] * dyd[i] / (double)n : 0.0;
    a1 += h * w[i] * dy[i] / (double)n;
    b1 += (h * w[i] * dyd[i] + hd * w[i] * dy[i]) / (double)n;
  }
  const double sd = -scale * scale * m1;
  for (int64_t i = 0; i < n; i++) {
    const double h = (x[i] - mean) * scale, hd = scale * (xd[i] - m0 - h * m1);
    dxd[i] = sd * (w[i] * dy[i] - a0 - h * a1) +
             scale * (w[i] * dyd[i] - b0 - hd * a1 - h * b1);
  }
}
