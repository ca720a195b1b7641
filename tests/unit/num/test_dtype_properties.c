/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What holds for every number format in every dialect of its table, but for
 * the exceptions that its row owns up to. */
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

enum { MOST = 256, ROUNDS = 16 };

/* One group of values, fitted with a dtype that is prepared on it. */
typedef struct sample {
  float x[MOST];
  int64_t n;
  float most; /* largest magnitude */
  ptq_dtype dt;
  ptq_dtype_matrix state;
  ptq_group_params p;
} sample;

static void check_dialect(const char *text, uint64_t seed,
                          void (*fn)(const ptq_dtype *dt, ptq_rng *r)) {
  ptq_dtype dt;
  ptq_err err = {0};
  if (ptq_dtype_parse(text, &dt, &err) != PTQ_OK) fail_msg("%s", err.msg);
  ptq_rng r;
  ptq_rng_init(&r, seed);
  for (int k = 0; k < ROUNDS; k++) fn(&dt, &r);
}

/* Calls fn for every family, width and dialect of the table. */
static void for_each_dtype(void (*fn)(const ptq_dtype *dt, ptq_rng *r)) {
  uint64_t seed = 17;
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++)
    for (int b = (*f)->min_bits; b <= (*f)->max_bits; b++) {
      char plain[PTQ_DTYPE_NAME_MAX], text[2 * PTQ_DTYPE_NAME_MAX];
      ptq_dtype_spelling(*f, b, plain);
      check_dialect(plain, seed++, fn);
      const char *const *d = (*f)->dialects;
      for (; d != NULL && *d != NULL; d++) {
        snprintf(text, sizeof text, "%s:%s", plain, *d);
        check_dialect(text, seed++, fn);
      }
    }
}

static unsigned exceptions(const ptq_dtype *dt) {
  return dt->family->exceptions != NULL ? dt->family->exceptions(dt) : 0U;
}

static float largest(const float *x, int64_t n) {
  float most = 0.0F;
  for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(x[i]));
  return most;
}

/* Fits what s->x holds. False: the scales of the dtype do not reach as far. */
static bool fit_sample(const ptq_dtype *dt, sample *s) {
  ptq_err err = {0};
  s->most = largest(s->x, s->n);
  ptq_status rc = ptq_dtype_prepare(dt, s->x, 1, s->n, PTQ_GROUP_ROW, &s->state,
                                    &s->dt, &err);
  if (rc == PTQ_OK)
    rc = ptq_dtype_fit(&s->dt, s->x, s->n, 1, 0, 0, &s->p, &err);
  if (rc == PTQ_OK) return true;
  if ((dt->options & PTQ_OPTION_STORE) != PTQ_KEEP_F16)
    fail_msg("%s: %s", dt->name, err.msg);
  ptq_dtype_matrix_release(&s->state);
  return false;
}

/* Roughly bell-shaped values of a random scale within 2^-30 .. 2^30. */
static void make_values(ptq_rng *r, sample *s) {
  s->n = 1 + (int64_t)ptq_rng_below(r, MOST);
  const int e = (int)ptq_rng_below(r, 61) - 30;
  for (int64_t i = 0; i < s->n; i++) {
    double v = 0.0;
    for (int k = 0; k < 4; k++) v += ptq_rng_unit(r) - 0.5;
    s->x[i] = (float)ldexp(v * v * v, e);
  }
}

static bool make_sample(const ptq_dtype *dt, ptq_rng *r, sample *s) {
  make_values(r, s);
  return fit_sample(dt, s);
}

static void round_with(const sample *s, const float *x, float *y, int16_t *q) {
  s->dt.family->round(&s->dt, x, s->n, &s->p, 0, y, q);
}

/* Codes are least .. least + levels - 1. */
static int least_code(const ptq_dtype *dt) {
  const int levels = dt->family->levels(dt);
  return dt->family->signed_codes ? -(levels / 2) : 0;
}

static void check_idempotent(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  float y[MOST], z[MOST];
  int16_t q[MOST], again[MOST];
  if ((exceptions(dt) & PTQ_NOT_IDEMPOTENT) != 0) return;
  if (!make_sample(dt, r, &s)) return;
  round_with(&s, s.x, y, q);
  round_with(&s, y, z, again);
  for (int64_t i = 0; i < s.n; i++) /* by value: some tools turn -0 into 0 */
    if (y[i] != z[i] || q[i] != again[i])
      fail_msg("%s: %a -> %a, code %d, -> %a, code %d", dt->name,
               (double)s.x[i], (double)y[i], q[i], (double)z[i], again[i]);
  ptq_dtype_matrix_release(&s.state);
}

static int by_value(const void *a, const void *b) {
  const float *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

static void check_monotone(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  float y[MOST];
  if ((exceptions(dt) & PTQ_NOT_MONOTONE) != 0) return;
  if (!make_sample(dt, r, &s)) return;
  qsort(s.x, (size_t)s.n, sizeof *s.x, by_value);
  round_with(&s, s.x, y, NULL);
  for (int64_t i = 1; i < s.n; i++)
    if (y[i] < y[i - 1])
      fail_msg("%s: %a -> %a but %a -> %a", dt->name, (double)s.x[i - 1],
               (double)y[i - 1], (double)s.x[i], (double)y[i]);
  ptq_dtype_matrix_release(&s.state);
}

/* Symmetric integers have one code more below zero than above: a value may
 * saturate on one side only. Inside they too are odd. */
static void check_odd(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  float minus[MOST], y[MOST], z[MOST];
  const bool inside = (exceptions(dt) & PTQ_NOT_ODD) != 0;
  if (!make_sample(dt, r, &s)) return;
  const float half = (float)(1 << (dt->bits - 1));
  const bool skip = inside && (dt->family->value != NULL || s.p.zero != half ||
                               dt->family->signed_codes);
  const float top = inside ? fabsf(s.p.scale) * (half - 1.0F) : INFINITY;
  for (int64_t i = 0; i < s.n; i++) minus[i] = -s.x[i];
  round_with(&s, s.x, y, NULL);
  round_with(&s, minus, z, NULL);
  for (int64_t i = 0; i < s.n && !skip; i++)
    if (y[i] != -z[i] && fabsf(y[i]) <= top && fabsf(z[i]) < top)
      fail_msg("%s: %a -> %a but its negative -> %a", dt->name, (double)s.x[i],
               (double)y[i], (double)z[i]);
  ptq_dtype_matrix_release(&s.state);
}

static void check_equivariant(const ptq_dtype *dt, ptq_rng *r) {
  sample s, t;
  float y[MOST], z[MOST];
  if ((exceptions(dt) & PTQ_NOT_EQUIVARIANT) != 0) return;
  if (!make_sample(dt, r, &s)) return;
  round_with(&s, s.x, y, NULL);
  const float by = ldexpf(1.0F, (int)ptq_rng_below(r, 41) - 20);
  t.n = s.n;
  for (int64_t i = 0; i < s.n; i++) t.x[i] = by * s.x[i];
  assert_true(fit_sample(dt, &t));
  round_with(&t, t.x, z, NULL);
  for (int64_t i = 0; i < s.n; i++)
    if (z[i] != by * y[i])
      fail_msg("%s: scaled by %a, %a -> %a instead of %a", dt->name, (double)by,
               (double)s.x[i], (double)z[i], (double)(by * y[i]));
  ptq_dtype_matrix_release(&s.state);
  ptq_dtype_matrix_release(&t.state);
}

/* Fails when code's value is nearer to x than the one chosen, by more than the
 * divisions and sums of float32 account for. */
static void check_code(const sample *s, float x, int chosen, int code) {
  const int from = least_code(&s->dt), n = s->dt.family->levels(&s->dt);
  if (code < from || code >= from + n) return;
  const double e =
      fabs((double)x - (double)ptq_dtype_value(&s->dt, &s->p, chosen));
  const double other =
      fabs((double)x - (double)ptq_dtype_value(&s->dt, &s->p, code));
  if (other < e * (1.0 - 0x1p-20) - 0x1p-20 * (double)s->most)
    fail_msg("%s: %a -> code %d, but %d is nearer", s->dt.name, (double)x,
             chosen, code);
}

static void check_nearest(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  float y[MOST];
  int16_t q[MOST];
  if ((exceptions(dt) & PTQ_NOT_NEAREST) != 0) return;
  if (!make_sample(dt, r, &s)) return;
  const int levels = dt->family->levels(dt), least = least_code(dt);
  round_with(&s, s.x, y, q);
  for (int64_t i = 0; i < s.n; i++) {
    check_code(&s, s.x[i], q[i], q[i] - 1);
    check_code(&s, s.x[i], q[i], q[i] + 1);
    for (int code = least; levels <= 64 && code < least + levels; code++)
      check_code(&s, s.x[i], q[i], code);
  }
  ptq_dtype_matrix_release(&s.state);
}

/* In float64 too. */
static void check_nearest64(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  double x[MOST], scale[MOST], zero[MOST], y[MOST];
  int16_t q[MOST];
  if (dt->family->round64 == NULL || (exceptions(dt) & PTQ_NOT_NEAREST) != 0)
    return;
  if (!make_sample(dt, r, &s)) return;
  ptq_group64 g = {.f = s.x, .n = s.n, .inc = 1, .given = true};
  for (int64_t i = 0; i < s.n; i++) {
    x[i] = (double)s.x[i];
    g.lo = i == 0 || x[i] < g.lo ? x[i] : g.lo;
    g.hi = i == 0 || x[i] > g.hi ? x[i] : g.hi;
  }
  ptq_group_params64 p;
  assert_int_equal(ptq_dtype_fit64(&s.dt, &g, 0, 0, &p, NULL), PTQ_OK);
  for (int64_t i = 0; i < s.n; i++) {
    scale[i] = p.scale;
    zero[i] = p.zero;
  }
  dt->family->round64(&s.dt, x, s.n, scale, zero, y, q);
  s.p = (ptq_group_params){(float)p.scale, (float)p.zero};
  for (int64_t i = 0; i < s.n; i++) {
    const double v = (double)ptq_dtype_value(&s.dt, &s.p, q[i]);
    if (!(fabs(y[i] - v) <= 0x1p-20 * (double)s.most))
      fail_msg("%s: code %d is %a and %a", dt->name, q[i], y[i], v);
    check_code(&s, s.x[i], q[i], q[i] - 1);
    check_code(&s, s.x[i], q[i], q[i] + 1);
  }
  ptq_dtype_matrix_release(&s.state);
}

/* The bound is a column of the table. */
static void check_error_bound(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  float y[MOST];
  assert_non_null(dt->family->error_bound);
  const double bound = dt->family->error_bound(dt);
  assert_true(bound > 0.0);
  if (!make_sample(dt, r, &s)) return;
  round_with(&s, s.x, y, NULL);
  const bool normal = fabsf(s.p.scale) >= 0x1p-126F;
  for (int64_t i = 0; i < s.n && normal; i++)
    if (fabs((double)s.x[i] - (double)y[i]) >
        (bound + 0x1p-20) * (double)s.most)
      fail_msg("%s: %a -> %a, off by more than %g of %a", dt->name,
               (double)s.x[i], (double)y[i], bound, (double)s.most);
  ptq_dtype_matrix_release(&s.state);
}

/* A column with one group a row, and any number of values, gives what each
 * value gives alone. */
static void check_lanes(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  float y[MOST];
  int16_t q[MOST];
  ptq_group_params p[MOST];
  if (!make_sample(dt, r, &s)) return;
  for (int64_t i = 0; i < s.n; i++) {
    const int64_t of =
        (int64_t)ptq_rng_below(r, (uint64_t)s.n < 32 ? (uint64_t)s.n : 32U);
    /* a mean may be beyond f16 where that of all values is not */
    if (ptq_dtype_fit(&s.dt, s.x, of + 1, 1, 0, 0, p + i, NULL) != PTQ_OK) {
      assert_int_equal(dt->options & PTQ_OPTION_STORE, PTQ_KEEP_F16);
      p[i] = s.p;
    }
  }
  dt->family->round(&s.dt, s.x, s.n, p, 1, y, q);
  for (int64_t i = 0; i < s.n; i++) {
    float one;
    int16_t code;
    dt->family->round(&s.dt, s.x + i, 1, p + i, 0, &one, &code);
    if (memcmp(&one, &y[i], sizeof one) != 0 || code != q[i])
      fail_msg("%s: lane %d of %d differs", dt->name, (int)i, (int)s.n);
  }
  ptq_dtype_matrix_release(&s.state);
}

/* Elements `inc` apart are fitted like adjacent ones. */
static void check_stride(const ptq_dtype *dt, ptq_rng *r) {
  sample s;
  float apart[3 * MOST];
  ptq_group_params p;
  if (!make_sample(dt, r, &s)) return;
  for (int64_t i = 0; i < 3 * s.n; i++) apart[i] = 1e30F;
  for (int64_t i = 0; i < s.n; i++) apart[3 * i] = s.x[i];
  assert_int_equal(ptq_dtype_fit(&s.dt, apart, s.n, 3, 0, 0, &p, NULL), PTQ_OK);
  assert_memory_equal(&p, &s.p, sizeof p);
  ptq_dtype_matrix_release(&s.state);
}

/* Finite floats of random bits with exponents up to a random one. */
static void random_bits(ptq_rng *r, float *x, int n) {
  const uint32_t exponents = (uint32_t)ptq_rng_below(r, 255) + 1U;
  for (int i = 0; i < n; i++) {
    uint32_t bits = (uint32_t)ptq_rng_u64(r) & 0x807FFFFFU;
    bits |= (uint32_t)ptq_rng_below(r, exponents) << 23;
    memcpy(&x[i], &bits, sizeof bits);
  }
}

/* Any finite bits: a named failure, or codes in range that dequantize to
 * exactly the values. */
static void check_random_bits(const ptq_dtype *dt, ptq_rng *r) {
  enum { ROWS = 3, COLS = 40 };
  float x[ROWS * COLS], y[ROWS * COLS];
  int16_t q[ROWS * COLS];
  ptq_group_params p[ROWS * 3];
  random_bits(r, x, ROWS * COLS);
  ptq_err err = {0};
  if (ptq_dtype_round_matrix(dt, x, ROWS, COLS, 16, y, q, p, &err) != PTQ_OK) {
    assert_int_equal(err.code, PTQ_E_NUMERIC);
    if (strstr(err.msg, "overflows") == NULL) fail_msg("says: %s", err.msg);
    return;
  }
  const int levels = dt->family->levels(dt), least = least_code(dt);
  const bool linear = dt->family->value == NULL && dt->family->signed_codes;
  for (int i = 0; i < ROWS * COLS; i++) {
    const ptq_group_params g = p[i / COLS * 3 + i % COLS / 16];
    /* a block of subnormals has twice the codes (dtype_mxint.c) */
    const bool tiny = linear && g.scale < ldexpf(1.0F, -124 - dt->bits);
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
FOR_EACH(errors_are_bounded_as_the_table_says, check_error_bound)
FOR_EACH(no_code_is_nearer_than_the_one_chosen, check_nearest)
FOR_EACH(no_code_is_nearer_in_float64, check_nearest64)
FOR_EACH(lanes_do_not_see_each_other, check_lanes)
FOR_EACH(strided_groups_are_fitted_like_adjacent_ones, check_stride)
FOR_EACH(any_bits_give_codes_or_a_named_failure, check_random_bits)

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rounding_twice_changes_nothing),
      cmocka_unit_test(rounding_is_monotone),
      cmocka_unit_test(symmetric_formats_round_both_signs_alike),
      cmocka_unit_test(powers_of_two_pass_through),
      cmocka_unit_test(errors_are_bounded_as_the_table_says),
      cmocka_unit_test(no_code_is_nearer_than_the_one_chosen),
      cmocka_unit_test(no_code_is_nearer_in_float64),
      cmocka_unit_test(lanes_do_not_see_each_other),
      cmocka_unit_test(strided_groups_are_fitted_like_adjacent_ones),
      cmocka_unit_test(any_bits_give_codes_or_a_named_failure),
  };
  return cmocka_run_group_tests_name("num/dtype_properties", tests, NULL, NULL);
}
