/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Stored scales, what groups share, and the scale search. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/rng.h"
#include "ptq/num/dtype.h"

enum { ROWS = 6, COLS = 96, GROUP = 32, GROUPS = 3 };

typedef struct sample {
  float w[ROWS * COLS];
  ptq_dtype dt; /* prepared on w */
  ptq_dtype_matrix state;
} sample;

static void make_sample(const char *text, sample *s) {
  ptq_dtype plain;
  ptq_err err = {0};
  ptq_rng r;
  ptq_rng_init(&r, 3);
  for (int i = 0; i < ROWS * COLS; i++) {
    double v = 0.0;
    for (int k = 0; k < 4; k++) v += ptq_rng_unit(&r) - 0.5;
    s->w[i] = (float)(0.05 * v);
  }
  if (ptq_dtype_parse(text, &plain, &err) != PTQ_OK ||
      ptq_dtype_prepare(&plain, s->w, ROWS, COLS, GROUP, &s->state, &s->dt,
                        &err) != PTQ_OK)
    fail_msg("%s: %s", text, err.msg);
}

/* Calls fn for every family's widest format in every dialect. */
static void for_each(void (*fn)(const sample *s)) {
  static sample s;
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++) {
    char plain[PTQ_DTYPE_NAME_MAX], text[2 * PTQ_DTYPE_NAME_MAX];
    ptq_dtype_spelling(*f, (*f)->max_bits, plain);
    const char *const *d = (*f)->dialects;
    for (int i = -1; i < 0 || (d != NULL && d[i] != NULL); i++) {
      snprintf(text, sizeof text, "%s%s%s", plain, i < 0 ? "" : ":",
               i < 0 ? "" : d[i]);
      make_sample(text, &s);
      fn(&s);
      ptq_dtype_matrix_release(&s.state);
    }
  }
}

static void check_snap(const sample *s) {
  static const float wanted[] = {0.003F, 0.011F, 1.0F,  0.0F,     -0.01F,
                                 1e-45F, 3e38F,  1e-6F, INFINITY, NAN};
  for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
    for (int g = 0; g < ROWS * GROUPS; g++) {
      const int row = g / GROUPS, col = g % GROUPS * GROUP;
      ptq_group_params p = {wanted[i], 3.3F}, again;
      float y[GROUP];
      ptq_dtype_snap(&s->dt, row, col, &p);
      again = p;
      ptq_dtype_snap(&s->dt, row, col, &again);
      if (!isfinite(p.scale) || again.scale != p.scale)
        fail_msg("%s: a scale of %g is stored as %a, that as %a", s->dt.name,
                 (double)wanted[i], (double)p.scale, (double)again.scale);
      s->dt.family->round(&s->dt, s->w + row * COLS + col, GROUP, &p, 0, y,
                          NULL);
      for (int k = 0; k < GROUP; k++)
        if (!isfinite(y[k])) fail_msg("%s: %a", s->dt.name, (double)y[k]);
    }
}

static void what_is_snapped_can_be_stored(void **state) {
  (void)state;
  for_each(check_snap);
}

static bool nests(const ptq_dtype *dt) {
  return (dt->options & PTQ_OPTION_STORE) >= PTQ_DQ_BNB;
}

/* Not asked of dq=bnb: what its float32 sums restore need not be nearest to
 * the same value of the map again, and may be negative for codebooks. */
static void check_fitted(const sample *s) {
  for (int g = 0; g < ROWS * GROUPS; g++) {
    const int row = g / GROUPS, col = g % GROUPS * GROUP;
    ptq_group_params p, q;
    assert_int_equal(ptq_dtype_fit(&s->dt, s->w + row * COLS + col, GROUP, 1,
                                   row, col, &p, NULL),
                     PTQ_OK);
    q = p;
    ptq_dtype_snap(&s->dt, row, col, &q);
    if (!nests(&s->dt) && q.scale != p.scale)
      fail_msg("%s: fitted %a, stored %a", s->dt.name, (double)p.scale,
               (double)q.scale);
  }
}

static void what_is_fitted_can_be_stored(void **state) {
  (void)state;
  for_each(check_fitted);
}

static void kept_scales_are_halves_and_bfloats(void **state) {
  (void)state;
  sample s;
  ptq_group_params p = {0.1F, 0.0F};
  make_sample("int4:keep=f16", &s);
  ptq_dtype_snap(&s.dt, 0, 0, &p);
  assert_true(p.scale == 0x1.998p-4F && p.zero == 8.0F);
  p.scale = 1e-9F;
  ptq_dtype_snap(&s.dt, 0, 0, &p);
  assert_true(p.scale == 0x1p-24F); /* never 0 */
  p.scale = 1e9F;
  ptq_dtype_snap(&s.dt, 0, 0, &p);
  assert_true(p.scale == 65504.0F);
  make_sample("int4:asym:keep=bf16", &s);
  p = (ptq_group_params){0.1F, 17.6F};
  ptq_dtype_snap(&s.dt, 0, 0, &p);
  assert_true(p.scale == 0x1.9ap-4F && p.zero == 15.0F);
}

static void a_scale_beyond_f16_is_named(void **state) {
  (void)state;
  ptq_dtype dt;
  ptq_err err = {0};
  float w[4] = {-1e6F, 2e6F, 0.0F, 1.0F};
  assert_int_equal(ptq_dtype_parse("int2:keep=f16", &dt, NULL), PTQ_OK);
  assert_int_equal(ptq_dtype_round_matrix(&dt, w, 1, 4, 4, w, NULL, NULL, &err),
                   PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "row 0, column 0 overflows as int2:keep"));
}

/* E4M3 codes under one scale: the largest is 448 of it. */
static void nested_fp8_scales_share_a_float(void **state) {
  (void)state;
  sample s;
  make_sample("int4:dq=fp8", &s);
  const float t = s.state.tensor;
  ptq_group_params p = {449.0F * t, 0.0F};
  ptq_dtype_snap(&s.dt, 0, 0, &p);
  assert_true(p.scale == 448.0F * t);
  p.scale = 16.9F * t;
  ptq_dtype_snap(&s.dt, 0, 0, &p);
  assert_true(p.scale == 16.0F * t);
  p.scale = 1e-30F;
  ptq_dtype_snap(&s.dt, 0, 0, &p);
  assert_true(p.scale == 0x1p-9F * t);
}

static void weights_that_share_must_be_finite(void **state) {
  (void)state;
  static const char *const names[] = {"nvfp4", "int4:dq=fp8", "nf4:dq=bnb"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    ptq_dtype dt, out;
    ptq_dtype_matrix m;
    ptq_err err = {0};
    float w[40] = {0.0F};
    w[33] = NAN;
    assert_int_equal(ptq_dtype_parse(names[i], &dt, NULL), PTQ_OK);
    assert_true(ptq_dtype_shares(&dt));
    assert_int_equal(ptq_dtype_prepare(&dt, w, 2, 20, 16, &m, &out, &err),
                     PTQ_E_NUMERIC);
    assert_non_null(strstr(err.msg, "row 1, column 13 is NaN"));
  }
}

static double norm(const ptq_dtype *dt, const float *x, ptq_group_params p) {
  float y[GROUP];
  double sum = 0.0;
  dt->family->round(dt, x, GROUP, &p, 0, y, NULL);
  for (int i = 0; i < GROUP; i++) sum += pow(fabs((double)(y[i] - x[i])), 2.4);
  return sum;
}

/* find_params with mse=True, written down again. */
static void integers_are_searched_as_the_reference_does(void **state) {
  (void)state;
  static const char *const names[] = {"int2:scale=mse", "int4:scale=mse",
                                      "int3:asym:scale=mse",
                                      "int8:asym:scale=mse"};
  for (size_t d = 0; d < sizeof names / sizeof names[0]; d++) {
    sample s;
    make_sample(names[d], &s);
    const bool asym = strstr(names[d], "asym") != NULL;
    const float top = (float)((1 << s.dt.bits) - 1);
    for (int g = 0; g < ROWS * GROUPS; g++) {
      const float *x = s.w + g * GROUP;
      float lo = 0.0F, hi = 0.0F;
      for (int i = 0; i < GROUP; i++) {
        lo = fminf(lo, x[i]);
        hi = fmaxf(hi, x[i]);
      }
      if (!asym) hi = fmaxf(-lo, hi);
      if (!asym && lo < 0.0F) lo = -hi;
      ptq_group_params best = {0.0F, 0.0F}, found;
      double least = (double)INFINITY;
      for (int i = 0; i < 80; i++) {
        const float by = (float)(1.0 - i / 100.0);
        ptq_group_params p = {(by * hi - by * lo) / top, (top + 1.0F) / 2.0F};
        if (asym) p.zero = rintf(-(by * lo) / p.scale);
        const double e = norm(&s.dt, x, p);
        if (e < least) best = p;
        if (e < least) least = e;
      }
      assert_int_equal(ptq_dtype_fit(&s.dt, x, GROUP, 1, 0, 0, &found, NULL),
                       PTQ_OK);
      if (found.scale != best.scale || found.zero != best.zero)
        fail_msg("%s: %a, %g, not %a, %g", names[d], (double)found.scale,
                 (double)found.zero, (double)best.scale, (double)best.zero);
    }
  }
}

/* Any dtype: never worse than its own fit. */
static void check_search(const sample *s) {
  if ((s->dt.options & PTQ_OPTION_SEARCH) != 0) return;
  for (int g = 0; g < ROWS * GROUPS; g++) {
    const int row = g / GROUPS, col = g % GROUPS * GROUP;
    const float *x = s->w + row * COLS + col;
    ptq_group_params fitted, found;
    assert_int_equal(
        ptq_dtype_fit(&s->dt, x, GROUP, 1, row, col, &fitted, NULL), PTQ_OK);
    assert_int_equal(
        ptq_dtype_search(&s->dt, x, GROUP, 1, row, col, &found, NULL), PTQ_OK);
    const double was = norm(&s->dt, x, fitted), is = norm(&s->dt, x, found);
    if (is > was * (1.0 + 1e-8))
      fail_msg("%s: searched %g, fitted %g", s->dt.name, is, was);
  }
}

static void a_searched_scale_is_never_worse(void **state) {
  (void)state;
  for_each(check_search);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_snapped_can_be_stored),
      cmocka_unit_test(what_is_fitted_can_be_stored),
      cmocka_unit_test(kept_scales_are_halves_and_bfloats),
      cmocka_unit_test(a_scale_beyond_f16_is_named),
      cmocka_unit_test(nested_fp8_scales_share_a_float),
      cmocka_unit_test(weights_that_share_must_be_finite),
      cmocka_unit_test(integers_are_searched_as_the_reference_does),
      cmocka_unit_test(a_searched_scale_is_never_worse),
  };
  return cmocka_run_group_tests_name("num/dtype_store", tests, NULL, NULL);
}
