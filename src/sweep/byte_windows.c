/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Tokens of two families end at different bytes, but wherever a blank follows
 * a visible character tokenizers that split at white space all end one. Which
 * of these places bound the windows depends on the text alone.
 */
#include "byte_windows.h"

#include <inttypes.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"

enum { MAX_TEXT = INT32_MAX };

/* Does a word end in front of byte `at`? */
static bool word_ends(const char *text, size_t size, size_t at) {
  return at > 0 && at < size && text[at - 1] > ' ' && text[at - 1] < 0x7f &&
         (text[at] == ' ' || text[at] == '\n');
}

/* The windows + 1 bounds in bytes. */
static ptq_status find_bounds(const ptq_text_spec *spec, const char *text,
                              size_t size, uint64_t *bounds, ptq_err *err) {
  const int64_t bytes = spec->scoring.bytes;
  size_t at = 0;
  for (int64_t i = 0; i <= spec->windows; i++) {
    if (at < (size_t)(i * bytes)) at = (size_t)(i * bytes);
    if (i > 0 && at <= bounds[i - 1]) at = (size_t)bounds[i - 1] + 1;
    while (at < size && !word_ends(text, size, at)) at++;
    if (at >= size)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "'%s' has %zu bytes, but %" PRId64 " windows of %" PRId64
                      " bytes that end with words take more; lower 'windows' "
                      "or the bytes, or give a longer text",
                      spec->path, size, spec->windows, bytes);
    bounds[i] = at;
  }
  return PTQ_OK;
}

/* The last token that ends at a byte; -1: none does. */
static int64_t token_at(const ptq_tokens *t, uint64_t byte) {
  int64_t low = 0, high = t->n; /* ends[low - 1] <= byte < ends[high] */
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (t->ends[middle] <= byte)
      low = middle + 1;
    else
      high = middle;
  }
  return low > 0 && t->ends[low - 1] == byte ? low - 1 : -1;
}

/* First and last token of each window, by its bounds; the longest length. */
static ptq_status find_tokens(const ptq_text_spec *text,
                              const ptq_tokens *tokens, const uint64_t *bounds,
                              int64_t *at, int64_t *longest, ptq_err *err) {
  for (int64_t i = 0; i <= text->windows; i++) {
    at[i] = token_at(tokens, bounds[i]);
    if (at[i] < 0)
      return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                      "'%s': preset '%s': a word ends at byte %" PRIu64
                      ", but no token of this model's tokenizer does; it "
                      "cannot be compared by bytes",
                      text->path, text->scoring.preset, bounds[i]);
    const int64_t n = i > 0 ? at[i] - at[i - 1] + 1 : 0;
    if (n > text->length)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "'%s': preset '%s': window %" PRId64 " takes %" PRId64
                      " tokens, more than 'length' %" PRId64
                      "; raise it, or take fewer bytes",
                      text->path, text->scoring.preset, i - 1, n, text->length);
    if (n > *longest) *longest = n;
  }
  return PTQ_OK;
}

static ptq_status copy_windows(const ptq_tokens *tokens, const uint64_t *bounds,
                               const int64_t *at, ptq_windows *out,
                               ptq_err *err) {
  const ptq_status rc = ptq_windows_reserve(out, err);
  if (rc != PTQ_OK) return rc;
  for (int64_t i = 0; i < out->n; i++) {
    const int64_t n = at[i + 1] - at[i] + 1;
    uint32_t *ids = out->ids + i * out->length;
    memcpy(ids, tokens->ids + at[i], (size_t)n * sizeof *ids);
    for (int64_t k = n; k < out->length; k++) ids[k] = ids[n - 1];
    out->start[i] = at[i];
    out->first[i] = 1;
    out->end[i] = n;
    out->bytes[i] = (int64_t)(bounds[i + 1] - bounds[i]);
  }
  return PTQ_OK;
}

ptq_status ptq_byte_windows_cut(const ptq_text_spec *text,
                                const ptq_tokens *tokens, ptq_windows *out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = text->windows;
  char *raw = NULL;
  size_t size = 0;
  uint64_t *bounds = NULL;
  int64_t *at = NULL;
  *out = (ptq_windows){.n = n};
  PTQ_TRY(ptq_file_read(text->path, MAX_TEXT, &raw, &size, err));
  PTQ_TRY(ptq_alloc(&bounds, n + 1, sizeof *bounds, "windows", err));
  PTQ_TRY(ptq_alloc(&at, n + 1, sizeof *at, "windows", err));
  PTQ_TRY(find_bounds(text, raw, size, bounds, err));
  PTQ_TRY(find_tokens(text, tokens, bounds, at, &out->length, err));
  PTQ_TRY(copy_windows(tokens, bounds, at, out, err));
done:
  ptq_free(raw);
  ptq_free(bounds);
  ptq_free(at);
  return rc;
}
