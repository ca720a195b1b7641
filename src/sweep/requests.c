/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/requests.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"
#include "ptq/base/text.h"
#include "ptq/sweep/tokens.h"
#include "request_layout.h"
#include "tokenizer.h"

enum { MAX_FILE = 1 << 30, COLUMNS = 6 };

/* What prepare.py calls O: the options that decide over tokens. */
static ptq_status hash_options(const ptq_request_spec *r,
                               char hex[PTQ_HASH_HEX], ptq_err *err) {
  ptq_hash *h = NULL;
  char prefix[24] = "";
  const ptq_status rc = ptq_hash_create(&h, err);
  if (rc != PTQ_OK) return rc;
  if (r->prefix >= 0) snprintf(prefix, sizeof prefix, "%" PRId64, r->prefix);
  ptq_hash_text(h, r->delimiter);
  ptq_hash_text(h, r->bos < 0 ? "" : r->bos > 0 ? "1" : "0");
  ptq_hash_text(h, prefix);
  ptq_hash_hex(h, hex);
  ptq_hash_free(h);
  return PTQ_OK;
}

/* An error about the file with its place in the sweep file. */
static ptq_status at_line(const ptq_spec *spec, ptq_status rc,
                          const ptq_err *why, ptq_err *err) {
  if (rc == PTQ_OK) return rc;
  return PTQ_FAIL(err, rc, "%s:%d: requests: %s", spec->path,
                  spec->requests.line, why->msg);
}

ptq_status ptq_requests_count(const ptq_spec *spec, int64_t *n, ptq_err *err) {
  const ptq_request_spec *r = &spec->requests;
  char *text = NULL;
  size_t size = 0;
  ptq_err why = {0};
  *n = 0;
  if (r->path == NULL) return PTQ_OK;
  const ptq_status rc = ptq_file_read(r->path, MAX_FILE, &text, &size, &why);
  if (rc != PTQ_OK) return at_line(spec, rc, &why, err);
  bool blank = true;
  for (size_t i = 0; i <= size; i++) {
    const char c = i < size ? text[i] : '\n';
    if (c != '\n') {
      blank = blank && strchr(" \t\r\v\f", c) != NULL && c != '\0';
      continue;
    }
    *n += !blank;
    blank = true;
  }
  ptq_free(text);
  if (r->limit > 0 && *n > r->limit) *n = r->limit;
  if (*n > 0) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG, "%s:%d: requests: '%s' has none", spec->path,
                  r->line, r->path);
}

/* "<dir>/<file>-<tokenizer>-<options>" */
static ptq_status cache_stem(const ptq_spec *spec, const char *model_dir,
                             ptq_text *stem, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_err why = {0};
  char *dir = NULL;
  char t[PTQ_HASH_HEX], s[PTQ_HASH_HEX], o[PTQ_HASH_HEX];
  PTQ_TRY(ptq_tokens_dir(spec->path, &dir, err));
  rc = ptq_hash_file(spec->requests.path, t, &why);
  PTQ_TRY(at_line(spec, rc, &why, err));
  PTQ_TRY(ptq_tokenizer_hash(model_dir, s, err));
  PTQ_TRY(hash_options(&spec->requests, o, err));
  ptq_text_addf(stem, "%s/%s-%s-%s", dir, t, s, o);
  if (stem->rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "a path"));
done:
  ptq_free(dir);
  return rc;
}

static ptq_status read_part(const ptq_spec *spec, const char *model_dir,
                            const char *stem, const char *part,
                            ptq_npy_type type, int n_dims, ptq_npy *out,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text path = {0};
  ptq_text_addf(&path, "%s.%s.npy", stem, part);
  if (path.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "a path"));
  if (!ptq_path_exists(path.buf))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO,
                     "no tokens of the requests '%s' for model '%s'; make "
                     "them with: python3 sweeps/prepare.py %s (./run.sh sweep "
                     "does it)",
                     spec->requests.path, model_dir, spec->path));
  PTQ_TRY(ptq_npy_read(path.buf, type, n_dims, out, err));
done:
  ptq_text_release(&path);
  return rc;
}

/* The table is written behind the tokens: it must fit them and the file. */
static ptq_status check_table(const ptq_spec *spec, const ptq_npy *ids,
                              const ptq_npy *table, ptq_err *err) {
  const int64_t *row = table->data;
  int64_t tokens = 0, request = -1, right = 1;
  bool good = table->dims[1] == COLUMNS;
  for (int64_t i = 0; good && i < table->dims[0]; i++, row += COLUMNS) {
    if (row[0] != request) {
      good = row[0] == request + 1 && right == 1;
      request = row[0];
      right = 0;
    }
    right += row[5];
    good = good && row[1] > 0 && row[2] > 0 && row[3] > 0 && row[4] > 0 &&
           row[1] < ids->n && row[2] < ids->n && (row[5] == 0 || row[5] == 1);
    tokens += row[1] + row[2];
  }
  if (good && right == 1 && tokens == ids->n) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_FORMAT,
                  "tokens of the requests '%s' are damaged; remove the cache "
                  "and run sweeps/prepare.py again",
                  spec->requests.path);
}

static ptq_status check_ids(const ptq_spec *spec, const char *model_dir,
                            const ptq_npy *ids, int64_t vocab, ptq_err *err) {
  const uint32_t *id = ids->data;
  for (int64_t i = 0; i < ids->n; i++)
    if ((int64_t)id[i] >= vocab)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "tokens of the requests '%s': token %" PRIu32
                      " is beyond the vocabulary of '%s' (%" PRId64
                      "); its tokenizer.json is of another model",
                      spec->requests.path, id[i], model_dir, vocab);
  return PTQ_OK;
}

/* Without a limit of its own, lm-eval takes 2048 for models whose config
 * states none, which are those of ALiBi. */
static int64_t tokens_seen(const ptq_request_spec *r,
                           const ptq_model_info *info) {
  enum { UNSTATED = 2048 };
  int64_t n = info->max_positions;
  if (info->positions == PTQ_POSITIONS_ALIBI && n > UNSTATED) n = UNSTATED;
  return r->length > 0 && r->length < n ? r->length : n;
}

ptq_status ptq_requests_load(const ptq_spec *spec, const char *model_dir,
                             const ptq_model_info *info, ptq_requests *out,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text stem = {0};
  ptq_npy ids = {0}, table = {0};
  int64_t n = 0;
  *out = (ptq_requests){0};
  if (spec->requests.path == NULL) return PTQ_OK;
  PTQ_TRY(ptq_requests_count(spec, &n, err));
  PTQ_TRY(cache_stem(spec, model_dir, &stem, err));
  PTQ_TRY(read_part(spec, model_dir, stem.buf, "choices", PTQ_NPY_I64, 2,
                    &table, err));
  PTQ_TRY(
      read_part(spec, model_dir, stem.buf, "ids", PTQ_NPY_U32, 1, &ids, err));
  PTQ_TRY(check_table(spec, &ids, &table, err));
  PTQ_TRY(check_ids(spec, model_dir, &ids, info->vocab, err));
  const ptq_request_source source = {
      .ids = ids.data,
      .table = table.data,
      .n_choices = table.dims[0],
      .n = n,
      .longest = tokens_seen(&spec->requests, info)};
  PTQ_TRY(ptq_request_layout(&source, info, spec->requests.path, out, err));
done:
  ptq_text_release(&stem);
  ptq_npy_release(&ids);
  ptq_npy_release(&table);
  if (rc != PTQ_OK) ptq_requests_release(out);
  return rc;
}

ptq_request_size ptq_requests_size(const ptq_requests *r) {
  return (ptq_request_size){.n = r->n,
                            .rows = r->n_rows,
                            .targets = r->n_targets,
                            .predicting = r->n_predicting,
                            .longest_bundle = r->longest_bundle,
                            .pairs = r->n_pairs};
}

void ptq_requests_release(ptq_requests *r) {
  ptq_free(r->first);
  ptq_free(r->choices);
  ptq_free(r->targets);
  ptq_free(r->ids);
  ptq_free(r->branches);
  ptq_free(r->bundles);
  *r = (ptq_requests){0};
}
