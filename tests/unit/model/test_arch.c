/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Each family's config: what it asks and the forward pass does not do is
 * refused by key, what does not fit the weights by tensor. The models are
 * those of tests/golden/architectures. */
#include "model_fixture.h"

#include <float.h>
#include <jansson.h>
#include <math.h>

#include "arch.h"
#include "ptq/model/forward.h"

#define GOLDEN PTQ_SOURCE_DIR "/tests/golden/architectures/"

/* The golden model `name` in a directory of its own; `key` of its config is
 * `value` (JSON; NULL takes the key away). */
static void spoil(const char *name, const char *key, const char *value,
                  char dir[FX_PATH]) {
  char path[2 * FX_PATH], to[2 * FX_PATH];
  snprintf(dir, FX_PATH, "spoiled-XXXXXX");
  assert_non_null(mkdtemp(dir));
  snprintf(path, sizeof path, "%s%s/config.json", GOLDEN, name);
  json_t *config = json_load_file(path, 0, NULL);
  assert_non_null(config);
  if (value == NULL)
    (void)json_object_del(config, key);
  else
    assert_int_equal(json_object_set_new(
                         config, key, json_loads(value, JSON_DECODE_ANY, NULL)),
                     0);
  snprintf(path, sizeof path, "%s/config.json", dir);
  assert_int_equal(json_dump_file(config, path, 0), 0);
  json_decref(config);
  snprintf(path, sizeof path, "%s%s/model.safetensors", GOLDEN, name);
  snprintf(to, sizeof to, "%s/model.safetensors", dir);
  assert_int_equal(symlink(path, to), 0);
}

static void sweep_up(const char *dir) {
  char path[2 * FX_PATH];
  snprintf(path, sizeof path, "%s/config.json", dir);
  (void)unlink(path);
  snprintf(path, sizeof path, "%s/model.safetensors", dir);
  (void)unlink(path);
  assert_int_equal(rmdir(dir), 0);
}

typedef struct spoiled {
  const char *name, *key, *value;
  ptq_status rc;
  const char *says;
} spoiled;

static void what_is_not_computed_is_refused_by_key(void **state) {
  (void)state;
  static const spoiled cases[] = {
      {"gpt2", "scale_attn_weights", "false", PTQ_E_UNSUPPORTED,
       "'scale_attn_weights': false is not supported; supported: true"},
      {"opt", "do_layer_norm_before", "null", PTQ_E_FORMAT,
       "'do_layer_norm_before' is null, expected true or false"},
      {"gpt2", "scale_attn_by_inverse_layer_idx", "true", PTQ_E_UNSUPPORTED,
       "'scale_attn_by_inverse_layer_idx': true"},
      {"gpt2", "add_cross_attention", "true", PTQ_E_UNSUPPORTED,
       "'add_cross_attention': true"},
      {"gpt2", "n_inner", "37", PTQ_E_FORMAT,
       "c_fc.weight' has shape [20, 36]"},
      {"gpt2", "n_inner", "2147483647", PTQ_E_FORMAT,
       "an MLP of 2147483647 and 64 positions: no tensor is that large"},
      {"bloom", "apply_residual_connection_post_layernorm", "true",
       PTQ_E_UNSUPPORTED, "'apply_residual_connection_post_layernorm': true"},
      {"bloom", "n_head", "3", PTQ_E_FORMAT,
       "is not a multiple of n_head|num_attention_heads 3"},
      {"falcon-7b", "num_ln_in_parallel_attn", "2", PTQ_E_UNSUPPORTED,
       "'num_ln_in_parallel_attn': 2"},
      {"falcon-40b", "parallel_attn", "false", PTQ_E_UNSUPPORTED,
       "'parallel_attn': false"},
      {"falcon-7b", "multi_query", "false", PTQ_E_FORMAT,
       "query_key_value.weight' has shape"},
      {"falcon-7b", "bias", "true", PTQ_E_FORMAT,
       "no tensor 'transformer.h.0.self_attention.query_key_value.bias'"},
      {"neox", "rotary_pct", "1.5", PTQ_E_UNSUPPORTED, "'rotary_pct': 1.5"},
      {"neox", "rotary_pct", "0.1", PTQ_E_UNSUPPORTED, "'rotary_pct': 0.1"},
      {"neox", "rotary_pct", "0.4", PTQ_E_FORMAT, "odd width 3"},
      {"mistral", "sliding_window", "0", PTQ_E_FORMAT, "'sliding_window' is 0"},
      {"qwen2", "layer_types", "[\"full_attention\"]", PTQ_E_FORMAT,
       "'layer_types' is [\"full_attention\"], expected a list of 2"},
      {"qwen2-windows", "layer_types",
       "[\"full_attention\", \"chunked_attention\"]", PTQ_E_UNSUPPORTED,
       "supported: full_attention and sliding_attention"},
      {"qwen3", "layer_types", "[\"sliding_attention\", \"full_attention\"]",
       PTQ_E_UNSUPPORTED, "sliding attention with its sliding_window"},
      {"qwen3", "num_experts", "8", PTQ_E_UNSUPPORTED, "'num_experts': 8"},
      {"qwen3-moe", "decoder_sparse_step", "2", PTQ_E_UNSUPPORTED,
       "'decoder_sparse_step': 2"},
      {"qwen3-moe", "mlp_only_layers", "[0]", PTQ_E_UNSUPPORTED,
       "'mlp_only_layers': [0]"},
      {"qwen3-moe", "num_experts", "6", PTQ_E_FORMAT,
       "mlp.gate.weight' has shape [5, 20], but"},
      {"qwen3-moe", "num_experts", NULL, PTQ_E_FORMAT, "has no 'num_experts'"},
      {"qwen3-moe", "moe_intermediate_size", "20", PTQ_E_FORMAT,
       "experts.0.gate_proj.weight' has shape [18, 20]"},
      {"olmoe", "num_experts_per_tok", "6", PTQ_E_FORMAT,
       "num_experts_per_tok 6 is more than num_experts 5"},
      {"olmoe", "num_experts", "4096", PTQ_E_UNSUPPORTED,
       "'num_experts' is 4096; at most 1024"},
      {"olmoe", "shared_expert_intermediate_size", "64", PTQ_E_UNSUPPORTED,
       "'shared_expert_intermediate_size': 64"},
      {"mixtral", "num_local_experts", "3", PTQ_E_FORMAT,
       "block_sparse_moe.gate.weight' has shape [5, 20], but"},
      {"mixtral", "model_type", "\"mistral\"", PTQ_E_UNSUPPORTED,
       "supported: MistralForCausalLM"},
      {"gemma", "hidden_act", "\"mish\"", PTQ_E_UNSUPPORTED,
       "'hidden_act': \"mish\""},
      {"neox-sequential", "rope_theta", "500", PTQ_E_UNSUPPORTED,
       "'rope_theta': 500 is not supported; supported: what rotary_emb_base"},
      {"neox-sequential", "rotary_emb_base", NULL, PTQ_E_UNSUPPORTED,
       "(default 10000)"},
      {"falcon-rw", "num_kv_heads", "2", PTQ_E_UNSUPPORTED,
       "'num_kv_heads': 2"},
      {"llama-linear", "rope_scaling", "{\"factor\": 2.0}", PTQ_E_UNSUPPORTED,
       "'rope_scaling': {\"factor\":2.0} is not supported; supported: one "
       "with its rope_type"},
      {"llama", "rope_scaling",
       "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"twist\": false}",
       PTQ_E_UNSUPPORTED, "config.json: rope_scaling': 'twist': false"},
      {"llama", "rope_scaling",
       "{\"rope_type\": \"yarn\", \"factor\": 4.0, \"truncate\": 0}",
       PTQ_E_FORMAT, "'truncate' is 0, expected true or false"},
      {"llama", "rope_scaling",
       "{\"rope_type\": \"linear\", \"factor\": 2.0, \"rope_theta\": 77.0}",
       PTQ_E_UNSUPPORTED,
       "'rope_theta': 77.0 is not supported; supported: the "
       "same as beside it"},
      {"llama-yarn", "rope_parameters",
       "{\"rope_type\": \"linear\", \"factor\": 2.0}", PTQ_E_UNSUPPORTED,
       "supported: one of rope_parameters and rope_scaling"},
      {"llama", "rope_scaling",
       "{\"rope_type\": \"longrope\", \"short_factor\": [1, 2, 3],"
       " \"long_factor\": [1, 2, 3], \"original_max_position_embeddings\": 16}",
       PTQ_E_UNSUPPORTED, "supported: longrope with its factor"},
      {"llama", "rope_parameters",
       "{\"rope_type\": \"longrope\", \"short_factor\": [1, 2, 3],"
       " \"long_factor\": [1, 2, 3], \"original_max_position_embeddings\": 16,"
       " \"factor\": 2.0}",
       PTQ_E_UNSUPPORTED, "'factor': 2.0 is not supported"},
      {"llama", "rope_scaling",
       "{\"type\": \"su\", \"short_factor\": [1, 2, 3],"
       " \"long_factor\": [1, 2, 3], \"factor\": 2.0}",
       PTQ_E_UNSUPPORTED, "supported: default, linear, dynamic"},
      {"llama", "tie_word_embeddings", "true", PTQ_E_FORMAT,
       "'lm_head.weight' differs from 'model.embed_tokens.weight'"},
      {"gemma3", "attn_logit_softcapping", "50.0", PTQ_E_UNSUPPORTED,
       "'attn_logit_softcapping': 50.0 is not supported; supported: null"},
      {"gemma3", "use_bidirectional_attention", "true", PTQ_E_UNSUPPORTED,
       "'use_bidirectional_attention': true"},
      {"gemma3", "layer_types", "[1, 2, 3, 4]", PTQ_E_UNSUPPORTED,
       "'layer_types': [1,2,3,4]"},
      {"phi3-long", "rope_scaling",
       "{\"type\": \"longrope\", \"short_factor\": [1, 2, 3]}", PTQ_E_FORMAT,
       "config.json: rope_scaling': 'long_factor' is"},
      {"phi3-long", "rope_scaling",
       "{\"type\": \"longrope\", \"short_factor\": [1, 2]}", PTQ_E_FORMAT,
       "'short_factor' is [1,2], expected a list of 3 elements"},
      {"smollm3", "no_rope_layers", "[1, 0]", PTQ_E_FORMAT,
       "'no_rope_layers' is [1,0], expected a list of 4"},
      {"smollm3", "use_sliding_window", "true", PTQ_E_UNSUPPORTED,
       "'use_sliding_window': true"},
      {"llama", "head_dim", "270", PTQ_E_UNSUPPORTED,
       "heads of 270 rotated elements; at most 256"},
      {"llama", "num_hidden_layers", "600", PTQ_E_UNSUPPORTED,
       "'num_hidden_layers' is 600; at most 512"},
      {"llama", "architectures", "[\"MistralForCausalLM\"]", PTQ_E_UNSUPPORTED,
       "supported: LlamaForCausalLM"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char dir[FX_PATH];
    ptq_model *m = NULL;
    ptq_err err = {0};
    spoil(cases[i].name, cases[i].key, cases[i].value, dir);
    const ptq_status rc = ptq_model_open(dir, &m, &err);
    ptq_model_close(m);
    sweep_up(dir);
    if (rc != cases[i].rc || strstr(err.msg, cases[i].says) == NULL)
      fail_msg("%s, %s: status %d, '%s'", cases[i].name, cases[i].key, (int)rc,
               err.msg);
  }
}

static void open_with(const char *name, const char *key, const char *value,
                      ptq_model_info *info) {
  char dir[FX_PATH];
  ptq_model *m = NULL;
  spoil(name, key, value, dir);
  FX_MUST(ptq_model_open(dir, &m, &e_));
  *info = *ptq_model_get_info(m);
  ptq_model_close(m);
  sweep_up(dir);
}

static void defaults_and_null_differ_where_transformers_says_so(void **state) {
  (void)state;
  ptq_model_info info;
  open_with("mistral", "sliding_window", NULL, &info);
  assert_int_equal(info.window, 4096);
  open_with("mistral", "sliding_window", "null", &info);
  assert_int_equal(info.window, 0);
  open_with("gemma2", "final_logit_softcapping", NULL, &info);
  assert_true(info.logit_cap == 30.0);
  open_with("gemma2", "final_logit_softcapping", "null", &info);
  assert_true(info.logit_cap == 0.0);
  open_with("gemma2", "layer_types", NULL, &info);
  assert_int_equal(info.block_flags[0], PTQ_BLOCK_WINDOW);
  assert_int_equal(info.block_flags[1], 0);
  open_with("gemma3", "layer_types", NULL, &info); /* every sixth is full */
  for (int b = 0; b < 4; b++)
    assert_int_equal(info.block_flags[b],
                     PTQ_BLOCK_WINDOW | PTQ_BLOCK_LOCAL_ROPE);
  open_with("gemma", "hidden_act", NULL, &info);
  assert_int_equal(info.act, PTQ_ACT_GELU_TANH);
  open_with("gemma", "hidden_act", "\"gelu\"", &info);
  assert_int_equal(info.act, PTQ_ACT_GELU);
  open_with("gemma2", "hidden_act", "\"gelu\"", &info);
  assert_int_equal(info.act, PTQ_ACT_GELU_TANH);
  open_with("falcon-7b", "multi_query", "true", &info);
  assert_int_equal(info.n_kv_heads, 1);
}

static void rope_parameters_stand_for_rope_scaling(void **state) {
  (void)state;
  ptq_model_info old, now;
  open_with("llama-llama3", "mlp_bias", "false", &old);
  open_with(
      "llama", "rope_parameters",
      "{\"rope_type\": \"llama3\", \"factor\": 8.0, \"rope_theta\": 500.0,"
      " \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
      " \"original_max_position_embeddings\": 32}",
      &now);
  assert_memory_equal(&old.rope, &now.rope, sizeof old.rope);
}

/* Angles as transformers 4.57.3 has them (modeling_rope_utils, base 10000,
 * heads of 6, 64 positions), in float32. */
static void expect_angles(const ptq_rope *rope, const float f[3],
                          double amplitude) {
  for (int i = 0; i < 3; i++)
    assert_true(fabsf(rope->frequency[i] / f[i] - 1.0F) < 4.0F * FLT_EPSILON);
  assert_true(fabs(rope->amplitude / amplitude - 1.0) < 1e-15);
}

static void yarn_may_leave_its_pairs_between_whole_numbers(void **state) {
  (void)state;
  ptq_model_info info;
  static const struct {
    const char *value;
    float f[3];
  } cases[] = {
      {"", {1.0F, 0.0290099271F, 0.000538608583F}},
      {", \"truncate\": true", {1.0F, 0.0290099271F, 0.000538608583F}},
      {", \"truncate\": false", {1.0F, 0.0271236803F, 0.000538608583F}},
      {", \"truncate\": null", {1.0F, 0.0271236803F, 0.000538608583F}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    char text[160];
    snprintf(text, sizeof text,
             "{\"rope_type\": \"yarn\", \"factor\": 4.0,"
             " \"original_max_position_embeddings\": 16,"
             " \"beta_slow\": 0.01%s}",
             cases[i].value);
    open_with("llama", "rope_scaling", text, &info);
    expect_angles(&info.rope[PTQ_ROPE_MAIN], cases[i].f, 1.138629436111989);
  }
}

/* Beside rope_scaling it counts, within only for transformers 5. */
static void longrope_has_its_length_beside_it(void **state) {
  (void)state;
  static const char inner[] =
      "{\"rope_type\": \"longrope\", \"factor\": 4.0,"
      " \"short_factor\": [1.0, 1.1, 1.2], \"long_factor\": [2.0, 3.0, 4.0],"
      " \"original_max_position_embeddings\": 16}";
  static const float near[3] = {1.0F, 0.0421962552F, 0.00179536187F},
                     far[3] = {0.5F, 0.0154719604F, 0.000538608583F};
  ptq_model_info info;
  open_with("llama", "rope_scaling", inner, &info);
  expect_angles(&info.rope[PTQ_ROPE_MAIN], near, 1.1547005383792517);
  expect_angles(&info.rope[PTQ_ROPE_LONG], far, 1.1547005383792517);
  assert_int_equal(info.rope_long_from, 64);
  open_with("llama", "rope_parameters", inner, &info);
  expect_angles(&info.rope[PTQ_ROPE_MAIN], near, 1.224744871391589);
  assert_int_equal(info.rope_long_from, 16);
  open_with("phi3-long", "original_max_position_embeddings", NULL, &info);
  assert_int_equal(info.rope_long_from, 4096); /* Phi3Config's default */
}

static void fused_layers_are_one_and_named_by_their_tensor(void **state) {
  (void)state;
  char name[PTQ_TENSOR_NAME_MAX];
  ptq_model *m = NULL;
  ptq_block b;
  FX_MUST(ptq_model_open(GOLDEN "phi3", &m, &e_));
  const ptq_model_info *info = ptq_model_get_info(m);
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    assert_int_equal(ptq_role_present(info, (ptq_role)r),
                     r == PTQ_ROLE_QKV || r == PTQ_ROLE_O ||
                         r == PTQ_ROLE_GATE_UP || r == PTQ_ROLE_DOWN);
  ptq_layer_tensor_name(m, 1, PTQ_ROLE_QKV, name);
  assert_string_equal(name, "model.layers.1.self_attn.qkv_proj.weight");
  assert_int_equal(ptq_role_outputs(info, PTQ_ROLE_QKV), (4 + 2 * 2) * 6);
  assert_int_equal(ptq_role_outputs(info, PTQ_ROLE_GATE_UP), 2 * 36);
  FX_MUST(ptq_model_load_block(m, 0, &b, &e_));
  assert_non_null(b.linear[PTQ_ROLE_QKV].weight);
  assert_null(b.linear[PTQ_ROLE_Q].weight);
  ptq_block_release(&b);
  ptq_model_close(m);
}

static void a_site_knows_the_norm_that_feeds_it(void **state) {
  (void)state;
  /* case, attention's, MLP's */
  static const struct {
    const char *name;
    int attn, mlp;
  } cases[] = {
      {GOLDEN "llama", PTQ_NORM_ATTN_IN, PTQ_NORM_MLP_IN},
      {GOLDEN "phi", PTQ_NORM_ATTN_IN, PTQ_NORM_ATTN_IN},
      {GOLDEN "neox", PTQ_NORM_ATTN_IN, PTQ_NORM_MLP_IN},
      {GOLDEN "falcon-7b", PTQ_NORM_ATTN_IN, PTQ_NORM_ATTN_IN},
      {GOLDEN "olmo2", -1, -1},
      {GOLDEN "opt-350m", -1, -1},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    ptq_model *m = NULL;
    ptq_block b;
    FX_MUST(ptq_model_open(cases[i].name, &m, &e_));
    const ptq_model_info *info = ptq_model_get_info(m);
    FX_MUST(ptq_model_load_block(m, 0, &b, &e_));
    assert_ptr_equal(ptq_site_norm(info, &b, PTQ_SITE_ATTN_IN),
                     cases[i].attn < 0 ? NULL : &b.norm[cases[i].attn]);
    assert_ptr_equal(ptq_site_norm(info, &b, PTQ_SITE_MLP_IN),
                     cases[i].mlp < 0 ? NULL : &b.norm[cases[i].mlp]);
    assert_null(ptq_site_norm(info, &b, PTQ_SITE_ATTN_OUT));
    ptq_block_release(&b);
    ptq_model_close(m);
  }
}

static void parameters_are_counted_once(void **state) {
  (void)state;
  ptq_model_info info;
  open_with("opt-350m", "dropout", "0.1", &info);
  /* vocabulary 45 of width 10, 66 positions and projections of width 20 */
  assert_int_equal(info.params - info.params_nonembedding,
                   45 * 10 + 66 * 20 + 2 * 10 * 20);
  open_with("phi", "attention_dropout", "0.1", &info);
  assert_int_equal(info.params - info.params_nonembedding,
                   2 * 45 * 32 + 45); /* the head's bias with the head */
}

static void windows_cost_less(void **state) {
  (void)state;
  ptq_model_info with, without;
  open_with("mistral", "sliding_window", "11", &with);
  open_with("mistral", "sliding_window", "null", &without);
  /* of 40 tokens, 29 do not see 1 .. 29 earlier ones */
  const double hidden = 0.5 * 29.0 * 30.0 * 4.0 * 2.0 * 24.0;
  assert_true(ptq_forward_flops(&without, 40, true) -
                  ptq_forward_flops(&with, 40, true) ==
              hidden);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(what_is_not_computed_is_refused_by_key),
      cmocka_unit_test(defaults_and_null_differ_where_transformers_says_so),
      cmocka_unit_test(rope_parameters_stand_for_rope_scaling),
      cmocka_unit_test(yarn_may_leave_its_pairs_between_whole_numbers),
      cmocka_unit_test(longrope_has_its_length_beside_it),
      cmocka_unit_test(fused_layers_are_one_and_named_by_their_tensor),
      cmocka_unit_test(a_site_knows_the_norm_that_feeds_it),
      cmocka_unit_test(parameters_are_counted_once),
      cmocka_unit_test(windows_cost_less),
  };
  return cmocka_run_group_tests_name("model/arch", tests, NULL, NULL);
}
