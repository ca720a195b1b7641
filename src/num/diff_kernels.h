/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file diff_kernels.h
 * The kernels of ptq/num/diff.h over an instruction set's vector type.
 *
 * Included after vec_kernels.h at the end of each vec_<isa>.c. A kernel is a
 * step on the vector that begins at element i, of which m lanes count; EACH
 * walks an array with it.
 */
#ifndef PTQ_NUM_DIFF_KERNELS_H
#define PTQ_NUM_DIFF_KERNELS_H

static inline vf d_load(const float *p, int64_t m) {
  return m == LANES ? v_load(p) : v_load_n(p, m, 0.0F);
}

static inline void d_store(float *p, int64_t m, vf v) {
  if (m == LANES)
    v_store(p, v);
  else
    v_store_n(p, m, v);
}

/* The statement for each vector of n elements, with its index i and lanes
 * m. */
#define EACH(i, m, n, ...)                 \
  do {                                     \
    int64_t i = 0;                         \
    for (; i + LANES <= (n); i += LANES) { \
      const int64_t m = LANES;             \
      __VA_ARGS__;                         \
    }                                      \
    if (i < (n)) {                         \
      const int64_t m = (n)-i;             \
      __VA_ARGS__;                         \
    }                                      \
  } while (0)

/* An activation's value and derivatives. */
typedef struct jet {
  vf y, d1, d2;
} jet;

static inline vf d_one_less(vf x) {
  return v_sub(v_set(1.0F), x);
}

/* With s = 1 / (1 + exp(-x)): y = x s, y' = s (1 + x (1 - s)),
 * y'' = s (1 - s) (2 + x (1 - 2 s)). */
static inline jet silu_jet(vf x) {
  const vf one = v_set(1.0F);
  const vf s = v_div(one, v_add(one, v_exp(v_sub(v_set(0.0F), x))));
  const vf t = v_mul(s, d_one_less(s));
  const vf slope = v_fma(x, t, s);
  const vf bend = v_fma(x, d_one_less(v_add(s, s)), v_set(2.0F));
  return (jet){v_mul(x, s), slope, v_mul(t, bend)};
}

static inline jet relu_jet(vf x) {
  const vf zero = v_set(0.0F);
  return (jet){v_max(zero, x), v_step(x), zero};
}

/* y = x P(x), y' = P + x p, y'' = p (2 - x^2), with the normal distribution P
 * and density p; the upper tail as in gelu. */
static inline jet gelu_jet(vf x) {
  const vf zero = v_set(0.0F), one = v_set(1.0F);
  const vf a = v_max(x, v_sub(zero, x));
  const vf t = v_div(one, v_fma(a, v_set(0.23164190F), one));
  vf q = v_set(0.53070271F);
  q = v_fma(q, t, v_set(-0.72657601F));
  q = v_fma(q, t, v_set(0.71070687F));
  q = v_fma(q, t, v_set(-0.14224837F));
  q = v_fma(q, t, v_set(0.12741480F));
  /* Beyond, e is 0: so are the products with it, however large x is. */
  const vf square = v_min(v_set(400.0F), v_mul(x, x));
  const vf e = v_exp(v_mul(square, v_set(-0.5F)));
  const vf tail = v_mul(v_mul(q, t), e), up = v_step(x);
  /* P is 1 - tail for x > 0, tail else. */
  const vf below = v_fma(d_one_less(v_add(up, up)), tail, up);
  const vf density = v_mul(e, v_set(0.39894228F));
  return (jet){v_mul(x, below), v_fma(x, density, below),
               v_mul(density, v_sub(v_set(2.0F), square))};
}

/* y = x s with s = 1 / (1 + exp(-u)), u = 2 sqrt(2 / pi) (x + 0.044715 x^3):
 * s' = s (1 - s) u', s'' = s (1 - s) ((1 - 2 s) u'^2 + u''). Where s (1 - s) is
 * 0, so are both, however large u. */
static inline jet gelu_tanh_jet(vf x) {
  const vf one = v_set(1.0F), square = v_mul(x, x);
  const vf cube = v_fma(square, v_set(0.044715F), one);
  const vf minus_u = v_mul(v_mul(x, cube), v_set(-1.5957691F));
  const vf s = v_div(one, v_add(one, v_exp(minus_u)));
  const vf t = v_mul(s, d_one_less(s));
  const vf cut = v_min(v_set(1e4F), square);
  const vf u1 = v_fma(cut, v_set(0.21406445F), v_set(1.5957691F));
  const vf u2 = v_mul(x, v_set(0.42812890F));
  const vf s1 = v_mul(t, u1);
  const vf w = v_mul(d_one_less(v_add(s, s)), v_mul(u1, u1));
  const vf s2 = v_mul(t, v_add(w, u2));
  return (jet){v_mul(x, s), v_fma(x, s1, s), v_fma(x, s2, v_add(s1, s1))};
}

#define K_ACTIVATION(name)                                                     \
  static void k_##name##_act(const float *x, const float *t, int64_t n,        \
                             float *out) {                                     \
    EACH(i, m, n,                                                              \
         d_store(out + i, m,                                                   \
                 v_mul(name##_jet(d_load(x + i, m)).d1, d_load(t + i, m))));   \
  }                                                                            \
  static void k_##name##_act_tangent(const float *x, const float *xd,          \
                                     const float *dy, const float *dyd,        \
                                     int64_t n, float *dxd) {                  \
    EACH(i, m, n, {                                                            \
      const jet a = name##_jet(d_load(x + i, m));                              \
      const vf bent =                                                          \
          v_mul(v_mul(a.d2, d_load(xd + i, m)), d_load(dy + i, m));            \
      d_store(dxd + i, m, v_fma(a.d1, d_load(dyd + i, m), bent));              \
    });                                                                        \
  }                                                                            \
  static void k_##name##_gate(const float *g, const float *u, const float *dy, \
                              int64_t n, float *dg, float *du) {               \
    EACH(i, m, n, {                                                            \
      const jet a = name##_jet(d_load(g + i, m));                              \
      const vf d = d_load(dy + i, m);                                          \
      const vf by_g = v_mul(v_mul(a.d1, d_load(u + i, m)), d);                 \
      d_store(dg + i, m, by_g);                                                \
      d_store(du + i, m, v_mul(a.y, d));                                       \
    });                                                                        \
  }                                                                            \
  static void k_##name##_gate_jvp(const float *g, const float *u,              \
                                  const float *gd, const float *ud, int64_t n, \
                                  float *yd) {                                 \
    EACH(i, m, n, {                                                            \
      const jet a = name##_jet(d_load(g + i, m));                              \
      const vf by_g = v_mul(v_mul(a.d1, d_load(u + i, m)), d_load(gd + i, m)); \
      d_store(yd + i, m, v_fma(a.y, d_load(ud + i, m), by_g));                 \
    });                                                                        \
  }                                                                            \
  static void k_##name##_gate_tangent(                                         \
      const float *g, const float *u, const float *gd, const float *ud,        \
      const float *dy, const float *dyd, int64_t n, float *dgd, float *dud) {  \
    EACH(i, m, n, {                                                            \
      const jet a = name##_jet(d_load(g + i, m));                              \
      const vf up = d_load(u + i, m), d = d_load(dy + i, m);                   \
      const vf gdot = d_load(gd + i, m), dd = d_load(dyd + i, m);              \
      const vf mixed = v_fma(d_load(ud + i, m), d, v_mul(up, dd));             \
      const vf bent = v_mul(v_mul(a.d2, gdot), v_mul(up, d));                  \
      d_store(dgd + i, m, v_fma(a.d1, mixed, bent));                           \
      d_store(dud + i, m, v_fma(v_mul(a.d1, gdot), d, v_mul(a.y, dd)));        \
    });                                                                        \
  }

K_ACTIVATION(silu)
K_ACTIVATION(relu)
K_ACTIVATION(gelu)
K_ACTIVATION(gelu_tanh)
#undef K_ACTIVATION

static void k_soft(const float *p, const float *dp, int64_t n, float d,
                   float *t, float *ds) {
  const vf mean = v_set(d);
  EACH(i, m, n, {
    const vf off = v_sub(d_load(dp + i, m), mean), w = d_load(p + i, m);
    if (t != NULL) d_store(t + i, m, off);
    d_store(ds + i, m, v_mul(w, off));
  });
}

static double k_soft_jvp(const float *p, int64_t n, float *sd) {
  vsum sum = vsum_zero();
  int64_t i = 0;
  for (; i + 4 * LANES <= n; i += 4 * LANES) {
    vf w[4];
    for (int k = 0; k < 4; k++) {
      const int64_t at = i + k * LANES;
      w[k] = v_mul(v_load(p + at), v_load(sd + at));
      v_store(sd + at, w[k]);
    }
    vsum_add4(&sum, w);
  }
  for (; i < n; i += LANES) {
    const int64_t m = n - i < LANES ? n - i : LANES;
    const vf w = v_mul(d_load(p + i, m), d_load(sd + i, m));
    d_store(sd + i, m, w);
    vsum_add(&sum, d_load(sd + i, m));
  }
  return vsum_total(&sum);
}

static void k_soft_tangent(const float *p, const float *t, int64_t n, float r,
                           float dd, float *sd, float *dpd) {
  const vf mean = v_set(r), shift = v_set(dd);
  EACH(i, m, n, {
    const vf w = d_load(p + i, m), u = v_sub(d_load(sd + i, m), mean);
    const vf off = v_sub(d_load(dpd + i, m), shift);
    d_store(dpd + i, m, v_mul(w, v_fma(u, d_load(t + i, m), off)));
    d_store(sd + i, m, v_mul(w, u));
  });
}

/* 1 - (y / cap)^2 */
static inline vf cap_slope(vf y, vf per_cap) {
  const vf r = v_mul(y, per_cap);
  return v_sub(v_set(1.0F), v_mul(r, r));
}

static void k_cap(const float *y, float cap, int64_t n, float *t) {
  const vf per_cap = v_set(1.0F / cap);
  EACH(i, m, n, {
    const vf slope = cap_slope(d_load(y + i, m), per_cap);
    d_store(t + i, m, v_mul(slope, d_load(t + i, m)));
  });
}

static void k_cap_tangent(const float *y, const float *yd, const float *dy,
                          float cap, int64_t n, float *dxd) {
  const vf per_cap = v_set(1.0F / cap), two = v_set(-2.0F / (cap * cap));
  EACH(i, m, n, {
    const vf at = d_load(y + i, m);
    const vf bent =
        v_mul(v_mul(at, two), v_mul(d_load(yd + i, m), d_load(dy + i, m)));
    d_store(dxd + i, m,
            v_fma(cap_slope(at, per_cap), d_load(dxd + i, m), bent));
  });
}

static void k_cap_bend(const float *y, float cap, int64_t n, float *t) {
  const vf per_cap = v_set(1.0F / cap), two = v_set(-2.0F / (cap * cap));
  EACH(i, m, n, {
    const vf at = d_load(y + i, m);
    const vf factor = v_fma(at, two, cap_slope(at, per_cap));
    d_store(t + i, m, v_mul(factor, d_load(t + i, m)));
  });
}

static void k_unrotate(const float *x, const float *cosines, const float *sines,
                       int64_t half, float *y) {
  EACH(i, m, half, {
    const vf a = d_load(x + i, m), b = d_load(x + half + i, m);
    const vf c = d_load(cosines + i, m), s = d_load(sines + i, m);
    d_store(y + i, m, v_add(v_mul(a, c), v_mul(b, s)));
    d_store(y + half + i, m, v_sub(v_mul(b, c), v_mul(a, s)));
  });
}

/* With h = (x - mean) scale and g = w dy: dx = scale (g - mean g - h mean(h
 * g)); without centring, mean g is left out. */
static void k_norm(PTQ_DIFF_NORM(float), const float *dy, float *dx) {
  const vf c = v_set(mean), s = v_set(scale);
  vsum g_sum = vsum_zero(), hg_sum = vsum_zero();
  EACH(i, m, n, {
    const vf h = v_mul(v_sub(d_load(x + i, m), c), s);
    const vf g = v_mul(d_load(w + i, m), d_load(dy + i, m));
    vsum_add(&g_sum, g);
    vsum_fma(&hg_sum, h, g);
  });
  const double g_mean = centred ? vsum_total(&g_sum) / (double)n : 0.0;
  const vf a0 = v_set((float)g_mean);
  const vf a1 = v_set((float)(vsum_total(&hg_sum) / (double)n));
  EACH(i, m, n, {
    const vf h = v_mul(v_sub(d_load(x + i, m), c), s);
    const vf g = v_mul(d_load(w + i, m), d_load(dy + i, m));
    d_store(dx + i, m, v_mul(s, v_sub(v_sub(g, a0), v_mul(h, a1))));
  });
}

/* The mean of xd, and that of h xd about it. */
static void norm_means(const float *x, int64_t n, float mean, float scale,
                       bool centred, const float *xd, float *xd_mean,
                       float *hxd_mean) {
  const vf c = v_set(mean), s = v_set(scale);
  vsum sum = vsum_zero();
  if (centred) EACH(i, m, n, vsum_add(&sum, d_load(xd + i, m)));
  *xd_mean = (float)(vsum_total(&sum) / (double)n);
  const vf off = v_set(*xd_mean);
  sum = vsum_zero();
  EACH(i, m, n, {
    const vf h = v_mul(v_sub(d_load(x + i, m), c), s);
    /* Lanes beyond the end have h = -mean scale. */
    const vf t = m == LANES ? v_load(xd + i) : v_load_n(xd + i, m, *xd_mean);
    vsum_fma(&sum, h, v_sub(t, off));
  });
  *hxd_mean = (float)(vsum_total(&sum) / (double)n);
}

/* The tangent of h: scale (xd - mean xd - h mean(h xd)). */
static inline vf norm_hd(vf xd, vf xd_mean, vf h, vf hxd_mean, vf s) {
  return v_mul(s, v_sub(v_sub(xd, xd_mean), v_mul(h, hxd_mean)));
}

static void k_norm_jvp(PTQ_DIFF_NORM(float), const float *xd, float *yd) {
  float xd_mean = 0.0F, hxd_mean = 0.0F;
  norm_means(x, n, mean, scale, centred, xd, &xd_mean, &hxd_mean);
  const vf c = v_set(mean), s = v_set(scale);
  const vf m0 = v_set(xd_mean), m1 = v_set(hxd_mean);
  EACH(i, m, n, {
    const vf h = v_mul(v_sub(d_load(x + i, m), c), s);
    const vf hd = norm_hd(d_load(xd + i, m), m0, h, m1, s);
    d_store(yd + i, m, v_mul(hd, d_load(w + i, m)));
  });
}

/* The tangent of k_norm's result: its scale has the tangent -scale^2 mean(h
 * xd), a0 and a1 are its means and b0 and b1 their tangents. */
static void k_norm_tangent(PTQ_DIFF_NORM(float), const float *xd,
                           const float *dy, const float *dyd, float *dxd) {
  float xd_mean = 0.0F, hxd_mean = 0.0F;
  norm_means(x, n, mean, scale, centred, xd, &xd_mean, &hxd_mean);
  const vf c = v_set(mean), s = v_set(scale);
  const vf m0 = v_set(xd_mean), m1 = v_set(hxd_mean);
  vsum g_sum = vsum_zero(), hg_sum = vsum_zero();
  vsum gd_sum = vsum_zero(), hgd_sum = vsum_zero();
  EACH(i, m, n, {
    const vf h = v_mul(v_sub(d_load(x + i, m), c), s), v = d_load(w + i, m);
    const vf hd = norm_hd(d_load(xd + i, m), m0, h, m1, s);
    const vf g = v_mul(v, d_load(dy + i, m));
    const vf gd = v_mul(v, d_load(dyd + i, m));
    vsum_add(&g_sum, g);
    vsum_fma(&hg_sum, h, g);
    vsum_add(&gd_sum, gd);
    vsum_fma(&hgd_sum, h, gd);
    vsum_fma(&hgd_sum, hd, g);
  });
  const double per = 1.0 / (double)n, centre = centred ? per : 0.0;
  const vf a0 = v_set((float)(vsum_total(&g_sum) * centre));
  const vf b0 = v_set((float)(vsum_total(&gd_sum) * centre));
  const vf a1 = v_set((float)(vsum_total(&hg_sum) * per));
  const vf b1 = v_set((float)(vsum_total(&hgd_sum) * per));
  const vf sd = v_set(-scale * scale * hxd_mean);
  EACH(i, m, n, {
    const vf h = v_mul(v_sub(d_load(x + i, m), c), s), v = d_load(w + i, m);
    const vf hd = norm_hd(d_load(xd + i, m), m0, h, m1, s);
    const vf g = v_mul(v, d_load(dy + i, m));
    const vf gd = v_mul(v, d_load(dyd + i, m));
    const vf first = v_sub(v_sub(g, a0), v_mul(h, a1));
    const vf tangent = v_sub(v_sub(v_sub(gd, b0), v_mul(hd, a1)), v_mul(h, b1));
    d_store(dxd + i, m, v_fma(s, tangent, v_mul(sd, first)));
  });
}

#undef EACH

#define K_EACH_ACTIVATION(kernel)                                       \
  {                                                                     \
    [PTQ_ACT_SILU] = k_silu_##kernel, [PTQ_ACT_RELU] = k_relu_##kernel, \
    [PTQ_ACT_GELU] = k_gelu_##kernel,                                   \
    [PTQ_ACT_GELU_TANH] = k_gelu_tanh_##kernel,                         \
  }

const ptq_diff_table VEC_DIFF = {
    .act = K_EACH_ACTIVATION(act),
    .act_tangent = K_EACH_ACTIVATION(act_tangent),
    .gate = K_EACH_ACTIVATION(gate),
    .gate_jvp = K_EACH_ACTIVATION(gate_jvp),
    .gate_tangent = K_EACH_ACTIVATION(gate_tangent),
    .soft = k_soft,
    .soft_jvp = k_soft_jvp,
    .soft_tangent = k_soft_tangent,
    .cap = k_cap,
    .cap_tangent = k_cap_tangent,
    .cap_bend = k_cap_bend,
    .unrotate = k_unrotate,
    .norm = k_norm,
    .norm_jvp = k_norm_jvp,
    .norm_tangent = k_norm_tangent,
};
#undef K_EACH_ACTIVATION

#endif /* PTQ_NUM_DIFF_KERNELS_H */
