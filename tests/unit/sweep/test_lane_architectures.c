/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Methods that ask for more than H on a small model of every architecture:
 * fused projections, norms in other places, blocks in parallel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "lane.h"
#include "ptq/base/mem.h"
#include "ptq/base/rng.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"

#define MODELS PTQ_SOURCE_DIR "/tests/golden/architectures"

enum { LENGTH = 12, CALIB = 5 };

static const struct {
  const char *method;
  ptq_method_option option;
  const char *dtype;
} cases[] = {{"awq", {"clip", "true"}, "mxint4"},
             {"awq", {"scaling", "duo"}, "int4:asym"},
             {"gptaq", {"true_sequential", "true"}, "int4:asym"},
             {"gptq", {"damp", "search"}, "int4"},
             {"autoround", {"iters", "8"}, "int4:asym"}};
enum { CASES = sizeof cases / sizeof cases[0] };

static ptq_windows random_windows(int64_t n, int64_t length, int64_t vocab,
                                  uint64_t seed) {
  ptq_windows w = {.n = n, .length = length};
  ptq_rng r;
  ptq_rng_init(&r, seed);
  assert_int_equal(ptq_alloc(&w.ids, n * length, sizeof *w.ids, "ids", NULL),
                   PTQ_OK);
  for (int64_t i = 0; i < n * length; i++)
    w.ids[i] = (uint32_t)ptq_rng_below(&r, (uint64_t)vocab);
  return w;
}

/* One row a layer, in their order. */
static void check_names(const ptq_lane *l, const ptq_setup *s,
                        const char *name) {
  int64_t at = 0;
  for (int64_t block = 0; block < s->info->n_blocks; block++)
    for (int layer = 0; layer < ptq_layer_count(s->info); layer++) {
      char tensor[PTQ_TENSOR_NAME_MAX];
      if (!ptq_layer_present(s->info, layer)) continue;
      ptq_layer_tensor_name(s->model, block, layer, tensor);
      const ptq_layer_row *row = &l->layers[at++];
      if (strcmp(row->layer, tensor) != 0)
        fail_msg("%s: row %lld is '%s', not '%s'", name, (long long)at - 1,
                 row->layer, tensor);
    }
  assert_int_equal(at, l->n_layers);
}

/* The rows of a point on all blocks, as one of a batch of `points`; freed with
 * ptq_free. */
static ptq_layer_row *run_point(ptq_setup *s, ptq_method m, ptq_dtype dt,
                                int points, const char *name) {
  ptq_err err = {0};
  ptq_load load = {0};
  ptq_spec spec = {.methods = &m, .dtypes = &dt, .n_methods = 1};
  ptq_subject subject = {.info = *s->info};
  ptq_point point = {.group = 8};
  const ptq_grid grid = {.spec = &spec,
                         .subjects = &subject,
                         .points = &point,
                         .n_subjects = 1,
                         .n_points = 1};
  ptq_reference r;
  ptq_workbench b;
  ptq_lane l;
  ptq_hands hands;
  for (int i = 0; i < points; i++) ptq_load_add(&load, &grid, 0);
  if (ptq_reference_open(&r, s, &load, &err) != PTQ_OK ||
      ptq_workbench_open(&b, s, &load, &err) != PTQ_OK ||
      ptq_hands_open(&hands, s->info, s->room.hands, LENGTH, &err) != PTQ_OK ||
      ptq_lane_open(&l, &grid, 0, &r, &err) != PTQ_OK)
    fail_msg("%s: %s", name, err.msg);
  for (int64_t i = 0; i < s->info->n_blocks; i++) {
    assert_int_equal(ptq_reference_block(&r, i, &hands, &err), PTQ_OK);
    ptq_lane_block(&l, &r, &b, &hands);
    if (l.status != PTQ_OK) fail_msg("%s, %s: %s", name, m.name, l.err.msg);
  }
  check_names(&l, s, name);
  ptq_layer_row *rows = l.layers;
  l.layers = NULL;
  ptq_lane_close(&l);
  ptq_workbench_close(&b);
  ptq_hands_close(&hands);
  ptq_reference_close(&r);
  return rows;
}

static void parse(const char *method, const ptq_method_option *option,
                  const char *dtype, ptq_method *m, ptq_dtype *dt) {
  ptq_err err = {0};
  if (ptq_method_parse(method, option, option != NULL, m, &err) != PTQ_OK ||
      ptq_dtype_parse(dtype, dt, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
}

static void run_case(ptq_setup *s, int k, const char *name) {
  ptq_method m;
  ptq_dtype dt;
  parse(cases[k].method, &cases[k].option, cases[k].dtype, &m, &dt);
  if (s->info->compute != PTQ_COMPUTE_F32 &&
      (ptq_method_needs(&m) & PTQ_NEED_BLOCK_LOSS) != 0)
    return; /* the grid refuses it */
  s->room.hands = 1;
  ptq_layer_row *rows = run_point(s, m, dt, 1, name);
  const ptq_subject subject = {.info = *s->info};
  const int64_t n = ptq_subject_layers(&subject);
  for (int64_t i = 0; i < n; i++)
    if (!isfinite(rows[i].sqnr_output) || !isfinite(rows[i].sqnr_output_prop) ||
        rows[i].sqnr_output < 3.0)
      fail_msg("%s: '%s' has %g and %g dB", name, rows[i].layer,
               rows[i].sqnr_output, rows[i].sqnr_output_prop);
  for (s->room.hands = 2; s->room.hands <= 3; s->room.hands++) {
    ptq_layer_row *again = run_point(s, m, dt, 1, name);
    for (int64_t i = 0; i < n; i++)
      if (memcmp(&again[i], &rows[i], sizeof *rows) != 0)
        fail_msg("%s, %s: '%s' has other bits on %d threads", name, m.name,
                 rows[i].layer, s->room.hands);
    ptq_free(again);
  }
  ptq_free(rows);
}

static ptq_setup set_up(const char *name, int64_t calib, int64_t length,
                        ptq_compute compute) {
  char path[512];
  ptq_err err = {0};
  ptq_setup s = {.room = {.hands = 1}};
  snprintf(path, sizeof path, MODELS "/%s", name);
  if (ptq_model_open(path, &s.model, &err) != PTQ_OK ||
      ptq_model_set_compute(s.model, compute, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  s.info = ptq_model_get_info(s.model);
  s.calib = random_windows(calib, length, s.info->vocab, 1);
  s.select = random_windows(2, length, s.info->vocab, 2);
  s.eval = random_windows(1, length, s.info->vocab, 3);
  return s;
}

static void run_model(const char *name, ptq_compute compute) {
  ptq_setup s = set_up(name, CALIB, LENGTH, compute);
  for (int k = 0; k < CASES; k++) run_case(&s, k, name);
  ptq_setup_close(&s);
}

static void every_architecture_gives_what_methods_ask_for(void **state) {
  (void)state;
  int n = 0;
  DIR *d = opendir(MODELS);
  assert_non_null(d);
  for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
    char path[512];
    snprintf(path, sizeof path, MODELS "/%.200s/config.json", e->d_name);
    FILE *f = fopen(path, "r");
    if (f == NULL) continue;
    fclose(f);
    for (int c = 0; c < PTQ_COMPUTE_COUNT; c++)
      run_model(e->d_name, (ptq_compute)c);
    n++;
  }
  closedir(d);
  assert_true(n >= 20);
}

/* Two tokens cannot reach five experts by two experts each: GPTQ rounds those
 * that are left, instead of taking their inputs for dead, and the rows say
 * so. */
static void an_expert_without_tokens_is_rounded(void **state) {
  (void)state;
  static const ptq_method_option settings[] = {{"hessian", "static"},
                                               {"hessian", "sequential"}};
  ptq_method m;
  ptq_dtype dt;
  ptq_setup s = set_up("mixtral", 1, 2, PTQ_COMPUTE_F32);
  const ptq_subject subject = {.info = *s.info};
  parse("rtn", NULL, "int3", &m, &dt);
  ptq_layer_row *rounded = run_point(&s, m, dt, 1, "mixtral");
  for (int k = 0; k < 2; k++) {
    int64_t without = 0, with = 0;
    parse("gptq", &settings[k], "int3", &m, &dt);
    ptq_layer_row *rows = run_point(&s, m, dt, 1, "mixtral");
    for (int64_t i = 0; i < ptq_subject_layers(&subject); i++) {
      const bool same = strcmp(rows[i].codes, rounded[i].codes) == 0;
      if (rows[i].calib_tokens > 0) {
        with += !same;
        continue;
      }
      without++;
      assert_true(same);
      /* an error under the identity */
      const double weight = pow(10.0, -rows[i].sqnr_weight / 10.0);
      if (k == 0) assert_true(fabs(rows[i].err_hessian / weight - 1.0) < 1e-9);
      assert_true(rows[i].sqnr_weight > 5.0);
    }
    assert_true(without >= 3 * s.info->n_blocks && with > 0);
    ptq_free(rows);
  }
  ptq_free(rounded);
  ptq_setup_close(&s);
}

/* Alone, a point's weights take the place of the model's, also those that
 * products of bfloat16 take; beside others they have places of their own. */
static void rows_are_the_same_alone_and_beside_others(void **state) {
  (void)state;
  static const char *const names[] = {"llama", "mixtral", "qwen3-moe"};
  static const ptq_method_option sequential = {"true_sequential", "true"};
  ptq_method m;
  ptq_dtype dt;
  parse("gptq", &sequential, "int3", &m, &dt);
  for (int i = 0; i < 6; i++) {
    const char *name = names[i / 2];
    ptq_setup s = set_up(name, CALIB, LENGTH,
                         i % 2 == 0 ? PTQ_COMPUTE_F32 : PTQ_COMPUTE_BF16);
    const ptq_subject subject = {.info = *s.info};
    ptq_layer_row *alone = run_point(&s, m, dt, 1, name);
    ptq_layer_row *beside = run_point(&s, m, dt, 2, name);
    assert_memory_equal(
        alone, beside,
        (size_t)ptq_subject_layers(&subject) * sizeof(ptq_layer_row));
    ptq_free(alone);
    ptq_free(beside);
    ptq_setup_close(&s);
  }
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK && ptq_bf16_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_architecture_gives_what_methods_ask_for),
      cmocka_unit_test(an_expert_without_tokens_is_rounded),
      cmocka_unit_test(rows_are_the_same_alone_and_beside_others),
  };
  return cmocka_run_group_tests_name("sweep/lane_architectures", tests, blas,
                                     NULL);
}
