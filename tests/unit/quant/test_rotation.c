/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "rotation.h"

static int set_up(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

static double *room(int64_t n) {
  double *p = NULL;
  assert_int_equal(ptq_alloc(&p, n, sizeof *p, "test", NULL), PTQ_OK);
  return p;
}

/* Orders of widths that occur, and what they are made of. */
static void widths_find_their_hadamard_matrix(void **state) {
  (void)state;
  static const struct {
    int64_t n, m;
    bool hadamard;
  } cases[] = {
      {1, 1, true},       {2, 1, true},      {64, 1, true},
      {4096, 1, true},    {12, 12, true},    {20, 20, true},
      {28, 28, true},                                        /* 27 = 3^3 */
      {36, 36, true},     {40, 20, true},    {52, 52, true}, /* 2 (5^2 + 1) */
      {60, 60, true},     {192, 12, true},   {576, 36, true},
      {768, 12, true},    {1536, 12, true},  {896, 28, true},
      {2560, 20, true},   {8960, 140, true}, {11008, 344, true}, /* 7^3 + 1 */
      {13824, 108, true}, {14336, 28, true}, {18944, 148, true},
      {3, 3, false},      {33, 33, false},   {92, 23, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    bool hadamard;
    const int64_t m = ptq_rotation_block(cases[i].n, &hadamard);
    if (m != cases[i].m || hadamard != cases[i].hadamard)
      fail_msg("width %lld: order %lld, %d", (long long)cases[i].n,
               (long long)m, hadamard);
  }
}

static void every_small_order_is_a_hadamard_matrix(void **state) {
  (void)state;
  int found = 0;
  for (int64_t m = 4; m <= 180; m += 4) {
    bool hadamard;
    if (ptq_rotation_block(m, &hadamard) != m || !hadamard) continue;
    double *h = room(m * m), *gram = room(m * m);
    assert_int_equal(ptq_hadamard(m, h, NULL), PTQ_OK);
    for (int64_t i = 0; i < m * m; i++) assert_true(fabs(h[i]) == 1.0);
    ptq_dgemm_nt(m, m, m, 1.0, h, m, h, m, 0.0, gram, m);
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < m; j++)
        assert_true(gram[i * m + j] == (i == j ? (double)m : 0.0));
    ptq_free(h);
    ptq_free(gram);
    found++;
  }
  /* 12 20 28 36 44 52 60 68 76 84 100 108 124 132 140 148 164 180 */
  assert_int_equal(found, 18);
}

/* Rows of the identity become the columns of R: R' R = 1, and both ways of
 * applying it agree. */
static void rotations_are_orthogonal_and_come_back(void **state) {
  (void)state;
  static const int64_t widths[] = {1, 2, 8, 12, 24, 33, 36, 48, 56, 92, 576};
  for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++) {
    const int64_t n = widths[w];
    ptq_rotation r;
    assert_int_equal(ptq_rotation_init(&r, n, true, 7, NULL), PTQ_OK);
    double *a = room(n * n), *b = room(n * n), *gram = room(n * n);
    for (int64_t i = 0; i < n; i++) a[i * n + i] = b[i * n + i] = 1.0;
    assert_int_equal(ptq_rotate_rows(&r, false, a, n, NULL), PTQ_OK);
    assert_int_equal(ptq_rotate_columns(&r, false, b, n, NULL), PTQ_OK);
    ptq_dgemm_nt(n, n, n, 1.0, a, n, a, n, 0.0, gram, n);
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < n; j++) {
        assert_true(fabs(a[i * n + j] - b[j * n + i]) < 1e-14);
        assert_true(fabs(gram[i * n + j] - (i == j)) < 1e-13);
        if (r.hadamard)
          assert_true(fabs(fabs(a[i * n + j]) - 1.0 / sqrt((double)n)) < 1e-14);
      }
    assert_int_equal(ptq_rotate_rows(&r, true, a, n, NULL), PTQ_OK);
    assert_int_equal(ptq_rotate_columns(&r, true, b, n, NULL), PTQ_OK);
    for (int64_t i = 0; i < n * n; i++) {
      const double one = i % (n + 1) == 0 ? 1.0 : 0.0;
      assert_true(fabs(a[i] - one) < 1e-13 && fabs(b[i] - one) < 1e-13);
    }
    ptq_free(a);
    ptq_free(b);
    ptq_free(gram);
    ptq_rotation_release(&r);
  }
}

static void seeds_choose_the_signs(void **state) {
  (void)state;
  const uint64_t one = ptq_rotation_seed(0, "layer", "rows");
  assert_true(one == ptq_rotation_seed(0, "layer", "rows"));
  assert_true(one != ptq_rotation_seed(1, "layer", "rows"));
  assert_true(one != ptq_rotation_seed(0, "other", "rows"));
  assert_true(one != ptq_rotation_seed(0, "layer", "columns"));
  assert_true(ptq_rotation_seed(3, NULL, "x") == ptq_rotation_seed(3, "", "x"));
  ptq_rotation a, b, plain;
  assert_int_equal(ptq_rotation_init(&a, 64, true, one, NULL), PTQ_OK);
  assert_int_equal(ptq_rotation_init(&b, 64, true, one + 1, NULL), PTQ_OK);
  assert_int_equal(ptq_rotation_init(&plain, 64, false, one, NULL), PTQ_OK);
  int minus = 0;
  for (int i = 0; i < 64; i++) {
    minus += a.signs[i] < 0.0;
    assert_true(plain.signs[i] == 1.0);
  }
  assert_true(memcmp(a.signs, b.signs, 64 * sizeof *a.signs) != 0);
  assert_true(minus > 16 && minus < 48);
  ptq_rotation_release(&a);
  ptq_rotation_release(&b);
  ptq_rotation_release(&plain);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(widths_find_their_hadamard_matrix),
      cmocka_unit_test(every_small_order_is_a_hadamard_matrix),
      cmocka_unit_test(rotations_are_orthogonal_and_come_back),
      cmocka_unit_test(seeds_choose_the_signs),
  };
  return cmocka_run_group_tests_name("quant/rotation", tests, set_up, NULL);
}
