/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "command.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/num/blas.h"
#include "ptq/sweep/cost.h"

enum { WINDOWS = 64, LENGTH = 512 };

/* A checkpoint and what a small sweep on it would take. */
typedef struct inspection {
  ptq_model *model;           /* owned */
  const ptq_model_info *info; /* borrowed */
  bool has_tokenizer;
  int64_t length; /* of the windows assumed: LENGTH or what the model takes */
  int64_t memory_bytes;
  double rtn_s, gptq_s; /* a point, without and with what its batch shares */
  double shared_s;
} inspection;

static const char *const role_names[PTQ_ROLE_COUNT] = {
    [PTQ_ROLE_Q] = "q",      [PTQ_ROLE_K] = "k",
    [PTQ_ROLE_V] = "v",      [PTQ_ROLE_QKV] = "qkv",
    [PTQ_ROLE_O] = "o",      [PTQ_ROLE_GATE] = "gate",
    [PTQ_ROLE_UP] = "up",    [PTQ_ROLE_GATE_UP] = "gate_up",
    [PTQ_ROLE_DOWN] = "down"};
static const char *const position_names[] = {
    [PTQ_POSITIONS_LEARNED] = "learned",
    [PTQ_POSITIONS_ROTARY] = "rotary",
    [PTQ_POSITIONS_ALIBI] = "ALiBi"};

/* Costs by the cost model, over a sweep made up of one point a method. */
static ptq_status estimate(inspection *x, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_method methods[2];
  ptq_dtype dtype;
  PTQ_TRY(ptq_method_parse("rtn", NULL, 0, &methods[0], err));
  PTQ_TRY(ptq_method_parse("gptq", NULL, 0, &methods[1], err));
  PTQ_TRY(ptq_dtype_parse("int4", &dtype, err));
  ptq_text_spec text = {.windows = WINDOWS, .length = x->length};
  const ptq_spec spec = {.calibrations = &text,
                         .n_calibrations = 1,
                         .evaluations = &text,
                         .n_evaluations = 1,
                         .selection = text,
                         .dtypes = &dtype,
                         .n_dtypes = 1,
                         .methods = methods,
                         .n_methods = 2,
                         .spectra = PTQ_SPECTRA_FULL,
                         .compute = x->info->compute};
  ptq_subject subject = {.info = *x->info};
  ptq_point points[2] = {{.group = PTQ_GROUP_ROW},
                         {.method = 1, .group = PTQ_GROUP_ROW}};
  const ptq_grid grid = {.spec = &spec,
                         .subjects = &subject,
                         .n_subjects = 1,
                         .points = points,
                         .n_points = 2};
  const double rate = ptq_rates_default().flops_per_s;
  x->rtn_s = ptq_point_flops(&grid, 0) / rate;
  x->gptq_s = ptq_point_flops(&grid, 1) / rate;
  x->shared_s = ptq_shared_flops(&grid, 0) / rate;
  ptq_load load = {0};
  ptq_load_add(&load, &grid, 1);
  x->memory_bytes = ptq_batch_bytes(&grid, 0, &load);
  const int64_t baseline = ptq_subject_bytes(&grid, 0);
  if (baseline > x->memory_bytes) x->memory_bytes = baseline;
done:
  return rc;
}

static ptq_status open_inspection(inspection *x, const char *dir,
                                  ptq_compute compute, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *tokenizer = NULL;
  PTQ_TRY(ptq_model_open(dir, &x->model, err));
  if (compute == PTQ_COMPUTE_BF16) {
    PTQ_TRY(ptq_blas_init(err));
    PTQ_TRY(ptq_bf16_init(err));
  }
  PTQ_TRY(ptq_model_set_compute(x->model, compute, err));
  x->info = ptq_model_get_info(x->model);
  PTQ_TRY(ptq_path_join(dir, "tokenizer.json", &tokenizer, err));
  x->has_tokenizer = ptq_path_exists(tokenizer);
  x->length = x->info->max_positions < LENGTH ? x->info->max_positions : LENGTH;
  PTQ_TRY(estimate(x, err));
done:
  ptq_free(tokenizer);
  return rc;
}

/* Reads every weight once: NaN, Inf and damage show. */
static ptq_status check_weights(inspection *x, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_embedding embedding = {0};
  ptq_head head = {0};
  PTQ_TRY(ptq_model_load_embedding(x->model, &embedding, err));
  ptq_embedding_release(&embedding);
  PTQ_TRY(ptq_model_load_head(x->model, &head, err));
  ptq_head_release(&head);
  for (int64_t i = 0; i < x->info->n_blocks; i++) {
    ptq_block block = {0};
    PTQ_TRY(ptq_model_load_block(x->model, i, &block, err));
    ptq_block_release(&block);
  }
done:
  return rc;
}

static void print_layers(const inspection *x) {
  printf("\nquantized in each of %" PRId64 " blocks:\n", x->info->n_blocks);
  for (int role = 0; role < PTQ_ROLE_COUNT; role++) { /* of expert 0 */
    char name[PTQ_TENSOR_NAME_MAX];
    if (!ptq_role_present(x->info, (ptq_role)role)) continue;
    ptq_layer_tensor_name(x->model, 0, role, name);
    printf("  %-7s %6" PRId64 " x %-6" PRId64 " at %-9s %s\n", role_names[role],
           ptq_role_outputs(x->info, (ptq_role)role),
           ptq_role_inputs(x->info, (ptq_role)role),
           ptq_site_name(ptq_role_site((ptq_role)role)), name);
  }
  if (x->info->n_experts > 0)
    printf("  gate, up and down of each of %" PRId64 " experts; not the "
           "router\n",
           x->info->n_experts);
}

static void print_text(const inspection *x, const char *dir) {
  const ptq_model_info *i = x->info;
  char memory[24];
  ptq_bytes_name(x->memory_bytes, memory);
  printf("%s: %s, can be run\n\n", dir, i->arch);
  printf("parameters    %" PRId64 " (%" PRId64 " without embeddings and head, "
         "%" PRId64 " quantizable)\n",
         i->params, i->params_nonembedding, i->params_quantizable);
  printf("blocks        %" PRId64 " of width %" PRId64 ", MLP %" PRId64
         "%s, %s\n",
         i->n_blocks, i->d_model, i->d_ff, i->has_gate ? " gated" : "",
         ptq_act_name(i->act));
  if (i->n_experts > 0)
    printf("experts       %" PRId64 ", %" PRId64 " a token\n", i->n_experts,
           i->experts_used);
  printf("attention     %" PRId64 " heads of %" PRId64 ", %" PRId64
         " for keys and values, %s positions, at most %" PRId64 "\n",
         i->n_heads, i->d_head, i->n_kv_heads, position_names[i->positions],
         i->max_positions);
  printf("norm          %s, eps %g\n",
         i->norm == PTQ_NORM_RMS ? "RMSNorm" : "LayerNorm", i->norm_eps);
  printf("vocabulary    %" PRId64 ", head %s\n", i->vocab,
         i->tied_head ? "tied" : "of its own");
  printf("provenance    %s\n",
         i->dequantized ? "dequantized: for parity checks, not for fits"
                        : "native");
  printf("tokenizer     %s\n",
         x->has_tokenizer ? "tokenizer.json"
                          : "tokenizer.json is missing: no tokens can be made");
  print_layers(x);
  printf("\na point on %d windows of %" PRId64 " tokens for each text, at %.0f "
         "GFLOP/s a rank, compute %s:\n  rtn %.1f s, gptq %.1f s, shared by a "
         "batch %.1f s; memory %s\n",
         WINDOWS, x->length, ptq_rates_default().flops_per_s / 1e9,
         ptq_compute_name(i->compute), x->rtn_s, x->gptq_s, x->shared_s,
         memory);
  if (i->compute == PTQ_COMPUTE_BF16)
    printf("bf16 is multiplied here by %s%s\n", ptq_bf16_name(),
           ptq_bf16_is_fast() ? "" : " in float32, no faster than f32");
}

static json_t *layers_json(const inspection *x) {
  json_t *layers = json_array();
  for (int layer = 0; layer < ptq_layer_count(x->info); layer++) {
    const ptq_role role = ptq_layer_role(layer);
    char name[PTQ_TENSOR_NAME_MAX];
    if (!ptq_role_present(x->info, role)) continue;
    ptq_layer_tensor_name(x->model, 0, layer, name);
    json_t *row =
        json_pack("{s:s, s:I, s:I, s:s, s:s}", "role", role_names[role], "out",
                  (json_int_t)ptq_role_outputs(x->info, role), "in",
                  (json_int_t)ptq_role_inputs(x->info, role), "site",
                  ptq_site_name(ptq_role_site(role)), "tensor", name);
    if (x->info->n_experts > 0 && role >= PTQ_ROLE_GATE)
      (void)json_object_set_new(row, "expert",
                                json_integer(ptq_layer_expert(layer)));
    (void)json_array_append_new(layers, row);
  }
  return layers;
}

static ptq_status print_json(const inspection *x, ptq_err *err) {
  const ptq_model_info *i = x->info;
  json_t *root = json_pack(
      "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, "
      "s:b, s:s, s:b, s:f, s:f, s:f, s:I, s:o}",
      "architecture", i->arch, "compute", ptq_compute_name(i->compute),
      "params", (json_int_t)i->params, "params_nonembedding",
      (json_int_t)i->params_nonembedding, "params_quantizable",
      (json_int_t)i->params_quantizable, "n_blocks", (json_int_t)i->n_blocks,
      "d_model", (json_int_t)i->d_model, "d_ff", (json_int_t)i->d_ff,
      "n_experts", (json_int_t)i->n_experts, "experts_used",
      (json_int_t)i->experts_used, "n_heads", (json_int_t)i->n_heads,
      "n_kv_heads", (json_int_t)i->n_kv_heads, "vocab", (json_int_t)i->vocab,
      "max_positions", (json_int_t)i->max_positions, "tied_head",
      (int)i->tied_head, "provenance",
      i->dequantized ? "dequantized" : "native", "tokenizer",
      (int)x->has_tokenizer, "rtn_seconds", x->rtn_s, "gptq_seconds", x->gptq_s,
      "shared_seconds", x->shared_s, "memory", (json_int_t)x->memory_bytes,
      "layers", layers_json(x));
  const int bad = root == NULL || json_dumpf(root, stdout, JSON_INDENT(1)) != 0;
  json_decref(root);
  if (bad) return PTQ_FAIL(err, PTQ_E_NOMEM, "writing JSON");
  printf("\n");
  return PTQ_OK;
}

static ptq_status run(const ptq_args *args, int *exit_code, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  inspection x = {0};
  const char *name = ptq_args_get(args, "compute");
  ptq_compute compute = PTQ_COMPUTE_F32;
  if (name != NULL && !ptq_compute_parse(name, &compute)) {
    *exit_code = PTQ_EXIT_USAGE;
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "--compute '%s': f32 or bf16", name));
  }
  PTQ_TRY(open_inspection(&x, ptq_args_at(args, 0), compute, err));
  if (ptq_args_has(args, "weights")) PTQ_TRY(check_weights(&x, err));
  if (ptq_args_has(args, "json"))
    PTQ_TRY(print_json(&x, err));
  else
    print_text(&x, ptq_args_at(args, 0));
done:
  ptq_model_close(x.model);
  return rc;
}

static const ptq_option options[] = {
    {"weights", 0, NULL, "also read every weight, refusing NaN and Inf"},
    {"compute", 0, "NAME", "cost and memory with products in f32 or bf16"},
    {"json", 0, NULL, "one JSON object instead of text"},
    {0}};

const ptq_command ptq_cmd_inspect = {
    .name = "inspect",
    .args = "MODEL [options]",
    .summary = "say what a checkpoint is, whether it can be run, and its cost",
    .details =
        "Reads config.json and the headers of the weight files in the\n"
        "directory MODEL. A checkpoint that cannot be run is refused with the\n"
        "key or tensor that is in the way. Costs are of the cost model, for\n"
        "64 windows of 512 tokens (fewer where the model takes fewer).\n\n"
        "  ptqsweep inspect sweeps/zoo/llama-25k\n",
    .options = options,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
