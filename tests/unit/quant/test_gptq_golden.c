/* SPDX-License-Identifier: GPL-3.0-or-later */
/* GPTQ against its reference implementation, in float64 and in float32:
 * tests/golden/gptq/make.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"
#include "ptq/base/npy.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/gptq/"

typedef struct golden {
  layer l;
  ptq_npy float64, float32; /* owned; [case, rows, cols] */
} golden;

static ptq_npy load(const char *path, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, PTQ_NPY_F32, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

static golden golden_load(void) {
  ptq_npy w = load(GOLDEN "w.npy", 2), h = load(GOLDEN "h.npy", 2);
  golden g = {.l = layer_room_for(w.dims[0], w.dims[1]),
              .float64 = load(GOLDEN "float64.npy", 3),
              .float32 = load(GOLDEN "float32.npy", 3)};
  assert_int_equal(h.dims[0], g.l.cols);
  memcpy(g.l.w, w.data, (size_t)w.n * sizeof *g.l.w);
  for (int64_t i = 0; i < h.n; i++)
    g.l.h[i] = (double)((const float *)h.data)[i];
  ptq_npy_release(&w);
  ptq_npy_release(&h);
  return g;
}

static void golden_release(golden *g) {
  layer_release(&g->l);
  ptq_npy_release(&g->float64);
  ptq_npy_release(&g->float32);
}

/* Smallest scale of row r: two codes are at least so far apart. */
static float least_scale(const layer *l, int64_t r, int64_t group) {
  const int64_t n = ptq_dtype_groups(l->cols, group);
  const ptq_group_params *p =
      group == PTQ_GROUP_TENSOR ? l->params : l->params + r * n;
  float least = p[0].scale;
  for (int64_t g = 1; g < n; g++) least = fminf(least, p[g].scale);
  return least;
}

static double share_of_equal_codes(const layer *l, int64_t group,
                                   const float *theirs) {
  int64_t equal = 0;
  for (int64_t i = 0; i < l->rows * l->cols; i++)
    equal +=
        fabsf(l->y[i] - theirs[i]) <= 0.5F * least_scale(l, i / l->cols, group);
  return (double)equal / (double)(l->rows * l->cols);
}

static void check(const char *name, const layer *l, int64_t group,
                  const float *theirs, double their_error, double codes,
                  double error) {
  const double same = share_of_equal_codes(l, group, theirs);
  const double ratio = layer_error(l) / their_error - 1.0;
  if (same < codes || fabs(ratio) > error)
    fail_msg("%s: %.3f %% of the codes, tr(E H E') %+.4f %%", name,
             100.0 * same, 100.0 * ratio);
}

static int64_t group_of(const char *text) {
  if (strcmp(text, "row") == 0) return PTQ_GROUP_ROW;
  if (strcmp(text, "tensor") == 0) return PTQ_GROUP_TENSOR;
  return strtoll(text, NULL, 10);
}

static void codes_are_the_references(void **state) {
  (void)state;
  golden g = golden_load();
  FILE *f = fopen(GOLDEN "cases.txt", "r");
  assert_non_null(f);
  char dtype[32], group[32], options[96], name[256];
  double error64, error32;
  int64_t n = 0;
  const int64_t size = g.l.rows * g.l.cols;
  for (; fscanf(f, "%31s %31s %95s %lf %lf", dtype, group, options, &error64,
                &error32) == 5;
       n++) {
    assert_true(n < g.float64.dims[0]);
    if (strcmp(options, "-") == 0) options[0] = '\0';
    layer_quantize(&g.l, "gptq", options, dtype, group_of(group));
    assert_true(g.l.damp == (strstr(options, "damp") ? 0.05 : 0.01));
    snprintf(name, sizeof name, "%s %s %s against float64", dtype, group,
             options);
    check(name, &g.l, group_of(group), (const float *)g.float64.data + n * size,
          error64, 1.0, 1e-5);
    snprintf(name, sizeof name, "%s %s %s against float32", dtype, group,
             options);
    check(name, &g.l, group_of(group), (const float *)g.float32.data + n * size,
          error32, 0.995, 0.003);
  }
  fclose(f);
  assert_int_equal(n, g.float64.dims[0]);
  golden_release(&g);
}

/* MX blocks cast jointly: against the formula in float64 and the tool
 * (make_joint.py). */
static void joint_blocks_are_the_tools(void **state) {
  (void)state;
  golden g = golden_load();
  ptq_npy model = load(GOLDEN "joint_float64.npy", 3);
  ptq_npy tool = load(GOLDEN "joint_dmx.npy", 3);
  FILE *f = fopen(GOLDEN "joint_cases.txt", "r");
  assert_non_null(f);
  char dtype[32], options[96], name[256];
  long long group;
  double error_model, error_tool;
  int64_t n = 0;
  const int64_t size = g.l.rows * g.l.cols;
  for (; fscanf(f, "%31s %lld %95s %lf %lf", dtype, &group, options,
                &error_model, &error_tool) == 5;
       n++) {
    assert_true(n < model.dims[0]);
    layer_quantize(&g.l, "gptq", options, dtype, group);
    snprintf(name, sizeof name, "%s %lld %s", dtype, group, options);
    check(name, &g.l, group, (const float *)model.data + n * size, error_model,
          1.0, 1e-5);
    check(name, &g.l, group, (const float *)tool.data + n * size, error_tool,
          0.995, 0.003);
  }
  fclose(f);
  assert_int_equal(n, model.dims[0]);
  assert_int_equal(n, 5);
  ptq_npy_release(&model);
  ptq_npy_release(&tool);
  golden_release(&g);
}

/* GPTAQ against a model written from its formulas (make_gptaq.py). */
static void gptaq_is_its_formulas(void **state) {
  (void)state;
  golden g = golden_load();
  ptq_npy h = load(GOLDEN "gptaq_h.npy", 2);
  ptq_npy cross = load(GOLDEN "gptaq_cross.npy", 2);
  ptq_npy expected = load(GOLDEN "gptaq.npy", 3);
  FILE *f = fopen(GOLDEN "gptaq_cases.txt", "r");
  assert_non_null(f);
  double *given = layer_room(h.n, sizeof *given);
  g.l.more.cross = given;
  for (int64_t i = 0; i < h.n; i++) {
    g.l.h[i] = (double)((const float *)h.data)[i];
    given[i] = (double)((const float *)cross.data)[i];
  }
  char dtype[32], group[32], options[96], name[256];
  double error;
  int64_t n = 0;
  const int64_t size = g.l.rows * g.l.cols;
  for (; fscanf(f, "%31s %31s %95s %lf", dtype, group, options, &error) == 4;
       n++) {
    assert_true(n < expected.dims[0]);
    if (strcmp(options, "-") == 0) options[0] = '\0';
    layer_quantize(&g.l, "gptaq", options, dtype, group_of(group));
    snprintf(name, sizeof name, "gptaq %s %s %s", dtype, group, options);
    check(name, &g.l, group_of(group), (const float *)expected.data + n * size,
          error, 0.999, 1e-3);
  }
  fclose(f);
  assert_int_equal(n, expected.dims[0]);
  assert_int_equal(n, 6);
  ptq_free(given);
  ptq_npy_release(&h);
  ptq_npy_release(&cross);
  ptq_npy_release(&expected);
  golden_release(&g);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(codes_are_the_references),
      cmocka_unit_test(joint_blocks_are_the_tools),
      cmocka_unit_test(gptaq_is_its_formulas),
  };
  return cmocka_run_group_tests_name("quant/gptq_golden", tests, layer_set_up,
                                     NULL);
}
