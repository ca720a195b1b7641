/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "config.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"

enum { CONFIG_MAX = 4 << 20, VALUE_MAX = 48 };

struct ptq_config {
  char *path;   /* owned */
  json_t *root; /* owned */
  bool nested;  /* an object of another config */
};

ptq_status ptq_config_open(const char *dir, ptq_config **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_config *c = NULL;
  char *text = NULL;
  size_t size = 0;
  json_error_t at;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&c, 1, sizeof *c, "a config", err));
  PTQ_TRY(ptq_path_join(dir, "config.json", &c->path, err));
  if (!ptq_path_exists(c->path))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO,
                     "'%s' is missing: a model is a directory with "
                     "config.json, model.safetensors and tokenizer.json",
                     c->path));
  PTQ_TRY(ptq_file_read(c->path, CONFIG_MAX, &text, &size, err));
  c->root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &at);
  if (c->root == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': line %d: %s", c->path, at.line,
                     at.text));
  if (!json_is_object(c->root))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s' is not a JSON object", c->path));
  *out = c;
  c = NULL;
done:
  ptq_free(text);
  ptq_config_close(c);
  return rc;
}

void ptq_config_close(ptq_config *c) {
  if (c == NULL) return;
  json_decref(c->root);
  ptq_free(c->path);
  ptq_free(c);
}

const char *ptq_config_path(const ptq_config *c) {
  return c->path;
}

/* NULL when absent or null. */
static const json_t *get(const ptq_config *c, const char *key) {
  const json_t *v = json_object_get(c->root, key);
  return json_is_null(v) ? NULL : v;
}

bool ptq_config_has(const ptq_config *c, const char *key) {
  return get(c, key) != NULL;
}

bool ptq_config_mentions(const ptq_config *c, const char *key) {
  return json_object_get(c->root, key) != NULL;
}

/* The value as JSON text, cut to VALUE_MAX, for messages. */
static void value_text(const json_t *v, char text[VALUE_MAX]) {
  char *dump = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
  text[0] = '\0';
  if (dump != NULL) {
    strncat(text, dump, VALUE_MAX - 1);
    if (strlen(dump) >= VALUE_MAX) memcpy(text + VALUE_MAX - 4, "...", 4);
  }
  free(dump);
}

static ptq_status bad_value(const ptq_config *c, const char *key,
                            const char *want, ptq_err *err) {
  char text[VALUE_MAX];
  value_text(json_object_get(c->root, key), text);
  return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': '%s' is %s, expected %s", c->path,
                  key, text, want);
}

ptq_status ptq_config_int(const ptq_config *c, const char *key, int64_t min,
                          int64_t *out, ptq_err *err) {
  const json_t *v = get(c, key);
  if (v == NULL) return PTQ_OK;
  const int64_t value = json_is_integer(v) ? json_integer_value(v) : min - 1;
  if (value < min || value > INT32_MAX)
    return bad_value(c, key,
                     min > 0 ? "a positive integer" : "a size below 2^31", err);
  *out = value;
  return PTQ_OK;
}

ptq_status ptq_config_need_int(const ptq_config *c, const char *key,
                               int64_t min, int64_t *out, ptq_err *err) {
  if (get(c, key) == NULL)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s' has no '%s'", c->path, key);
  return ptq_config_int(c, key, min, out, err);
}

ptq_status ptq_config_positive(const ptq_config *c, const char *key,
                               double *out, ptq_err *err) {
  const json_t *v = get(c, key);
  if (v == NULL) return PTQ_OK;
  const double value = json_is_number(v) ? json_number_value(v) : -1.0;
  if (!(value > 0.0) || !isfinite(value))
    return bad_value(c, key, "a positive number", err);
  *out = value;
  return PTQ_OK;
}

ptq_status ptq_config_bool(const ptq_config *c, const char *key, bool *out,
                           ptq_err *err) {
  const json_t *v = json_object_get(c->root, key);
  /* null is as good as false, though not as absent where that is true. */
  if (v == NULL || (json_is_null(v) && !*out)) return PTQ_OK;
  if (!json_is_boolean(v)) return bad_value(c, key, "true or false", err);
  *out = json_is_true(v);
  return PTQ_OK;
}

ptq_status ptq_config_text(const ptq_config *c, const char *key,
                           const char **out, ptq_err *err) {
  const json_t *v = get(c, key);
  if (v == NULL) return PTQ_OK;
  if (!json_is_string(v)) return bad_value(c, key, "a text", err);
  *out = json_string_value(v);
  return PTQ_OK;
}

ptq_status ptq_config_sub(const ptq_config *c, const char *key,
                          ptq_config **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_config *sub = NULL;
  json_t *v = json_object_get(c->root, key);
  *out = NULL;
  if (v == NULL || json_is_null(v)) return PTQ_OK;
  if (!json_is_object(v)) return bad_value(c, key, "an object", err);
  const size_t room = strlen(c->path) + strlen(key) + 3;
  PTQ_TRY(ptq_alloc(&sub, 1, sizeof *sub, "a config", err));
  PTQ_TRY(ptq_alloc(&sub->path, (int64_t)room, 1, "a path", err));
  snprintf(sub->path, room, "%s: %s", c->path, key);
  sub->root = json_incref(v);
  sub->nested = true;
  *out = sub;
  sub = NULL;
done:
  ptq_config_close(sub);
  return rc;
}

ptq_status ptq_config_list_check(const ptq_config *c, const char *key,
                                 int64_t n, ptq_err *err) {
  const json_t *v = get(c, key);
  if (json_is_array(v) && (int64_t)json_array_size(v) == n) return PTQ_OK;
  char want[48];
  snprintf(want, sizeof want, "a list of %lld elements", (long long)n);
  return bad_value(c, key, want, err);
}

ptq_status ptq_config_list_numbers(const ptq_config *c, const char *key,
                                   int64_t n, double *out, ptq_err *err) {
  const ptq_status rc = ptq_config_list_check(c, key, n, err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < n; i++) {
    const json_t *v = json_array_get(get(c, key), (size_t)i);
    out[i] = json_is_number(v) ? json_number_value(v) : -1.0;
    if (!(out[i] > 0.0) || !isfinite(out[i]))
      return bad_value(c, key, "positive numbers", err);
  }
  return PTQ_OK;
}

const char *ptq_config_list_text(const ptq_config *c, const char *key,
                                 int64_t i) {
  const char *s = json_string_value(json_array_get(get(c, key), (size_t)i));
  return s != NULL ? s : "";
}

int64_t ptq_config_list_int(const ptq_config *c, const char *key, int64_t i) {
  return json_integer_value(json_array_get(get(c, key), (size_t)i));
}

bool ptq_config_list_has(const ptq_config *c, const char *key,
                         const char *value) {
  const json_t *list = get(c, key);
  for (size_t i = 0; i < json_array_size(list); i++) {
    const char *s = json_string_value(json_array_get(list, i));
    if (s != NULL && strcmp(s, value) == 0) return true;
  }
  return false;
}

ptq_status ptq_config_refuse(const ptq_config *c, const char *key,
                             const char *supported, ptq_err *err) {
  char text[VALUE_MAX];
  value_text(get(c, key), text);
  return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                  "'%s': '%s': %s is not supported; supported: %s", c->path,
                  key, text, supported);
}

/* Keys that leave the logits of a plain forward pass alone: bookkeeping,
 * training, text generation, tokens. */
static const char *const harmless[] = {
    "_attn_implementation_autoset",
    "_name_or_path",
    "activation_dropout",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "cache_implementation",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "embd_pdrop",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "generation_config",
    "gradient_checkpointing",
    "hidden_dropout",
    "id2label",
    "init_std",
    "initializer_range",
    "is_llama_config", /* a training framework's mark */
    "label2id",
    "layerdrop",
    "length_penalty",
    "max_length",
    "max_sequence_length", /* of early LLaMA conversions, unused */
    "min_length",
    "model_type",
    "n_ctx", /* GPT-2's second name for n_positions, unused */
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp", /* how a product is split, not what it is */
    "problem_type",
    "ptqsweep_provenance",
    "ptqsweep_source",
    "repetition_penalty",
    "resid_pdrop",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "typical_p",
    "unk_token_id",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
    NULL,
};

static bool in_list(const char *const *list, const char *key) {
  for (; *list != NULL; list++)
    if (strcmp(*list, key) == 0) return true;
  return false;
}

/* Is the key one of "a|b"? */
static bool is_spelling(const char *list, const char *key) {
  const size_t n = strlen(key);
  for (const char *at = list; at != NULL; at = strchr(at, '|')) {
    if (*at == '|') at++;
    if (strncmp(at, key, n) == 0 && (at[n] == '\0' || at[n] == '|'))
      return true;
  }
  return false;
}

static bool in_array(const char *const *lists, int n, const char *key) {
  for (int i = 0; i < n; i++)
    if (is_spelling(lists[i], key)) return true;
  return false;
}

/* null, false, {} and []: whatever the key is, it is not used. Within an object
 * false may be a choice (yarn's "truncate"), and only null is nothing. */
static bool says_nothing(const ptq_config *c, const json_t *v) {
  if (c->nested) return json_is_null(v);
  return json_is_null(v) || json_is_false(v) ||
         (json_is_object(v) && json_object_size(v) == 0) ||
         (json_is_array(v) && json_array_size(v) == 0);
}

ptq_status ptq_config_check_keys(const ptq_config *c, const char *const *known,
                                 const char *const *more, int n_more,
                                 ptq_err *err) {
  const char *key = NULL;
  json_t *v = NULL;
  json_object_foreach(c->root, key, v) {
    if (says_nothing(c, v) || in_list(known, key) || in_list(harmless, key) ||
        in_array(more, n_more, key))
      continue;
    if (strcmp(key, "quantization_config") == 0)
      return ptq_config_refuse(
          c, key, "checkpoints that are not quantized already", err);
    return ptq_config_refuse(c, key,
                             "leaving the key out; do so only if it does not "
                             "change what the model computes",
                             err);
  }
  return PTQ_OK;
}
