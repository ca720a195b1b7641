/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What holds for every number format, whatever its table says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/rng.h"
#include "ptq/num/dtype.h"

enum { MOST = 256, ROUNDS = 40 };

static const char *const options[] = {"",
                                      ":asym",
                                      ":scale=ceil",
                                      ":scale=even",
                                      ":scale=rceil",
                                      ":round=away",
                                      ":exp=log2f",
                                      ":scale=rceil:round=away:exp=log2f"};

/* Calls fn for every family, width and option there is. */
static void for_each_dtype(void (*fn)(const ptq_dtype *dt, ptq_rng *r)) {
  int n = 0;
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++)
    for (int b = (*f)->min_bits; b <= (*f)->max_bits; b++)
      for (size_t o = 0; o < sizeof options / sizeof options[0]; o++) {
        char plain[PTQ_DTYPE_NAME_MAX], text[2 * PTQ_DTYPE_NAME_MAX];
        ptq_dtype_spelling(*f, b, plain);
        snprintf(text, sizeof text, "%s%s", plain, options[o]);
        ptq_dtype dt;
        if (ptq_dtype_parse(text, &dt, NULL) != PTQ_OK) continue;
        ptq_rng r;
        ptq_rng_init(&r, 17 + (uint64_t)n);
        for (int k = 0; k < ROUNDS; k++) fn(&dt, &r);
        n++;
      }
  /* int twice, mxint once, five MX floats with all options but
   * asym, two of FP8 */
  assert_int_equal(n, 7 * 2 + 7 + 5 * 7 + 2);
}

/* Roughly bell-shaped values of a random scale within 2^-30 .. 2^30. */
static int64_t make_values(ptq_rng *r, float x[MOST]) {
  const int64_t n = 1 + (int64_t)ptq_rng_below(r, MOST);
  const int e = (int)ptq_rng_below(r, 61) - 30;
  for (int64_t i = 0; i < n; i++) {
    double v = 0.0;
    for (int k = 0; k < 4; k++) v += ptq_rng_unit(r) - 0.5;
    x[i] = (float)ldexp(v * v * v, e);
  }
  return n;
}

static bool is_mx(const ptq_dtype *dt) {
  return dt->family->signed_codes;
}

static bool is_linear(const ptq_dtype *dt) {
  return dt->family->value == NULL;
}

/* Integers whose codes around zero mirror each other. */
static bool has_negative(const float *x, int64_t n) {
  for (int64_t i = 0; i < n; i++)
    if (x[i] < 0.0F) return true;
  return false;
}

static void check_idempotent(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], y[MOST], z[MOST];
  int16_t q[MOST], again[MOST];
  const int64_t n = make_values(r, x);
  const ptq_group_params p = dt->family->fit(dt, x, n, 1);
  dt->family->round(dt, x, n, &p, 0, y, q);
  dt->family->round(dt, y, n, &p, 0, z, again);
  /* microxcaling turns -0 into 0, so only equal by value */
  bool same = is_linear(dt) ? memcmp(y, z, (size_t)n * sizeof *y) == 0 : true;
  for (int64_t i = 0; i < n; i++) same = same && y[i] == z[i];
  if (!same || memcmp(q, again, (size_t)n * sizeof *q) != 0)
    fail_msg("%s: rounding twice changes the result", dt->name);
}

static int by_value(const void *a, const void *b) {
  const float *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static void check_monotone(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], y[MOST];
  const int64_t n = make_values(r, x);
  const ptq_group_params p = dt->family->fit(dt, x, n, 1);
  qsort(x, (size_t)n, sizeof *x, by_value);
  dt->family->round(dt, x, n, &p, 0, y, NULL);
  for (int64_t i = 1; i < n; i++)
    if (y[i] < y[i - 1])
      fail_msg("%s: %a -> %a but %a -> %a", dt->name, (double)x[i - 1],
               (double)y[i - 1], (double)x[i], (double)y[i]);
}

/* Symmetric integers have one code more below zero than above: a value may
 * saturate on one side only. */
static void check_odd(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], minus[MOST], y[MOST], z[MOST];
  const int64_t n = make_values(r, x);
  if (!is_mx(dt) && (dt->options != 0 || !has_negative(x, n))) return;
  const ptq_group_params p = dt->family->fit(dt, x, n, 1);
  for (int64_t i = 0; i < n; i++) minus[i] = -x[i];
  dt->family->round(dt, x, n, &p, 0, y, NULL);
  dt->family->round(dt, minus, n, &p, 0, z, NULL);
  const float top =
      is_linear(dt) ? p.scale * (float)((1 << (dt->bits - 1)) - 1) : INFINITY;
  for (int64_t i = 0; i < n; i++)
    if (y[i] != -z[i] && fabsf(y[i]) <= top && fabsf(z[i]) < top)
      fail_msg("%s: %a -> %a but its negative -> %a", dt->name, (double)x[i],
               (double)y[i], (double)z[i]);
}

static void check_equivariant(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], y[MOST], z[MOST];
  const int64_t n = make_values(r, x);
  const float by = ldexpf(1.0F, (int)ptq_rng_below(r, 41) - 20);
  ptq_group_params p = dt->family->fit(dt, x, n, 1);
  dt->family->round(dt, x, n, &p, 0, y, NULL);
  for (int64_t i = 0; i < n; i++) x[i] *= by;
  p = dt->family->fit(dt, x, n, 1);
  dt->family->round(dt, x, n, &p, 0, z, NULL);
  for (int64_t i = 0; i < n; i++)
    if (z[i] != by * y[i])
      fail_msg("%s: scaled by %a, %a -> %a instead of %a", dt->name, (double)by,
               (double)x[i], (double)z[i], (double)(by * y[i]));
}

/* No code is nearer than the one chosen, but for the float32 sums of log2f. */
static void check_nearest(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], y[MOST];
  int16_t q[MOST];
  const int64_t n = make_values(r, x);
  if (is_linear(dt)) return; /* errors_are_bounded_by_the_step */
  const ptq_group_params p = dt->family->fit(dt, x, n, 1);
  const int most = dt->family->levels(dt) / 2;
  dt->family->round(dt, x, n, &p, 0, y, q);
  for (int64_t i = 0; i < n; i++) {
    const double e = fabs((double)x[i] - (double)y[i]);
    for (int code = -most; code <= most; code++) {
      const double v = (double)ptq_dtype_value(dt, &p, code);
      if (fabs((double)x[i] - v) < e * (1.0 - 0x1p-20))
        fail_msg("%s: %a -> code %d, but %d is nearer", dt->name, (double)x[i],
                 q[i], code);
    }
  }
}

/* The step is the scale. Inside the outermost codes the error is half a step:
 * nearest, plus 2^-23 of the magnitude for divisions, scales and MXINT's first
 * rounding. At the ends: a symmetric integer grid reaches half a step short
 * of the maximum, MXINT a whole one; an asymmetric zero point is rounded,
 * which moves an end by half a step. */
static void check_error_bound(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], y[MOST];
  const int64_t n = make_values(r, x);
  if (!is_linear(dt)) return; /* no_code_is_nearer_than_the_one_chosen */
  if (!is_mx(dt) && dt->options == 0 && !has_negative(x, n)) return;
  const ptq_group_params p = dt->family->fit(dt, x, n, 1);
  dt->family->round(dt, x, n, &p, 0, y, NULL);
  const double lo = is_mx(dt) ? 1.0 - (1 << (dt->bits - 1)) : -(double)p.zero;
  const double hi = is_mx(dt) ? -lo : (1 << dt->bits) - 1 + lo;
  const double step = (double)p.scale;
  const double slack = step * ldexp(1.0, dt->bits - 21);
  for (int64_t i = 0; i < n; i++) {
    const double at = (double)x[i] / step;
    const bool inside = at >= lo && at <= hi;
    const double bound =
        inside || (!is_mx(dt) && dt->options == 0) ? step / 2.0 : step;
    const double e = fabs((double)x[i] - (double)y[i]);
    if (e > bound + slack)
      fail_msg("%s: %a -> %a, more than %g steps", dt->name, (double)x[i],
               (double)y[i], bound / step);
  }
}

/* A column with one group a row, and any number of values, gives what each
 * value gives alone. */
static void check_lanes(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], y[MOST];
  int16_t q[MOST];
  ptq_group_params p[MOST];
  const int64_t n = make_values(r, x);
  for (int64_t i = 0; i < n; i++) {
    const int64_t of = (int64_t)ptq_rng_below(r, (uint64_t)n);
    p[i] = dt->family->fit(dt, x, of + 1, 1);
  }
  dt->family->round(dt, x, n, p, 1, y, q);
  for (int64_t i = 0; i < n; i++) {
    float one;
    int16_t code;
    dt->family->round(dt, x + i, 1, p + i, 0, &one, &code);
    if (memcmp(&one, &y[i], sizeof one) != 0 || code != q[i])
      fail_msg("%s: lane %d of %d differs", dt->name, (int)i, (int)n);
  }
}

/* Elements `inc` apart are fitted like adjacent ones. */
static void check_stride(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST], apart[3 * MOST];
  const int64_t n = make_values(r, x);
  for (int64_t i = 0; i < 3 * n; i++) apart[i] = 1e30F;
  for (int64_t i = 0; i < n; i++) apart[3 * i] = x[i];
  const ptq_group_params a = dt->family->fit(dt, x, n, 1);
  const ptq_group_params b = dt->family->fit(dt, apart, n, 3);
  assert_memory_equal(&a, &b, sizeof a);
}

/* Any finite bits: a named failure, or codes in range that dequantize to
 * exactly the values. */
static void check_random_bits(const ptq_dtype *dt, ptq_rng *r) {
  enum { ROWS = 3, COLS = 40 };
  float x[ROWS * COLS], y[ROWS * COLS];
  int16_t q[ROWS * COLS];
  ptq_group_params p[ROWS * 3];
  const uint32_t exponents = (uint32_t)ptq_rng_below(r, 255) + 1U;
  for (int i = 0; i < ROWS * COLS; i++) {
    uint32_t bits = (uint32_t)ptq_rng_u64(r) & 0x807FFFFFU;
    bits |= (uint32_t)ptq_rng_below(r, exponents) << 23;
    memcpy(&x[i], &bits, sizeof bits);
  }
  ptq_err err = {0};
  if (ptq_dtype_round_matrix(dt, x, ROWS, COLS, 16, y, q, p, &err) != PTQ_OK) {
    assert_int_equal(err.code, PTQ_E_NUMERIC);
    assert_non_null(strstr(err.msg, "overflows"));
    return;
  }
  const int levels = dt->family->levels(dt);
  for (int i = 0; i < ROWS * COLS; i++) {
    const ptq_group_params g = p[i / COLS * 3 + i % COLS / 16];
    /* a block of subnormals has twice the codes (dtype_mxint.c) */
    const bool tiny =
        is_mx(dt) && is_linear(dt) && g.scale < ldexpf(1.0F, -124 - dt->bits);
    const int least = is_mx(dt) ? -(levels / 2) : 0;
    if (!tiny) assert_in_range(q[i] - least, 0, levels - 1);
    if (!(y[i] == ptq_dtype_value(dt, &g, q[i])) || !isfinite(y[i]))
      fail_msg("%s: %a -> code %d, value %a", dt->name, (double)x[i], q[i],
               (double)y[i]);
  }
}

#define FOR_EACH(name, check)      \
  static void name(void **state) { \
    (void)state;                   \
    for_each_dtype(check);         \
  }
FOR_EACH(rounding_twice_changes_nothing, check_idempotent)
FOR_EACH(rounding_is_monotone, check_monotone)
FOR_EACH(symmetric_formats_round_both_signs_alike, check_odd)
FOR_EACH(powers_of_two_pass_through, check_equivariant)
FOR_EACH(errors_are_bounded_by_the_step, check_error_bound)
FOR_EACH(no_code_is_nearer_than_the_one_chosen, check_nearest)
FOR_EACH(lanes_do_not_see_each_other, check_lanes)
FOR_EACH(strided_groups_are_fitted_like_adjacent_ones, check_stride)
FOR_EACH(any_bits_give_codes_or_a_named_failure, check_random_bits)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounding_twice_changes_nothing),
      cmocka_unit_test(rounding_is_monotone),
      cmocka_unit_test(symmetric_formats_round_both_signs_alike),
      cmocka_unit_test(powers_of_two_pass_through),
      cmocka_unit_test(errors_are_bounded_by_the_step),
      cmocka_unit_test(no_code_is_nearer_than_the_one_chosen),
      cmocka_unit_test(lanes_do_not_see_each_other),
      cmocka_unit_test(strided_groups_are_fitted_like_adjacent_ones),
      cmocka_unit_test(any_bits_give_codes_or_a_named_failure),
  };
  return cmocka_run_group_tests_name("num/dtype_properties", tests, NULL, NULL);
}
