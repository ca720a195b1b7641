/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AWQ on a block of two models, against llm-awq's searches written out over
 * transformers: tests/golden/awq/make.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lane.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/"

enum { BLOCK = 1, WINDOWS = 3, CASES = 4 };

/* Everything between a model's directory and its quantized block. */
typedef struct bench {
  ptq_setup setup;
  ptq_spec spec;
  ptq_subject subject;
  ptq_point point;
  ptq_method method;
  ptq_dtype dtype;
  ptq_grid grid;
  ptq_reference reference;
  ptq_workbench bench;
  ptq_lane lane;
  ptq_hands hands;
} bench;

static ptq_npy load(const char *path, ptq_npy_type type, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, type, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

static ptq_windows cut(const ptq_npy *ids, int64_t n) {
  ptq_windows w = {.n = n, .length = ids->dims[1]};
  assert_int_equal(
      ptq_alloc(&w.ids, n * w.length, sizeof *w.ids, "windows", NULL), PTQ_OK);
  memcpy(w.ids, ids->data, (size_t)(n * w.length) * sizeof *w.ids);
  return w;
}

static void parse(bench *b, const char *dtype, const char *group, char *text) {
  ptq_method_option list[8];
  size_t n = 0;
  ptq_err err = {0};
  for (char *s = strtok(text, ","); s != NULL && strcmp(s, "-") != 0;
       s = strtok(NULL, ",")) {
    char *equals = strchr(s, '=');
    *equals = '\0';
    list[n++] = (ptq_method_option){.key = s, .value = equals + 1};
  }
  if (ptq_method_parse("awq", list, n, &b->method, &err) != PTQ_OK ||
      ptq_dtype_parse(dtype, &b->dtype, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  b->point.group =
      strcmp(group, "row") == 0 ? PTQ_GROUP_ROW : strtoll(group, NULL, 10);
}

static void run(bench *b, ptq_err *err) {
  ptq_load load = {0};
  b->spec =
      (ptq_spec){.methods = &b->method, .dtypes = &b->dtype, .n_methods = 1};
  b->subject.info = *b->setup.info;
  b->grid = (ptq_grid){.spec = &b->spec,
                       .subjects = &b->subject,
                       .points = &b->point,
                       .n_subjects = 1,
                       .n_points = 1};
  ptq_load_add(&load, &b->grid, 0);
  assert_int_equal(ptq_reference_open(&b->reference, &b->setup, &load, err),
                   PTQ_OK);
  assert_int_equal(ptq_workbench_open(&b->bench, &b->setup, &load, err),
                   PTQ_OK);
  assert_int_equal(ptq_hands_open(&b->hands, b->setup.info, b->setup.room.hands,
                                  b->setup.calib.length, err),
                   PTQ_OK);
  assert_int_equal(ptq_lane_open(&b->lane, &b->grid, 0, &b->reference, err),
                   PTQ_OK);
  for (int64_t i = 0; i <= BLOCK; i++) {
    assert_int_equal(ptq_reference_block(&b->reference, i, &b->hands, err),
                     PTQ_OK);
    ptq_lane_block(&b->lane, &b->reference, &b->bench, &b->hands);
    if (b->lane.status != PTQ_OK) fail_msg("%s", b->lane.err.msg);
  }
}

static void close(bench *b) {
  ptq_lane_close(&b->lane);
  ptq_workbench_close(&b->bench);
  ptq_hands_close(&b->hands);
  ptq_reference_close(&b->reference);
}

/* A code apart is at least a fifteenth of the larger weight. NaN stands for
 * what only a tie decides. */
static int64_t equal_weights(const float *ours, const float *theirs, int64_t n,
                             int64_t *tied) {
  int64_t equal = 0;
  for (int64_t i = 0; i < n; i++)
    if (isnan(theirs[i]))
      ++*tied;
    else
      equal += fabsf(ours[i] - theirs[i]) <=
               0.01F * fmaxf(fabsf(ours[i]), fabsf(theirs[i]));
  return equal;
}

static void check_case(const bench *b, const char *name, const float *theirs,
                       int64_t size) {
  int64_t at = 0, equal = 0, tied = 0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    const ptq_linear *l = &b->reference.block.linear[role];
    if (l->weight == NULL) continue;
    const int64_t n = l->out * l->in;
    equal += equal_weights(b->bench.block.linear[role].weight, theirs + at, n,
                           &tied);
    at += n;
  }
  assert_int_equal(at, size);
  assert_true((double)tied < 0.1 * (double)size);
  const double share = (double)equal / (double)(size - tied);
  if (share < 0.999) fail_msg("%s: %.3f %% of the codes", name, 100.0 * share);
}

static void check_model(const char *model) {
  char path[512], dtype[32], group[32], options[96], name[256];
  ptq_err err = {0};
  bench b = {0};
  snprintf(path, sizeof path, PTQ_SOURCE_DIR "/sweeps/zoo/%s", model);
  if (ptq_model_open(path, &b.setup.model, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  b.setup.info = ptq_model_get_info(b.setup.model);
  b.setup.room.hands = 1;
  snprintf(path, sizeof path, GOLDEN "logits/%s.windows.npy", model);
  ptq_npy ids = load(path, PTQ_NPY_U32, 2);
  b.setup.calib = cut(&ids, WINDOWS);
  b.setup.select = cut(&ids, 1);
  b.setup.eval = cut(&ids, 1);
  snprintf(path, sizeof path, GOLDEN "awq/%s.npy", model);
  ptq_npy expected = load(path, PTQ_NPY_F32, 2);
  assert_int_equal(expected.dims[0], CASES);
  FILE *f = fopen(GOLDEN "awq/cases.txt", "r");
  assert_non_null(f);
  int64_t n = 0;
  while (n < CASES && fscanf(f, "%31s %31s %95s", dtype, group, options) == 3) {
    snprintf(name, sizeof name, "%s %s %s %s", model, dtype, group, options);
    parse(&b, dtype, group, options);
    run(&b, &err);
    check_case(&b, name, (const float *)expected.data + n++ * expected.dims[1],
               expected.dims[1]);
    close(&b);
  }
  fclose(f);
  assert_int_equal(n, CASES);
  ptq_npy_release(&ids);
  ptq_npy_release(&expected);
  ptq_setup_close(&b.setup);
}

static void o_is_left_alone_where_heads_share_values(void **state) {
  (void)state;
  check_model("llama-25k");
}

static void every_site_is_scaled_where_heads_match(void **state) {
  (void)state;
  check_model("opt-25k");
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(o_is_left_alone_where_heads_share_values),
      cmocka_unit_test(every_site_is_scaled_where_heads_match),
  };
  return cmocka_run_group_tests_name("sweep/awq_golden", tests, blas, NULL);
}
