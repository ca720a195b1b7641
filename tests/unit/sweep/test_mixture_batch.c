/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Points of mixed precision, quantized and evaluated. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>

#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/batch.h"
#include "sweep_files.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"

enum { N_TOKENS = 2000, MAX_POINTS = 128, MAX_LAYERS = 14, MAX_WINDOWS = 3 };

/* Methods whose layers see nothing of one another: a layer's codes are those
 * of its format alone. The others' layers share scales or come behind
 * quantized ones. */
#define LOCAL                                                             \
  "    - rtn\n"                                                           \
  "    - {name: gptq, hessian: static}\n"                                 \
  "    - {name: gptq, hessian: static, act_order: group}\n"               \
  "    - {name: gptq, hessian: static, act_order: group, damp: search}\n" \
  "    - {name: gptq, hessian: static, act_order: true}\n"                \
  "    - descent\n"                                                       \
  "    - {name: quip, tune: 1}\n"                                         \
  "    - {name: quarot, base: gptq, hessian: static}\n"                   \
  "    - {name: rht, base: gptq, hessian: static}\n"                      \
  "    - {name: lqer, rank: 2}\n"                                         \
  "    - {name: eora, hessian: static, rank: 2}\n"
enum { N_LOCAL = 11 };
static const char sweep[] =
    "models: [" ZOO "llama-25k]\n"
    "data:\n"
    "  calibration: {text: c.txt, windows: 5, length: 32}\n"
    "  selection: {text: s.txt, windows: 2, length: 24}\n"
    "  evaluation: {text: e.txt, windows: 3, length: 24}\n"
    "grid:\n"
    "  dtype:\n"
    "    - int4\n"
    "    - mxint3\n"
    "    - {mixed: same, default: mxint3, layers: {'*': int4}}\n"
    "    - mixed: own\n"
    "      default: {dtype: mxint3, group: 8}\n"
    "      layers:\n"
    "        '*.v_proj': {dtype: int4, group: 16}\n"
    "        '*.1.*': int4\n"
    "        '*.up_proj': {dtype: mxint3, group: 16}\n"
    "  group: [8, 16]\n"
    "  method:\n" LOCAL "    - gptq\n"
    "    - {name: gptq, true_sequential: true, act_order: group}\n"
    "    - gptaq\n"
    "    - awq\n"
    "    - {name: awq, scaling: duo}\n"
    "    - {name: descent, hessian: sequential}\n";

static scratch files;
static ptq_spec spec;
static ptq_grid grid;

typedef struct recorded {
  ptq_point_row row;
  ptq_state state;
  char message[240];
  ptq_layer_row layers[MAX_LAYERS];
  ptq_window_row windows[MAX_WINDOWS];
} recorded;
static recorded *points; /* [grid.n_points] run in one batch */

static void write_tokens(const char *text) {
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  char t[PTQ_HASH_HEX], k[PTQ_HASH_HEX], name[128];
  ptq_rng rng;
  ptq_rng_init(&rng, (uint64_t)text[0]);
  for (uint32_t i = 0; i < N_TOKENS; i++) {
    ids[i] = (uint32_t)ptq_rng_below(&rng, 1000);
    ends[i] = 3 * (uint64_t)(i + 1);
  }
  scratch_text(&files, text, text);
  assert_int_equal(ptq_hash_file(files.path, t, NULL), PTQ_OK);
  assert_int_equal(ptq_hash_file(ZOO "llama-25k/tokenizer.json", k, NULL),
                   PTQ_OK);
  snprintf(name, sizeof name, ".tokens/%s-%s.ids.npy", t, k);
  scratch_npy(&files, name, "<u4", ids, N_TOKENS, sizeof *ids);
  snprintf(name, sizeof name, ".tokens/%s-%s.ends.npy", t, k);
  scratch_npy(&files, name, "<u8", ends, N_TOKENS, sizeof *ends);
}

static ptq_status begin(void *ctx, const int64_t *which, int64_t n,
                        ptq_err *err) {
  (void)ctx, (void)which, (void)n, (void)err;
  return PTQ_OK;
}

static ptq_status alive(void *ctx, double done, ptq_err *err) {
  (void)ctx, (void)done, (void)err;
  return PTQ_OK;
}

static ptq_status take(void *ctx, const ptq_point_result *r, ptq_err *err) {
  recorded *p = (recorded *)ctx + r->point;
  (void)err;
  assert_true(r->n_layers <= MAX_LAYERS && r->n_windows <= MAX_WINDOWS);
  p->row = r->row;
  p->state = r->state;
  memcpy(p->message, r->message, sizeof p->message);
  for (int64_t i = 0; i < r->n_layers; i++) p->layers[i] = r->layers[i];
  for (int64_t i = 0; i < r->n_windows; i++) p->windows[i] = r->windows[i];
  return PTQ_OK;
}

static void run(recorded *to, const int64_t *which, int64_t n) {
  const ptq_sink sink = {
      .ctx = to, .begin = begin, .point = take, .alive = alive};
  ptq_err err = {0};
  if (ptq_batch_run(&grid, which, n, &sink, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static int open_grid(void **state) {
  char models[1][PTQ_HASH_HEX], texts[3][PTQ_HASH_HEX];
  int64_t all[MAX_POINTS];
  ptq_err err = {0};
  (void)state;
  unsetenv("PTQSWEEP_TOKENS");
  scratch_make(&files);
  scratch_mkdir(&files, ".tokens");
  write_tokens("c.txt");
  write_tokens("s.txt");
  write_tokens("e.txt");
  scratch_text(&files, "s.yaml", sweep);
  if (ptq_blas_init(&err) != PTQ_OK ||
      ptq_spec_read(files.path, NULL, 0, &spec, &err) != PTQ_OK ||
      ptq_grid_build(&spec, &grid, &err) != PTQ_OK ||
      ptq_grid_hash_inputs(&grid, models, texts, &err) != PTQ_OK ||
      ptq_grid_set_keys(&grid, models, texts, "n", &err) != PTQ_OK ||
      ptq_alloc(&points, grid.n_points, sizeof *points, "points", &err) !=
          PTQ_OK)
    fail_msg("%s", err.msg);
  assert_true(grid.n_points <= MAX_POINTS);
  for (int64_t i = 0; i < grid.n_points; i++) all[i] = i;
  run(points, all, grid.n_points);
  return 0;
}

static int close_grid(void **state) {
  (void)state;
  ptq_free(points);
  ptq_grid_release(&grid);
  ptq_spec_release(&spec);
  scratch_remove(&files);
  return 0;
}

static int64_t find(int64_t dtype, int64_t method, int64_t group) {
  for (int64_t i = 0; i < grid.n_points; i++)
    if (grid.points[i].dtype == dtype && grid.points[i].method == method &&
        (group == 0 || grid.points[i].group == group))
      return i;
  fail_msg("no point of dtype %d, method %d", (int)dtype, (int)method);
  return -1;
}

static const char *method_name(int64_t m, char text[160]) {
  snprintf(text, 160, "%s:%s", spec.methods[m].name, spec.methods[m].options);
  return text;
}

static void every_method_takes_mixtures(void **state) {
  (void)state;
  for (int64_t i = 0; i < grid.n_points; i++)
    if (points[i].state != PTQ_STATE_DONE)
      fail_msg("point %d: %s", (int)i, points[i].message);
}

/* A mixture of one format is that format, bit for bit. */
static void a_mixture_of_one_format_is_that_format(void **state) {
  (void)state;
  char name[160];
  for (int64_t m = 0; m < spec.n_methods; m++)
    for (int64_t group = 8; group <= 16; group += 8) {
      const recorded *a = &points[find(0, m, group)];
      const recorded *b = &points[find(2, m, group)];
      assert_string_not_equal(a->row.dtype, b->row.dtype);
      if (memcmp(&a->row.nll, &b->row.nll, sizeof(double)) != 0 ||
          memcmp(&a->row.kl_p99, &b->row.kl_p99, sizeof(double)) != 0 ||
          memcmp(&a->row.sqnr_output_prop, &b->row.sqnr_output_prop,
                 sizeof(double)) != 0)
        fail_msg("%s: %.17g, as a mixture %.17g", method_name(m, name),
                 a->row.nll, b->row.nll);
      for (int i = 0; i < MAX_LAYERS; i++) {
        ptq_layer_row own = b->layers[i];
        own.point = a->layers[i].point;
        assert_memory_equal(&a->layers[i], &own, sizeof own);
      }
    }
}

/* Where layers do not see one another, each comes out as in the uniform point
 * of its format. */
static void layers_are_those_of_their_own_formats(void **state) {
  (void)state;
  char name[160];
  for (int64_t m = 0; m < N_LOCAL; m++) {
    const recorded *own = &points[find(3, m, 0)];
    for (int i = 0; i < MAX_LAYERS; i++) {
      const ptq_layer_row *l = &own->layers[i];
      const int64_t dtype = strcmp(l->layer_dtype, "int4") == 0 ? 0 : 1;
      const ptq_layer_row *u =
          &points[find(dtype, m, l->layer_group)].layers[i];
      assert_string_equal(u->layer_dtype, l->layer_dtype);
      assert_string_equal(u->layer, l->layer);
      if (strcmp(u->codes, l->codes) != 0 || u->sqnr_output != l->sqnr_output ||
          u->err_hessian != l->err_hessian || u->layer_bits != l->layer_bits)
        fail_msg("%s, %s: %.17g dB, uniform %.17g dB", method_name(m, name),
                 l->layer, l->sqnr_output, u->sqnr_output);
    }
  }
}

static void layers_say_their_format_and_bits(void **state) {
  (void)state;
  const int64_t at = find(3, 0, 0);
  const recorded *p = &points[at];
  double bits = 0.0, weights = 0.0;
  int n[3] = {0, 0, 0};
  for (int i = 0; i < MAX_LAYERS; i++) {
    const ptq_layer_row *l = &p->layers[i];
    bits += l->layer_bits * (double)l->weights;
    weights += (double)l->weights;
    n[0] += strcmp(l->layer_dtype, "int4") == 0;
    n[1] += l->layer_group == 16;
    n[2] += strstr(l->layer, "up_proj") != NULL && l->layer_group == 16;
  }
  assert_int_equal(n[0], 8); /* v of block 0, and block 1 */
  assert_int_equal(n[1], 3); /* both v, and up of block 0 */
  assert_int_equal(n[2], 1);
  assert_true(fabs(bits / weights - p->row.bits_per_weight) < 1e-12);
  double found = 0.0;
  assert_int_equal(ptq_point_bits(&grid, at, &found, NULL), PTQ_OK);
  assert_true(fabs(found - p->row.bits_per_weight) < 1e-12);
}

static void a_mixed_point_has_the_same_bits_alone(void **state) {
  (void)state;
  recorded *alone = NULL;
  assert_int_equal(
      ptq_alloc(&alone, grid.n_points, sizeof *alone, "points", NULL), PTQ_OK);
  for (int64_t m = 0; m < spec.n_methods; m++) {
    const int64_t i = find(3, m, 0);
    run(alone, &i, 1);
    assert_memory_equal(&points[i].row, &alone[i].row, sizeof alone->row);
    assert_memory_equal(points[i].layers, alone[i].layers,
                        sizeof alone->layers);
    assert_memory_equal(points[i].windows, alone[i].windows,
                        sizeof alone->windows);
  }
  ptq_free(alone);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_method_takes_mixtures),
      cmocka_unit_test(a_mixture_of_one_format_is_that_format),
      cmocka_unit_test(layers_are_those_of_their_own_formats),
      cmocka_unit_test(layers_say_their_format_and_bits),
      cmocka_unit_test(a_mixed_point_has_the_same_bits_alone),
  };
  return cmocka_run_group_tests_name("sweep/mixture_batch", tests, open_grid,
                                     close_grid);
}
