/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "layer.h"

static void identity_moment_gives_rounding_to_nearest(void **state) {
  (void)state;
  static const char *const dtypes[] = {"int4", "int3:asym", "mxint3"};
  static const int64_t groups[] = {16, 48, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
  layer l = layer_random(37, 200, 1);
  for (int64_t i = 0; i < l.cols * l.cols; i++)
    l.h[i] = i % (l.cols + 1) == 0 ? 0.37 : 0.0;
  for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++)
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
      layer_quantize(&l, "rtn", "", dtypes[d], groups[g]);
      layer_keep(&l);
      layer_quantize(&l, "gptq", "", dtypes[d], groups[g]);
      assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
      assert_memory_equal(l.y, l.kept_y, (size_t)(l.rows * l.cols) * 4);
    }
  layer_release(&l);
}

static void feedback_lowers_the_error_of_the_outputs(void **state) {
  (void)state;
  static const char *const dtypes[] = {"int4", "int3:asym", "mxint3", "mxint2"};
  layer l = layer_random(40, 150, 2);
  for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++) {
    layer_quantize(&l, "rtn", "", dtypes[d], 32);
    const double rtn = layer_error(&l);
    layer_quantize(&l, "gptq", "", dtypes[d], 32);
    const double natural = layer_error(&l);
    layer_quantize(&l, "gptq", "act_order=true,static_groups=true", dtypes[d],
                   32);
    if (natural > 0.6 * rtn || layer_error(&l) > 0.6 * rtn)
      fail_msg("%s: rtn %g, gptq %g, in order %g", dtypes[d], rtn, natural,
               layer_error(&l));
  }
  layer_release(&l);
}

static void bits_do_not_depend_on_threads(void **state) {
  (void)state;
  layer l = layer_random(600, 140, 3); /* three tiles, the last one short */
  l.threads = 1;
  layer_quantize(&l, "gptq", "block=48", "int4", 32);
  layer_keep(&l);
  for (l.threads = 2; l.threads <= 5; l.threads++) {
    layer_quantize(&l, "gptq", "block=48", "int4", 32);
    assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
    assert_memory_equal(l.y, l.kept_y, (size_t)(l.rows * l.cols) * 4);
  }
  layer_release(&l);
}

static void the_unit_of_the_moment_does_not_matter(void **state) {
  (void)state;
  layer l = layer_random(20, 96, 4);
  layer_quantize(&l, "gptq", "", "int4", 32);
  layer_keep(&l);
  static const double units[] = {0x1p-200, 0x1p-30, 0x1p60, 0x1p300};
  for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
    for (int64_t i = 0; i < l.cols * l.cols; i++) l.h[i] *= units[u];
    layer_quantize(&l, "gptq", "", "int4", 32);
    assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
    for (int64_t i = 0; i < l.cols * l.cols; i++) l.h[i] /= units[u];
  }
  layer_release(&l);
}

static void codes_and_parameters_restore_the_weights(void **state) {
  (void)state;
  static const char *const options[] = {"", "act_order=true,static_groups=true",
                                        "static_groups=true"};
  layer l = layer_random(20, 100, 5); /* the last group has 4 columns */
  const int64_t groups = ptq_dtype_groups(l.cols, 32);
  for (size_t o = 0; o < sizeof options / sizeof options[0]; o++) {
    layer_quantize(&l, "gptq", options[o], "int4:asym", 32);
    for (int64_t i = 0; i < l.rows * l.cols; i++) {
      const ptq_group_params p =
          l.params[i / l.cols * groups + i % l.cols / 32];
      assert_true(l.y[i] == p.scale * ((float)l.q[i] - p.zero));
      assert_in_range(l.q[i], 0, 15);
    }
  }
  layer_release(&l);
}

static void dead_columns_become_zero(void **state) {
  (void)state;
  layer l = layer_random(9, 70, 6);
  static const int64_t dead[] = {0, 31, 69};
  for (int k = 0; k < 3; k++)
    for (int64_t j = 0; j < l.cols; j++)
      l.h[dead[k] * l.cols + j] = l.h[j * l.cols + dead[k]] = 0.0;
  static const char *const options[] = {"", "act_order=true"};
  for (int o = 0; o < 2; o++) {
    layer_quantize(&l, "gptq", options[o], "int4", 32);
    for (int64_t r = 0; r < l.rows; r++)
      for (int k = 0; k < 3; k++)
        assert_true(l.y[r * l.cols + dead[k]] == 0.0F);
  }
  layer_release(&l);
}

/* The largest magnitude of a symmetric group is a tie where no feedback has
 * reached it: as in float64 in the first block, whose weights are untouched,
 * and to even behind it (dtype.h: fit64). */
static void ties_of_untouched_columns_are_settled(void **state) {
  (void)state;
  enum { ROWS = 400, COLS = 64, FIRST = 8, LATER = 40 };
  layer l = layer_random(ROWS, COLS, 13);
  for (int64_t i = 0; i < COLS * COLS; i++)
    l.h[i] = i % (COLS + 1) == 0 ? 1.0 : 0.0;
  l.h[1] = l.h[COLS] = 0.5; /* columns 0 and 1 alone are coupled */
  for (int64_t r = 0; r < ROWS; r++) {
    float *row = l.w + r * COLS;
    row[LATER] = row[FIRST] = -1.0F + row[2];
  }
  layer_quantize(&l, "gptq", "block=32", "int4", 32);
  int low = 0;
  for (int64_t r = 0; r < ROWS; r++) {
    const double most = -(double)l.w[r * COLS + FIRST];
    const double code = 8.0 + rint(-most / (2.0 * most / 15.0));
    low += code == 0.0;
    assert_int_equal(l.q[r * COLS + FIRST], (int)code);
    assert_int_equal(l.q[r * COLS + LATER], 0);
  }
  assert_in_range(low, ROWS * 3 / 4, ROWS - 1); /* both codes were seen */
  layer_release(&l);
}

static void zero_weights_stay_zero(void **state) {
  (void)state;
  static const char *const dtypes[] = {"int4", "int4:asym", "mxint4"};
  layer l = layer_random(5, 40, 7);
  memset(l.w, 0, (size_t)(l.rows * l.cols) * sizeof *l.w);
  for (int d = 0; d < 3; d++) {
    layer_quantize(&l, "gptq", "", dtypes[d], 16);
    for (int64_t i = 0; i < l.rows * l.cols; i++) assert_true(l.y[i] == 0.0F);
  }
  layer_release(&l);
}

static void fresh_parameters_are_those_of_blocks_of_one_group(void **state) {
  (void)state;
  layer l = layer_random(30, 128, 9);
  layer_quantize(&l, "gptq", "block=32", "int3", 32);
  layer_keep(&l);
  layer_quantize(&l, "gptq", "group_params=fresh", "int3", 32);
  assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
  layer_quantize(&l, "gptq", "", "int3", 32);
  assert_memory_not_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
  layer_release(&l);
}

static void storage_counts_a_group_index_only_where_needed(void **state) {
  (void)state;
  layer l = layer_random(4, 64, 10);
  const double plain = 4 * 64 * 4 + 4 * 2 * 32;
  static const struct {
    const char *options;
    int64_t group;
    double bits;
  } cases[] = {{"", 32, 0},
               {"act_order=true,static_groups=true", 32, 0},
               {"act_order=true", 32, 64 * 32},
               {"act_order=true", 64, -4 * 32},
               {"act_order=true", PTQ_GROUP_ROW, -4 * 32}};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    layer_quantize(&l, "gptq", cases[i].options, "int4", cases[i].group);
    assert_true(l.storage_bits == plain + cases[i].bits);
  }
  layer_release(&l);
}

static void weights_may_be_overwritten(void **state) {
  (void)state;
  layer l = layer_random(300, 64, 11);
  layer_quantize(&l, "gptq", "act_order=true", "mxint4", 16);
  layer_keep(&l);
  float *y = l.y;
  l.y = l.w;
  layer_quantize(&l, "gptq", "act_order=true", "mxint4", 16);
  l.y = y;
  assert_memory_equal(l.w, l.kept_y, (size_t)(l.rows * l.cols) * 4);
  layer_release(&l);
}

static void a_scale_that_overflows_names_its_row(void **state) {
  (void)state;
  layer l = layer_random(300, 40, 12);
  l.w[270 * 40 + 20] = 3e38F;
  ptq_err err = {0};
  assert_int_equal(layer_try(&l, "gptq", "", "int4", 16, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "row 270, column 16 overflows"));
  layer_release(&l);
}

/* tr(E G E') of the weights' error. */
static double error_under(layer *l, double *g) {
  double *h = l->h;
  l->h = g;
  const double error = layer_error(l);
  l->h = h;
  return error;
}

/* Few tokens to train on, so that damping matters: 80 % of them and the rest
 * make up H as the sweep splits them. */
static void a_search_takes_the_damping_that_errs_least_on_the_holdout(
    void **state) {
  (void)state;
  static const char *const dampings[] = {"0.001", "0.003", "0.01", "0.03",
                                         "0.1",   "0.3",   "1"};
  layer l = layer_random(30, 96, 21), other = layer_random(2, 96, 22);
  double *full = l.h, best = (double)INFINITY, chosen = 0.0;
  double *train = layer_room(96 * 96, sizeof *train);
  for (int64_t i = 0; i < 96 * 96; i++) /* a worse estimate than the rest */
    train[i] = i % 97 == 0 ? full[i] : 0.98 * full[i];
  l.h = train;
  for (size_t i = 0; i < sizeof dampings / sizeof dampings[0]; i++) {
    char options[32];
    snprintf(options, sizeof options, "damp=%s", dampings[i]);
    layer_quantize(&l, "gptq", options, "int3", 32);
    const double error = error_under(&l, other.h);
    if (error < best) {
      best = error;
      chosen = strtod(dampings[i], NULL);
    }
  }
  l.h = full;
  l.more.h_train = train;
  l.more.h_holdout = other.h;
  layer_quantize(&l, "gptq", "damp=search", "int3", 32);
  assert_true(l.damp == chosen);
  layer_keep(&l);
  char options[32];
  snprintf(options, sizeof options, "damp=%g", chosen);
  layer_quantize(&l, "gptq", options, "int3", 32);
  assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
  ptq_free(train);
  layer_release(&other);
  layer_release(&l);
}

static void a_search_passes_over_what_cannot_be_factorized(void **state) {
  (void)state;
  layer l = layer_random(8, 48, 23), other = layer_random(2, 48, 24);
  double *train = layer_room(48 * 48, sizeof *train);
  memcpy(train, l.h, 48 * 48 * sizeof *train);
  /* an eigenvalue of about -0.05 of the mean diagonal */
  double mean = 0.0;
  for (int64_t i = 0; i < 48; i++) mean += train[i * 49] / 48.0;
  for (int64_t i = 0; i < 48; i++) train[5 * 48 + i] = train[i * 48 + 5] = 0.0;
  train[5 * 49] = -0.05 * mean;
  l.more.h_train = train;
  l.more.h_holdout = other.h;
  layer_quantize(&l, "gptq", "damp=search", "int4", 16);
  assert_true(l.damp >= 0.1);
  ptq_free(train);
  layer_release(&other);
  layer_release(&l);
}

/* Without a cross moment GPTAQ is GPTQ; with one it is not. */
static void gptaq_without_drift_is_gptq(void **state) {
  (void)state;
  layer l = layer_random(30, 96, 25);
  double *cross = layer_room(96 * 96, sizeof *cross);
  l.more.cross = cross;
  layer_quantize(&l, "gptq", "block=32,damp=0.02", "int4:asym", 32);
  layer_keep(&l);
  layer_quantize(&l, "gptaq", "block=32,damp=0.02", "int4:asym", 32);
  assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
  for (int64_t i = 0; i < 96 * 96; i++) cross[i] = 0.2 * l.h[i];
  layer_quantize(&l, "gptaq", "block=32,damp=0.02", "int4:asym", 32);
  assert_true(memcmp(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2) != 0);
  ptq_free(cross);
  layer_release(&l);
}

/* One block a row leaves nobody to feed errors to. */
static void a_joint_block_as_wide_as_the_row_is_rounding(void **state) {
  (void)state;
  static const int64_t groups[] = {96, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
  layer l = layer_random(21, 96, 26);
  for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
    layer_quantize(&l, "rtn", "", "mxint4", groups[i]);
    layer_keep(&l);
    layer_quantize(&l, "gptq", "mx=joint", "mxint4", groups[i]);
    assert_memory_equal(l.q, l.kept_q, (size_t)(l.rows * l.cols) * 2);
  }
  layer_quantize(&l, "gptq", "mx=joint,block=16", "mxint4", 40);
  const double joint = layer_error(&l);
  layer_quantize(&l, "rtn", "", "mxint4", 40);
  assert_true(joint < layer_error(&l));
  layer_release(&l);
}

/* The smallest layers there are. */
static void one_row_or_one_column_is_enough(void **state) {
  (void)state;
  static const int64_t sizes[][2] = {{1, 1}, {1, 33}, {7, 1}, {1, 200}};
  static const char *const methods[][2] = {
      {"gptq", ""},
      {"gptq", "mx=joint"},
      {"gptq", "damp=search"},
      {"gptaq", ""},
      {"gptq", "act_order=true,static_groups=true"}};
  for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
    layer l = layer_random(sizes[i][0], sizes[i][1], 27);
    double *cross = layer_room(l.cols * l.cols, sizeof *cross);
    l.more.cross = cross;
    l.more.h_train = l.more.h_holdout = l.h;
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++)
      for (int64_t group = -1; group <= 32; group += 11) {
        layer_quantize(&l, methods[m][0], methods[m][1], "mxint4", group);
        for (int64_t k = 0; k < l.rows * l.cols; k++)
          assert_true(isfinite(l.y[k]));
      }
    ptq_free(cross);
    layer_release(&l);
  }
}

static void rows_of_zeros_and_dead_columns_stay_zero(void **state) {
  (void)state;
  static const char *const dtypes[] = {"int4", "int4:asym", "mxint3", "mxfp4"};
  layer l = layer_random(9, 64, 28);
  double *cross = layer_room(64 * 64, sizeof *cross);
  l.more.cross = cross;
  for (int64_t i = 0; i < 64; i++) {
    l.w[3 * 64 + i] = 0.0F;
    l.h[10 * 64 + i] = l.h[i * 64 + 10] = 0.0;
    cross[i * 64 + 10] = 0.3; /* of a dead input: not looked at */
  }
  for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++)
    for (int k = 0; k < 2; k++) {
      layer_quantize(&l, k == 0 ? "gptq" : "gptaq", "", dtypes[d], 32);
      for (int64_t i = 0; i < 64; i++) assert_true(l.y[3 * 64 + i] == 0.0F);
      for (int64_t r = 0; r < 9; r++) assert_true(l.y[r * 64 + 10] == 0.0F);
    }
  ptq_free(cross);
  layer_release(&l);
}

enum { ORDER_COLS = 128, ORDER_ROWS = 18 };

/* The group with the largest diagonal left comes next, sorted within. */
static void order_of_groups(const layer *l, int64_t width, int64_t *order) {
  bool used[ORDER_COLS] = {false};
  const int64_t n = ORDER_COLS;
  for (int64_t at = 0; at < n; at += width) {
    int64_t best = -1;
    for (int64_t c = 0; c < n; c++)
      if (!used[c] && (best < 0 || l->h[c * n + c] > l->h[best * n + best]))
        best = c;
    const int64_t from = best / width * width;
    for (int64_t i = at; i < at + width; i++) {
      int64_t next = -1;
      for (int64_t c = from; c < from + width; c++)
        if (!used[c] && (next < 0 || l->h[c * n + c] > l->h[next * n + next]))
          next = c;
      used[next] = true;
      order[i] = next;
    }
  }
}

static void move_columns(const layer *l, const int64_t *order, layer *moved) {
  const int64_t n = ORDER_COLS;
  for (int64_t i = 0; i < n; i++) {
    for (int64_t row = 0; row < ORDER_ROWS; row++)
      moved->w[row * n + i] = l->w[row * n + order[i]];
    for (int64_t j = 0; j < n; j++)
      moved->h[i * n + j] = l->h[order[i] * n + order[j]];
  }
}

static void check_moved(const layer *l, const layer *moved,
                        const int64_t *order, int64_t width) {
  const int64_t n = ORDER_COLS / width;
  for (int64_t row = 0; row < ORDER_ROWS; row++)
    for (int64_t i = 0; i < ORDER_COLS; i++) {
      const int64_t at = row * ORDER_COLS + order[i];
      assert_int_equal(l->q[at], moved->q[row * ORDER_COLS + i]);
      assert_true(l->y[at] == moved->y[row * ORDER_COLS + i]);
      assert_true(l->params[row * n + order[i] / width].scale ==
                  moved->params[row * n + i / width].scale);
    }
  /* no index is stored */
  assert_true(l->storage_bits <= moved->storage_bits);
}

/* Groups kept whole in a new order are what natural order makes of columns
 * that stand in that order. */
static void groups_in_order_are_natural_order_of_moved_columns(void **state) {
  (void)state;
  static const struct {
    const char *dtype, *options, *moved;
    int64_t group;
  } cases[] = {
      {"int4:asym", "act_order=group", "", 32},
      {"int3", "act_order=group,block=64,damp=0.05", "block=64,damp=0.05", 16},
      {"mxint4", "act_order=group", "", 32},
      {"mxint3", "act_order=group,mx=joint", "mx=joint", 16},
      {"int4:asym", "act_order=group,static_groups=true", "static_groups=true",
       32},
      {"int4:asym", "act_order=group", "", PTQ_GROUP_ROW}};
  layer l = layer_random(ORDER_ROWS, ORDER_COLS, 41);
  layer moved = layer_random(ORDER_ROWS, ORDER_COLS, 41);
  ptq_rng r;
  ptq_rng_init(&r, 42);
  double unit[ORDER_COLS];
  for (int i = 0; i < ORDER_COLS; i++) unit[i] = exp(2.0 * ptq_rng_unit(&r));
  for (int i = 0; i < ORDER_COLS * ORDER_COLS; i++)
    l.h[i] *= unit[i / ORDER_COLS] * unit[i % ORDER_COLS];
  for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
    const int64_t width = cases[k].group > 0 ? cases[k].group : ORDER_COLS;
    int64_t order[ORDER_COLS];
    order_of_groups(&l, width, order);
    move_columns(&l, order, &moved);
    layer_quantize(&l, "gptq", cases[k].options, cases[k].dtype,
                   cases[k].group);
    layer_quantize(&moved, "gptq", cases[k].moved, cases[k].dtype,
                   cases[k].group);
    check_moved(&l, &moved, order, width);
  }
  layer_release(&l);
  layer_release(&moved);
}

/* A short group goes last, whatever its inputs. */
static void a_short_group_is_last_in_order(void **state) {
  (void)state;
  layer l = layer_random(7, 50, 43);
  for (int64_t i = 0; i < 50; i++)
    for (int64_t c = 48; c < 50; c++) {
      l.h[c * 50 + i] *= 9.0;
      l.h[i * 50 + c] *= 9.0;
    }
  layer_quantize(&l, "rtn", "", "int4", 16);
  const double rtn = layer_error(&l);
  layer_quantize(&l, "gptq", "act_order=group", "int4", 16);
  assert_true(layer_error(&l) < rtn);
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(identity_moment_gives_rounding_to_nearest),
      cmocka_unit_test(feedback_lowers_the_error_of_the_outputs),
      cmocka_unit_test(bits_do_not_depend_on_threads),
      cmocka_unit_test(the_unit_of_the_moment_does_not_matter),
      cmocka_unit_test(codes_and_parameters_restore_the_weights),
      cmocka_unit_test(dead_columns_become_zero),
      cmocka_unit_test(ties_of_untouched_columns_are_settled),
      cmocka_unit_test(zero_weights_stay_zero),
      cmocka_unit_test(fresh_parameters_are_those_of_blocks_of_one_group),
      cmocka_unit_test(storage_counts_a_group_index_only_where_needed),
      cmocka_unit_test(weights_may_be_overwritten),
      cmocka_unit_test(a_scale_that_overflows_names_its_row),
      cmocka_unit_test(
          a_search_takes_the_damping_that_errs_least_on_the_holdout),
      cmocka_unit_test(a_search_passes_over_what_cannot_be_factorized),
      cmocka_unit_test(gptaq_without_drift_is_gptq),
      cmocka_unit_test(a_joint_block_as_wide_as_the_row_is_rounding),
      cmocka_unit_test(one_row_or_one_column_is_enough),
      cmocka_unit_test(rows_of_zeros_and_dead_columns_stay_zero),
      cmocka_unit_test(groups_in_order_are_natural_order_of_moved_columns),
      cmocka_unit_test(a_short_group_is_last_in_order),
  };
  return cmocka_run_group_tests_name("quant/method_gptq", tests, layer_set_up,
                                     NULL);
}
