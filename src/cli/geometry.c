/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "geometry.h"

#include <jansson.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/model/model.h"

/* A size under the first of several names, families call them differently;
 * `fallback` < 0: one must be there. */
static ptq_status size_of(const json_t *config, const char *path,
                          const char *const *names, int64_t fallback,
                          int64_t *out, ptq_err *err) {
  *out = fallback;
  for (const char *const *n = names; *n != NULL; n++) {
    const json_t *v = json_object_get(config, *n);
    if (!json_is_integer(v)) continue;
    *out = json_integer_value(v);
    if (*out > 0) return PTQ_OK;
    return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': %s is %lld", path, *n,
                    (long long)*out);
  }
  if (fallback < 0)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': no %s", path, names[0]);
  return PTQ_OK;
}

/* Has the MLP a gate? Those families that have none, by model_type. */
static bool gated(const char *type) {
  static const char *const plain[] = {"opt",    "gpt2", "gpt_neox", "bloom",
                                      "falcon", "phi",  "gptj",     "gpt_neo",
                                      "mpt",    NULL};
  for (const char *const *p = plain; *p != NULL; p++)
    if (strcmp(type, *p) == 0) return false;
  return true;
}

static const char *text_of(const json_t *config, const char *name,
                           const char *fallback) {
  const char *text = json_string_value(json_object_get(config, name));
  return text != NULL ? text : fallback;
}

static ptq_status read_config(const json_t *c, const char *path,
                              ptq_geometry *g, ptq_err *err) {
  static const char *const width[] = {"hidden_size", "n_embd", "d_model", NULL};
  static const char *const depth[] = {"num_hidden_layers", "n_layer",
                                      "n_layers", NULL};
  static const char *const heads[] = {"num_attention_heads", "n_head",
                                      "n_heads", NULL};
  static const char *const kv[] = {"num_key_value_heads", NULL};
  static const char *const head[] = {"head_dim", NULL};
  static const char *const ff[] = {"moe_intermediate_size", "intermediate_size",
                                   "ffn_dim", "n_inner", NULL};
  static const char *const experts[] = {"num_experts", "num_local_experts",
                                        NULL};
  static const char *const vocab[] = {"vocab_size", NULL};
  static const char *const positions[] = {"max_position_embeddings", NULL};
  ptq_status rc = PTQ_OK;
  ptq_model_row *m = &g->row;
  int64_t d_head = 0, n_positions = 0;
  PTQ_TRY(size_of(c, path, width, -1, &m->d_model, err));
  PTQ_TRY(size_of(c, path, depth, -1, &m->n_blocks, err));
  PTQ_TRY(size_of(c, path, heads, -1, &m->n_heads, err));
  PTQ_TRY(size_of(c, path, kv, m->n_heads, &m->n_kv_heads, err));
  PTQ_TRY(size_of(c, path, head, m->d_model / m->n_heads, &d_head, err));
  PTQ_TRY(size_of(c, path, ff, 4 * m->d_model, &m->d_ff, err));
  PTQ_TRY(size_of(c, path, experts, 1, &g->mlps, err));
  PTQ_TRY(size_of(c, path, vocab, -1, &m->vocab, err));
  PTQ_TRY(size_of(c, path, positions, 0, &n_positions, err));
  const char *type = text_of(c, "model_type", "llama");
  (void)ptq_text_copy(m->architecture, sizeof m->architecture, type);
  (void)ptq_text_copy(m->family, sizeof m->family, type);
  g->heads_width = m->n_heads * d_head;
  g->kv_width = m->n_kv_heads * d_head;
  g->mlp_layers = gated(type) ? 3 : 2;
  m->params_quantizable = m->n_blocks * m->d_model *
                          (2 * g->heads_width + 2 * g->kv_width +
                           g->mlps * g->mlp_layers * m->d_ff);
  /* two norms a block and a last one; biases are few */
  m->params_nonembedding =
      m->params_quantizable + (2 * m->n_blocks + 1) * m->d_model;
  if (g->mlps > 1) /* routers */
    m->params_nonembedding += m->n_blocks * g->mlps * m->d_model;
  const bool tied = !json_is_false(json_object_get(c, "tie_word_embeddings"));
  m->params = m->params_nonembedding + (tied ? 1 : 2) * m->vocab * m->d_model;
  if (strcmp(type, "opt") == 0 || strcmp(type, "gpt2") == 0)
    m->params += n_positions * m->d_model;
  const bool wide =
      strcmp(text_of(c, "torch_dtype", "float16"), "float32") == 0;
  g->bits_unquantized =
      (wide ? 32.0 : 16.0) * (double)(m->params - m->params_quantizable);
done:
  return rc;
}

/* Exact counts, if the weights are there and are understood. */
static void count_weights(const char *dir, ptq_geometry *g) {
  ptq_model *model = NULL;
  ptq_err ignored = {0}; /* a directory with a config alone is fine */
  if (ptq_model_open(dir, &model, &ignored) != PTQ_OK) return;
  const ptq_model_info *i = ptq_model_get_info(model);
  g->row.params = i->params;
  g->row.params_nonembedding = i->params_nonembedding;
  g->row.params_quantizable = i->params_quantizable;
  g->bits_unquantized = i->bits_unquantized;
  g->mlp_layers = i->has_gate ? 3 : 2;
  g->mlps = i->n_experts > 0 ? i->n_experts : 1;
  ptq_model_close(model);
}

ptq_status ptq_geometry_read(const char *dir, ptq_geometry *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *path = NULL, *base = NULL;
  json_error_t why;
  json_t *config = NULL;
  *out = (ptq_geometry){.mlp_layers = 3, .mlps = 1};
  ptq_row_clear(ptq_table_get(PTQ_TABLE_MODELS), &out->row);
  PTQ_TRY(ptq_path_join(dir, "config.json", &path, err));
  PTQ_TRY(ptq_path_base(dir, &base, err));
  if (!ptq_path_exists(path))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO,
                     "'%s' is neither a model of the store nor a directory "
                     "with a config.json",
                     dir));
  config = json_load_file(path, 0, &why);
  if (config == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s', line %d: %s", path, why.line,
                     why.text));
  PTQ_TRY(read_config(config, path, out, err));
  (void)ptq_text_copy(out->row.model, sizeof out->row.model, base);
  count_weights(dir, out);
done:
  json_decref(config);
  ptq_free(path);
  ptq_free(base);
  return rc;
}

void ptq_geometry_of_row(const ptq_model_row *m, double bits_unquantized,
                         ptq_geometry *out) {
  const int64_t d_head = m->n_heads > 0 ? m->d_model / m->n_heads : 0;
  *out = (ptq_geometry){.row = *m,
                        .heads_width = m->n_heads * d_head,
                        .kv_width = m->n_kv_heads * d_head,
                        .mlp_layers = 2,
                        .mlps = 1,
                        .bits_unquantized = bits_unquantized};
  const int64_t attention =
      m->n_blocks * m->d_model * 2 * (out->heads_width + out->kv_width);
  const int64_t mlp = m->n_blocks * m->d_model * m->d_ff;
  const int64_t rest = m->params_quantizable - attention;
  if (mlp > 0 && rest > 2 * mlp + mlp / 2) out->mlp_layers = 3;
  if (mlp > 0 && rest >= 6 * mlp) out->mlps = rest / (3 * mlp); /* experts */
}

int64_t ptq_geometry_layers(const ptq_geometry *g) {
  return g->row.n_blocks * (4 + g->mlps * g->mlp_layers);
}

void ptq_geometry_point(const ptq_geometry *g, const ptq_dtype *dtype,
                        const ptq_method *method, int64_t group,
                        ptq_point_row *out) {
  const ptq_model_row *m = &g->row;
  const int64_t widest = m->d_ff > m->d_model ? m->d_ff : m->d_model;
  if (group >= widest) group = PTQ_GROUP_ROW;
  const struct {
    int64_t rows, cols;
    int64_t n;
  } layers[] = {{g->heads_width, m->d_model, 1},
                {g->kv_width, m->d_model, 2},
                {m->d_model, g->heads_width, 1},
                {m->d_ff, m->d_model, g->mlps * (g->mlp_layers - 1)},
                {m->d_model, m->d_ff, g->mlps}};
  double bits = 0.0, weights = 0.0;
  for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
    const int64_t own = group >= layers[i].cols ? PTQ_GROUP_ROW : group;
    bits += (double)layers[i].n *
            ptq_dtype_storage_bits(dtype, layers[i].rows, layers[i].cols, own);
    weights +=
        (double)layers[i].n * (double)layers[i].rows * (double)layers[i].cols;
  }
  ptq_row_clear(ptq_table_get(PTQ_TABLE_POINTS), out);
  (void)ptq_text_copy(out->model, sizeof out->model, m->model);
  (void)ptq_text_copy(out->family, sizeof out->family, m->family);
  (void)ptq_text_copy(out->dtype, sizeof out->dtype, dtype->name);
  (void)ptq_text_copy(out->method, sizeof out->method, method->name);
  (void)ptq_text_copy(out->options, sizeof out->options, method->options);
  out->group = group;
  out->bits_per_weight = bits / weights;
  out->bits_model =
      bits / weights * (double)m->params_quantizable + g->bits_unquantized;
}
