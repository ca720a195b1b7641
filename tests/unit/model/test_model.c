/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "model_fixture.h"

#include <math.h>

#include "arch.h"
#include "ptq/base/mem.h"
#include "ptq/model/model.h"

static ptq_status open_it(const fx_model *m, ptq_model **out, ptq_err *err) {
  fx_write(m);
  return ptq_model_open(m->dir, out, err);
}

static void expect_refusal(const fx_model *m, ptq_status rc, const char *says) {
  ptq_model *model = NULL;
  ptq_err err = {0};
  const ptq_status got = open_it(m, &model, &err);
  ptq_model_close(model);
  if (got != rc || strstr(err.msg, says) == NULL)
    fail_msg("expected '%s' with status %d, got %d: %s", says, (int)rc,
             (int)got, err.msg);
}

static void a_llama_is_described(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  fx_llama(&m);
  FX_MUST(open_it(&m, &model, &e_));
  const ptq_model_info *i = ptq_model_get_info(model);
  assert_string_equal(i->arch, "llama");
  assert_true(i->d_model == 24 && i->n_blocks == 2 && i->n_heads == 6);
  assert_true(i->n_kv_heads == 2 && i->d_head == 10 && i->d_ff == 40);
  assert_true(i->vocab == 50 && i->max_positions == 1500);
  assert_true(i->norm == PTQ_NORM_RMS && i->act == PTQ_ACT_SILU);
  assert_true(i->has_gate && !i->tied_head && !i->dequantized);
  assert_int_equal(i->positions, PTQ_POSITIONS_ROTARY);
  assert_true(i->rotary_width == 10 && i->norm_eps == 1e-5);
  assert_true(fabs((double)i->rope[0].frequency[1] - pow(500.0, -0.2)) < 1e-6);
  const int64_t linear = 2 * (60 * 24 + 2 * 20 * 24 + 24 * 60 + 3 * 40 * 24);
  assert_int_equal(i->params_quantizable, linear);
  assert_int_equal(i->params_nonembedding, linear + 5 * 24);
  assert_int_equal(i->params, linear + 5 * 24 + 2 * 50 * 24);
  assert_true(i->bits_unquantized == 32.0 * (5 * 24 + 2 * 50 * 24));
  assert_int_equal(ptq_role_outputs(i, PTQ_ROLE_Q), 60);
  assert_int_equal(ptq_role_outputs(i, PTQ_ROLE_V), 20);
  assert_int_equal(ptq_role_inputs(i, PTQ_ROLE_O), 60);
  assert_int_equal(ptq_role_inputs(i, PTQ_ROLE_DOWN), 40);
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_layer_tensor_name(model, 1, PTQ_ROLE_GATE, name);
  assert_string_equal(name, "model.layers.1.mlp.gate_proj.weight");
  ptq_model_close(model);
  fx_end(&m);
}

static void an_opt_is_described(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  fx_opt(&m);
  fx_config_add(&m, "\"ptqsweep_provenance\": \"dequantized\"");
  FX_MUST(open_it(&m, &model, &e_));
  const ptq_model_info *i = ptq_model_get_info(model);
  assert_string_equal(i->arch, "opt");
  assert_true(i->norm == PTQ_NORM_LAYER && i->act == PTQ_ACT_RELU);
  assert_true(!i->has_gate && i->tied_head && i->dequantized);
  assert_int_equal(i->positions, PTQ_POSITIONS_LEARNED);
  assert_true(i->position_offset == 2 && i->n_kv_heads == 3);
  assert_false(ptq_role_present(i, PTQ_ROLE_GATE));
  const int64_t linear = 2 * (4 * 30 * 30 + 2 * 44 * 30);
  const int64_t other = 2 * (4 * 30 + 44 + 30 + 4 * 30) + 2 * 30;
  assert_int_equal(i->params_quantizable, linear);
  assert_int_equal(i->params_nonembedding, linear + other);
  assert_int_equal(i->params, linear + other + (50 + 1502) * 30);
  ptq_model_close(model);
  fx_end(&m);
}

static void roles_and_sites_belong_together(void **state) {
  (void)state;
  assert_int_equal(ptq_role_site(PTQ_ROLE_V), PTQ_SITE_ATTN_IN);
  assert_int_equal(ptq_role_site(PTQ_ROLE_O), PTQ_SITE_ATTN_OUT);
  assert_int_equal(ptq_role_site(PTQ_ROLE_GATE), PTQ_SITE_MLP_IN);
  assert_int_equal(ptq_role_site(PTQ_ROLE_DOWN), PTQ_SITE_MLP_OUT);
  assert_string_equal(ptq_site_name(PTQ_SITE_MLP_OUT), "mlp_out");
}

typedef struct refusal {
  const char *old, *now; /* in the config; old NULL: added */
  ptq_status rc;
  const char *says;
} refusal;

static void check_refusals(void (*make)(fx_model *), const refusal *r,
                           size_t n) {
  for (size_t i = 0; i < n; i++) {
    fx_model m;
    make(&m);
    if (r[i].old != NULL)
      fx_config(&m, r[i].old, r[i].now);
    else
      fx_config_add(&m, r[i].now);
    expect_refusal(&m, r[i].rc, r[i].says);
    fx_end(&m);
  }
}

static void llama_configs_that_do_not_fit_are_refused(void **state) {
  (void)state;
  static const refusal r[] = {
      {"\"llama\"", "\"lama\"", PTQ_E_UNSUPPORTED,
       "model_type 'lama' is not known; known: bloom, falcon, "},
      {"\"model_type\": \"llama\",", "", PTQ_E_FORMAT, "has no 'model_type'"},
      {"LlamaForCausalLM", "LlamaForTokenClassification", PTQ_E_UNSUPPORTED,
       "'architectures': [\"LlamaForTokenClassification\"] is not supported"},
      {NULL, "\"rope_scaling\": {\"rope_type\": \"llama3\"}", PTQ_E_UNSUPPORTED,
       "'rope_scaling': {\"rope_type\":\"llama3\"} is not"},
      {NULL, "\"rope_scaling\": {\"type\": \"spiral\", \"factor\": 2.0}",
       PTQ_E_UNSUPPORTED, "is not supported; supported: default, linear"},
      {NULL, "\"rope_scaling\": {\"type\": \"linear\", \"twist\": 2.0}",
       PTQ_E_UNSUPPORTED, "config.json: rope_scaling': 'twist': 2.0"},
      {NULL, "\"rope_scaling\": 4", PTQ_E_FORMAT, "'rope_scaling' is 4"},
      {NULL, "\"sliding_window\": 4096", PTQ_E_UNSUPPORTED,
       "'sliding_window': 4096 is not supported"},
      {NULL, "\"partial_rotary_factor\": 0.5", PTQ_E_UNSUPPORTED,
       "'partial_rotary_factor': 0.5"},
      {NULL, "\"rope_interleaved\": true", PTQ_E_UNSUPPORTED,
       "'rope_interleaved': true"},
      {NULL, "\"quantization_config\": {\"bits\": 4}", PTQ_E_UNSUPPORTED,
       "'quantization_config': {\"bits\":4} is not supported"},
      {"\"silu\"", "\"mish\"", PTQ_E_UNSUPPORTED,
       "'hidden_act': \"mish\" is not supported; supported: silu, relu"},
      {"\"hidden_size\": 24,", "", PTQ_E_FORMAT, "has no 'hidden_size'"},
      {"\"hidden_size\": 24", "\"hidden_size\": -24", PTQ_E_FORMAT,
       "'hidden_size' is -24, expected a positive integer"},
      {"\"hidden_size\": 24", "\"hidden_size\": 24.5", PTQ_E_FORMAT,
       "'hidden_size' is 24.5"},
      {"\"hidden_size\": 24", "\"hidden_size\": 4294967320", PTQ_E_FORMAT,
       "'hidden_size' is 4294967320"},
      {"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", PTQ_E_FORMAT,
       "num_attention_heads 6 is not a multiple of"},
      {"\"head_dim\": 10", "\"head_dim\": 9", PTQ_E_FORMAT,
       "a head of odd width 9"},
      {"\"num_attention_heads\": 6, \"num_key_value_heads\": 2,"
       " \"head_dim\": 10",
       "\"num_attention_heads\": 7", PTQ_E_FORMAT,
       "hidden_size 24 is not a multiple of num_attention_heads 7"},
      {"1e-5", "0.0", PTQ_E_FORMAT, "'rms_norm_eps' is 0.0"},
      {"false", "1", PTQ_E_FORMAT,
       "'tie_word_embeddings' is 1, expected true or false"},
      {"{", "[", PTQ_E_FORMAT, "config.json': line"},
      {NULL, "\"vocab_size\": 51", PTQ_E_FORMAT, "duplicate object key"},
      {"\"vocab_size\": 50", "\"vocab_size\": 51", PTQ_E_FORMAT,
       "tensor 'model.embed_tokens.weight' has shape [50, 24], but"},
      {"\"intermediate_size\": 40", "\"intermediate_size\": 41", PTQ_E_FORMAT,
       "implies [41, 24]"},
      {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", PTQ_E_FORMAT,
       "no tensor 'model.layers.2.input_layernorm.weight'"},
      {"\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
       PTQ_E_UNSUPPORTED, "tensor 'model.layers.1."},
      {NULL, "\"attention_bias\": true", PTQ_E_FORMAT,
       "no tensor 'model.layers.0.self_attn.q_proj.bias'"},
  };
  check_refusals(fx_llama, r, sizeof r / sizeof r[0]);
}

static void opt_configs_that_do_not_fit_are_refused(void **state) {
  (void)state;
  static const refusal r[] = {
      {"\"relu\"", "\"mish\"", PTQ_E_UNSUPPORTED,
       "'activation_function': \"mish\""},
      {"\"do_layer_norm_before\": true", "\"do_layer_norm_before\": false",
       PTQ_E_UNSUPPORTED, "tensor 'model.decoder.final_layer_norm."},
      {"\"word_embed_proj_dim\": 30", "\"word_embed_proj_dim\": 16",
       PTQ_E_FORMAT, "implies [50, 16]"},
      {NULL, "\"layer_norm_elementwise_affine\": false", PTQ_E_UNSUPPORTED,
       "has no place in a model_type 'opt'"},
      {NULL, "\"_remove_final_layer_norm\": true", PTQ_E_UNSUPPORTED,
       "tensor 'model.decoder.final_layer_norm."},
      {NULL, "\"enable_bias\": false", PTQ_E_UNSUPPORTED,
       "has no place in a model_type 'opt'"},
      {NULL, "\"tie_word_embeddings\": false", PTQ_E_FORMAT,
       "no tensor 'lm_head.weight'"},
      {"\"max_position_embeddings\": 1500", "\"max_position_embeddings\": 1502",
       PTQ_E_FORMAT, "implies [1504, 30]"},
      {"\"opt\"", "\"llama\"", PTQ_E_FORMAT, "has no 'intermediate_size'"},
  };
  check_refusals(fx_opt, r, sizeof r / sizeof r[0]);
}

static void unknown_keys_without_effect_are_let_through(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  fx_llama(&m);
  fx_config_add(&m, "\"rope_scaling\": null, \"sliding_window\": null");
  fx_config_add(&m, "\"something_new\": false, \"use_cache\": true");
  fx_config_add(&m, "\"pruned_heads\": {}, \"activation_dropout\": 0.1");
  fx_config_add(&m, "\"torch_dtype\": \"bfloat16\", \"pad_token_id\": 3");
  FX_MUST(open_it(&m, &model, &e_));
  ptq_model_close(model);
  fx_end(&m);
}

static void missing_files_and_tensors_are_named(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  ptq_err err = {0}, none = {0};
  assert_int_equal(ptq_model_open("no-such-model", &model, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "model 'no-such-model' is not a directory"));
  fx_llama(&m);
  assert_int_equal(ptq_model_open(m.dir, &model, &none), PTQ_E_IO);
  assert_non_null(strstr(none.msg, "config.json' is missing"));
  fx_drop(&m, "model.layers.1.mlp.up_proj.weight");
  expect_refusal(&m, PTQ_E_FORMAT,
                 "no tensor 'model.layers.1.mlp.up_proj.weight'");
  fx_add(&m, "model.layers.1.mlp.up_proj.qweight", 3, 40, 0.0F);
  expect_refusal(&m, PTQ_E_UNSUPPORTED, "is quantized already");
  fx_drop(&m, "model.embed_tokens.weight");
  expect_refusal(&m, PTQ_E_FORMAT, "no tensor 'model.embed_tokens.weight'");
  fx_end(&m);
}

static void a_tensor_without_a_place_is_refused(void **state) {
  (void)state;
  fx_model m;
  fx_llama(&m);
  fx_add(&m, "model.layers.0.self_attn.q_norm.weight", 10, 0, 1.0F);
  expect_refusal(&m, PTQ_E_UNSUPPORTED,
                 "tensor 'model.layers.0.self_attn.q_norm.weight' has no");
  fx_end(&m);
}

static void old_buffers_and_second_copies_are_ignored(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  fx_llama(&m);
  fx_add(&m, "model.layers.0.self_attn.rotary_emb.inv_freq", 5, 0, 1.0F);
  fx_config(&m, "false", "true"); /* tied, with an lm_head all the same */
  memcpy(fx_find(&m, "lm_head.weight")->values,
         fx_find(&m, "model.embed_tokens.weight")->values,
         50 * 24 * sizeof(float));
  FX_MUST(open_it(&m, &model, &e_));
  assert_true(ptq_model_get_info(model)->tied_head);
  ptq_head head;
  FX_MUST(ptq_model_load_head(model, &head, &e_));
  assert_memory_equal(head.weight,
                      fx_find(&m, "model.embed_tokens.weight")->values,
                      50 * 24 * sizeof(float));
  ptq_head_release(&head);
  ptq_model_close(model);
  fx_end(&m);
}

static void another_head_than_the_tied_one_is_refused(void **state) {
  (void)state;
  fx_model m;
  fx_llama(&m);
  fx_config(&m, "false", "true");
  memcpy(fx_find(&m, "lm_head.weight")->values,
         fx_find(&m, "model.embed_tokens.weight")->values,
         50 * 24 * sizeof(float));
  fx_find(&m, "lm_head.weight")->values[50 * 24 - 1] += 1.0F;
  expect_refusal(&m, PTQ_E_FORMAT,
                 "tensor 'lm_head.weight' differs from "
                 "'model.embed_tokens.weight'");
  fx_end(&m);
}

static void a_prefix_may_be_missing(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  char name[PTQ_TENSOR_NAME_MAX];
  fx_opt(&m);
  for (int i = 0; i < m.n; i++)
    memmove(m.t[i].name, m.t[i].name + strlen("model."),
            strlen(m.t[i].name + strlen("model.")) + 1);
  FX_MUST(open_it(&m, &model, &e_));
  ptq_layer_tensor_name(model, 0, PTQ_ROLE_UP, name);
  assert_string_equal(name, "decoder.layers.0.fc1.weight");
  ptq_model_close(model);
  fx_end(&m);
}

static void a_block_is_loaded_whole(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  ptq_block b;
  fx_opt(&m);
  FX_MUST(open_it(&m, &model, &e_));
  FX_MUST(ptq_model_load_block(model, 1, &b, &e_));
  assert_int_equal(b.index, 1);
  assert_null(b.linear[PTQ_ROLE_GATE].weight);
  const ptq_linear *l = &b.linear[PTQ_ROLE_DOWN];
  assert_true(l->out == 30 && l->in == 44);
  assert_memory_equal(l->weight,
                      fx_find(&m, "model.decoder.layers.1.fc2.weight")->values,
                      30 * 44 * sizeof(float));
  assert_memory_equal(l->bias,
                      fx_find(&m, "model.decoder.layers.1.fc2.bias")->values,
                      30 * sizeof(float));
  assert_memory_equal(
      b.norm[PTQ_NORM_MLP_IN].b,
      fx_find(&m, "model.decoder.layers.1.final_layer_norm.bias")->values,
      30 * sizeof(float));
  ptq_block_release(&b);
  assert_null(b.memory);
  ptq_model_close(model);
  fx_end(&m);
}

static void nan_in_a_weight_fails_its_block_only(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  ptq_block b;
  ptq_err err = {0};
  fx_llama(&m);
  fx_find(&m, "model.layers.1.self_attn.k_proj.weight")->values[77] = NAN;
  FX_MUST(open_it(&m, &model, &e_));
  FX_MUST(ptq_model_load_block(model, 0, &b, &e_));
  ptq_block_release(&b);
  assert_int_equal(ptq_model_load_block(model, 1, &b, &err), PTQ_E_NUMERIC);
  assert_null(b.memory);
  assert_non_null(strstr(
      err.msg,
      "tensor 'model.layers.1.self_attn.k_proj.weight': element 77 is NaN"));
  ptq_model_close(model);
  fx_end(&m);
}

static void embedding_checks_tokens_and_length(void **state) {
  (void)state;
  fx_model m;
  ptq_model *model = NULL;
  ptq_embedding e;
  float *h = NULL;
  uint32_t ids[1501] = {7, 49, 3};
  fx_opt(&m);
  FX_MUST(open_it(&m, &model, &e_));
  const ptq_model_info *info = ptq_model_get_info(model);
  FX_MUST(ptq_alloc(&h, 1501 * 30, sizeof *h, "test", &e_));
  FX_MUST(ptq_model_load_embedding(model, &e, &e_));
  FX_MUST(ptq_embed(info, &e, ids, 3, h, &e_));
  const float *t = fx_find(&m, "model.decoder.embed_tokens.weight")->values;
  const float *p = fx_find(&m, "model.decoder.embed_positions.weight")->values;
  for (int i = 0; i < 3; i++)
    for (int k = 0; k < 30; k++)
      assert_true(h[i * 30 + k] ==
                  t[ids[i] * 30 + (uint32_t)k] + p[(i + 2) * 30 + k]);
  FX_MUST(ptq_embed(info, &e, ids, 1500, h, &e_));
  ptq_err far = {0}, beyond = {0};
  assert_int_equal(ptq_embed(info, &e, ids, 1501, h, &far), PTQ_E_ARG);
  assert_non_null(strstr(far.msg, "1501 tokens, but the model has 1500"));
  ids[2] = 50;
  assert_int_equal(ptq_embed(info, &e, ids, 3, h, &beyond), PTQ_E_ARG);
  assert_non_null(strstr(beyond.msg, "token 2 of the window is 50, but"));
  ptq_embedding_release(&e);
  ptq_free(h);
  ptq_model_close(model);
  fx_end(&m);
}

static void the_fingerprint_follows_config_and_weights(void **state) {
  (void)state;
  fx_model m;
  char hex[4][PTQ_HASH_HEX];
  fx_llama(&m);
  for (int i = 0; i < 4; i++) {
    ptq_model *model = NULL;
    if (i == 2) m.t[3].values[5] += 1.0F;
    if (i == 3) fx_config(&m, "500.0", "501.0");
    FX_MUST(open_it(&m, &model, &e_));
    FX_MUST(ptq_model_fingerprint(model, hex[i], &e_));
    ptq_model_close(model);
  }
  assert_string_equal(hex[0], hex[1]);
  assert_string_not_equal(hex[1], hex[2]);
  assert_string_not_equal(hex[2], hex[3]);
  fx_end(&m);
}

static void every_architecture_row_is_complete(void **state) {
  (void)state;
  int n = 0;
  for (const ptq_arch *const *a = ptq_archs(); *a != NULL; a++, n++) {
    assert_true((*a)->model_type[0] != '\0' && (*a)->class_name[0] != '\0');
    assert_true(strlen((*a)->model_type) < PTQ_ARCH_NAME_MAX);
    assert_non_null((*a)->prefixes[0]);
    assert_non_null((*a)->read);
    const char *const *roles = (*a)->roles;
    assert_true(roles[PTQ_ROLE_QKV] != NULL ||
                (roles[PTQ_ROLE_Q] != NULL && roles[PTQ_ROLE_K] != NULL &&
                 roles[PTQ_ROLE_V] != NULL));
    assert_true(roles[PTQ_ROLE_UP] != NULL || roles[PTQ_ROLE_GATE_UP] != NULL);
    assert_true(roles[PTQ_ROLE_O] != NULL && roles[PTQ_ROLE_DOWN] != NULL);
  }
  assert_true(n >= 2);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_llama_is_described),
      cmocka_unit_test(an_opt_is_described),
      cmocka_unit_test(roles_and_sites_belong_together),
      cmocka_unit_test(llama_configs_that_do_not_fit_are_refused),
      cmocka_unit_test(opt_configs_that_do_not_fit_are_refused),
      cmocka_unit_test(unknown_keys_without_effect_are_let_through),
      cmocka_unit_test(missing_files_and_tensors_are_named),
      cmocka_unit_test(a_tensor_without_a_place_is_refused),
      cmocka_unit_test(old_buffers_and_second_copies_are_ignored),
      cmocka_unit_test(another_head_than_the_tied_one_is_refused),
      cmocka_unit_test(a_prefix_may_be_missing),
      cmocka_unit_test(a_block_is_loaded_whole),
      cmocka_unit_test(nan_in_a_weight_fails_its_block_only),
      cmocka_unit_test(embedding_checks_tokens_and_length),
      cmocka_unit_test(the_fingerprint_follows_config_and_weights),
      cmocka_unit_test(every_architecture_row_is_complete),
  };
  return cmocka_run_group_tests_name("model/model", tests, NULL, NULL);
}
