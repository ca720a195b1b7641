/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "byte_windows.h"
#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/base/rng.h"
#include "ptq/base/text.h"
#include "tokenizer.h"

ptq_status ptq_tokens_dir(const char *spec_path, char **out, ptq_err *err) {
  const char *given = getenv("PTQSWEEP_TOKENS");
  char *dir = NULL;
  *out = NULL;
  if (given != NULL && given[0] != '\0') return ptq_strdup(out, given, err);
  ptq_status rc = ptq_path_dir(spec_path, &dir, err);
  if (rc == PTQ_OK) rc = ptq_path_join(dir, ".tokens", out, err);
  ptq_free(dir);
  return rc;
}

/* "<text hash>-<tokenizer hash>" */
static ptq_status cache_name(const char *spec_path, const ptq_text_spec *text,
                             const char *model_dir, char name[80],
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_err why = {0};
  char *tokenizer = NULL;
  char t[PTQ_HASH_HEX], k[PTQ_HASH_HEX];
  PTQ_TRY(ptq_path_join(model_dir, "tokenizer.json", &tokenizer, err));
  rc = ptq_hash_file(text->path, t, &why);
  if (rc != PTQ_OK)
    PTQ_TRY(
        PTQ_FAIL(err, rc, "%s:%d: text: %s", spec_path, text->line, why.msg));
  PTQ_TRY(ptq_hash_file(tokenizer, k, err));
  snprintf(name, 80, "%s-%s", t, k);
done:
  ptq_free(tokenizer);
  return rc;
}

/* Reads <dir>/<name>.<part>.npy; data is the caller's. */
static ptq_status read_part(const char *dir, const char *name, const char *part,
                            ptq_npy_type type, void *data, int64_t *n,
                            ptq_err *err) {
  ptq_npy array = {0};
  ptq_text path = {0};
  ptq_text_addf(&path, "%s/%s.%s.npy", dir, name, part);
  const ptq_status rc = path.rc != PTQ_OK
                            ? PTQ_FAIL(err, PTQ_E_NOMEM, "a path")
                            : ptq_npy_read(path.buf, type, 1, &array, err);
  ptq_text_release(&path);
  if (rc != PTQ_OK) return rc;
  memcpy(data, &array.data, sizeof array.data);
  *n = array.n;
  return PTQ_OK;
}

static bool part_exists(const char *dir, const char *name, const char *part) {
  ptq_text path = {0};
  ptq_text_addf(&path, "%s/%s.%s.npy", dir, name, part);
  const bool there = path.rc == PTQ_OK && ptq_path_exists(path.buf);
  ptq_text_release(&path);
  return there;
}

/* What the cache says must be possible: ids known to the model, ends that
 * never go back. */
static ptq_status check(const ptq_tokens *t, int64_t n_ends, int64_t vocab,
                        const ptq_text_spec *text, const char *model_dir,
                        ptq_err *err) {
  if (n_ends != t->n)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "tokens of '%s': %" PRId64 " ids but %" PRId64
                    " ends; remove the cache and run sweeps/prepare.py again",
                    text->path, t->n, n_ends);
  for (int64_t i = 0; i < t->n; i++) {
    if ((int64_t)t->ids[i] >= vocab)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "tokens of '%s': token %" PRIu32 " at position %" PRId64
                      " is beyond the vocabulary of '%s' (%" PRId64
                      "); its tokenizer.json is of another model",
                      text->path, t->ids[i], i, model_dir, vocab);
    if (i > 0 && t->ends[i] < t->ends[i - 1])
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "tokens of '%s': the token at position %" PRId64
                      " ends before the one in front of it; remove the cache "
                      "and run sweeps/prepare.py again",
                      text->path, i);
  }
  return PTQ_OK;
}

/* One more token in front, of no bytes. */
static ptq_status put_in_front(ptq_tokens *t, uint32_t id, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const size_t n = (size_t)t->n;
  PTQ_TRY(ptq_grow(&t->ids, t->n, t->n + 1, sizeof *t->ids, "tokens", err));
  PTQ_TRY(ptq_grow(&t->ends, t->n, t->n + 1, sizeof *t->ends, "tokens", err));
  memmove(t->ids + 1, t->ids, n * sizeof *t->ids);
  memmove(t->ends + 1, t->ends, n * sizeof *t->ends);
  t->ids[0] = id;
  t->ends[0] = 0;
  t->n++;
done:
  return rc;
}

ptq_status ptq_tokens_load(const char *spec_path, const ptq_text_spec *text,
                           const char *model_dir, int64_t vocab,
                           ptq_tokens *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *dir = NULL;
  char name[80];
  int64_t n_ends = 0;
  *out = (ptq_tokens){0};
  PTQ_TRY(ptq_tokens_dir(spec_path, &dir, err));
  PTQ_TRY(cache_name(spec_path, text, model_dir, name, err));
  if (!part_exists(dir, name, "ids") || !part_exists(dir, name, "ends"))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO,
                     "no tokens of '%s' for model '%s' in '%s'; make them "
                     "with: python3 sweeps/prepare.py %s (./run.sh sweep does "
                     "it)",
                     text->path, model_dir, dir, spec_path));
  PTQ_TRY(read_part(dir, name, "ids", PTQ_NPY_U32, &out->ids, &out->n, err));
  PTQ_TRY(read_part(dir, name, "ends", PTQ_NPY_U64, &out->ends, &n_ends, err));
  PTQ_TRY(check(out, n_ends, vocab, text, model_dir, err));
  if (text->scoring.prefixed) {
    uint32_t prefix = 0;
    PTQ_TRY(ptq_tokenizer_prefix(spec_path, model_dir, vocab, &prefix, err));
    PTQ_TRY(put_in_front(out, prefix, err));
  }
done:
  ptq_free(dir);
  if (rc != PTQ_OK) ptq_tokens_release(out);
  return rc;
}

ptq_status ptq_tokens_exist(const char *spec_path, const ptq_text_spec *text,
                            const char *model_dir, bool *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *dir = NULL, *tokenizer = NULL;
  char name[80];
  *out = false;
  PTQ_TRY(ptq_path_join(model_dir, "tokenizer.json", &tokenizer, err));
  if (!ptq_path_exists(tokenizer)) goto done;
  PTQ_TRY(ptq_tokens_dir(spec_path, &dir, err));
  PTQ_TRY(cache_name(spec_path, text, model_dir, name, err));
  *out = part_exists(dir, name, "ids") && part_exists(dir, name, "ends");
  if (*out && text->scoring.prefixed) {
    char hex[PTQ_HASH_HEX];
    PTQ_TRY(ptq_tokenizer_hash(model_dir, hex, err));
    *out = part_exists(dir, hex, "special");
  }
done:
  ptq_free(tokenizer);
  ptq_free(dir);
  return rc;
}

void ptq_tokens_release(ptq_tokens *t) {
  ptq_free(t->ids);
  ptq_free(t->ends);
  *t = (ptq_tokens){0};
}

static int64_t stride_of(const ptq_text_spec *text) {
  return text->scoring.stride > 0 ? text->scoring.stride : text->length;
}

/* Tokens from the first window's begin to the last one's end. */
static int64_t span(const ptq_text_spec *text) {
  return (text->windows - 1) * stride_of(text) + text->length;
}

/* Tokens that windows take at least. A document's last window is its last
 * `length` tokens, of which only those that no other has are scored: one. */
static int64_t least(const ptq_text_spec *text) {
  if (text->random) return text->length;
  if (!text->scoring.prefixed || text->windows == 1) return span(text);
  return span(text) - text->length + 2;
}

/* The document ends within its last window. */
static void reach_back(int64_t n_tokens, ptq_windows *w) {
  const int64_t last = w->n - 1, over = w->start[last] + w->length - n_tokens;
  if (over <= 0) return;
  w->start[last] -= over;
  w->first[last] += over;
}

int64_t ptq_windows_missing(const ptq_text_spec *text, int64_t n_tokens) {
  const int64_t rest = n_tokens - span(text), stride = stride_of(text);
  if (!text->scoring.prefixed || rest <= 0) return 0;
  return (rest + stride - 1) / stride;
}

/* First tokens of the windows. */
static void place(const ptq_text_spec *text, bool from_end, int64_t n_tokens,
                  ptq_windows *w) {
  ptq_rng rng;
  ptq_rng_init(&rng, text->seed);
  const int64_t first = from_end ? n_tokens - span(text) : 0;
  const uint64_t places = (uint64_t)(n_tokens - w->length + 1);
  for (int64_t i = 0; i < w->n; i++)
    w->start[i] = text->random ? (int64_t)ptq_rng_below(&rng, places)
                               : first + i * stride_of(text);
}

int64_t ptq_windows_scored(const ptq_windows *w, int64_t i) {
  return w->end[i] - w->first[i];
}

ptq_status ptq_windows_reserve(ptq_windows *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = out->n;
  PTQ_TRY(
      ptq_alloc(&out->ids, n * out->length, sizeof *out->ids, "windows", err));
  PTQ_TRY(ptq_alloc(&out->start, n, sizeof *out->start, "windows", err));
  PTQ_TRY(ptq_alloc(&out->first, n, sizeof *out->first, "windows", err));
  PTQ_TRY(ptq_alloc(&out->end, n, sizeof *out->end, "windows", err));
  PTQ_TRY(ptq_alloc(&out->bytes, n, sizeof *out->bytes, "windows", err));
  for (int64_t i = 0; i < n; i++) out->end[i] = out->length;
done:
  return rc;
}

/* Does the tokenizer begin a text with a token of its own? It has no bytes. */
static bool has_bos(const ptq_tokens *t) {
  return t->n > 0 && t->ends[0] == 0;
}

ptq_status ptq_windows_cut(const ptq_text_spec *text, bool from_end,
                           const ptq_tokens *tokens, ptq_windows *out,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = text->windows, length = text->length;
  const int64_t need = least(text);
  const ptq_scoring *scoring = &text->scoring;
  if (scoring->bytes > 0) {
    rc = ptq_byte_windows_cut(text, tokens, out, err);
    goto done;
  }
  *out = (ptq_windows){.n = n, .length = length};
  if (tokens->n < need)
    PTQ_TRY(PTQ_FAIL(
        err, PTQ_E_ARG,
        "'%s' has %" PRId64 " tokens, but %" PRId64 " windows of %" PRId64
        " take %" PRId64 "; lower 'windows' or 'length', or give a longer text",
        text->path, tokens->n, text->random ? 1 : n, length, need));
  PTQ_TRY(ptq_windows_reserve(out, err));
  place(text, from_end, tokens->n, out);
  for (int64_t i = 0; i < n; i++) {
    const bool whole =
        scoring->context == 0 || (scoring->first_whole && i == 0);
    out->first[i] = whole ? 1 : scoring->context;
  }
  if (scoring->prefixed) reach_back(tokens->n, out);
  for (int64_t i = 0; i < n; i++) {
    const int64_t at = out->start[i], last = at + length - 1;
    memcpy(out->ids + i * length, tokens->ids + at,
           (size_t)length * sizeof *out->ids);
    if (scoring->bos_each && has_bos(tokens))
      out->ids[i * length] = tokens->ids[0];
    out->bytes[i] =
        (int64_t)(tokens->ends[last] - tokens->ends[at + out->first[i] - 1]);
  }
done:
  if (rc != PTQ_OK) ptq_windows_release(out);
  return rc;
}

void ptq_windows_release(ptq_windows *w) {
  ptq_free(w->ids);
  ptq_free(w->start);
  ptq_free(w->first);
  ptq_free(w->end);
  ptq_free(w->bytes);
  *w = (ptq_windows){0};
}
