/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model_fixture.h"

#include "ptq/base/file.h"
#include "ptq/model/export.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/architectures/"

static void clear(const char *dir) {
  static const char *const files[] = {"config.json", "model.safetensors",
                                      "model.safetensors.part",
                                      "generation_config.json"};
  char path[FX_PATH + FX_NAME];
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    snprintf(path, sizeof path, "%s/%s", dir, files[i]);
    (void)unlink(path);
  }
  assert_int_equal(rmdir(dir), 0);
}

/* Doubles the weights of linear layers on the way. */
static void copy(const char *name, const char *dir, ptq_export_type type) {
  char source[FX_PATH];
  ptq_model *m = NULL;
  ptq_export *e = NULL;
  snprintf(source, sizeof source, "%s%s", GOLDEN, name);
  FX_MUST(ptq_model_open(source, &m, &e_));
  FX_MUST(ptq_export_open(m, source, dir, type, "twice", &e, &e_));
  for (int64_t i = 0; i < ptq_model_get_info(m)->n_blocks; i++) {
    ptq_block b;
    FX_MUST(ptq_model_load_block(m, i, &b, &e_));
    for (int r = 0; r < PTQ_ROLE_COUNT; r++)
      for (int64_t k = 0;
           b.linear[r].weight != NULL && k < b.linear[r].out * b.linear[r].in;
           k++)
        b.linear[r].weight[k] *= 2.0F;
    FX_MUST(ptq_export_block(e, &b, &e_));
    ptq_block_release(&b);
  }
  FX_MUST(ptq_export_finish(e, &e_));
  ptq_export_free(e);
  ptq_model_close(m);
}

static void expect_doubled(const char *name, const char *dir) {
  char source[FX_PATH];
  ptq_model *m = NULL, *twice = NULL;
  snprintf(source, sizeof source, "%s%s", GOLDEN, name);
  FX_MUST(ptq_model_open(source, &m, &e_));
  FX_MUST(ptq_model_open(dir, &twice, &e_));
  const ptq_model_info *info = ptq_model_get_info(m);
  assert_true(ptq_model_get_info(twice)->dequantized);
  assert_int_equal(ptq_model_get_info(twice)->params, info->params);
  for (int64_t i = 0; i < info->n_blocks; i++) {
    ptq_block a, b;
    FX_MUST(ptq_model_load_block(m, i, &a, &e_));
    FX_MUST(ptq_model_load_block(twice, i, &b, &e_));
    for (int r = 0; r < PTQ_ROLE_COUNT; r++) {
      const ptq_linear *l = &a.linear[r];
      for (int64_t k = 0; l->weight != NULL && k < l->out * l->in; k++)
        assert_true(b.linear[r].weight[k] == 2.0F * l->weight[k]);
      for (int64_t k = 0; l->bias != NULL && k < l->out; k++)
        assert_true(b.linear[r].bias[k] == l->bias[k]);
    }
    ptq_block_release(&a);
    ptq_block_release(&b);
  }
  ptq_head h, h2;
  FX_MUST(ptq_model_load_head(m, &h, &e_));
  FX_MUST(ptq_model_load_head(twice, &h2, &e_));
  assert_memory_equal(h.weight, h2.weight,
                      (size_t)(info->vocab * info->d_model) * sizeof(float));
  ptq_head_release(&h);
  ptq_head_release(&h2);
  ptq_model_close(m);
  ptq_model_close(twice);
}

static void every_kind_of_tensor_is_written_back(void **state) {
  (void)state;
  static const char *const cases[] = {"gpt2", "phi3", "gemma", "opt-350m",
                                      "phi"};
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
    for (int type = PTQ_EXPORT_F32; type <= PTQ_EXPORT_BF16; type++) {
      copy(cases[i], "made", (ptq_export_type)type); /* bf16 weights */
      expect_doubled(cases[i], "made");
      clear("made");
    }
}

static void an_unfinished_model_is_none(void **state) {
  (void)state;
  ptq_model *m = NULL;
  ptq_export *e = NULL;
  ptq_err early = {0}, err = {0}, twice = {0};
  FX_MUST(ptq_model_open(GOLDEN "gpt2", &m, &e_));
  FX_MUST(
      ptq_export_open(m, GOLDEN "gpt2", "half", PTQ_EXPORT_F32, "x", &e, &e_));
  assert_int_equal(ptq_export_finish(e, &early), PTQ_E_ARG);
  assert_non_null(strstr(early.msg, "0 of 2 blocks"));
  ptq_export_free(e);
  assert_false(ptq_path_exists("half/model.safetensors.part"));
  assert_false(ptq_path_exists("half/config.json"));
  clear("half");
  assert_int_equal(ptq_export_open(m, GOLDEN "gpt2", "no/such/place",
                                   PTQ_EXPORT_F32, "x", &e, &err),
                   PTQ_E_IO);
  assert_null(e);
  copy("gpt2", "made", PTQ_EXPORT_F32);
  assert_int_equal(ptq_export_open(m, GOLDEN "gpt2", "made", PTQ_EXPORT_F32,
                                   "x", &e, &twice),
                   PTQ_E_ARG);
  assert_non_null(strstr(twice.msg, "'made' holds a model already"));
  clear("made");
  ptq_model_close(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_kind_of_tensor_is_written_back),
      cmocka_unit_test(an_unfinished_model_is_none),
  };
  return cmocka_run_group_tests_name("model/export", tests, NULL, NULL);
}
