/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "layer.h"
#include "offset_round.h"

enum { N = 24, WINDOWS = 5 };

static const char *const dtypes[] = {
    "int4",   "int2:asym", "int4:asym", "int3:full:keep=f32",
    "int8",   "int3",      "int2:full", "int4:asym:keep=f16",
    "mxint4", "mxint2",    "bfp4",      NULL};

static ptq_dtype dtype_of(const char *text) {
  ptq_dtype dt;
  ptq_err err = {0};
  if (ptq_dtype_parse(text, &dt, &err) != PTQ_OK) fail_msg("%s", err.msg);
  return dt;
}

/* A group whose rounding is frozen: what derivatives take it for. */
typedef struct soft {
  const ptq_offset_group *g;
  double top, scale, zero;     /* where it is frozen */
  double moved[N], zero_moved; /* what rounding added */
  bool in[N], low[N];          /* the codes' range */
} soft;

static bool asym(const ptq_dtype *dt) {
  return strstr(dt->name, "asym") != NULL;
}

/* The scale as the formats' definitions have it. */
static double soft_scale(const soft *s, double clip_lo, double clip_hi) {
  const double lo = clip_lo * fmin(0.0, (double)s->g->range.lo);
  const double hi = clip_hi * fmax(0.0, (double)s->g->range.hi);
  const double most = fmax(-lo, hi);
  if (strcmp(s->g->dtype->family->name, "int") != 0) return s->scale;
  if (asym(s->g->dtype)) return (hi - lo) / s->top;
  if (strstr(s->g->dtype->name, "full") != NULL)
    return (hi >= -lo ? -most : most) * 2.0 / (s->top + 1.0);
  return (lo < 0.0 ? 2.0 : 1.0) * most / s->top;
}

static double soft_value(const soft *s, int i, double v, double clip_lo,
                         double clip_hi) {
  const double scale = soft_scale(s, clip_lo, clip_hi);
  double zero = s->zero;
  if (asym(s->g->dtype))
    zero = -clip_lo * fmin(0.0, (double)s->g->range.lo) / scale + s->zero_moved;
  double k = (double)s->g->w[i] / scale + v + s->moved[i] + zero;
  if (!s->in[i]) k = s->low[i] ? 0.0 : s->top;
  return scale * (k - zero);
}

static void freeze(soft *s, const ptq_offset_group *g,
                   const ptq_group_params *p) {
  const bool mirrored = strcmp(g->dtype->family->name, "int") != 0;
  *s = (soft){.g = g,
              .top = (double)(g->dtype->family->levels(g->dtype) - 1),
              .scale = (double)p->scale,
              .zero = (double)p->zero};
  const double exact = soft_scale(s, (double)g->clip_lo, (double)g->clip_hi);
  if (asym(g->dtype))
    s->zero_moved =
        s->zero + (double)g->clip_lo * fmin(0.0, (double)g->range.lo) / exact;
  for (int i = 0; i < N; i++) {
    const double x = (double)g->w[i] / exact + (double)g->v[i];
    const double k = rint(x) + (mirrored ? s->top / 2.0 : s->zero);
    /* Of formats with clips the last codes are beyond the clamp. */
    s->in[i] = mirrored ? k >= 0.0 && k <= s->top : k > 0.0 && k < s->top;
    s->low[i] = k <= 0.0;
    s->moved[i] = rint(x) - x;
  }
}

static void check_derivatives(const char *text, uint64_t seed) {
  const ptq_dtype dt = dtype_of(text);
  float w[N], v[N], dy[N], dv[N];
  double by[2], step = 1e-6;
  ptq_rng r;
  ptq_rng_init(&r, seed);
  for (int i = 0; i < N; i++) {
    w[i] = (float)layer_gaussian(&r);
    v[i] = (float)(0.8 * ptq_rng_unit(&r) - 0.4);
    dy[i] = (float)layer_gaussian(&r);
  }
  ptq_offset_group g = {.dtype = &dt,
                        .w = w,
                        .v = v,
                        .n = N,
                        .range = {w[0], w[0]},
                        .clip_lo = 0.75F,
                        .clip_hi = 0.9375F};
  for (int i = 0; i < N; i++) {
    g.range.lo = fminf(g.range.lo, w[i]);
    g.range.hi = fmaxf(g.range.hi, w[i]);
  }
  ptq_group_params p;
  soft s;
  double want[2] = {0.0, 0.0}, size = 1e-3;
  assert_int_equal(ptq_offset_params(&g, &p, NULL), PTQ_OK);
  freeze(&s, &g, &p);
  ptq_offset_back(&g, &p, dy, dv, &by[0], &by[1]);
  const double lo = (double)g.clip_lo, hi = (double)g.clip_hi;
  for (int i = 0; i < N; i++) {
    const double at = (double)v[i];
    const double slope = (double)dy[i] *
                         (soft_value(&s, i, at + step, lo, hi) -
                          soft_value(&s, i, at - step, lo, hi)) /
                         (2.0 * step);
    if (fabs(slope - (double)dv[i]) > 2e-3 * fabs(slope) + 1e-6)
      fail_msg("%s: offset %d has %g, not %g", text, i, (double)dv[i], slope);
    const double d[2] = {(soft_value(&s, i, at, lo + step, hi) -
                          soft_value(&s, i, at, lo - step, hi)) /
                             (2.0 * step),
                         (soft_value(&s, i, at, lo, hi + step) -
                          soft_value(&s, i, at, lo, hi - step)) /
                             (2.0 * step)};
    for (int k = 0; k < 2; k++) {
      want[k] += (double)dy[i] * d[k];
      size += fabs((double)dy[i] * d[k]);
    }
  }
  for (int k = 0; k < 2; k++)
    if (fabs(want[k] - by[k]) > 2e-3 * size)
      fail_msg("%s: clip %d has %g, not %g", text, k, by[k], want[k]);
}

static void derivatives_are_those_of_the_soft_values(void **state) {
  (void)state;
  for (int d = 0; dtypes[d] != NULL; d++)
    for (uint64_t seed = 1; seed <= 30; seed++)
      check_derivatives(dtypes[d], seed);
}

static void without_tuning_it_rounds_to_nearest(void **state) {
  (void)state;
  static const int64_t groups[] = {16, 7, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
  for (int d = 0; dtypes[d] != NULL; d++)
    for (int k = 0; k < 4; k++) {
      layer l = layer_random(6, 40, 3);
      layer_quantize(&l, "rtn", "", dtypes[d], groups[k]);
      layer_keep(&l);
      const double bits = l.storage_bits;
      layer_quantize(&l, "autoround", "", dtypes[d], groups[k]);
      for (int64_t i = 0; i < l.rows * l.cols; i++)
        if (l.y[i] != l.kept_y[i] || l.q[i] != l.kept_q[i])
          fail_msg("%s, group %lld: weight %lld is %g, not %g", dtypes[d],
                   (long long)groups[k], (long long)i, (double)l.y[i],
                   (double)l.kept_y[i]);
      assert_true(bits == l.storage_bits);
      layer_release(&l);
    }
}

/* Stands for a block of one layer: tr(E H E'), a weight. */
typedef struct stage {
  layer l;
  int evals, seen[WINDOWS];
  double last;
  bool broken;
} stage;

static ptq_status trace(void *ctx, const int64_t *at, int64_t count,
                        float *const *w, float *const *g, double *loss,
                        ptq_err *err) {
  stage *s = ctx;
  const layer *l = &s->l;
  const double by = 1.0 / (double)(l->rows * l->cols);
  double sum = 0.0;
  (void)err;
  assert_int_equal(count, 2);
  assert_true(at[0] != at[1]);
  for (int64_t i = 0; i < count; i++) {
    assert_true(at[i] >= 0 && at[i] < WINDOWS);
    s->seen[at[i]]++;
  }
  s->evals++;
  for (int64_t r = 0; r < l->rows; r++)
    for (int64_t i = 0; i < l->cols; i++) {
      const int64_t k = r * l->cols;
      double he = 0.0;
      for (int64_t j = 0; j < l->cols; j++)
        he += l->h[i * l->cols + j] * (double)(w[0][k + j] - l->w[k + j]);
      g[0][k + i] = (float)(2.0 * by * he);
      sum += by * he * (double)(w[0][k + i] - l->w[k + i]);
    }
  *loss = s->broken ? (double)NAN : sum;
  return PTQ_OK;
}

static ptq_status tune(stage *s, const char *dtype, int64_t group, int threads,
                       ptq_tuning *t, ptq_err *err) {
  static const ptq_method_option batch = {"batch", "2"};
  ptq_method m;
  const ptq_dtype dt = dtype_of(dtype);
  const ptq_quant_input in = {.w = s->l.w,
                              .rows = s->l.rows,
                              .cols = s->l.cols,
                              .dtype = &dt,
                              .group = group,
                              .threads = threads,
                              .layer = "a.layer"};
  const ptq_block_loss loss = {.ctx = s, .windows = WINDOWS, .eval = trace};
  assert_int_equal(ptq_method_parse("autoround", &batch, 1, &m, err), PTQ_OK);
  return ptq_method_tune_block(&m, &in, &s->l.y, 1, &loss, t, err);
}

static void it_descends_with_the_same_bits_on_any_threads(void **state) {
  (void)state;
  static const struct {
    const char *dtype;
    int64_t group;
  } cases[] = {{"int2:asym", 16}, {"int3", 16},   {"int4:full", 32},
               {"int4:asym", -1}, {"mxint3", 32}, {"int4:asym", 0},
               {"int3:full", -1}};
  for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
    stage s = {.l = layer_random(70, 64, 7)};
    ptq_err err = {0};
    ptq_tuning t[3];
    const size_t size = (size_t)(s.l.rows * s.l.cols) * sizeof(float);
    layer_quantize(&s.l, "rtn", "", cases[c].dtype, cases[c].group);
    const double rounded = layer_error(&s.l);
    for (int k = 0; k < 3; k++)
      if (tune(&s, cases[c].dtype, cases[c].group, k + 1, &t[k], &err) !=
          PTQ_OK)
        fail_msg("%s", err.msg);
    assert_int_equal(s.evals, 3 * 200);
    for (int i = 0; i < WINDOWS; i++) /* four of five a round */
      assert_true(abs(s.seen[i] - 3 * 80) < 90);
    for (int k = 1; k < 3; k++)
      assert_memory_equal(t[0].offset, t[k].offset, size);
    for (int64_t i = 0; i < s.l.rows * s.l.cols; i++)
      assert_true(fabsf(t[0].offset[i]) <= 0.5F + 0.01F);
    s.l.more.tuning = &t[0];
    layer_quantize(&s.l, "autoround", "", cases[c].dtype, cases[c].group);
    const double tuned = layer_error(&s.l);
    if (tuned > 0.7 * rounded)
      fail_msg("%s: %g of %g", cases[c].dtype, tuned, rounded);
    for (int k = 0; k < 3; k++) ptq_tuning_release(&t[k]);
    layer_release(&s.l);
  }
}

static void a_loss_that_is_not_finite_is_told(void **state) {
  (void)state;
  stage s = {.l = layer_random(4, 16, 7), .broken = true};
  ptq_err err = {0};
  ptq_tuning t;
  assert_int_equal(tune(&s, "int4", 16, 1, &t, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "at iteration 0"));
  ptq_tuning_release(&t);
  layer_release(&s.l);
}

static void what_it_cannot_do_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *dtype, *says;
  } cases[] = {{"mxfp4", "int2 to int8"},
               {"nf4", "int2 to int8"},
               {"int4:scale=mse", "leave scale=mse out"},
               {"int4:dq=fp8", "leave dq= out"}};
  static const ptq_method_option base = {"base", "autoround"};
  ptq_method m;
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_err err = {0};
    const ptq_dtype dt = dtype_of(cases[i].dtype);
    assert_int_equal(ptq_method_parse("autoround", NULL, 0, &m, &err), PTQ_OK);
    assert_int_equal(m.family->accepts(&m, &dt, 32, &err), PTQ_E_ARG);
    if (strstr(err.msg, cases[i].says) == NULL) fail_msg("%s", err.msg);
  }
  ptq_err err = {0};
  assert_int_equal(ptq_method_parse("eora", &base, 1, &m, &err), PTQ_E_ARG);
  assert_int_equal(ptq_method_parse("rht", &base, 1, &m, NULL), PTQ_E_ARG);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(derivatives_are_those_of_the_soft_values),
      cmocka_unit_test(without_tuning_it_rounds_to_nearest),
      cmocka_unit_test(it_descends_with_the_same_bits_on_any_threads),
      cmocka_unit_test(a_loss_that_is_not_finite_is_told),
      cmocka_unit_test(what_it_cannot_do_is_refused),
  };
  return cmocka_run_group_tests(tests, layer_set_up, NULL);
}
