/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AWQ on a block of two models, against llm-awq's searches written out over
 * transformers: tests/golden/awq/make.py. */
#include "block_bench.h"

enum { BLOCK = 1, WINDOWS = 3, CASES = 4 };

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
  b.setup.calib = cut(&ids, WINDOWS, ids.dims[1]);
  b.setup.select = cut(&ids, 1, ids.dims[1]);
  b.setup.eval = cut(&ids, 1, ids.dims[1]);
  snprintf(path, sizeof path, GOLDEN "awq/%s.npy", model);
  ptq_npy expected = load(path, PTQ_NPY_F32, 2);
  assert_int_equal(expected.dims[0], CASES);
  FILE *f = fopen(GOLDEN "awq/cases.txt", "r");
  assert_non_null(f);
  int64_t n = 0;
  while (n < CASES && fscanf(f, "%31s %31s %95s", dtype, group, options) == 3) {
    snprintf(name, sizeof name, "%s %s %s %s", model, dtype, group, options);
    parse(&b, "awq", dtype, group, options);
    run(&b, BLOCK, &err);
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
