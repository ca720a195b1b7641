/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Every number format in every dialect of its table, on groups of all shapes
 * and on weights that arithmetic finds hard: the matrix gives what its groups
 * give one by one, in place too, on every instruction set, to the bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dtype_core.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/dtype.h"
#include "ptq/num/vec.h"

enum { ROWS = 3, COLS = 53, MOST = ROWS * COLS };

typedef struct result {
  ptq_status status;
  float y[MOST];
  int16_t q[MOST];
  ptq_group_params p[MOST];
} result;

static const char *const isas[] = {"generic", "avx2", "avx512"};
enum { N_ISAS = sizeof isas / sizeof isas[0] };

static bool use(const char *isa) {
  assert_int_equal(setenv("PTQ_ISA", isa, 1), 0);
  return ptq_vec_init(NULL) == PTQ_OK;
}

static float from_bits(uint32_t bits) {
  float v;
  memcpy(&v, &bits, sizeof v);
  return v;
}

/* Exponents that no format refuses: its scale, tensor's scale and the squares
 * of neither leave float32. */
static float power(ptq_rng *r) {
  return ldexpf(1.0F, (int)ptq_rng_below(r, 81) - 40);
}

static void bell(ptq_rng *r, float *x) {
  const float by = power(r);
  for (int i = 0; i < MOST; i++) {
    double v = 0.0;
    for (int k = 0; k < 4; k++) v += ptq_rng_unit(r) - 0.5;
    x[i] = (float)v * by;
  }
}

static void any_finite_bits(ptq_rng *r, float *x) {
  for (int i = 0; i < MOST; i++) {
    const uint32_t exponent = (uint32_t)ptq_rng_below(r, 255);
    x[i] = from_bits(((uint32_t)ptq_rng_u64(r) & 0x807FFFFFU) | exponent << 23);
  }
}

/* Zeros of both signs, whole groups of them, and some weights. */
static void zeros(ptq_rng *r, float *x) {
  bell(r, x);
  for (int i = 0; i < MOST; i++)
    if (i < COLS + 20 || ptq_rng_below(r, 3) == 0)
      x[i] = ptq_rng_below(r, 2) == 0 ? 0.0F : -0.0F;
}

static void subnormals(ptq_rng *r, float *x) {
  for (int i = 0; i < MOST; i++)
    x[i] = from_bits((uint32_t)ptq_rng_u64(r) & 0x80FFFFFFU);
}

/* Powers of two, their neighbours, and ties of small steps. */
static void edges(ptq_rng *r, float *x) {
  const float by = power(r);
  for (int i = 0; i < MOST; i++) {
    float v = ldexpf(by, (int)ptq_rng_below(r, 9));
    switch (ptq_rng_below(r, 4)) {
      case 0:
        v = nextafterf(v, 0.0F);
        break;
      case 1:
        v = nextafterf(v, INFINITY);
        break;
      case 2:
        v = by * (float)ptq_rng_below(r, 513) / 2.0F;
        break;
      default:
        break;
    }
    x[i] = ptq_rng_below(r, 2) == 0 ? v : -v;
  }
}

/* One weight that makes all others small, and no negative ones but it. */
static void outlier(ptq_rng *r, float *x) {
  bell(r, x);
  for (int i = 0; i < MOST; i++) x[i] = fabsf(x[i]) * 0x1p-30F;
  x[ptq_rng_below(r, MOST)] = -power(r);
}

static void (*const inputs[])(ptq_rng *r, float *x) = {
    bell, any_finite_bits, zeros, subnormals, edges, outlier};
enum { N_INPUTS = sizeof inputs / sizeof inputs[0] };

typedef struct shape {
  int64_t rows, cols, group;
} shape;

static const shape shapes[] = {
    {ROWS, COLS, 1},
    {ROWS, COLS, 3},
    {ROWS, COLS, 16},
    {ROWS, 48, 16},
    {ROWS, COLS, 32},
    {ROWS, COLS, 52},
    {ROWS, COLS, PTQ_GROUP_ROW},
    {ROWS, COLS, PTQ_GROUP_TENSOR},
    {1, MOST, 64},
    {MOST, 1, 16},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0] };

static void round_all(const ptq_dtype *dt, const shape *s, const float *x,
                      result *out) {
  ptq_err err = {0};
  memset(out, 0, sizeof *out);
  out->status = ptq_dtype_round_matrix(dt, x, s->rows, s->cols, s->group,
                                       out->y, out->q, out->p, &err);
  if (out->status == PTQ_OK) return;
  assert_int_equal(out->status, PTQ_E_NUMERIC);
  if (strstr(err.msg, "overflows") == NULL) fail_msg("says: %s", err.msg);
  memset(out, 0, sizeof *out); /* undefined */
  out->status = PTQ_E_NUMERIC;
}

static void expect_same(const ptq_dtype *dt, const shape *s, const float *x,
                        const result *a, const result *b, const char *what) {
  assert_int_equal(a->status, b->status);
  for (int64_t i = 0; i < s->rows * s->cols; i++)
    if (memcmp(&a->y[i], &b->y[i], sizeof(float)) != 0 || a->q[i] != b->q[i])
      fail_msg("%s, %d x %d, group %d, %s: weight %d, %a, is %a, code %d, not "
               "%a, code %d",
               dt->name, (int)s->rows, (int)s->cols, (int)s->group, what,
               (int)i, (double)x[i], (double)a->y[i], a->q[i], (double)b->y[i],
               b->q[i]);
  for (int i = 0; i < MOST; i++)
    if (memcmp(&a->p[i], &b->p[i], sizeof a->p[i]) != 0)
      fail_msg("%s, %d x %d, group %d, %s: parameters %d are %a, %a, not %a, "
               "%a",
               dt->name, (int)s->rows, (int)s->cols, (int)s->group, what, i,
               (double)a->p[i].scale, (double)a->p[i].zero,
               (double)b->p[i].scale, (double)b->p[i].zero);
}

/* The same through ptq_dtype_fit and the family's round, a group a time. */
static void round_by_groups(const ptq_dtype *dt, const shape *s, const float *x,
                            result *out) {
  ptq_dtype_matrix state;
  ptq_dtype use_dt;
  const int64_t total = s->rows * s->cols;
  const bool whole = s->group == PTQ_GROUP_TENSOR;
  const int64_t cols = whole ? total : s->cols, rows = whole ? 1 : s->rows;
  const int64_t width = s->group > 0 ? s->group : cols;
  memset(out, 0, sizeof *out);
  out->status = ptq_dtype_prepare(dt, x, s->rows, s->cols, s->group, &state,
                                  &use_dt, NULL);
  ptq_group_params *p = out->p;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols && out->status == PTQ_OK; c += width, p++) {
      const int64_t n = cols - c < width ? cols - c : width, at = r * cols + c;
      out->status = ptq_dtype_fit(&use_dt, x + at, n, 1, r, c, p, NULL);
      if (out->status == PTQ_OK)
        dt->family->round(&use_dt, x + at, n, p, 0, out->y + at, out->q + at);
    }
  ptq_dtype_matrix_release(&state);
  if (out->status == PTQ_OK) return;
  memset(out, 0, sizeof *out);
  out->status = PTQ_E_NUMERIC;
}

/* Codes in the format's range that restore the values. */
static void check_codes(const ptq_dtype *dt, const shape *s, const result *a) {
  const int levels = dt->family->levels(dt);
  const int least = dt->family->signed_codes ? -(levels / 2) : 0;
  const bool linear = dt->family->value == NULL && dt->family->signed_codes;
  const int64_t groups = ptq_dtype_groups(s->cols, s->group);
  for (int64_t i = 0; i < s->rows * s->cols && a->status == PTQ_OK; i++) {
    const int64_t r = i / s->cols, c = i % s->cols;
    const ptq_group_params *p = s->group == PTQ_GROUP_TENSOR ? a->p
                                : s->group == PTQ_GROUP_ROW
                                    ? &a->p[r]
                                    : &a->p[r * groups + c / s->group];
    /* a block of subnormals has twice the codes (dtype_mxint.c) */
    const bool tiny = linear && p->scale < ldexpf(1.0F, -124 - dt->bits);
    if (!tiny) assert_in_range(a->q[i] - least, 0, levels - 1);
    if (!(a->y[i] == ptq_dtype_value(dt, p, a->q[i])) || !isfinite(a->y[i]))
      fail_msg("%s: code %d is not %a", dt->name, a->q[i], (double)a->y[i]);
  }
}

static void check_shape(const ptq_dtype *dt, const shape *s, const float *x) {
  static result first, other;
  round_all(dt, s, x, &first);
  check_codes(dt, s, &first);
  round_by_groups(dt, s, x, &other);
  expect_same(dt, s, x, &first, &other, "by groups");
  for (int i = 1; i < N_ISAS; i++) {
    if (!use(isas[i])) continue;
    round_all(dt, s, x, &other);
    expect_same(dt, s, x, &first, &other, isas[i]);
  }
  assert_true(use(isas[0]));
  if (first.status != PTQ_OK) return;
  memcpy(other.y, x, sizeof other.y); /* in place */
  assert_int_equal(ptq_dtype_round_matrix(dt, other.y, s->rows, s->cols,
                                          s->group, other.y, NULL, NULL, NULL),
                   PTQ_OK);
  assert_memory_equal(other.y, first.y,
                      (size_t)(s->rows * s->cols) * sizeof(float));
}

static void check_inputs(const ptq_dtype *dt, ptq_rng *r) {
  float x[MOST];
  for (int k = 0; k < N_INPUTS; k++) {
    inputs[k](r, x);
    for (int s = 0; s < N_SHAPES; s++) check_shape(dt, &shapes[s], x);
  }
}

/* Runs long enough for kernels that take many groups at once, of whole vectors
 * or not, values alone; large matrices take streaming stores, here forced. */
enum { LONG = 1088 };

/* Groups done before the first with a scale beyond the format. */
static int64_t run_by_groups(const ptq_dtype *dt, const float *x, int64_t width,
                             float *y) {
  int64_t g = 0;
  for (int64_t i = 0; i < LONG; i += width, g++) {
    ptq_group_params p;
    const int64_t n = LONG - i < width ? LONG - i : width;
    if (ptq_dtype_fit(dt, x + i, n, 1, 0, i, &p, NULL) != PTQ_OK) break;
    dt->family->round(dt, x + i, n, &p, 0, y + i, NULL);
  }
  return g;
}

/* One NaN or Inf ends the run before its group. */
static void check_bad_value(const ptq_dtype *dt, ptq_rng *r, const float *x,
                            int64_t width, int64_t good, float *y) {
  float bad[LONG];
  memcpy(bad, x, sizeof bad);
  const int64_t at = (int64_t)ptq_rng_below(r, LONG);
  bad[at] = ptq_rng_below(r, 2) == 0 ? NAN : -INFINITY;
  const int64_t n =
      ptq_dtype_round_run(dt, 0, bad, LONG, width, y, NULL, NULL, false);
  assert_int_equal(n, at / width < good ? at / width : good);
}

static void check_run(const ptq_dtype *dt, ptq_rng *r, const float *x,
                      int64_t width, float *y, float *z) {
  ptq_dtype_matrix state;
  ptq_dtype use_dt;
  if (ptq_dtype_prepare(dt, x, 1, LONG, width, &state, &use_dt, NULL) != PTQ_OK)
    return; /* what groups share is beyond the format */
  assert_true(use(isas[0]));
  const int64_t groups = run_by_groups(&use_dt, x, width, y);
  const int64_t done = groups * width < LONG ? groups * width : LONG;
  for (int i = 0; i < N_ISAS; i++) {
    if (!use(isas[i])) continue;
    for (int stream = 0; stream < 2; stream++) {
      memset(z, 0, LONG * sizeof *z);
      const int64_t n = ptq_dtype_round_run(&use_dt, 0, x, LONG, width, z, NULL,
                                            NULL, stream != 0);
      assert_int_equal(n, groups);
      for (int64_t k = 0; groups * width >= LONG && k < done; k++)
        if (memcmp(&y[k], &z[k], sizeof *y) != 0)
          fail_msg("%s, width %d, %s%s: weight %d, %a, is %a, not %a", dt->name,
                   (int)width, isas[i], stream ? ", streaming" : "", (int)k,
                   (double)x[k], (double)z[k], (double)y[k]);
    }
    check_bad_value(&use_dt, r, x, width, groups, z);
  }
  ptq_dtype_matrix_release(&state);
}

static void check_runs(const ptq_dtype *dt, ptq_rng *r) {
  static const int64_t widths[] = {8, 16, 32, 48, LONG};
  float x[(LONG / MOST + 1) * MOST], *y = NULL, *z = NULL;
  assert_int_equal(ptq_alloc(&y, LONG, sizeof *y, "y", NULL), PTQ_OK);
  assert_int_equal(ptq_alloc(&z, LONG, sizeof *z, "z", NULL), PTQ_OK);
  /* a search takes long, and looks at one group after the other anyhow */
  const int n = (dt->options & PTQ_OPTION_SEARCH) != 0 ? 1 : N_INPUTS;
  for (int k = 0; k < n; k++) {
    for (int i = 0; i < LONG; i += MOST) inputs[k](r, x + i);
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
      check_run(dt, r, x, widths[i], y, z);
  }
  ptq_free(y);
  ptq_free(z);
}

static void check_dialect(const char *plain, const char *options, uint64_t seed,
                          void (*fn)(const ptq_dtype *dt, ptq_rng *r)) {
  char text[2 * PTQ_DTYPE_NAME_MAX];
  ptq_dtype dt;
  ptq_rng r;
  ptq_err err = {0};
  snprintf(text, sizeof text, "%s%s%s", plain, options[0] != '\0' ? ":" : "",
           options);
  if (ptq_dtype_parse(text, &dt, &err) != PTQ_OK) fail_msg("%s", err.msg);
  ptq_rng_init(&r, seed);
  assert_true(use(isas[0]));
  fn(&dt, &r);
}

static void for_each(void (*fn)(const ptq_dtype *dt, ptq_rng *r)) {
  uint64_t seed = 29;
  for (const ptq_dtype_family *const *f = ptq_dtype_families(); *f; f++)
    for (int b = (*f)->min_bits; b <= (*f)->max_bits; b++) {
      char plain[PTQ_DTYPE_NAME_MAX];
      ptq_dtype_spelling(*f, b, plain);
      check_dialect(plain, "", seed++, fn);
      const char *const *d = (*f)->dialects;
      for (; d != NULL && *d != NULL; d++) check_dialect(plain, *d, seed++, fn);
    }
}

static void groups_and_instruction_sets_give_the_same_bits(void **state) {
  (void)state;
  for_each(check_inputs);
}

static void long_runs_give_the_same_bits(void **state) {
  (void)state;
  for_each(check_runs);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(groups_and_instruction_sets_give_the_same_bits),
      cmocka_unit_test(long_runs_give_the_same_bits),
  };
  return cmocka_run_group_tests_name("num/dtype_shapes", tests, NULL, NULL);
}
