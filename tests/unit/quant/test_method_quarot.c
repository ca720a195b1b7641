/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Layers in a rotated residual stream: against QuaRot's formulas with a given
 * rotation (tests/golden/quarot), and what they promise. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "layer.h"
#include "ptq/base/npy.h"
#include "turned.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/quarot/"

enum { OUT = 16, WIDTH = 32 };

static ptq_npy load(const char *path, ptq_npy_type type, int n_dims) {
  ptq_npy a;
  ptq_err err = {0};
  if (ptq_npy_read(path, type, n_dims, &a, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  return a;
}

/* x becomes x Q: the transpose of Q as a dense rotation. */
static ptq_rotation dense_rotation(const double *q, int64_t n) {
  ptq_rotation r = {.n = n, .power = 1, .m = n};
  r.block = layer_room(n * n, sizeof *r.block);
  r.signs = layer_room(n, sizeof *r.signs);
  for (int64_t i = 0; i < n; i++) {
    r.signs[i] = 1.0;
    for (int64_t j = 0; j < n; j++) r.block[j * n + i] = q[i * n + j];
  }
  return r;
}

typedef struct golden {
  ptq_npy w, gain, q, h, y; /* owned */
} golden;

static golden golden_load(void) {
  return (golden){.w = load(GOLDEN "w.npy", PTQ_NPY_F32, 2),
                  .gain = load(GOLDEN "gain.npy", PTQ_NPY_F32, 1),
                  .q = load(GOLDEN "q.npy", PTQ_NPY_F64, 2),
                  .h = load(GOLDEN "h.npy", PTQ_NPY_F64, 2),
                  .y = load(GOLDEN "y.npy", PTQ_NPY_F32, 2)};
}

static void golden_release(golden *g) {
  ptq_npy_release(&g->w);
  ptq_npy_release(&g->gain);
  ptq_npy_release(&g->q);
  ptq_npy_release(&g->h);
  ptq_npy_release(&g->y);
}

/* The golden's layer that reads the stream, or the one that writes to it. */
static layer golden_layer(const golden *g, bool reads) {
  layer l = reads ? layer_room_for(OUT, WIDTH) : layer_room_for(WIDTH, OUT);
  const float *w = g->w.data;
  const double *h = g->h.data;
  for (int64_t i = 0; i < OUT; i++)
    for (int64_t j = 0; j < WIDTH; j++)
      l.w[reads ? i * WIDTH + j : j * OUT + i] = w[i * WIDTH + j];
  for (int64_t i = 0; i < l.cols; i++)
    for (int64_t j = 0; j < l.cols; j++) l.h[i * l.cols + j] = h[i * WIDTH + j];
  l.more.reads_stream = reads;
  l.more.writes_stream = !reads;
  if (reads) l.more.norm_w = g->gain.data;
  return l;
}

static void run(layer *l, const char *base, const char *dtype, int64_t group,
                const ptq_stream_frame *frame) {
  ptq_method m;
  ptq_dtype dt;
  ptq_err err = {0};
  assert_int_equal(ptq_method_parse(base, NULL, 0, &m, NULL), PTQ_OK);
  assert_int_equal(ptq_dtype_parse(dtype, &dt, NULL), PTQ_OK);
  ptq_quant_input in = l->more;
  in.w = l->w;
  in.rows = l->rows;
  in.cols = l->cols;
  in.dtype = &dt;
  in.group = group;
  in.h = l->h;
  in.threads = 1;
  ptq_quant_output out = {.y = l->y, .q = l->q, .params = l->params};
  const ptq_turn turn = ptq_stream_turn(frame, &in);
  if (ptq_turned_quantize(&m, &turn, &in, &out, 1, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void weights_are_those_of_quarot(void **state) {
  (void)state;
  golden g = golden_load();
  ptq_rotation q = dense_rotation(g.q.data, WIDTH);
  const ptq_stream_frame frame = {.stream = &q};
  for (int i = 0; i < 6; i++) {
    layer l = golden_layer(&g, i % 3 == 0);
    l.more.stream_centred = i % 3 == 2;
    run(&l, i < 3 ? "rtn" : "gptq", i < 3 ? "int4" : "int4:asym", 16, &frame);
    /* A code more or less would change a weight by a hundredth. */
    for (int64_t k = 0; k < OUT * WIDTH; k++) {
      const float theirs = ((float *)g.y.data)[i * OUT * WIDTH + k];
      if (fabsf(l.y[k] - theirs) > 1e-7F)
        fail_msg("case %d, weight %d: %.9g, not %.9g", i, (int)k,
                 (double)l.y[k], (double)theirs);
    }
    layer_release(&l);
  }
  ptq_rotation_release(&q);
  golden_release(&g);
}

/* A base that changes nothing. */
static ptq_status pass_through(const ptq_method *m, const ptq_quant_input *in,
                               ptq_quant_output *out, ptq_err *err) {
  (void)m, (void)err;
  memcpy(out->y, in->w, (size_t)(in->rows * in->cols) * sizeof *out->y);
  return PTQ_OK;
}

static ptq_calibration_mode no_calibration(const ptq_method *m) {
  (void)m;
  return PTQ_CALIB_NONE;
}

static void nothing_is_lost_without_quantization(void **state) {
  (void)state;
  const ptq_method_family family = {
      .name = "none", .mode = no_calibration, .quantize = pass_through};
  const ptq_method base = {.family = &family};
  ptq_dtype dt;
  assert_int_equal(ptq_dtype_parse("int4", &dt, NULL), PTQ_OK);
  for (int kind = 0; kind < 4; kind++) {
    const bool reads = kind == 0;
    layer l = layer_random(reads ? 20 : 36, reads ? 36 : 20, 3);
    float gain[36];
    for (int i = 0; i < 36; i++) gain[i] = 0.01F * (float)(i * i - 200);
    ptq_rotation stream, inner;
    assert_int_equal(ptq_rotation_init(&stream, 36, true, 1, NULL), PTQ_OK);
    assert_int_equal(ptq_rotation_init(&inner, 20, false, 1, NULL), PTQ_OK);
    const ptq_stream_frame frame = {.stream = &stream,
                                    .inner = kind == 2 ? &inner : NULL};
    const ptq_quant_input in = {.w = l.w,
                                .rows = l.rows,
                                .cols = l.cols,
                                .dtype = &dt,
                                .group = 16,
                                .threads = 1,
                                .reads_stream = reads,
                                .writes_stream = !reads,
                                .stream_centred = kind == 3,
                                .norm_w = reads ? gain : NULL};
    ptq_quant_output out = {.y = l.y, .q = l.q, .params = l.params};
    const ptq_turn turn = ptq_stream_turn(&frame, &in);
    assert_int_equal(ptq_turned_quantize(&base, &turn, &in, &out, 1, NULL),
                     PTQ_OK);
    /* Rotated weights are rounded to float32: of length at most 1 a row, each
     * by 2^-25 of the largest at most, turned back and, behind the smallest
     * gain, 0.04, divided by it. */
    for (int64_t i = 0; i < l.rows * l.cols; i++)
      assert_true(fabsf(l.y[i] - l.w[i]) < 1e-6F);
    ptq_rotation_release(&stream);
    ptq_rotation_release(&inner);
    layer_release(&l);
  }
}

static void rotations_help_channels_that_stand_out(void **state) {
  (void)state;
  layer l = layer_random(32, 64, 4);
  for (int64_t r = 0; r < 32; r++) l.w[r * 64 + 5] *= 20.0F;
  l.more.reads_stream = true;
  layer_quantize(&l, "rtn", "", "int3", 32);
  const double plain = layer_error(&l), bits = l.storage_bits;
  layer_quantize(&l, "quarot", "", "int3", 32);
  assert_true(layer_error(&l) < 0.6 * plain);
  assert_true(l.storage_bits == bits && l.extra_hash != 0);
  const double rtn = layer_error(&l);
  layer_quantize(&l, "quarot", "base=gptq", "int3", 32);
  assert_true(layer_error(&l) < 0.8 * rtn);
  assert_true(l.damp == 0.01);
  layer_release(&l);
}

static void a_gain_of_zero_has_weight_zero(void **state) {
  (void)state;
  layer l = layer_random(16, 32, 5);
  float gain[32];
  for (int i = 0; i < 32; i++) gain[i] = i == 7 ? 0.0F : 1.0F;
  for (int i = 0; i < 32; i++) l.h[7 * 32 + i] = l.h[i * 32 + 7] = 0.0;
  l.more.reads_stream = true;
  l.more.norm_w = gain;
  static const char *const bases[] = {"base=rtn", "base=gptq"};
  for (int b = 0; b < 2; b++) {
    layer_quantize(&l, "quarot", bases[b], "int8", 32);
    for (int64_t i = 0; i < 16 * 32; i++) {
      assert_true(isfinite(l.y[i]));
      if (i % 32 == 7)
        assert_true(l.y[i] == 0.0F);
      else
        assert_true(fabsf(l.y[i] - l.w[i]) < 0.02F);
    }
  }
  layer_release(&l);
}

static void the_rotation_is_the_models(void **state) {
  (void)state;
  layer l = layer_random(16, 32, 6);
  l.more.reads_stream = true;
  l.more.layer = "one";
  layer_quantize(&l, "quarot", "", "int4", 32);
  layer_keep(&l);
  const uint64_t hash = l.extra_hash;
  l.more.layer = "another";
  layer_quantize(&l, "quarot", "", "int4", 32);
  assert_memory_equal(l.y, l.kept_y, 16 * 32 * sizeof *l.y);
  assert_true(l.extra_hash == hash);
  layer_quantize(&l, "quarot", "seed=1", "int4", 32);
  assert_true(memcmp(l.y, l.kept_y, 16 * 32 * sizeof *l.y) != 0);
  assert_true(l.extra_hash != hash);
  layer_release(&l);
}

static void inputs_of_layers_that_write_may_be_rotated(void **state) {
  (void)state;
  layer l = layer_random(32, 48, 7);
  for (int64_t r = 0; r < 32; r++) l.w[r * 48 + 9] *= 20.0F;
  l.more.writes_stream = true;
  layer_quantize(&l, "quarot", "", "int3", 48);
  const double plain = layer_error(&l);
  layer_quantize(&l, "quarot", "hadamard_inputs=true", "int3", 48);
  assert_true(layer_error(&l) < 0.7 * plain);
  layer_release(&l);
}

static void a_layer_off_the_stream_is_the_bases(void **state) {
  (void)state;
  layer l = layer_random(16, 32, 8);
  layer_quantize(&l, "gptq", "", "int4", 16);
  layer_keep(&l);
  layer_quantize(&l, "quarot", "base=gptq", "int4", 16);
  assert_memory_equal(l.y, l.kept_y, 16 * 32 * sizeof *l.y);
  layer_release(&l);
}

static void bad_bases_are_refused(void **state) {
  (void)state;
  ptq_method m;
  ptq_err err = {0};
  const ptq_method_option base = {"base", "eora"};
  assert_int_equal(ptq_method_parse("quarot", &base, 1, &m, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "'base' is one of rtn, gptq"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(weights_are_those_of_quarot),
      cmocka_unit_test(nothing_is_lost_without_quantization),
      cmocka_unit_test(rotations_help_channels_that_stand_out),
      cmocka_unit_test(a_gain_of_zero_has_weight_zero),
      cmocka_unit_test(the_rotation_is_the_models),
      cmocka_unit_test(inputs_of_layers_that_write_may_be_rotated),
      cmocka_unit_test(a_layer_off_the_stream_is_the_bases),
      cmocka_unit_test(bad_bases_are_refused),
  };
  return cmocka_run_group_tests_name("quant/method_quarot", tests, layer_set_up,
                                     NULL);
}
