/* SPDX-License-Identifier: GPL-3.0-or-later */
/* AutoRound on a block of a model, against PyPI's auto-round:
 * tests/golden/autoround/make.py. */
#include "block_bench.h"

enum { BLOCK = 0, WINDOWS = 8, LENGTH = 64, CASES = 4, EVERY = 4 };

/* Every fourth row of the block's layers. */
static double equal_share(const bench *b, const float *theirs, int64_t size) {
  int64_t at = 0, equal = 0, tied = 0;
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) {
    const ptq_linear *l = &b->reference.block.linear[role];
    if (l->weight == NULL) continue;
    const float *ours = b->bench.block.linear[role].weight;
    for (int64_t r = 0; r < l->out; r += EVERY, at += l->in)
      equal += equal_weights(ours + r * l->in, theirs + at, l->in, &tied);
  }
  assert_int_equal(at, size);
  assert_int_equal(tied, 0);
  return (double)equal / (double)size;
}

static void codes_are_those_of_the_package(void **state) {
  (void)state;
  /* A derivative that last bits turn over moves a group; two bits are the
   * most. */
  static const double least[CASES] = {0.995, 0.98, 0.995, 0.995};
  char dtype[32], group[32], options[96];
  ptq_err err = {0};
  bench b = {0};
  if (ptq_model_open(PTQ_SOURCE_DIR "/sweeps/zoo/llama-85k", &b.setup.model,
                     &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  b.setup.info = ptq_model_get_info(b.setup.model);
  b.setup.room.hands = 1;
  ptq_npy ids = load(GOLDEN "logits/llama-85k.windows.npy", PTQ_NPY_U32, 2);
  b.setup.calib = cut(&ids, WINDOWS, LENGTH);
  b.setup.select = cut(&ids, 1, LENGTH);
  b.setup.eval = cut(&ids, 1, LENGTH);
  ptq_npy expected = load(GOLDEN "autoround/llama-85k.npy", PTQ_NPY_F32, 2);
  assert_int_equal(expected.dims[0], CASES);
  FILE *f = fopen(GOLDEN "autoround/cases.txt", "r");
  assert_non_null(f);
  int64_t n = 0;
  while (n < CASES && fscanf(f, "%31s %31s %95s", dtype, group, options) == 3) {
    parse(&b, "autoround", dtype, group, options);
    run(&b, BLOCK, &err);
    const double share =
        equal_share(&b, (const float *)expected.data + n++ * expected.dims[1],
                    expected.dims[1]);
    if (share < least[n - 1])
      fail_msg("%s: %.3f %% of the values", dtype, 100.0 * share);
    close(&b);
  }
  fclose(f);
  assert_int_equal(n, CASES);
  ptq_npy_release(&ids);
  ptq_npy_release(&expected);
  ptq_setup_close(&b.setup);
}

static int blas(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK ? 0 : 1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(codes_are_those_of_the_package),
  };
  return cmocka_run_group_tests_name("sweep/autoround_golden", tests, blas,
                                     NULL);
}
