/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The loss of a block that methods are given, and its derivatives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "block_loss.h"
#include "lane.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/"

enum { WINDOWS = 8, LENGTH = 64 };

static ptq_npy load(const char *path, ptq_npy_type type, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, type, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

static void *room(int64_t n, size_t size) {
  void *p = NULL;
  assert_int_equal(ptq_alloc(&p, n, size, "a test's room", NULL), PTQ_OK);
  return p;
}

static ptq_windows cut(const ptq_npy *ids, int64_t n) {
  ptq_windows w = {.n = n, .length = LENGTH};
  w.ids = room(n * LENGTH, sizeof *w.ids);
  memcpy(w.ids, ids->data, (size_t)(n * LENGTH) * sizeof *w.ids);
  return w;
}

/* Everything between a model's directory and its quantized first block. */
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
  ptq_stream before; /* the calibration text before the block */
} bench;

static void begin(bench *b, const char *dtype, const char *group,
                  const char *iters) {
  const ptq_method_option list[] = {{"batch", "8"}, {"iters", iters}};
  ptq_load load = {0};
  ptq_err err = {0};
  if (ptq_method_parse("autoround", list, 2, &b->method, &err) != PTQ_OK ||
      ptq_dtype_parse(dtype, &b->dtype, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  b->point.group = strtoll(group, NULL, 10);
  b->spec =
      (ptq_spec){.methods = &b->method, .dtypes = &b->dtype, .n_methods = 1};
  b->subject.info = *b->setup.info;
  b->grid = (ptq_grid){.spec = &b->spec,
                       .subjects = &b->subject,
                       .points = &b->point,
                       .n_subjects = 1,
                       .n_points = 1};
  ptq_load_add(&load, &b->grid, 0);
  if (ptq_reference_open(&b->reference, &b->setup, &load, &err) != PTQ_OK ||
      ptq_workbench_open(&b->bench, &b->setup, &load, &err) != PTQ_OK ||
      ptq_hands_open(&b->hands, b->setup.info, 2, LENGTH, &err) != PTQ_OK ||
      ptq_lane_open(&b->lane, &b->grid, 0, &b->reference, &err) != PTQ_OK ||
      ptq_stream_copy(&b->before, &b->reference.calib, &err) != PTQ_OK ||
      ptq_reference_block(&b->reference, 0, &b->hands, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_lane_block(&b->lane, &b->reference, &b->bench, &b->hands);
  if (b->lane.status != PTQ_OK) fail_msg("%s", b->lane.err.msg);
}

static void end(bench *b) {
  ptq_stream_release(&b->before);
  ptq_lane_close(&b->lane);
  ptq_workbench_close(&b->bench);
  ptq_hands_close(&b->hands);
  ptq_reference_close(&b->reference);
}

/* The block's loss on all windows with these weights, and derivatives. */
static double loss_of(bench *b, float *const *w, float *const *g) {
  ptq_block_probe p;
  ptq_err err = {0};
  double loss = 0.0;
  static const int64_t at[WINDOWS] = {0, 1, 2, 3, 4, 5, 6, 7};
  if (ptq_block_probe_open(&p, &b->reference, &b->before, 2, &err) != PTQ_OK ||
      ptq_block_probe_eval(&p, at, WINDOWS, w, g, &loss, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_block_probe_close(&p);
  return loss;
}

/* The derivatives that the sweep hands to methods, by differences. */
static void derivatives_by_weights_are_the_losses_slopes(void **state) {
  (void)state;
  ptq_err err = {0};
  bench b = {0};
  if (ptq_model_open(PTQ_SOURCE_DIR "/sweeps/zoo/opt-25k", &b.setup.model,
                     &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  b.setup.info = ptq_model_get_info(b.setup.model);
  b.setup.room.hands = 2;
  ptq_npy ids = load(GOLDEN "logits/opt-25k.windows.npy", PTQ_NPY_U32, 2);
  b.setup.calib = cut(&ids, WINDOWS);
  b.setup.select = cut(&ids, 1);
  b.setup.eval = cut(&ids, 1);
  begin(&b, "int2:asym", "16", "1");
  float *w[PTQ_ROLE_COUNT], *g[PTQ_ROLE_COUNT], *other[PTQ_ROLE_COUNT];
  int64_t size[PTQ_ROLE_COUNT];
  int n = 0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    const ptq_linear *l = &b.reference.block.linear[role];
    if (l->weight == NULL) continue;
    size[n] = l->out * l->in;
    w[n] = b.bench.block.linear[role].weight;
    g[n] = room(size[n], sizeof(float));
    other[n] = room(size[n], sizeof(float));
    n++;
  }
  (void)loss_of(&b, w, g);
  /* Along the derivatives of one layer, both ways. */
  for (int i = 0; i < n; i++) {
    double slope = 0.0, most = 0.0, loss[2];
    for (int64_t k = 0; k < size[i]; k++) {
      slope += (double)g[i][k] * (double)g[i][k];
      most = fmax(most, fabs((double)g[i][k]));
    }
    float *const kept = w[i];
    float *scratch[PTQ_ROLE_COUNT];
    const double step = 2e-3 / most;
    for (int k = 0; k < n; k++) scratch[k] = room(size[k], sizeof(float));
    for (int way = 0; way < 2; way++) {
      for (int64_t k = 0; k < size[i]; k++)
        other[i][k] =
            kept[k] + (float)((way == 0 ? step : -step) * (double)g[i][k]);
      w[i] = other[i];
      loss[way] = loss_of(&b, w, scratch);
    }
    w[i] = kept;
    for (int k = 0; k < n; k++) ptq_free(scratch[k]);
    const double difference = (loss[0] - loss[1]) / (2.0 * step);
    if (fabs(difference / slope - 1.0) > 0.01)
      fail_msg("layer %d: slope %g, by differences %g", i, slope, difference);
  }
  for (int i = 0; i < n; i++) {
    ptq_free(g[i]);
    ptq_free(other[i]);
  }
  end(&b);
  ptq_npy_release(&ids);
  ptq_setup_close(&b.setup);
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(derivatives_by_weights_are_the_losses_slopes),
  };
  return cmocka_run_group_tests_name("sweep/block_loss", tests, blas, NULL);
}
