/* SPDX-License-Identifier: GPL-3.0-or-later */
/* The loss of a block that methods are given, and its derivatives. */
#include "block_bench.h"

#include "block_loss.h"

enum { WINDOWS = 8, LENGTH = 64 };

static float *room(int64_t n) {
  float *p = NULL;
  assert_int_equal(ptq_alloc(&p, n, sizeof *p, "a test's room", NULL), PTQ_OK);
  return p;
}

/* The block's loss on all windows with these weights, and derivatives. */
static double loss_of(bench *b, ptq_stream *before, float *const *w,
                      float *const *g) {
  ptq_block_probe p;
  ptq_err err = {0};
  double loss = 0.0;
  static const int64_t at[WINDOWS] = {0, 1, 2, 3, 4, 5, 6, 7};
  if (ptq_block_probe_open(&p, &b->reference, before, 2, &err) != PTQ_OK ||
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
  ptq_stream before; /* the calibration text before the block */
  char options[] = "batch=8,iters=1";
  if (ptq_model_open(PTQ_SOURCE_DIR "/sweeps/zoo/opt-25k", &b.setup.model,
                     &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  b.setup.info = ptq_model_get_info(b.setup.model);
  b.setup.room.hands = 2;
  ptq_npy ids = load(GOLDEN "logits/opt-25k.windows.npy", PTQ_NPY_U32, 2);
  b.setup.calib = cut(&ids, WINDOWS, LENGTH);
  b.setup.select = cut(&ids, 1, LENGTH);
  b.setup.eval = cut(&ids, 1, LENGTH);
  parse(&b, "autoround", "int2:asym", "16", options);
  begin(&b, &err);
  assert_int_equal(ptq_stream_copy(&before, &b.reference.calib, &err), PTQ_OK);
  advance(&b, 0, &err);
  float *w[PTQ_ROLE_COUNT], *g[PTQ_ROLE_COUNT], *other[PTQ_ROLE_COUNT];
  int64_t size[PTQ_ROLE_COUNT];
  int n = 0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    const ptq_linear *l = &b.reference.block.linear[role];
    if (l->weight == NULL) continue;
    size[n] = l->out * l->in;
    w[n] = b.bench.block.linear[role].weight;
    g[n] = room(size[n]);
    other[n] = room(size[n]);
    n++;
  }
  (void)loss_of(&b, &before, w, g);
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
    for (int k = 0; k < n; k++) scratch[k] = room(size[k]);
    for (int way = 0; way < 2; way++) {
      for (int64_t k = 0; k < size[i]; k++)
        other[i][k] =
            kept[k] + (float)((way == 0 ? step : -step) * (double)g[i][k]);
      w[i] = other[i];
      loss[way] = loss_of(&b, &before, w, scratch);
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
  ptq_stream_release(&before);
  close(&b);
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
