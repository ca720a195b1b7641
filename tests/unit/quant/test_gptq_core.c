/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The column loop against a plain one in float64, for every shape. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "gptq_core.h"
#include "layer.h"

typedef struct plan {
  const char *dtype;
  int64_t group, block;
  bool act_order, static_groups;
} plan;

/* Upper triangular u with u'u = h^-1 for the damped h[n, n], in place: the
 * inverse by elimination, then its Cholesky factor, as the reference does. */
static void plain_factor(double *h, int64_t n, double *u) {
  memset(u, 0, (size_t)(n * n) * sizeof *u);
  for (int64_t i = 0; i < n; i++) u[i * n + i] = 1.0;
  for (int64_t k = 0; k < n; k++) {
    const double pivot = h[k * n + k];
    for (int64_t j = 0; j < n; j++) {
      h[k * n + j] /= pivot;
      u[k * n + j] /= pivot;
    }
    for (int64_t i = 0; i < n; i++) {
      const double by = h[i * n + k];
      if (i == k || by == 0.0) continue;
      for (int64_t j = 0; j < n; j++) {
        h[i * n + j] -= by * h[k * n + j];
        u[i * n + j] -= by * u[k * n + j];
      }
    }
  }
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      double sum = u[i * n + j];
      for (int64_t k = 0; k < i; k++) sum -= u[k * n + i] * u[k * n + j];
      if (j < i) sum = 0.0;
      u[i * n + j] = j == i ? sqrt(sum) : j > i ? sum / u[i * n + i] : 0.0;
    }
}

static bool in_float64(const ptq_dtype *dt) {
  return dt->family->round64 != NULL;
}

static ptq_group_params64 fit_columns(const ptq_dtype *dt, const double *row,
                                      int64_t first, int64_t n, bool given) {
  float x[512];
  double lo = row[first], hi = lo;
  for (int64_t j = 0; j < n; j++) {
    x[j] = (float)row[first + j];
    lo = fmin(lo, row[first + j]);
    hi = fmax(hi, row[first + j]);
  }
  if (in_float64(dt)) return dt->family->fit64(dt, lo, hi, given);
  const ptq_group_params p = dt->family->fit(dt, x, n, 1);
  return (ptq_group_params64){(double)p.scale, (double)p.zero};
}

/* The extremes of a matrix have the parameters of all of it. */
static ptq_group_params64 fit_matrix(const ptq_dtype *dt, const layer *l) {
  double ends[2] = {(double)l->w[0], (double)l->w[0]};
  for (int64_t i = 1; i < l->rows * l->cols; i++) {
    ends[0] = fmin(ends[0], (double)l->w[i]);
    ends[1] = fmax(ends[1], (double)l->w[i]);
  }
  return fit_columns(dt, ends, 0, 2, true);
}

static double round_one(const ptq_dtype *dt, double x, ptq_group_params64 p) {
  double y = 0.0;
  int16_t q = 0;
  if (in_float64(dt)) {
    dt->family->round64(dt, &x, 1, &p.scale, &p.zero, &y, &q);
    return y;
  }
  const ptq_group_params now = {(float)p.scale, (float)p.zero};
  float v = (float)x;
  dt->family->round(dt, &v, 1, &now, 0, &v, NULL);
  return (double)v;
}

/* One row, w in the order of quantization. `stale` lags a block behind. */
static void plain_row(const ptq_dtype *dt, const plan *p, const double *u,
                      const int64_t *order, const double *original,
                      ptq_group_params64 whole, int64_t n, double *w,
                      double *stale, float *y) {
  const int64_t width = p->group > 0 ? p->group : n;
  ptq_group_params64 now = whole;
  for (int64_t i = 0; i < n; i++) {
    if (i % p->block == 0) memcpy(stale, w, (size_t)n * sizeof *w);
    if (p->group > 0 && p->static_groups) {
      const int64_t first = order[i] / width * width;
      const int64_t size = n - first < width ? n - first : width;
      now = fit_columns(dt, original, first, size, true);
    } else if (p->group > 0 && i % width == 0) {
      now = fit_columns(dt, stale, i, n - i < width ? n - i : width,
                        i < p->block);
    }
    const double rounded = round_one(dt, w[i], now);
    const double e = (w[i] - rounded) / u[i * n + i];
    y[order[i]] = (float)rounded;
    for (int64_t j = i + 1; j < n; j++) w[j] -= e * u[i * n + j];
  }
}

static void plain_gptq(const layer *l, const plan *p, double damp,
                       const int64_t *order, float *y) {
  const int64_t n = l->cols;
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse(p->dtype, &dt, NULL), PTQ_OK);
  double *h = layer_room(n * n, sizeof *h), *u = layer_room(n * n, sizeof *u);
  double *w = layer_room(3 * n, sizeof *w), mean = 0.0;
  for (int64_t i = 0; i < n; i++) mean += l->h[i * n + i] / (double)n;
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++)
      h[i * n + j] = l->h[order[i] * n + order[j]] + (i == j ? damp * mean : 0);
  plain_factor(h, n, u);
  const ptq_group_params64 tensor = fit_matrix(&dt, l);
  for (int64_t r = 0; r < l->rows; r++) {
    const float *row = l->w + r * n;
    double *original = w + 2 * n;
    for (int64_t i = 0; i < n; i++) w[i] = (double)row[order[i]];
    for (int64_t i = 0; i < n; i++) original[i] = (double)row[i];
    const ptq_group_params64 whole =
        p->group == PTQ_GROUP_TENSOR ? tensor
                                     : fit_columns(&dt, original, 0, n, true);
    plain_row(&dt, p, u, order, original, whole, n, w, w + n, y + r * n);
  }
  ptq_free(h);
  ptq_free(u);
  ptq_free(w);
}

/* Rows with another code than theirs. One tie that falls elsewhere changes
 * the rest of a row, so rows are counted. */
static int64_t rows_unlike(const layer *l) {
  int64_t n = 0;
  for (int64_t r = 0; r < l->rows; r++) {
    bool unlike = false;
    for (int64_t c = 0; c < l->cols; c++) {
      const float a = l->y[r * l->cols + c], b = l->kept_y[r * l->cols + c];
      /* a step is 2^-7 of the largest weight at least */
      unlike |= fabsf(a - b) > 1e-5F;
    }
    n += unlike;
  }
  return n;
}

static void check(layer *l, const plan *p) {
  const double damp = 0.03;
  ptq_err err = {0};
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse(p->dtype, &dt, NULL), PTQ_OK);
  ptq_gptq_factor *f = NULL;
  if (ptq_gptq_factor_create(l->h, l->cols, damp, p->act_order, 1, &f, &err) !=
      PTQ_OK)
    fail_msg("%s", err.msg);
  int64_t natural[512];
  for (int64_t i = 0; i < l->cols; i++) natural[i] = i;
  plain_gptq(l, p, damp, f->order != NULL ? f->order : natural, l->kept_y);
  const ptq_gptq_job job = {.w = l->w,
                            .rows = l->rows,
                            .cols = l->cols,
                            .dtype = &dt,
                            .group = p->group,
                            .block = p->block,
                            .static_groups = p->static_groups,
                            .factor = f,
                            .threads = 1,
                            .y = l->y,
                            .q = l->q,
                            .params = l->params};
  if (ptq_gptq_run(&job, &err) != PTQ_OK) fail_msg("%s", err.msg);
  const int64_t unlike = rows_unlike(l);
  if (unlike > l->rows / 20)
    fail_msg("%s, %d x %d, group %d, block %d%s%s: %d rows unlike", p->dtype,
             (int)l->rows, (int)l->cols, (int)p->group, (int)p->block,
             p->act_order ? ", act_order" : "",
             p->static_groups ? ", static_groups" : "", (int)unlike);
  ptq_gptq_factor_free(f);
}

static void every_shape_agrees_with_a_plain_loop(void **state) {
  (void)state;
  static const int64_t rows[] = {1, 40}, cols[] = {1, 16, 33, 70, 129};
  static const int64_t groups[] = {
      1, 16, 24, 100, 256, PTQ_GROUP_ROW, PTQ_GROUP_TENSOR};
  static const int64_t blocks[] = {1, 7, 32, 48, 128};
  static const char *const dtypes[] = {"int4:asym", "mxint4"};
  for (size_t r = 0; r < 2; r++)
    for (size_t c = 0; c < 5; c++) {
      layer l = layer_random(rows[r], cols[c], 100 + 5 * r + c);
      for (int k = 0; k < 2 * 7 * 5 * 3; k++) {
        const int orders = k / (2 * 7 * 5);
        const plan p = {.dtype = dtypes[k % 2],
                        .group = groups[k / 2 % 7],
                        .block = blocks[k / 14 % 5],
                        .act_order = orders > 0,
                        .static_groups = orders > 1};
        check(&l, &p);
      }
      layer_release(&l);
    }
}

static void feedback_that_overflows_is_named(void **state) {
  (void)state;
  layer l = layer_room_for(2, 3);
  l.w[3] = 1e38F;
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse("int2:asym", &dt, NULL), PTQ_OK);
  double u[9] = {1e-10, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0};
  unsigned char dead[3] = {0};
  const ptq_gptq_factor f = {.n = 3, .dead = dead, .u = u, .coupled = true};
  l.w[4] = 0.3e38F; /* so that column 0 keeps an error */
  l.w[3] = 0.85e38F;
  l.w[5] = 1e38F;
  const ptq_gptq_job job = {.w = l.w,
                            .rows = 2,
                            .cols = 3,
                            .dtype = &dt,
                            .group = PTQ_GROUP_ROW,
                            .block = 128,
                            .factor = &f,
                            .threads = 1,
                            .y = l.y,
                            .q = l.q,
                            .params = l.params};
  ptq_err err = {0};
  assert_int_equal(ptq_gptq_run(&job, &err), PTQ_E_NUMERIC);
  assert_non_null(strstr(err.msg, "overflows float32 at row 1, column 0"));
  layer_release(&l);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_shape_agrees_with_a_plain_loop),
      cmocka_unit_test(feedback_that_overflows_is_named),
  };
  return cmocka_run_group_tests_name("quant/gptq_core", tests, layer_set_up,
                                     NULL);
}
