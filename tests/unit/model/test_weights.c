/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model_fixture.h"

#include "weights.h"

static const char INDEX[] = "model.safetensors.index.json";

static void three_tensors(fx_model *m) {
  fx_start(m);
  fx_add(m, "b", 2, 3, 0.0F);
  fx_add(m, "c", 4, 0, 0.0F);
  fx_add(m, "a", 5, 0, 0.0F);
}

static void write_two_shards(fx_model *m, const char *index) {
  m->t[0].shard = 1;
  m->t[1].shard = 2;
  m->t[2].shard = 2;
  fx_write_shard(m, "one.safetensors", 1);
  fx_write_shard(m, "two.safetensors", 2);
  fx_write_file(m, INDEX, index, strlen(index));
}

static void check_tensors(const fx_model *m, const ptq_weights *w) {
  int64_t n = 0;
  ptq_tensor *const *all = ptq_weights_all(w, &n);
  assert_int_equal(n, 3);
  assert_string_equal(all[0]->name, "a");
  assert_string_equal(all[2]->name, "c");
  assert_null(ptq_weights_find(w, "ab"));
  assert_null(ptq_weights_find(w, ""));
  assert_null(ptq_weights_find(w, "z"));
  for (int i = 0; i < 3; i++) {
    float x[8];
    const ptq_tensor *t = ptq_weights_find(w, m->t[i].name);
    assert_non_null(t);
    FX_MUST(ptq_tensor_read(t, x, &e_));
    assert_memory_equal(x, m->t[i].values,
                        (size_t)fx_count(&m->t[i]) * sizeof *x);
  }
}

static void a_single_file_is_read(void **state) {
  (void)state;
  fx_model m;
  ptq_weights *w = NULL;
  three_tensors(&m);
  fx_write_shard(&m, "model.safetensors", 0);
  FX_MUST(ptq_weights_open(m.dir, &w, &e_));
  assert_int_equal(ptq_weights_n_files(w), 1);
  check_tensors(&m, w);
  ptq_weights_close(w);
  fx_end(&m);
}

static void shards_are_read_through_their_index(void **state) {
  (void)state;
  fx_model m;
  ptq_weights *w = NULL;
  three_tensors(&m);
  write_two_shards(&m,
                   "{\"metadata\": {\"total_size\": 60}, \"weight_map\": {"
                   "\"a\": \"two.safetensors\", \"b\": \"one.safetensors\", "
                   "\"c\": \"two.safetensors\"}}");
  FX_MUST(ptq_weights_open(m.dir, &w, &e_));
  assert_int_equal(ptq_weights_n_files(w), 2);
  assert_non_null(strstr(ptq_weights_file(w, 0), "one.safetensors"));
  check_tensors(&m, w);
  ptq_weights_close(w);
  fx_end(&m);
}

static void every_lie_of_an_index_is_refused(void **state) {
  (void)state;
  static const struct {
    const char *index;
    ptq_status rc;
    const char *says;
  } cases[] = {
      {"{", PTQ_E_FORMAT, "index.json': line 1:"},
      {"[]", PTQ_E_FORMAT, "has no 'weight_map'"},
      {"{\"weight_map\": {}}", PTQ_E_FORMAT, "has no 'weight_map'"},
      {"{\"weight_map\": {\"a\": 3}}", PTQ_E_FORMAT,
       "the shard of tensor 'a' is not the name of a file"},
      {"{\"weight_map\": {\"a\": \"../two.safetensors\"}}", PTQ_E_FORMAT,
       "the shard of tensor 'a' is not the name of a file"},
      {"{\"weight_map\": {\"a\": \"three.safetensors\"}}", PTQ_E_IO,
       "three.safetensors' is missing"},
      {"{\"weight_map\": {\"a\": \"one.safetensors\", "
       "\"b\": \"one.safetensors\", \"c\": \"two.safetensors\"}}",
       PTQ_E_FORMAT,
       "puts tensor 'a' in 'one.safetensors', which does not have it"},
      {"{\"weight_map\": {\"a\": \"two.safetensors\", "
       "\"b\": \"one.safetensors\", \"c\": \"two.safetensors\", "
       "\"d\": \"two.safetensors\"}}",
       PTQ_E_FORMAT, "puts tensor 'd' in 'two.safetensors'"},
      {"{\"weight_map\": {\"a\": \"two.safetensors\", "
       "\"b\": \"one.safetensors\"}}",
       PTQ_E_FORMAT, "does not name tensor 'c'"},
      {"{\"weight_map\": {\"a\": \"two.safetensors\", "
       "\"a\": \"one.safetensors\"}}",
       PTQ_E_FORMAT, "duplicate object key"},
  };
  fx_model m;
  three_tensors(&m);
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_weights *w = NULL;
    ptq_err err = {0};
    write_two_shards(&m, cases[i].index);
    assert_int_equal(ptq_weights_open(m.dir, &w, &err), cases[i].rc);
    assert_null(w);
    if (strstr(err.msg, cases[i].says) == NULL)
      fail_msg("%s: the message is: %s", cases[i].index, err.msg);
  }
  fx_end(&m);
}

static void a_tensor_in_two_shards_is_refused(void **state) {
  (void)state;
  fx_model m;
  ptq_weights *w = NULL;
  ptq_err err = {0};
  three_tensors(&m);
  snprintf(m.t[2].name, sizeof m.t[2].name, "b");
  write_two_shards(&m, "{\"weight_map\": {\"b\": \"one.safetensors\", "
                       "\"c\": \"two.safetensors\"}}");
  assert_int_equal(ptq_weights_open(m.dir, &w, &err), PTQ_E_FORMAT);
  assert_non_null(strstr(err.msg, "tensor 'b' is in both"));
  fx_end(&m);
}

static void a_directory_without_weights_says_what_is_missing(void **state) {
  (void)state;
  fx_model m;
  ptq_weights *w = NULL;
  ptq_err err = {0}, old = {0};
  fx_start(&m);
  assert_int_equal(ptq_weights_open(m.dir, &w, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "has neither model.safetensors nor"));
  assert_null(strstr(err.msg, "pytorch_model.bin"));
  fx_write_file(&m, "pytorch_model.bin", "x", 1);
  assert_int_equal(ptq_weights_open(m.dir, &w, &old), PTQ_E_IO);
  assert_non_null(strstr(old.msg, "sweeps/convert.py DIR"));
  fx_end(&m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_single_file_is_read),
      cmocka_unit_test(shards_are_read_through_their_index),
      cmocka_unit_test(every_lie_of_an_index_is_refused),
      cmocka_unit_test(a_tensor_in_two_shards_is_refused),
      cmocka_unit_test(a_directory_without_weights_says_what_is_missing),
  };
  return cmocka_run_group_tests_name("model/weights", tests, NULL, NULL);
}
