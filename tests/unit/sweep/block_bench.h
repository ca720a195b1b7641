/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A method on one block of a model, calibrated on the windows of a golden
 * result. Included first. */
#ifndef PTQ_TEST_BLOCK_BENCH_H
#define PTQ_TEST_BLOCK_BENCH_H

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

static inline ptq_npy load(const char *path, ptq_npy_type type, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, type, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

/* The first n windows of `length` of what ids holds. */
static inline ptq_windows cut(const ptq_npy *ids, int64_t n, int64_t length) {
  ptq_windows w = {.n = n, .length = length};
  assert_true(n * length <= ids->n);
  assert_int_equal(
      ptq_alloc(&w.ids, n * w.length, sizeof *w.ids, "windows", NULL), PTQ_OK);
  memcpy(w.ids, ids->data, (size_t)(n * w.length) * sizeof *w.ids);
  return w;
}

/* `text`: options by comma, or "-"; it is cut up. */
static inline void parse(bench *b, const char *method, const char *dtype,
                         const char *group, char *text) {
  ptq_method_option list[8];
  size_t n = 0;
  ptq_err err = {0};
  for (char *s = strtok(text, ","); s != NULL && strcmp(s, "-") != 0;
       s = strtok(NULL, ",")) {
    char *equals = strchr(s, '=');
    *equals = '\0';
    list[n++] = (ptq_method_option){.key = s, .value = equals + 1};
  }
  if (ptq_method_parse(method, list, n, &b->method, &err) != PTQ_OK ||
      ptq_dtype_parse(dtype, &b->dtype, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  b->point.group =
      strcmp(group, "row") == 0 ? PTQ_GROUP_ROW : strtoll(group, NULL, 10);
}

/* Before the first block. */
static inline void begin(bench *b, ptq_err *err) {
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
}

static inline void advance(bench *b, int64_t block, ptq_err *err) {
  assert_int_equal(ptq_reference_block(&b->reference, block, &b->hands, err),
                   PTQ_OK);
  ptq_lane_block(&b->lane, &b->reference, &b->bench, &b->hands);
  if (b->lane.status != PTQ_OK) fail_msg("%s", b->lane.err.msg);
}

/* To the end of a block. */
static inline void run(bench *b, int64_t block, ptq_err *err) {
  begin(b, err);
  for (int64_t i = 0; i <= block; i++) advance(b, i, err);
}

static inline void close(bench *b) {
  ptq_lane_close(&b->lane);
  ptq_workbench_close(&b->bench);
  ptq_hands_close(&b->hands);
  ptq_reference_close(&b->reference);
}

/* A code apart is at least a fifteenth of the larger weight. NaN stands for
 * what only a tie decides. */
static inline int64_t equal_weights(const float *ours, const float *theirs,
                                    int64_t n, int64_t *tied) {
  int64_t equal = 0;
  for (int64_t i = 0; i < n; i++)
    if (isnan(theirs[i]))
      ++*tied;
    else
      equal += fabsf(ours[i] - theirs[i]) <=
               0.01F * fmaxf(fabsf(ours[i]), fabsf(theirs[i]));
  return equal;
}

#endif /* PTQ_TEST_BLOCK_BENCH_H */
