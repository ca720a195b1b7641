/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Float64 kernels against central differences of the kernels that they
 * differentiate; float32 kernels of every instruction set against them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/rng.h"
#include "ptq/num/diff.h"
#include "ptq/num/vec.h"
#include "ptq/num/vec64.h"

enum { N = 67 };

/* A third-order error h^2 f''' / 6 and rounding 2^-53 |f| / h: about 1e-10 of
 * functions of size 1 to 10 for this step; wide of that. */
static const double STEP = 1e-5, NEAR = 2e-8;
/* Kernels have some 1e-6 of what they add up, the activations' bounds
 * included; the exponent of GELU by tanh is up to 17 here, so its exponential
 * has that many times 2^-24, and up to 7^2 times that is in its second
 * derivative. */
static const double NEAR32 = 1e-5;

typedef struct vectors {
  double x[N], u[N], xd[N], ud[N], dy[N], dyd[N], w[N];
} vectors;

static void draw(uint64_t seed, double spread, double *x, int64_t n) {
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  for (int64_t i = 0; i < n; i++)
    x[i] = (double)(float)(spread * (2.0 * ptq_rng_unit(&rng) - 1.0));
}

static vectors draw_all(uint64_t seed) {
  vectors v;
  draw(seed, 5.0, v.x, N);
  draw(seed + 1, 2.0, v.u, N);
  draw(seed + 2, 1.0, v.xd, N);
  draw(seed + 3, 1.0, v.ud, N);
  draw(seed + 4, 1.0, v.dy, N);
  draw(seed + 5, 1.0, v.dyd, N);
  draw(seed + 6, 1.5, v.w, N);
  return v;
}

static void expect(const char *what, const double *got, const double *want,
                   int64_t n, double near) {
  double top = 0.0;
  for (int64_t i = 0; i < n; i++) top = fmax(top, fabs(want[i]));
  for (int64_t i = 0; i < n; i++)
    if (!(fabs(got[i] - want[i]) <= near * fmax(top, 1.0)))
      fail_msg("%s: element %d is %.17g, not %.17g", what, (int)i, got[i],
               want[i]);
}

static void activate(ptq_act_kind act, double *x) {
  if (act == PTQ_ACT_SILU) ptq_vec64_silu(N, x);
  if (act == PTQ_ACT_RELU) ptq_vec64_relu(N, x);
  if (act == PTQ_ACT_GELU) ptq_vec64_gelu(N, x);
  if (act == PTQ_ACT_GELU_TANH) ptq_vec64_gelu_tanh(N, x);
}

/* y = act(x + t xd) (u + t ud) dy, elementwise. */
static void gated(ptq_act_kind act, const vectors *v, double t, double *y) {
  for (int i = 0; i < N; i++) y[i] = v->x[i] + t * v->xd[i];
  activate(act, y);
  for (int i = 0; i < N; i++) y[i] *= v->u[i] + t * v->ud[i];
}

static void difference(const double *plus, const double *minus, double *out) {
  for (int i = 0; i < N; i++) out[i] = (plus[i] - minus[i]) / (2.0 * STEP);
}

static void activations_have_their_slopes(void **state) {
  (void)state;
  const vectors v = draw_all(1);
  double plus[N], minus[N], want[N], got[N];
  for (int act = 0; act < PTQ_ACT_COUNT; act++) {
    const ptq_act_kind a = (ptq_act_kind)act;
    for (int i = 0; i < N; i++) {
      plus[i] = v.x[i] + STEP * v.xd[i];
      minus[i] = v.x[i] - STEP * v.xd[i];
    }
    activate(a, plus);
    activate(a, minus);
    difference(plus, minus, want);
    ptq_diff64_act(a, v.x, v.xd, N, got);
    expect("act", got, want, N, NEAR);
    gated(a, &v, STEP, plus);
    gated(a, &v, -STEP, minus);
    difference(plus, minus, want);
    ptq_diff64_gate_jvp(a, v.x, v.u, v.xd, v.ud, N, got);
    expect("gate_jvp", got, want, N, NEAR);
  }
}

/* <dy, jvp(xd)> = <vjp(dy), xd>. */
static void gates_go_back_as_they_came(void **state) {
  (void)state;
  const vectors v = draw_all(2);
  for (int act = 0; act < PTQ_ACT_COUNT; act++) {
    double yd[N], dg[N], du[N];
    ptq_diff64_gate_jvp((ptq_act_kind)act, v.x, v.u, v.xd, v.ud, N, yd);
    ptq_diff64_gate((ptq_act_kind)act, v.x, v.u, v.dy, N, dg, du);
    for (int i = 0; i < N; i++) {
      const double a = v.dy[i] * yd[i], b = dg[i] * v.xd[i] + du[i] * v.ud[i];
      assert_true(fabs(a - b) <= 1e-13 * (1.0 + fabs(a)));
    }
  }
}

static void tangents_of_activations_are_their_differences(void **state) {
  (void)state;
  const vectors v = draw_all(3);
  for (int act = 0; act < PTQ_ACT_COUNT; act++) {
    const ptq_act_kind a = (ptq_act_kind)act;
    double dg[2][N], du[2][N], dx[2][N], want[N], dgd[N], dud[N];
    for (int side = 0; side < 2; side++) {
      const double t = side == 0 ? STEP : -STEP;
      double x[N], u[N], dy[N];
      for (int i = 0; i < N; i++) {
        x[i] = v.x[i] + t * v.xd[i];
        u[i] = v.u[i] + t * v.ud[i];
        dy[i] = v.dy[i] + t * v.dyd[i];
      }
      ptq_diff64_gate(a, x, u, dy, N, dg[side], du[side]);
      ptq_diff64_act(a, x, dy, N, dx[side]);
    }
    ptq_diff64_gate_tangent(a, v.x, v.u, v.xd, v.ud, v.dy, v.dyd, N, dgd, dud);
    difference(dg[0], dg[1], want);
    expect("gate_tangent: gate", dgd, want, N, NEAR);
    difference(du[0], du[1], want);
    expect("gate_tangent: up", dud, want, N, NEAR);
    ptq_diff64_act_tangent(a, v.x, v.xd, v.dy, v.dyd, N, dgd);
    difference(dx[0], dx[1], want);
    expect("act_tangent", dgd, want, N, NEAR);
  }
}

static void relu_has_no_slope_at_0(void **state) {
  (void)state;
  const double x[3] = {0.0, -0.0, 1e-300}, t[3] = {2.0, 2.0, 2.0};
  const float x32[3] = {0.0F, -0.0F, 1e-30F}, t32[3] = {2.0F, 2.0F, 2.0F};
  double y[3];
  float y32[3];
  ptq_diff64_act(PTQ_ACT_RELU, x, t, 3, y);
  ptq_diff_act(PTQ_ACT_RELU, x32, t32, 3, y32);
  for (int i = 0; i < 3; i++) {
    assert_true(y[i] == (i == 2 ? 2.0 : 0.0));
    assert_true(y32[i] == (i == 2 ? 2.0F : 0.0F));
  }
}

/* Softmax of s with the derivative dp by its probabilities: p, t and ds. */
static void soften(const double *s, const double *dp, double *p, double *t,
                   double *ds) {
  const double sum = ptq_vec64_exp(s, N, 0.0, p);
  ptq_vec64_scale(1.0 / sum, N, p);
  ptq_diff64_soft(p, dp, N, ptq_vec64_dot(p, dp, N), t, ds);
}

static void softmax_goes_back_and_along(void **state) {
  (void)state;
  const vectors v = draw_all(4);
  double p[2][N], ds[2][N], s[N], dp[N], want[N];
  for (int side = 0; side < 2; side++) {
    const double h = side == 0 ? STEP : -STEP;
    for (int i = 0; i < N; i++) {
      s[i] = v.u[i] + h * v.xd[i];
      dp[i] = v.dy[i] + h * v.dyd[i];
    }
    soften(s, dp, p[side], NULL, ds[side]);
  }
  double own[N], t[N], back[N], sd[N], dpd[N];
  soften(v.u, v.dy, own, t, back);
  memcpy(sd, v.xd, sizeof sd);
  const double r = ptq_diff64_soft_jvp(own, N, sd);
  difference(p[0], p[1], want);
  for (int i = 0; i < N; i++) sd[i] -= r * own[i];
  expect("soft_jvp", sd, want, N, NEAR);
  /* <dp, pd> = <ds, sd> */
  assert_true(fabs(ptq_vec64_dot(v.dy, sd, N) - ptq_vec64_dot(back, v.xd, N)) <
              1e-14);
  memcpy(sd, v.xd, sizeof sd);
  memcpy(dpd, v.dyd, sizeof dpd);
  const double dd = ptq_vec64_dot(want, v.dy, N) + ptq_vec64_dot(own, v.dyd, N);
  ptq_diff64_soft_tangent(own, t, N, r, dd, sd, dpd);
  expect("soft_tangent: p", sd, want, N, NEAR);
  difference(ds[0], ds[1], want);
  expect("soft_tangent: ds", dpd, want, N, NEAR);
}

static void caps_bend_scores(void **state) {
  (void)state;
  const vectors v = draw_all(5);
  const double cap = 3.0;
  double y[2][N], dx[2][N], own[N], yd[N], got[N], want[N];
  for (int side = 0; side < 2; side++) {
    const double h = side == 0 ? STEP : -STEP;
    for (int i = 0; i < N; i++) {
      y[side][i] = v.x[i] + h * v.xd[i];
      dx[side][i] = v.dy[i] + h * v.dyd[i];
    }
    ptq_vec64_soft_cap(cap, N, y[side]);
    ptq_diff64_cap(y[side], cap, N, dx[side]);
  }
  memcpy(own, v.x, sizeof own);
  ptq_vec64_soft_cap(cap, N, own);
  memcpy(yd, v.xd, sizeof yd);
  ptq_diff64_cap(own, cap, N, yd);
  difference(y[0], y[1], want);
  expect("cap", yd, want, N, NEAR);
  memcpy(got, v.dyd, sizeof got);
  ptq_diff64_cap_tangent(own, yd, v.dy, cap, N, got);
  difference(dx[0], dx[1], want);
  expect("cap_tangent", got, want, N, NEAR);
  /* The tangent of slope * dy, where dy follows yd: dy = y, dyd = yd. */
  for (int i = 0; i < N; i++) {
    want[i] =
        yd[i] * (1.0 - pow(own[i] / cap, 2.0) - 2.0 * own[i] / (cap * cap));
    got[i] = yd[i];
  }
  ptq_diff64_cap_bend(own, cap, N, got);
  expect("cap_bend", got, want, N, 1e-15);
}

/* norm(x) without bias. */
static void norm(const double *x, const double *w, bool centred, double *y,
                 double *mean, double *scale) {
  *mean = centred ? ptq_vec64_sum(x, N) / N : 0.0;
  double square = 0.0;
  for (int i = 0; i < N; i++) square += pow(x[i] - *mean, 2.0) / N;
  *scale = 1.0 / sqrt(square + 1e-2);
  ptq_vec64_normalize(x, N, *mean, *scale, w, NULL, y);
}

static void norms_go_back_and_along(void **state) {
  (void)state;
  const vectors v = draw_all(6);
  for (int centred = 0; centred < 2; centred++) {
    const bool c = centred == 1;
    double y[2][N], dx[2][N], own[N], got[N], want[N], mean, scale;
    for (int side = 0; side < 2; side++) {
      const double h = side == 0 ? STEP : -STEP;
      double x[N], dy[N];
      for (int i = 0; i < N; i++) {
        x[i] = v.x[i] + h * v.xd[i];
        dy[i] = v.dy[i] + h * v.dyd[i];
      }
      norm(x, v.w, c, y[side], &mean, &scale);
      ptq_diff64_norm(x, v.w, N, mean, scale, c, dy, dx[side]);
    }
    norm(v.x, v.w, c, own, &mean, &scale);
    ptq_diff64_norm_jvp(v.x, v.w, N, mean, scale, c, v.xd, got);
    difference(y[0], y[1], want);
    expect("norm_jvp", got, want, N, NEAR);
    const double along = ptq_vec64_dot(got, v.dy, N);
    ptq_diff64_norm(v.x, v.w, N, mean, scale, c, v.dy, got);
    assert_true(fabs(along - ptq_vec64_dot(got, v.xd, N)) < 1e-13);
    ptq_diff64_norm_tangent(v.x, v.w, N, mean, scale, c, v.xd, v.dy, v.dyd,
                            got);
    difference(dx[0], dx[1], want);
    expect("norm_tangent", got, want, N, NEAR);
  }
}

static void rotation_goes_back(void **state) {
  (void)state;
  const vectors v = draw_all(7);
  enum { HALF = N / 2 };
  double c[HALF], s[HALF], y[N] = {0.0}, x[N] = {0.0};
  for (int i = 0; i < HALF; i++) {
    c[i] = 1.5 * cos(v.xd[i]); /* an amplitude, as yarn has it */
    s[i] = 1.5 * sin(v.xd[i]);
  }
  ptq_vec64_rotate(v.x, c, s, HALF, y);
  ptq_diff64_unrotate(v.dy, c, s, HALF, x);
  assert_true(fabs(ptq_vec64_dot(v.dy, y, 2 * HALF) -
                   ptq_vec64_dot(x, v.x, 2 * HALF)) < 1e-12);
}

/* A float32 kernel beside its twin: what the twin makes of the same numbers. */
static void narrow(const double *x, float *y) {
  for (int i = 0; i < N; i++) y[i] = (float)x[i];
}

static void expect32(const char *isa, const char *what, const float *got,
                     const double *want, int n) {
  double top = 1.0;
  for (int i = 0; i < n; i++) top = fmax(top, fabs(want[i]));
  for (int i = 0; i < n; i++)
    if (!(fabs((double)got[i] - want[i]) <= NEAR32 * top))
      fail_msg("%s, %s of %d: element %d is %.9g, not %.9g", isa, what, n, i,
               (double)got[i], want[i]);
}

typedef struct narrows {
  float x[N], u[N], xd[N], ud[N], dy[N], dyd[N], w[N];
} narrows;

static narrows narrow_all(const vectors *v) {
  narrows f;
  narrow(v->x, f.x);
  narrow(v->u, f.u);
  narrow(v->xd, f.xd);
  narrow(v->ud, f.ud);
  narrow(v->dy, f.dy);
  narrow(v->dyd, f.dyd);
  narrow(v->w, f.w);
  return f;
}

static void check_activations(const char *isa, const vectors *v,
                              const narrows *f, int n) {
  double a[N], b[N];
  float fa[N], fb[N];
  for (int act = 0; act < PTQ_ACT_COUNT; act++) {
    const ptq_act_kind k = (ptq_act_kind)act;
    ptq_diff64_act(k, v->x, v->xd, n, a);
    ptq_diff_act(k, f->x, f->xd, n, fa);
    expect32(isa, "act", fa, a, n);
    ptq_diff64_act_tangent(k, v->x, v->xd, v->dy, v->dyd, n, a);
    ptq_diff_act_tangent(k, f->x, f->xd, f->dy, f->dyd, n, fa);
    expect32(isa, "act_tangent", fa, a, n);
    ptq_diff64_gate(k, v->x, v->u, v->dy, n, a, b);
    ptq_diff_gate(k, f->x, f->u, f->dy, n, fa, fb);
    expect32(isa, "gate: gate", fa, a, n);
    expect32(isa, "gate: up", fb, b, n);
    ptq_diff64_gate_jvp(k, v->x, v->u, v->xd, v->ud, n, a);
    ptq_diff_gate_jvp(k, f->x, f->u, f->xd, f->ud, n, fa);
    expect32(isa, "gate_jvp", fa, a, n);
    ptq_diff64_gate_tangent(k, v->x, v->u, v->xd, v->ud, v->dy, v->dyd, n, a,
                            b);
    ptq_diff_gate_tangent(k, f->x, f->u, f->xd, f->ud, f->dy, f->dyd, n, fa,
                          fb);
    expect32(isa, "gate_tangent: gate", fa, a, n);
    expect32(isa, "gate_tangent: up", fb, b, n);
  }
}

static void check_rows(const char *isa, const vectors *v, const narrows *f,
                       int n) {
  double a[N], b[N];
  float fa[N], fb[N];
  ptq_diff64_soft(v->u, v->dy, n, 0.25, a, b);
  ptq_diff_soft(f->u, f->dy, n, 0.25F, fa, fb);
  expect32(isa, "soft: t", fa, a, n);
  expect32(isa, "soft: ds", fb, b, n);
  ptq_diff_soft(f->u, f->dy, n, 0.25F, NULL, fa);
  expect32(isa, "soft without t", fa, b, n);
  memcpy(a, v->xd, sizeof a);
  memcpy(fa, f->xd, sizeof fa);
  const double sum = ptq_diff64_soft_jvp(v->u, n, a);
  const double sum32 = ptq_diff_soft_jvp(f->u, n, fa);
  expect32(isa, "soft_jvp", fa, a, n);
  assert_true(fabs(sum - sum32) <= NEAR32 * (1.0 + n));
  memcpy(a, v->xd, sizeof a);
  memcpy(fa, f->xd, sizeof fa);
  memcpy(b, v->dyd, sizeof b);
  memcpy(fb, f->dyd, sizeof fb);
  ptq_diff64_soft_tangent(v->u, v->dy, n, 0.5, 0.125, a, b);
  ptq_diff_soft_tangent(f->u, f->dy, n, 0.5F, 0.125F, fa, fb);
  expect32(isa, "soft_tangent: p", fa, a, n);
  expect32(isa, "soft_tangent: ds", fb, b, n);
}

static void check_caps(const char *isa, const vectors *v, const narrows *f,
                       int n) {
  double a[N];
  float fa[N];
  memcpy(a, v->dyd, sizeof a);
  memcpy(fa, f->dyd, sizeof fa);
  ptq_diff64_cap(v->u, 3.0, n, a);
  ptq_diff_cap(f->u, 3.0F, n, fa);
  expect32(isa, "cap", fa, a, n);
  ptq_diff64_cap_tangent(v->u, v->xd, v->dy, 3.0, n, a);
  ptq_diff_cap_tangent(f->u, f->xd, f->dy, 3.0F, n, fa);
  expect32(isa, "cap_tangent", fa, a, n);
  ptq_diff64_cap_bend(v->u, 3.0, n, a);
  ptq_diff_cap_bend(f->u, 3.0F, n, fa);
  expect32(isa, "cap_bend", fa, a, n);
}

static void check_norms(const char *isa, const vectors *v, const narrows *f,
                        int n) {
  double a[N];
  float fa[N];
  for (int centred = 0; centred < 2; centred++) {
    const bool c = centred == 1;
    const double mean = c ? 0.375 : 0.0;
    const float mean32 = c ? 0.375F : 0.0F;
    ptq_diff64_norm(v->x, v->w, n, mean, 0.25, c, v->dy, a);
    ptq_diff_norm(f->x, f->w, n, mean32, 0.25F, c, f->dy, fa);
    expect32(isa, "norm", fa, a, n);
    ptq_diff64_norm_jvp(v->x, v->w, n, mean, 0.25, c, v->xd, a);
    ptq_diff_norm_jvp(f->x, f->w, n, mean32, 0.25F, c, f->xd, fa);
    expect32(isa, "norm_jvp", fa, a, n);
    ptq_diff64_norm_tangent(v->x, v->w, n, mean, 0.25, c, v->xd, v->dy, v->dyd,
                            a);
    ptq_diff_norm_tangent(f->x, f->w, n, mean32, 0.25F, c, f->xd, f->dy, f->dyd,
                          fa);
    expect32(isa, "norm_tangent", fa, a, n);
  }
  ptq_diff64_unrotate(v->x, v->xd, v->ud, n / 2, a);
  ptq_diff_unrotate(f->x, f->xd, f->ud, n / 2, fa);
  expect32(isa, "unrotate", fa, a, n / 2 * 2);
}

static void float32_kernels_equal_their_twins(void **state) {
  (void)state;
  static const char *const names[] = {"generic", "avx2", "avx512"};
  const vectors v = draw_all(8);
  const narrows f = narrow_all(&v);
  int ran = 0;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    assert_int_equal(setenv("PTQ_ISA", names[i], 1), 0);
    if (ptq_vec_init(NULL) != PTQ_OK) continue;
    for (int n = 1; n <= N; n += n < 20 ? 1 : 47) {
      check_activations(names[i], &v, &f, n);
      check_rows(names[i], &v, &f, n);
      check_caps(names[i], &v, &f, n);
      check_norms(names[i], &v, &f, n);
    }
    ran++;
  }
  unsetenv("PTQ_ISA");
  assert_int_equal(ptq_vec_init(NULL), PTQ_OK);
  assert_true(ran >= 1);
}

/* Far out the slopes are 0 and 1, and all second derivatives 0. */
static void activations_far_out_are_straight(void **state) {
  (void)state;
  const float far[6] = {-1e30F, -1e9F, -200.0F, 200.0F, 1e9F, 1e30F};
  const float one[6] = {1.0F, 1.0F, 1.0F, 1.0F, 1.0F, 1.0F};
  float zero[6] = {0.0F}, y[6], bent[6];
  for (int act = 0; act < PTQ_ACT_COUNT; act++) {
    ptq_diff_act((ptq_act_kind)act, far, one, 6, y);
    ptq_diff_act_tangent((ptq_act_kind)act, far, one, one, zero, 6, bent);
    for (int i = 0; i < 6; i++) {
      assert_true(fabsf(y[i] - (i < 3 ? 0.0F : 1.0F)) <= 1e-6F);
      assert_true(fabsf(bent[i]) <= 1e-6F);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(activations_have_their_slopes),
      cmocka_unit_test(gates_go_back_as_they_came),
      cmocka_unit_test(tangents_of_activations_are_their_differences),
      cmocka_unit_test(relu_has_no_slope_at_0),
      cmocka_unit_test(softmax_goes_back_and_along),
      cmocka_unit_test(caps_bend_scores),
      cmocka_unit_test(norms_go_back_and_along),
      cmocka_unit_test(rotation_goes_back),
      cmocka_unit_test(float32_kernels_equal_their_twins),
      cmocka_unit_test(activations_far_out_are_straight),
  };
  return cmocka_run_group_tests_name("num/diff", tests, NULL, NULL);
}
