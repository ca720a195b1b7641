/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Logits and NLL of every model of sweeps/zoo against what transformers
 * computes in float32 (tests/golden/logits), logits of every architecture's
 * tiny models, and of the same with products of bfloat16. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/model/forward.h"
#include "ptq/num/blas.h"
#include "ptq/num/vec.h"

#define ZOO PTQ_SOURCE_DIR "/sweeps/zoo/"
#define RUNS ZOO "runs/"
#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/logits/"
#define BF16 PTQ_SOURCE_DIR "/tests/golden/bf16/"
#define ARCHITECTURES PTQ_SOURCE_DIR "/tests/golden/architectures/"

enum { PATH_LEN = 512 };
static const double LOGIT_TOL = 1e-4; /* absolute */
static const double NLL_TOL = 1e-5;   /* relative */
/* Absolute. In the golden windows no operand is so near a tie that noise of
 * 2^-21 rounds it otherwise, and other orders of summation move logits by less
 * than 1e-5 (tests/golden/bf16/README.md): theirs and ours. */
static const double BF16_TOL = 2e-5;

#define MUST(call)                                \
  do {                                            \
    ptq_err e_ = {0};                             \
    if ((call) != PTQ_OK) fail_msg("%s", e_.msg); \
  } while (0)

static void *block(int64_t n, size_t size) {
  void *p = NULL;
  assert_int_equal(ptq_alloc(&p, n, size, "test", NULL), PTQ_OK);
  return p;
}

/* Logits [n, vocab] of one window. */
static float *forward(ptq_model *m, const uint32_t *ids, int64_t n) {
  const ptq_model_info *info = ptq_model_get_info(m);
  ptq_embedding e;
  ptq_head head;
  ptq_workspace *ws = NULL;
  float *h = block(n * info->d_model, sizeof *h);
  float *logits = block(n * info->vocab, sizeof *logits);
  MUST(ptq_model_load_embedding(m, &e, &e_));
  MUST(ptq_embed(info, &e, ids, n, h, &e_));
  MUST(ptq_workspace_create(info, n, &ws, &e_));
  for (int64_t i = 0; i < info->n_blocks; i++) {
    ptq_block b;
    MUST(ptq_model_load_block(m, i, &b, &e_));
    MUST(ptq_block_forward(info, &b, h, n, ws, NULL, PTQ_SITE_COUNT, &e_));
    ptq_block_release(&b);
  }
  MUST(ptq_model_load_head(m, &head, &e_));
  ptq_head_norm(info, &head, h, n);
  const bool bf16 = info->compute == PTQ_COMPUTE_BF16;
  ptq_multiplier *mul = NULL;
  if (bf16) MUST(ptq_multiplier_create(&mul, &e_));
  const int64_t slice = bf16 || PTQ_HEAD_SLICE < info->vocab / 3
                            ? PTQ_HEAD_SLICE
                            : info->vocab / 3;
  float *part = block(n * slice, sizeof *part);
  for (int64_t v = 0; v < info->vocab; v += slice) {
    const int64_t w = info->vocab - v < slice ? info->vocab - v : slice;
    MUST(ptq_head_logits(info, &head, mul, h, n, v, v + w, part, &e_));
    for (int64_t i = 0; i < n; i++)
      memcpy(logits + i * info->vocab + v, part + i * w,
             (size_t)w * sizeof *part);
  }
  ptq_free(part);
  ptq_free(h);
  ptq_multiplier_free(mul);
  ptq_workspace_free(ws);
  ptq_head_release(&head);
  ptq_embedding_release(&e);
  return logits;
}

static void read_golden(const char *stem, const char *what, ptq_npy_type type,
                        ptq_npy *out, int n_dims) {
  char path[PATH_LEN];
  snprintf(path, sizeof path, "%s%s.npy", stem, what);
  MUST(ptq_npy_read(path, type, n_dims, out, &e_));
}

/* Golden files are <stem>ids.npy and <stem>logits.npy. Returns the largest
 * difference. */
static double check_logits(const char *name, const char *stem, ptq_model *m,
                           double tolerance) {
  const ptq_model_info *info = ptq_model_get_info(m);
  ptq_npy ids, want;
  read_golden(stem, "ids", PTQ_NPY_U32, &ids, 1);
  read_golden(stem, "logits", PTQ_NPY_F32, &want, 2);
  assert_int_equal(want.dims[0], ids.n);
  assert_int_equal(want.dims[1], info->vocab);
  float *got = forward(m, ids.data, ids.n);
  const float *w = want.data;
  double worst = 0.0;
  for (int64_t i = 0; i < want.n; i++) {
    const double off = fabs((double)got[i] - (double)w[i]);
    if (!(off <= tolerance))
      fail_msg("%s: logit [%d, %d] is %g, transformers has %g", name,
               (int)(i / info->vocab), (int)(i % info->vocab), (double)got[i],
               (double)w[i]);
    if (off > worst) worst = off;
  }
  ptq_free(got);
  ptq_npy_release(&ids);
  ptq_npy_release(&want);
  return worst;
}

static double window_nll(ptq_model *m, const uint32_t *ids, int64_t n) {
  const int64_t vocab = ptq_model_get_info(m)->vocab;
  float *logits = forward(m, ids, n);
  double sum = 0.0;
  for (int64_t i = 0; i + 1 < n; i++) {
    const float *row = logits + i * vocab;
    const float top = ptq_vec_max(row, vocab, NULL);
    sum += (double)top + log(ptq_vec_sum_exp(row, vocab, top)) -
           (double)row[ids[i + 1]];
  }
  ptq_free(logits);
  return sum / (double)(n - 1);
}

static void check_nll(const char *name, ptq_model *m) {
  char path[PATH_LEN];
  ptq_npy windows;
  snprintf(path, sizeof path, "%s%s.", GOLDEN, name);
  read_golden(path, "windows", PTQ_NPY_U32, &windows, 2);
  snprintf(path, sizeof path, "%s%s.nll.json", GOLDEN, name);
  json_t *json = json_load_file(path, 0, NULL);
  const json_t *list = json_object_get(json, "nll");
  const int64_t n = windows.dims[1];
  const uint32_t *ids = windows.data;
  double worst = 0.0;
  assert_int_equal((int64_t)json_array_size(list), windows.dims[0]);
  for (int64_t w = 0; w < windows.dims[0]; w++) {
    const double want = json_real_value(json_array_get(list, (size_t)w));
    const double got = window_nll(m, ids + w * n, n);
    const double off = fabs(got - want) / want;
    if (!(off <= NLL_TOL))
      fail_msg("%s: NLL of window %d is %.8f, transformers has %.8f", name,
               (int)w, got, want);
    if (off > worst) worst = off;
  }
  print_message(", NLL within %.1e\n", worst);
  json_decref(json);
  ptq_npy_release(&windows);
}

static void every_zoo_model_has_the_logits_of_transformers(void **state) {
  (void)state;
  DIR *dir = opendir(ZOO);
  assert_non_null(dir);
  int n = 0;
  const struct dirent *entry = NULL;
  while ((entry = readdir(dir)) != NULL) {
    char path[PATH_LEN];
    snprintf(path, sizeof path, "%s%s/config.json", ZOO, entry->d_name);
    if (entry->d_name[0] == '.' || !ptq_path_exists(path)) continue;
    snprintf(path, sizeof path, "%s%s", ZOO, entry->d_name);
    ptq_model *m = NULL;
    MUST(ptq_model_open(path, &m, &e_));
    snprintf(path, sizeof path, "%s%s.nll.json", GOLDEN, entry->d_name);
    if (!ptq_path_exists(path))
      fail_msg("zoo model '%s' has no golden logits: run "
               "tests/golden/logits/make_logits.py",
               entry->d_name);
    snprintf(path, sizeof path, "%s%s.", GOLDEN, entry->d_name);
    print_message("%-16s logits within %.1e", entry->d_name,
                  check_logits(entry->d_name, path, m, LOGIT_TOL));
    check_nll(entry->d_name, m);
    ptq_model_close(m);
    n++;
  }
  closedir(dir);
  assert_true(n >= 2);
}

static void check_run(const char *name, const json_t *golden) {
  enum { TOKENS = 64 };
  char path[PATH_LEN];
  uint32_t ids[TOKENS];
  ptq_model *m = NULL;
  const json_t *list = json_object_get(golden, "ids");
  const json_t *want = json_object_get(json_object_get(golden, "models"), name);
  const int64_t stride = json_integer_value(json_object_get(golden, "stride"));
  if (want == NULL)
    fail_msg("checkpoint '%s' has no golden logits: run "
             "tests/golden/logits/make_logits.py --runs",
             name);
  assert_int_equal(json_array_size(list), TOKENS);
  for (size_t i = 0; i < TOKENS; i++)
    ids[i] = (uint32_t)json_integer_value(json_array_get(list, i));
  snprintf(path, sizeof path, "%s%s", RUNS, name);
  MUST(ptq_model_open(path, &m, &e_));
  const double nll = json_real_value(json_object_get(want, "nll"));
  const double got = window_nll(m, ids, TOKENS);
  if (!(fabs(got - nll) <= NLL_TOL * nll))
    fail_msg("%s: NLL is %.8f, transformers has %.8f", name, got, nll);
  const int64_t vocab = ptq_model_get_info(m)->vocab;
  const json_t *row = json_object_get(want, "logits");
  float *logits = forward(m, ids, TOKENS);
  assert_int_equal((int64_t)json_array_size(row) * stride, vocab);
  for (int64_t v = 0; v < vocab; v += stride) {
    const double x = json_real_value(json_array_get(row, (size_t)(v / stride)));
    const double y = (double)logits[(TOKENS - 1) * vocab + v];
    if (!(fabs(x - y) <= LOGIT_TOL))
      fail_msg("%s: logit %d is %g, transformers has %g", name, (int)v, y, x);
  }
  ptq_free(logits);
  ptq_model_close(m);
}

static void every_checkpoint_of_a_run_agrees_with_transformers(void **state) {
  (void)state;
  json_t *golden = json_load_file(GOLDEN "runs.json", 0, NULL);
  assert_non_null(golden);
  DIR *dir = opendir(RUNS);
  assert_non_null(dir);
  size_t n = 0;
  const struct dirent *entry = NULL;
  while ((entry = readdir(dir)) != NULL)
    if (entry->d_name[0] != '.') {
      check_run(entry->d_name, golden);
      n++;
    }
  closedir(dir);
  assert_int_equal(n, json_object_size(json_object_get(golden, "models")));
  json_decref(golden);
}

static void every_architecture_has_the_logits_of_transformers(void **state) {
  (void)state;
  enum { ROWS = 64 };
  bool seen[ROWS] = {false};
  DIR *dir = opendir(ARCHITECTURES);
  assert_non_null(dir);
  const struct dirent *entry = NULL;
  const char *name = NULL, *class_name = NULL;
  while ((entry = readdir(dir)) != NULL) {
    char path[PATH_LEN];
    snprintf(path, sizeof path, "%s%s/config.json", ARCHITECTURES,
             entry->d_name);
    if (entry->d_name[0] == '.' || !ptq_path_exists(path)) continue;
    snprintf(path, sizeof path, "%s%s/", ARCHITECTURES, entry->d_name);
    ptq_model *m = NULL;
    MUST(ptq_model_open(path, &m, &e_));
    print_message("%-16s logits within %.1e\n", entry->d_name,
                  check_logits(entry->d_name, path, m, LOGIT_TOL));
    for (int i = 0; ptq_arch_row(i, &name, &class_name); i++)
      if (strcmp(name, ptq_model_get_info(m)->arch) == 0) seen[i] = true;
    ptq_model_close(m);
  }
  closedir(dir);
  for (int i = 0; ptq_arch_row(i, &name, &class_name); i++)
    if (!seen[i])
      fail_msg("architecture '%s' has no golden logits: run "
               "tests/golden/architectures/make_architectures.py",
               name);
}

/* How far bf16 moves logits: what the test below could not miss. */
static double moved(ptq_model *m, const char *stem) {
  ptq_npy ids;
  double most = 0.0;
  read_golden(stem, "ids", PTQ_NPY_U32, &ids, 1);
  float *bf16 = forward(m, ids.data, ids.n);
  MUST(ptq_model_set_compute(m, PTQ_COMPUTE_F32, &e_));
  float *f32 = forward(m, ids.data, ids.n);
  for (int64_t i = 0; i < ids.n * ptq_model_get_info(m)->vocab; i++)
    most = fmax(most, fabs((double)bf16[i] - (double)f32[i]));
  ptq_free(bf16);
  ptq_free(f32);
  ptq_npy_release(&ids);
  return most;
}

static void bf16_has_the_logits_of_rounded_operands(void **state) {
  (void)state;
  enum { ROWS = 64 };
  bool seen[ROWS] = {false};
  DIR *dir = opendir(BF16);
  assert_non_null(dir);
  const struct dirent *entry = NULL;
  const char *name = NULL, *class_name = NULL;
  while ((entry = readdir(dir)) != NULL) {
    char path[PATH_LEN], stem[PATH_LEN], model[64] = "";
    if (strstr(entry->d_name, ".ids.npy") == NULL) continue;
    (void)sscanf(entry->d_name, "%63[^.]", model);
    snprintf(path, sizeof path, "%s%s", ARCHITECTURES, model);
    snprintf(stem, sizeof stem, "%s%s.", BF16, model);
    ptq_model *m = NULL;
    MUST(ptq_model_open(path, &m, &e_));
    MUST(ptq_model_set_compute(m, PTQ_COMPUTE_BF16, &e_));
    const double off = check_logits(model, stem, m, BF16_TOL);
    const double far = moved(m, stem);
    print_message("%-16s logits within %.1e, from float32 %.1e\n", model, off,
                  far);
    assert_true(far > 100.0 * BF16_TOL);
    for (int i = 0; ptq_arch_row(i, &name, &class_name); i++)
      if (strcmp(name, ptq_model_get_info(m)->arch) == 0) seen[i] = true;
    ptq_model_close(m);
  }
  closedir(dir);
  for (int i = 0; ptq_arch_row(i, &name, &class_name); i++)
    if (!seen[i])
      fail_msg("architecture '%s' has no golden logits in bf16: run "
               "tests/golden/bf16/make_bf16.py",
               name);
}

static int start(void **state) {
  (void)state;
  return ptq_blas_init(NULL) == PTQ_OK && ptq_bf16_init(NULL) == PTQ_OK ? 0
                                                                        : -1;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_zoo_model_has_the_logits_of_transformers),
      cmocka_unit_test(every_checkpoint_of_a_run_agrees_with_transformers),
      cmocka_unit_test(every_architecture_has_the_logits_of_transformers),
      cmocka_unit_test(bf16_has_the_logits_of_rounded_operands),
  };
  return cmocka_run_group_tests_name("model/logits", tests, start, NULL);
}
