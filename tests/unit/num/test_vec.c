/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/rng.h"
#include "ptq/num/vec.h"
#include "vec_table.h"

enum { N_MAX = 67 };
/* Two float32 additions of positive numbers before float64 takes over. */
#define SUM_ERROR 0x1p-23

/* Every instruction set of this build that this CPU has. */
static int each_isa(void (*check)(const char *isa)) {
  static const char *const names[] = {"generic", "avx2", "avx512"};
  int n = 0;
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    assert_int_equal(setenv("PTQ_ISA", names[i], 1), 0);
    if (ptq_vec_init(NULL) != PTQ_OK) continue;
    assert_string_equal(ptq_vec_isa(), names[i]);
    check(names[i]);
    n++;
  }
  unsetenv("PTQ_ISA");
  assert_int_equal(ptq_vec_init(NULL), PTQ_OK);
  return n;
}

static float draw(ptq_rng *rng, float scale) {
  return scale * (2.0F * (float)ptq_rng_unit(rng) - 1.0F);
}

static void fill(float *x, int64_t n, float scale, uint64_t seed) {
  ptq_rng rng;
  ptq_rng_init(&rng, seed);
  for (int64_t i = 0; i < n; i++) x[i] = draw(&rng, scale);
}

static void check_exp_accuracy(const char *isa) {
  enum { STEPS = 400000 };
  double worst = 0.0;
  for (int i = 0; i <= STEPS; i += 5) {
    float x[5], y[5];
    for (int k = 0; k < 5; k++)
      x[k] = -87.3F + 176.0F * (float)(i + k) / (STEPS + 5);
    ptq_vec_exp(x, 5, 0.0F, y);
    for (int k = 0; k < 5; k++) {
      const double exact = exp((double)x[k]);
      const double off = fabs((double)y[k] - exact) / exact;
      if (off > worst) worst = off;
    }
  }
  if (!(worst < 3e-7)) fail_msg("%s: relative error %g", isa, worst);
}

static void exp_is_within_its_stated_error(void **state) {
  (void)state;
  assert_true(each_isa(check_exp_accuracy) >= 1);
}

static void check_exp_edges(const char *isa) {
  (void)isa;
  const float x[] = {-INFINITY, -1e30F, -200.0F, -87.4F,   -87.33F, -0.0F,
                     0.0F,      1e-40F, 88.7F,   88.75F,   1e30F,   INFINITY,
                     NAN,       1.0F,   -1.0F,   -FLT_MAX, FLT_MAX};
  enum { N = sizeof x / sizeof x[0] };
  float y[N];
  for (int n = 1; n <= N; n++) { /* both in full vectors and in the rest */
    const double sum = ptq_vec_exp(x, n, 0.0F, y);
    double plain = 0.0;
    for (int i = 0; i < n; i++) {
      const double exact = exp((double)x[i]);
      plain += (double)y[i];
      if (isnan(x[i]))
        assert_true(isnan(y[i]));
      else if (exact < 0x1p-126)
        assert_true(y[i] == 0.0F);
      else if (exact > (double)FLT_MAX)
        assert_true(isinf(y[i]) && y[i] > 0.0F);
      else
        assert_true(fabs((double)y[i] - exact) <= 3e-7 * exact);
    }
    if (isfinite(plain))
      assert_true(fabs(sum - plain) <= SUM_ERROR * plain);
    else
      assert_true(isnan(plain) ? isnan(sum) : sum == plain);
  }
}

static void exp_takes_infinities_nan_and_tiny_results(void **state) {
  (void)state;
  assert_true(each_isa(check_exp_edges) >= 1);
}

static void check_position(const char *isa) {
  float x[N_MAX], y[N_MAX], one = 0.0F;
  fill(x, N_MAX, 20.0F, 7);
  for (int n = 0; n <= N_MAX; n++) {
    ptq_vec_exp(x, n, 3.0F, y);
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
      ptq_vec_exp(x + i, 1, 3.0F, &one);
      if (memcmp(&one, &y[i], sizeof one) != 0)
        fail_msg("%s: element %d of %d has other bits alone", isa, i, n);
      sum += (double)y[i];
    }
    const double same = ptq_vec_sum_exp(x, n, 3.0F);
    assert_true(fabs(same - sum) <= SUM_ERROR * sum);
  }
}

static void an_element_has_the_same_bits_wherever_it_stands(void **state) {
  (void)state;
  assert_true(each_isa(check_position) >= 1);
}

static void check_sums(const char *isa) {
  (void)isa;
  float x[N_MAX], y[N_MAX];
  fill(x, N_MAX, 2.0F, 11);
  fill(y, N_MAX, 2.0F, 12);
  for (int n = 0; n <= N_MAX; n++) {
    double s = 0.0, d = 0.0, q = 0.0, e = 0.0;
    for (int i = 0; i < n; i++) {
      const double a = (double)x[i], b = (double)y[i];
      const double diff = (double)(x[i] - y[i]);
      s += a;
      d += a * b;
      q += a * a;
      e += diff * diff;
    }
    /* n terms of at most 16, float64 sums in another order */
    const double tol = N_MAX * N_MAX * 16.0 * DBL_EPSILON;
    assert_true(fabs(ptq_vec_sum(x, n) - s) <= tol);
    assert_true(fabs(ptq_vec_dot(x, y, n) - d) <= tol);
    assert_true(fabs(ptq_vec_sum_sq(x, n) - q) <= tol);
    assert_true(fabs(ptq_vec_sum_sq_diff(x, y, n) - e) <= tol);
  }
}

static void sums_equal_a_plain_float64_loop(void **state) {
  (void)state;
  assert_true(each_isa(check_sums) >= 1);
}

static void check_max(const char *isa) {
  (void)isa;
  float x[N_MAX];
  for (int n = 1; n <= N_MAX; n++)
    for (int top = 0; top < n; top++) {
      for (int i = 0; i < n; i++) x[i] = i == top ? -1.0F : -2.0F;
      x[n - 1] = -1.0F; /* a tie: the first counts */
      if (top > 0) x[0] = NAN;
      int64_t at = -1;
      assert_true(ptq_vec_max(x, n, &at) == -1.0F);
      assert_int_equal(at, top);
      assert_true(ptq_vec_max(x, n, NULL) == -1.0F);
    }
  for (int i = 0; i < N_MAX; i++) x[i] = NAN;
  int64_t at = -1;
  assert_true(ptq_vec_max(x, N_MAX, &at) == -INFINITY);
  assert_int_equal(at, 0);
}

static void max_finds_the_first_of_the_largest(void **state) {
  (void)state;
  assert_true(each_isa(check_max) >= 1);
}

static void check_elementwise(const char *isa) {
  (void)isa;
  float x[N_MAX], y[N_MAX], z[N_MAX];
  double acc[N_MAX];
  fill(x, N_MAX, 3.0F, 21);
  fill(y, N_MAX, 3.0F, 22);
  for (int n = 0; n < N_MAX; n++) {
    memcpy(z, y, sizeof z);
    ptq_vec_add(x, n, z);
    for (int i = 0; i < n; i++) assert_true(z[i] == y[i] + x[i]);
    assert_true(z[n] == y[n]); /* nothing behind the end is touched */
    memcpy(z, y, sizeof z);
    ptq_vec_scale(0.3F, n, z);
    for (int i = 0; i < n; i++) assert_true(z[i] == 0.3F * y[i]);
    assert_true(z[n] == y[n]);
    for (int i = 0; i < N_MAX; i++) acc[i] = (double)y[i];
    ptq_vec_accumulate(x, n, 0.7, acc);
    for (int i = 0; i < n; i++) {
      const double exact = (double)y[i] + 0.7 * (double)x[i];
      assert_true(fabs(acc[i] - exact) <= 8.0 * DBL_EPSILON);
    }
    assert_true(acc[n] == (double)y[n]);
    memcpy(z, y, sizeof z);
    ptq_vec_silu_mul(x, n, z);
    for (int i = 0; i < n; i++) {
      const double g = (double)y[i];
      const double exact = g / (1.0 + exp(-g)) * (double)x[i];
      /* exp 3e-7, and four more roundings of 6e-8 */
      assert_true(fabs((double)z[i] - exact) <= 6e-7 * fabs(exact));
    }
    assert_true(z[n] == y[n]);
  }
}

static void elementwise_kernels_equal_plain_loops(void **state) {
  (void)state;
  assert_true(each_isa(check_elementwise) >= 1);
}

/* The largest |got - exact| / (1 + |x|) over a fine grid and ragged ends. */
static double activation_error(void (*f)(int64_t, float *),
                               double (*exact)(double)) {
  double worst = 0.0;
  for (int i = 0; i < 200000; i += 7) {
    float x[7], y[7];
    for (int k = 0; k < 7; k++)
      y[k] = x[k] = -20.0F + 40.0F * (float)(i + k) / 200000.0F;
    f(7, y);
    for (int k = 0; k < 7; k++) {
      const double v = (double)x[k];
      const double off = fabs((double)y[k] - exact(v)) / (1.0 + fabs(v));
      if (!(off <= worst)) worst = off;
    }
  }
  return worst;
}

static double exact_silu(double x) {
  return x / (1.0 + exp(-x));
}

static double exact_gelu(double x) {
  return 0.5 * x * erfc(-x / sqrt(2.0));
}

static double exact_gelu_tanh(double x) {
  const double pi = 3.14159265358979323846;
  return 0.5 * x * (1.0 + tanh(sqrt(2.0 / pi) * (x + 0.044715 * x * x * x)));
}

static void soft_cap_30(int64_t n, float *x) {
  ptq_vec_soft_cap(30.0F, n, x);
}

static double exact_cap_30(double x) {
  return 30.0 * tanh(x / 30.0);
}

static void check_activations(const char *isa) {
  (void)isa;
  assert_true(activation_error(ptq_vec_silu, exact_silu) < 2e-7);
  assert_true(activation_error(ptq_vec_gelu, exact_gelu) < 2e-7);
  assert_true(activation_error(ptq_vec_gelu_tanh, exact_gelu_tanh) < 2e-7);
  assert_true(activation_error(soft_cap_30, exact_cap_30) < 9e-6);
  float far[3] = {-1e9F, 1e9F, NAN}, cap[3] = {-1e9F, 1e9F, NAN};
  ptq_vec_gelu(3, far);
  ptq_vec_soft_cap(30.0F, 3, cap);
  assert_true(far[0] == 0.0F && far[1] == 1e9F && isnan(far[2]));
  assert_true(cap[0] == -30.0F && cap[1] == 30.0F && isnan(cap[2]));
  float x[N_MAX], y[N_MAX];
  fill(x, N_MAX, 3.0F, 5);
  fill(y, N_MAX, 3.0F, 6);
  for (int64_t n = 0; n <= N_MAX; n++) {
    float z[N_MAX];
    memcpy(z, y, sizeof z);
    ptq_vec_multiply(x, n, z);
    for (int64_t i = 0; i < N_MAX; i++)
      assert_true(z[i] == (i < n ? y[i] * x[i] : y[i]));
  }
}

static void activations_keep_their_bounds(void **state) {
  (void)state;
  assert_true(each_isa(check_activations) >= 1);
}

static void check_relu(const char *isa) {
  (void)isa;
  float x[N_MAX];
  fill(x, N_MAX, 1.0F, 31);
  x[3] = NAN;
  x[40] = NAN;
  x[66] = NAN;
  x[5] = -INFINITY;
  x[6] = INFINITY;
  float y[N_MAX];
  memcpy(y, x, sizeof y);
  ptq_vec_relu(N_MAX, y);
  for (int i = 0; i < N_MAX; i++) {
    if (isnan(x[i]))
      assert_true(isnan(y[i]));
    else
      assert_true(y[i] == (x[i] > 0.0F ? x[i] : 0.0F));
  }
}

static void relu_keeps_nan(void **state) {
  (void)state;
  assert_true(each_isa(check_relu) >= 1);
}

static void check_finite(const char *isa) {
  (void)isa;
  static const float bad[] = {NAN, INFINITY, -INFINITY};
  float x[N_MAX];
  fill(x, N_MAX, 1.0F, 41);
  x[2] = FLT_MAX;
  x[3] = FLT_MAX;
  assert_true(ptq_vec_all_finite(x, 0));
  for (int n = 1; n <= N_MAX; n++) {
    assert_true(ptq_vec_all_finite(x, n));
    for (int k = 0; k < 3; k++) {
      const float keep = x[n - 1];
      x[n - 1] = bad[k];
      assert_false(ptq_vec_all_finite(x, n));
      assert_true(ptq_vec_all_finite(x, n - 1));
      x[n - 1] = keep;
    }
  }
}

static void one_bad_element_is_seen_wherever_it_is(void **state) {
  (void)state;
  assert_true(each_isa(check_finite) >= 1);
}

static void check_norm_and_rotation(const char *isa) {
  (void)isa;
  float x[2 * N_MAX], w[N_MAX], b[N_MAX], y[2 * N_MAX];
  fill(x, 2 * N_MAX, 2.0F, 51);
  fill(w, N_MAX, 1.0F, 52);
  fill(b, N_MAX, 1.0F, 53);
  for (int n = 1; n < N_MAX; n++) {
    ptq_vec_normalize(x, n, 0.25F, 1.5F, w, b, y);
    for (int i = 0; i < n; i++)
      assert_true(y[i] == (x[i] - 0.25F) * 1.5F * w[i] + b[i]);
    ptq_vec_normalize(x, n, 0.0F, 1.5F, w, NULL, y);
    for (int i = 0; i < n; i++) assert_true(y[i] == x[i] * 1.5F * w[i]);
    ptq_vec_rotate(x, w, b, n, y);
    for (int i = 0; i < n; i++) {
      assert_true(y[i] == x[i] * w[i] - x[n + i] * b[i]);
      assert_true(y[n + i] == x[n + i] * w[i] + x[i] * b[i]);
    }
    memcpy(y, x, sizeof y);
    ptq_vec_rotate(y, w, b, n, y);
    assert_true(y[n - 1] == x[n - 1] * w[n - 1] - x[2 * n - 1] * b[n - 1]);
    assert_true(y[2 * n - 1] == x[2 * n - 1] * w[n - 1] + x[n - 1] * b[n - 1]);
  }
}

static void norms_and_rotations_equal_plain_loops(void **state) {
  (void)state;
  assert_true(each_isa(check_norm_and_rotation) >= 1);
}

static void check_kl(const char *isa) {
  (void)isa;
  float r[N_MAX], c[N_MAX];
  fill(r, N_MAX, 5.0F, 61);
  fill(c, N_MAX, 5.0F, 62);
  for (int n = 0; n <= N_MAX; n++) {
    double want[4] = {1.0, 2.0, 3.0, 4.0}, got[4] = {1.0, 2.0, 3.0, 4.0};
    for (int i = 0; i < n; i++) {
      const double d = (double)r[i] - (double)c[i];
      const double pr = exp((double)r[i] - 5.0), pc = exp((double)c[i] - 4.0);
      want[0] += pr;
      want[1] += pr * d;
      want[2] += pc;
      want[3] -= pc * d;
    }
    ptq_vec_kl_slice(r, c, n, 5.0F, 4.0F, got);
    /* n terms of at most 10 e: 3e-7 of exp, and shifts rounded to 1e-6 */
    for (int k = 0; k < 4; k++)
      assert_true(fabs(got[k] - want[k]) <= N_MAX * 28.0 * 1.3e-6);
  }
}

static void kl_moments_equal_a_plain_float64_loop(void **state) {
  (void)state;
  assert_true(each_isa(check_kl) >= 1);
}

/* The nearest of the two bfloat16 numbers around x, by their distances in
 * float64; of two as near, the even one. */
static uint16_t nearest_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  const uint16_t below = (uint16_t)(bits >> 16);
  float ends[2];
  for (uint32_t k = 0; k < 2; k++) {
    const uint32_t b = ((uint32_t)below + k) << 16;
    memcpy(&ends[k], &b, sizeof b);
  }
  /* Infinity stands where the next number would be. */
  const double up =
      isinf(ends[1]) ? copysign(0x1p128, (double)x) : (double)ends[1];
  const double d0 = fabs((double)x - (double)ends[0]);
  const double d1 = fabs(up - (double)x);
  if (d0 != d1) return (uint16_t)(below + (d1 < d0));
  return (uint16_t)(below + (below & 1U));
}

static void check_bf16(const char *isa) {
  enum { N = 4096 };
  static float x[N], back[N], round[N];
  static uint16_t y[N], part[N];
  ptq_rng rng;
  ptq_rng_init(&rng, 5);
  for (int i = 0; i < N; i++) {
    uint32_t bits = (uint32_t)ptq_rng_below(&rng, UINT64_C(1) << 32);
    if (i % 3 == 0) bits = (bits & 0xffff0000U) | 0x8000U; /* a tie */
    if (i % 3 == 1) bits &= 0x807fffffU;                   /* subnormal */
    memcpy(&x[i], &bits, sizeof bits);
    if (isnan(x[i])) x[i] = 1.5F;
  }
  x[0] = FLT_MAX;
  x[1] = -FLT_MAX;
  x[2] = INFINITY;
  x[3] = 0x1.fep127F; /* the largest bfloat16 */
  x[4] = -0.0F;
  ptq_vec_to_bf16(x, N, y);
  ptq_vec_from_bf16(y, N, back);
  ptq_vec_round_bf16(x, N, round);
  assert_memory_equal(back, round, sizeof back);
  for (int i = 0; i < N; i++)
    if (!isinf(x[i]) && y[i] != nearest_bf16(x[i]))
      fail_msg("%s: %a became %04x, not %04x", isa, (double)x[i], y[i],
               nearest_bf16(x[i]));
  assert_int_equal(y[0], 0x7f80);
  assert_int_equal(y[2], 0x7f80);
  assert_int_equal(y[3], 0x7f7f);
  assert_int_equal(y[4], 0x8000);
  for (int n = 0; n <= N_MAX; n++) { /* ragged ends, and nothing beyond */
    memset(part, 0xab, sizeof part);
    ptq_vec_to_bf16(x + 1, n, part);
    assert_memory_equal(part, y + 1, (size_t)n * sizeof *y);
    assert_int_equal(part[n], 0xabab);
  }
  static const uint32_t nans[] = {0x7f800001U, 0xffffffffU, 0x7fc00000U};
  for (int i = 0; i < 3; i++) {
    memcpy(x, &nans[i], sizeof *x);
    ptq_vec_round_bf16(x, 1, round);
    assert_true(isnan(round[0]));
  }
}

static void check_exp_bf16(const char *isa) {
  float x[N_MAX], y[N_MAX];
  uint16_t want[N_MAX], got[N_MAX + 1];
  (void)isa;
  for (int n = 0; n <= N_MAX; n++) {
    fill(x, n, 20.0F, (uint64_t)n + 1);
    const double sum = ptq_vec_exp(x, n, 19.0F, y);
    ptq_vec_to_bf16(y, n, want);
    got[n] = 0xabab;
    assert_true(ptq_vec_exp_bf16(x, n, 19.0F, got) == sum);
    assert_memory_equal(got, want, (size_t)n * sizeof *got);
    assert_int_equal(got[n], 0xabab);
  }
}

static void rounded_exponentials_have_the_same_sum(void **state) {
  (void)state;
  assert_true(each_isa(check_exp_bf16) > 0);
}

static void bfloat16_is_the_nearest_ties_to_even(void **state) {
  (void)state;
  assert_true(each_isa(check_bf16) > 0);
}

static void a_wrong_ptq_isa_is_refused_by_name(void **state) {
  (void)state;
  ptq_err err = {0};
  assert_int_equal(setenv("PTQ_ISA", "sse9", 1), 0);
  assert_int_equal(ptq_vec_init(&err), PTQ_E_UNSUPPORTED);
  assert_non_null(strstr(err.msg, "PTQ_ISA is 'sse9'"));
  assert_non_null(strstr(err.msg, "known: generic"));
  unsetenv("PTQ_ISA");
  assert_int_equal(ptq_vec_init(NULL), PTQ_OK);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exp_is_within_its_stated_error),
      cmocka_unit_test(exp_takes_infinities_nan_and_tiny_results),
      cmocka_unit_test(an_element_has_the_same_bits_wherever_it_stands),
      cmocka_unit_test(sums_equal_a_plain_float64_loop),
      cmocka_unit_test(max_finds_the_first_of_the_largest),
      cmocka_unit_test(elementwise_kernels_equal_plain_loops),
      cmocka_unit_test(relu_keeps_nan),
      cmocka_unit_test(activations_keep_their_bounds),
      cmocka_unit_test(one_bad_element_is_seen_wherever_it_is),
      cmocka_unit_test(norms_and_rotations_equal_plain_loops),
      cmocka_unit_test(kl_moments_equal_a_plain_float64_loop),
      cmocka_unit_test(rounded_exponentials_have_the_same_sum),
      cmocka_unit_test(bfloat16_is_the_nearest_ties_to_even),
      cmocka_unit_test(a_wrong_ptq_isa_is_refused_by_name),
  };
  return cmocka_run_group_tests_name("num/vec", tests, NULL, NULL);
}
