/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the architectures' readers of config.json share. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "arch.h"

enum { KEY_MAX = 40 };

/* The key of an "a|b" list that the config has, else the first. */
static const char *pick(const ptq_config *c, const char *list,
                        char key[KEY_MAX]) {
  const char *at = list;
  for (;;) {
    const size_t n = strcspn(at, "|");
    snprintf(key, KEY_MAX, "%.*s", (int)n, at);
    if (ptq_config_has(c, key)) return key;
    if (at[n] == '\0') break;
    at += n + 1;
  }
  snprintf(key, KEY_MAX, "%.*s", (int)strcspn(list, "|"), list);
  return key;
}

static ptq_status need(const ptq_config *c, const char *list, int64_t *out,
                       ptq_err *err) {
  char key[KEY_MAX];
  return ptq_config_need_int(c, pick(c, list, key), 1, out, err);
}

static ptq_status may(const ptq_config *c, const char *list, int64_t *out,
                      ptq_err *err) {
  char key[KEY_MAX];
  if (list == NULL) return PTQ_OK;
  return ptq_config_int(c, pick(c, list, key), 1, out, err);
}

static ptq_status read_sizes(const ptq_size_keys *k, const ptq_config *c,
                             ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(need(c, k->d_model, &info->d_model, err));
  PTQ_TRY(need(c, k->n_blocks, &info->n_blocks, err));
  PTQ_TRY(need(c, k->n_heads, &info->n_heads, err));
  info->d_ff = k->d_ff_times * info->d_model;
  if (k->d_ff_times == 0)
    PTQ_TRY(need(c, k->d_ff, &info->d_ff, err));
  else
    PTQ_TRY(may(c, k->d_ff, &info->d_ff, err));
  PTQ_TRY(need(c, k->vocab, &info->vocab, err));
  info->max_positions = k->max_positions_default;
  PTQ_TRY(may(c, k->max_positions, &info->max_positions, err));
  info->n_kv_heads = info->n_heads;
  PTQ_TRY(may(c, k->n_kv_heads, &info->n_kv_heads, err));
  if (info->d_model % info->n_heads == 0)
    info->d_head = info->d_model / info->n_heads;
  if (k->d_head_default > 0) info->d_head = k->d_head_default;
  PTQ_TRY(may(c, k->d_head, &info->d_head, err));
  info->d_embed = info->d_model;
  if (info->n_blocks > PTQ_BLOCKS_MAX)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                     "'%s': '%s' is %lld; at most %d are supported",
                     ptq_config_path(c), k->n_blocks, (long long)info->n_blocks,
                     PTQ_BLOCKS_MAX));
done:
  return rc;
}

/* Sizes that follow from one another. */
static ptq_status check_sizes(const ptq_size_keys *k, const ptq_config *c,
                              const ptq_model_info *info, ptq_err *err) {
  if (info->n_heads % info->n_kv_heads != 0)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s': %s %lld is not a multiple of %s %lld",
                    ptq_config_path(c), k->n_heads, (long long)info->n_heads,
                    k->n_kv_heads != NULL ? k->n_kv_heads : "key heads",
                    (long long)info->n_kv_heads);
  /* Shapes of tensors that follow from sizes: products stay small. */
  const int64_t heads = info->n_heads + 2 * info->n_kv_heads;
  if (heads > INT32_MAX / info->d_head || info->d_ff > INT32_MAX / 2 ||
      info->max_positions > INT32_MAX - info->position_offset)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s': %lld heads of %lld, an MLP of %lld and %lld "
                    "positions: no tensor is that large",
                    ptq_config_path(c), (long long)info->n_heads,
                    (long long)info->d_head, (long long)info->d_ff,
                    (long long)info->max_positions);
  if (info->positions != PTQ_POSITIONS_ROTARY) return PTQ_OK;
  if (info->rotary_width % 2 != 0)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s': a head of odd width %lld cannot be rotated",
                    ptq_config_path(c), (long long)info->rotary_width);
  return PTQ_OK;
}

ptq_status ptq_arch_read(const ptq_arch *a, const ptq_config *c,
                         ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_size_keys *k = &a->sizes;
  const char *const sizes[] = {k->d_model, k->n_blocks,     k->n_heads,
                               k->vocab,   k->n_kv_heads,   k->d_head,
                               k->d_ff,    k->max_positions};
  PTQ_TRY(read_sizes(k, c, info, err));
  if (info->d_head == 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                     "'%s': %s %lld is not a multiple of %s %lld",
                     ptq_config_path(c), k->d_model, (long long)info->d_model,
                     k->n_heads, (long long)info->n_heads));
  info->attn_scale = 1.0 / sqrt((double)info->d_head);
  info->has_norm[PTQ_NORM_ATTN_IN] = true;
  info->has_norm[PTQ_NORM_MLP_IN] = true;
  info->has_norm[PTQ_NORM_FINAL] = true;
  info->rotary_width = info->d_head;
  info->norm_eps = 1e-5;
  PTQ_TRY(a->read(c, info, err));
  PTQ_TRY(check_sizes(k, c, info, err));
  PTQ_TRY(ptq_config_check_keys(c, a->keys, sizes,
                                (int)(sizeof sizes / sizeof sizes[0]), err));
done:
  return rc;
}

ptq_status ptq_read_act(const ptq_config *c, const char *key, ptq_act_kind *act,
                        ptq_err *err) {
  /* clang-format off */
  static const struct { const char *name; ptq_act_kind act; } known[] = {
      {"silu", PTQ_ACT_SILU},           {"swish", PTQ_ACT_SILU},
      {"relu", PTQ_ACT_RELU},           {"gelu", PTQ_ACT_GELU},
      {"gelu_python", PTQ_ACT_GELU},    {"gelu_new", PTQ_ACT_GELU_TANH},
      {"gelu_fast", PTQ_ACT_GELU_TANH},
      {"gelu_pytorch_tanh", PTQ_ACT_GELU_TANH},
  };
  /* clang-format on */
  const char *name = NULL;
  const ptq_status rc = ptq_config_text(c, key, &name, err);
  if (rc != PTQ_OK || name == NULL) return rc;
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (strcmp(name, known[i].name) == 0) {
      *act = known[i].act;
      return PTQ_OK;
    }
  return ptq_config_refuse(
      c, key, "silu, relu, gelu, gelu_new, gelu_fast, gelu_pytorch_tanh", err);
}

ptq_status ptq_read_norm(const ptq_config *c, const char *eps_key,
                         ptq_norm_kind kind, double eps_default,
                         ptq_model_info *info, ptq_err *err) {
  info->norm = kind;
  info->norm_eps = eps_default;
  return ptq_config_positive(c, eps_key, &info->norm_eps, err);
}

void ptq_set_biases(ptq_model_info *info, bool attention, bool mlp) {
  for (int r = 0; r < PTQ_ROLE_COUNT; r++)
    info->has_bias[r] = r <= PTQ_ROLE_O ? attention : mlp;
}

ptq_status ptq_read_only(const ptq_config *c, const char *key, bool only,
                         ptq_err *err) {
  bool value = only;
  const ptq_status rc = ptq_config_bool(c, key, &value, err);
  if (rc != PTQ_OK || value == only) return rc;
  return ptq_config_refuse(c, key, only ? "true" : "false", err);
}

ptq_status ptq_read_rotary_share(const ptq_config *c, const char *key,
                                 double share, ptq_model_info *info,
                                 ptq_err *err) {
  const ptq_status rc = ptq_config_positive(c, key, &share, err);
  if (rc != PTQ_OK) return rc;
  if (share > 1.0) return ptq_config_refuse(c, key, "0 to 1", err);
  info->rotary_width = (int64_t)((double)info->d_head * share);
  if (info->rotary_width < 2)
    return ptq_config_refuse(c, key, "at least one pair of a head", err);
  return PTQ_OK;
}

ptq_status ptq_read_optional(const ptq_config *c, const char *key,
                             double absent, double *out, ptq_err *err) {
  *out = ptq_config_mentions(c, key) ? 0.0 : absent;
  return ptq_config_positive(c, key, out, err);
}

ptq_status ptq_read_window(const ptq_config *c, int64_t absent,
                           ptq_model_info *info, ptq_err *err) {
  static const char key[] = "sliding_window";
  info->window = ptq_config_mentions(c, key) ? 0 : absent;
  return ptq_config_int(c, key, 1, &info->window, err);
}

void ptq_set_windows(ptq_model_info *info, int64_t first) {
  for (int64_t b = first; info->window > 0 && b < info->n_blocks; b++)
    info->block_flags[b] |= PTQ_BLOCK_WINDOW;
}

ptq_status ptq_read_layer_types(const ptq_config *c, int64_t period,
                                ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  static const char key[] = "layer_types";
  const bool listed = ptq_config_has(c, key);
  if (listed) PTQ_TRY(ptq_config_list_check(c, key, info->n_blocks, err));
  for (int64_t b = 0; b < info->n_blocks; b++) {
    bool windowed = period > 0 && (b + 1) % period != 0;
    if (listed) {
      const char *type = ptq_config_list_text(c, key, b);
      windowed = strcmp(type, "sliding_attention") == 0;
      if (!windowed && strcmp(type, "full_attention") != 0)
        PTQ_TRY(ptq_config_refuse(c, key,
                                  "full_attention and sliding_attention", err));
    }
    if (windowed && info->window == 0)
      PTQ_TRY(ptq_config_refuse(c, listed ? key : "sliding_window",
                                "sliding attention with its sliding_window",
                                err));
    if (windowed) info->block_flags[b] |= PTQ_BLOCK_WINDOW;
  }
done:
  return rc;
}

ptq_status ptq_read_late_windows(const ptq_config *c, ptq_model_info *info,
                                 ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool use = false;
  int64_t first = 28; /* transformers' default */
  PTQ_TRY(ptq_config_bool(c, "use_sliding_window", &use, err));
  PTQ_TRY(ptq_config_int(c, "max_window_layers", 0, &first, err));
  if (use) PTQ_TRY(ptq_read_window(c, 4096, info, err));
  if (ptq_config_has(c, "layer_types"))
    PTQ_TRY(ptq_read_layer_types(c, 0, info, err));
  else
    ptq_set_windows(info, first);
done:
  return rc;
}

ptq_status ptq_read_experts(const ptq_config *c, const char *count_key,
                            const char *used_key, ptq_model_info *info,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_config_need_int(c, count_key, 1, &info->n_experts, err));
  PTQ_TRY(ptq_config_need_int(c, used_key, 1, &info->experts_used, err));
  if (info->n_experts > PTQ_EXPERTS_MAX)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                     "'%s': '%s' is %lld; at most %d are supported",
                     ptq_config_path(c), count_key, (long long)info->n_experts,
                     PTQ_EXPERTS_MAX));
  if (info->experts_used > info->n_experts)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': %s %lld is more than %s %lld",
                     ptq_config_path(c), used_key,
                     (long long)info->experts_used, count_key,
                     (long long)info->n_experts));
done:
  return rc;
}

ptq_status ptq_read_llama_like(const ptq_config *c, double eps, double theta,
                               bool tied, ptq_model_info *info, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  bool attention = false, mlp = false;
  PTQ_TRY(ptq_read_norm(c, "rms_norm_eps", PTQ_NORM_RMS, eps, info, err));
  PTQ_TRY(ptq_read_act(c, "hidden_act", &info->act, err));
  info->has_gate = true;
  PTQ_TRY(ptq_read_rope(c, theta, info, err));
  PTQ_TRY(ptq_config_bool(c, "attention_bias", &attention, err));
  PTQ_TRY(ptq_config_bool(c, "mlp_bias", &mlp, err));
  ptq_set_biases(info, attention, mlp);
  info->tied_head = tied;
  PTQ_TRY(ptq_config_bool(c, "tie_word_embeddings", &info->tied_head, err));
done:
  return rc;
}

const char *const ptq_llama_prefixes[] = {"model.", "", NULL};
/* Written by old versions of transformers; follows from rope_theta. */
const char *const ptq_llama_ignored[] = {".rotary_emb.inv_freq", NULL};
