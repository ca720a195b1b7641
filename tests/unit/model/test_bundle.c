/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Bundles against the same sequences one by one, on every architecture. */
#include "ptq/model/bundle.h"

#include <dirent.h>
#include <math.h>

#include "model_fixture.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"

#define MODELS PTQ_SOURCE_DIR "/tests/golden/architectures"

enum { MOST = 1200, BRANCHES = 6 };

/* A trunk of 9 tokens, two sequences that go on from it, one of them by a
 * single token, one that shares five of its tokens, and two of their own. */
static const ptq_branch tree[BRANCHES] = {
    {.start = 0, .n = 9},
    {.start = 9, .n = 20, .trunk = 0, .shared = 9},
    {.start = 29, .n = 1, .trunk = 0, .shared = 9},
    {.start = 30, .n = 7, .trunk = 0, .shared = 5},
    {.start = 37, .n = 17},
    {.start = 54, .n = 1},
};

typedef struct subject {
  ptq_model *model;
  const ptq_model_info *info;
  ptq_embedding e;
  uint32_t ids[MOST];
} subject;

static void begin(subject *s, const char *dir, ptq_compute compute) {
  *s = (subject){0};
  FX_MUST(ptq_model_open(dir, &s->model, &e_));
  FX_MUST(ptq_model_set_compute(s->model, compute, &e_));
  s->info = ptq_model_get_info(s->model);
  FX_MUST(ptq_model_load_embedding(s->model, &s->e, &e_));
  ptq_rng rng;
  ptq_rng_init(&rng, 7);
  for (int i = 0; i < MOST; i++)
    s->ids[i] = (uint32_t)ptq_rng_below(&rng, (uint64_t)s->info->vocab);
}

static void end(subject *s) {
  ptq_embedding_release(&s->e);
  ptq_model_close(s->model);
}

static float *states(int64_t n, const subject *s) {
  float *h = NULL;
  FX_MUST(ptq_alloc(&h, n * s->info->d_model, sizeof *h, "test", &e_));
  return h;
}

/* All blocks over a bundle; the caller frees. */
static float *run_bundle(subject *s, int64_t n, const ptq_branch *branches,
                         int64_t n_branches) {
  float *h = states(n, s);
  ptq_workspace *ws = NULL;
  FX_MUST(ptq_workspace_create(s->info, n, &ws, &e_));
  FX_MUST(
      ptq_bundle_embed(s->info, &s->e, s->ids, branches, n_branches, h, &e_));
  for (int64_t i = 0; i < s->info->n_blocks; i++) {
    ptq_block b;
    FX_MUST(ptq_model_load_block(s->model, i, &b, &e_));
    FX_MUST(
        ptq_bundle_forward(s->info, &b, h, n, branches, n_branches, ws, &e_));
    ptq_block_release(&b);
  }
  ptq_workspace_free(ws);
  return h;
}

/* All blocks over one sequence as a window; the caller frees. */
static float *run_window(subject *s, const uint32_t *ids, int64_t n) {
  float *h = states(n, s);
  ptq_workspace *ws = NULL;
  FX_MUST(ptq_workspace_create(s->info, n, &ws, &e_));
  FX_MUST(ptq_embed(s->info, &s->e, ids, n, h, &e_));
  for (int64_t i = 0; i < s->info->n_blocks; i++) {
    ptq_block b;
    FX_MUST(ptq_model_load_block(s->model, i, &b, &e_));
    FX_MUST(
        ptq_block_forward(s->info, &b, h, n, ws, NULL, PTQ_SITE_COUNT, &e_));
    ptq_block_release(&b);
  }
  ptq_workspace_free(ws);
  return h;
}

/* A branch's rows are those of its whole sequence. Both are float32 sums in
 * another order: 2e-5 of the largest, of states that are all about as large. In
 * bf16 such a last bit may round an operand the other way, by half a step of
 * 2^-8. */
static void check_branch(subject *s, const ptq_branch *b, const float *bundle,
                         const char *name) {
  const bool bf16 = s->info->compute == PTQ_COMPUTE_BF16;
  const double bound = bf16 ? 0x1p-8 : 2e-5;
  const int64_t d = s->info->d_model, n = b->shared + b->n;
  uint32_t ids[MOST];
  for (int64_t i = 0; i < n; i++)
    ids[i] = s->ids[i < b->shared ? b->trunk + i : b->start + i - b->shared];
  float *want = run_window(s, ids, n);
  double largest = 0.0, off = 0.0;
  for (int64_t i = b->shared * d; i < n * d; i++) {
    const double got = (double)bundle[(b->start - b->shared) * d + i];
    largest = fmax(largest, fabs((double)want[i]));
    off = fmax(off, fabs((double)want[i] - got));
  }
  if (!(off <= bound * largest))
    fail_msg("%s: branch at %lld is off by %g of %g", name, (long long)b->start,
             off, largest);
  ptq_free(want);
}

static void check_model(const char *dir, ptq_compute compute) {
  subject s;
  begin(&s, dir, compute);
  /* Where length matters, the same rows as sequences of their own. */
  ptq_branch branches[BRANCHES];
  memcpy(branches, tree, sizeof tree);
  for (int i = 0; !ptq_bundle_may_share(s.info, 29) && i < BRANCHES; i++)
    branches[i].shared = 0;
  const ptq_branch *last = &tree[BRANCHES - 1];
  float *bundle = run_bundle(&s, last->start + last->n, branches, BRANCHES);
  for (int i = 0; i < BRANCHES; i++)
    check_branch(&s, &branches[i], bundle, dir);
  ptq_free(bundle);
  end(&s);
}

static void every_architecture_packs(void **state) {
  (void)state;
  int n = 0;
  DIR *d = opendir(MODELS);
  assert_non_null(d);
  for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
    char path[512];
    snprintf(path, sizeof path, MODELS "/%.200s/config.json", e->d_name);
    if (access(path, R_OK) != 0) continue;
    snprintf(path, sizeof path, MODELS "/%.200s", e->d_name);
    for (int c = 0; c < PTQ_COMPUTE_COUNT; c++)
      check_model(path, (ptq_compute)c);
    n++;
  }
  closedir(d);
  assert_true(n >= 20);
}

static void only_longrope_forbids_to_share(void **state) {
  (void)state;
  ptq_model_info info = {0};
  assert_true(ptq_bundle_may_share(&info, 1 << 20));
  info.rope_long_from = 16;
  assert_true(ptq_bundle_may_share(&info, 16));
  assert_false(ptq_bundle_may_share(&info, 17));
}

/* Longer than a tile of keys, with the end of the trunk inside one. */
static void meet_trunks(ptq_compute compute) {
  static const ptq_branch branches[] = {
      {.start = 0, .n = 700},
      {.start = 700, .n = 300, .trunk = 0, .shared = 700},
      {.start = 1000, .n = 130, .trunk = 0, .shared = 530}};
  for (int kind = 0; kind < 2; kind++) {
    fx_model m;
    subject s;
    if (kind == 0)
      fx_llama(&m);
    else
      fx_opt(&m);
    fx_write(&m);
    begin(&s, m.dir, compute);
    float *bundle = run_bundle(&s, 1130, branches, 3);
    for (int i = 0; i < 3; i++) check_branch(&s, &branches[i], bundle, m.dir);
    ptq_free(bundle);
    end(&s);
    fx_end(&m);
  }
}

static void long_trunks_are_met_in_tiles(void **state) {
  (void)state;
  meet_trunks(PTQ_COMPUTE_F32);
  meet_trunks(PTQ_COMPUTE_BF16);
}

static void bundle_a_window(ptq_compute compute) {
  const ptq_branch whole = {.n = 130};
  fx_model m;
  subject s;
  fx_llama(&m);
  fx_write(&m);
  begin(&s, m.dir, compute);
  float *bundle = run_bundle(&s, 130, &whole, 1);
  float *window = run_window(&s, s.ids, 130);
  assert_memory_equal(bundle, window,
                      (size_t)(130 * s.info->d_model) * sizeof *bundle);
  ptq_free(bundle);
  ptq_free(window);
  end(&s);
  fx_end(&m);
}

static void a_bundle_of_one_sequence_is_its_window(void **state) {
  (void)state;
  bundle_a_window(PTQ_COMPUTE_F32);
  bundle_a_window(PTQ_COMPUTE_BF16);
}

/* What stands beside a sequence changes none of its bits: other tokens in the
 * other branches, the same shapes. */
static void change_neighbours(ptq_compute compute) {
  fx_model m;
  subject s;
  fx_llama(&m);
  fx_write(&m);
  begin(&s, m.dir, compute);
  const int64_t n = tree[BRANCHES - 1].start + tree[BRANCHES - 1].n;
  const int64_t d = s.info->d_model;
  float *before = run_bundle(&s, n, tree, BRANCHES);
  for (int64_t i = tree[3].start; i < n; i++) s.ids[i] = (s.ids[i] + 1) % 50;
  float *after = run_bundle(&s, n, tree, BRANCHES);
  const size_t same = (size_t)(tree[3].start * d) * sizeof *before;
  assert_memory_equal(before, after, same);
  for (int64_t i = tree[3].start * d; i < n * d; i += d)
    assert_memory_not_equal(before + i, after + i, (size_t)d * sizeof *before);
  ptq_free(before);
  ptq_free(after);
  end(&s);
  fx_end(&m);
}

static void branches_do_not_see_one_another(void **state) {
  (void)state;
  change_neighbours(PTQ_COMPUTE_F32);
  change_neighbours(PTQ_COMPUTE_BF16);
}

static void a_position_beyond_the_models_is_refused(void **state) {
  (void)state;
  const ptq_branch branch = {.start = 0, .n = 2, .trunk = 0, .shared = 1499};
  fx_model m;
  subject s;
  ptq_err err = {0};
  fx_opt(&m);
  fx_write(&m);
  begin(&s, m.dir, PTQ_COMPUTE_F32);
  float *h = states(2, &s);
  assert_int_equal(ptq_bundle_embed(s.info, &s.e, s.ids, &branch, 1, h, &err),
                   PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "1501 tokens"));
  ptq_free(h);
  end(&s);
  fx_end(&m);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK && ptq_bf16_init(NULL) == PTQ_OK ? 0
                                                                        : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_architecture_packs),
      cmocka_unit_test(only_longrope_forbids_to_share),
      cmocka_unit_test(long_trunks_are_met_in_tiles),
      cmocka_unit_test(a_bundle_of_one_sequence_is_its_window),
      cmocka_unit_test(branches_do_not_see_one_another),
      cmocka_unit_test(a_position_beyond_the_models_is_refused),
  };
  return cmocka_run_group_tests_name("model/bundle", tests, start, NULL);
}
