/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file tokens.h
 * Token windows of a text under a model's tokenizer, from the cache that
 * sweeps/prepare.py writes: <T>-<K>.ids.npy (uint32) and <T>-<K>.ends.npy
 * (uint64 byte end of each token), T and K the XXH3-128 of the text's and
 * tokenizer.json's bytes.
 */
#ifndef PTQ_SWEEP_TOKENS_H
#define PTQ_SWEEP_TOKENS_H

#include "ptq/sweep/spec.h"

/** A text's tokens. */
typedef struct ptq_tokens {
  uint32_t *ids;  /* owned; [n] */
  uint64_t *ends; /* owned; [n] */
  int64_t n;
} ptq_tokens;

/** Windows cut from a text. */
typedef struct ptq_windows {
  uint32_t *ids;  /* owned; [n, length] */
  int64_t *start; /* owned; [n] first token's position in the text */
  int64_t *first; /* owned; [n] first token of the window that is scored; all
                     up to `end` are */
  int64_t *end;   /* owned; [n] length; less where others have more tokens of
                     as many bytes, and what follows is no text */
  int64_t *bytes; /* owned; [n] bytes of the scored tokens */
  int64_t n, length;
} ptq_windows;

/** Cache directory: PTQSWEEP_TOKENS, or ".tokens" beside the sweep file;
 * freed with ptq_free. */
ptq_status ptq_tokens_dir(const char *spec_path, char **out, ptq_err *err);

/** Load the cached tokens, with a prefix where the text's scoring wants one.
 * Absent: PTQ_E_IO and the command that makes them.
 * A token >= vocab: PTQ_E_FORMAT with its position. */
ptq_status ptq_tokens_load(const char *spec_path, const ptq_text_spec *text,
                           const char *model_dir, int64_t vocab,
                           ptq_tokens *out, ptq_err *err);
void ptq_tokens_release(ptq_tokens *t);

/** Has sweeps/prepare.py made the text's tokens? What ptq_tokens_load wants. */
ptq_status ptq_tokens_exist(const char *spec_path, const ptq_text_spec *text,
                            const char *model_dir, bool *out, ptq_err *err);

/** Allocate for out->n windows of out->length tokens, all of which `end` takes
 * in. */
ptq_status ptq_windows_reserve(ptq_windows *out, ptq_err *err);

/** Windows that a document's scoring (`prefixed`) lacks to take in all of
 * n_tokens; 0 for other scorings, which take parts. */
int64_t ptq_windows_missing(const ptq_text_spec *text, int64_t n_tokens);

/** Scored tokens of window i. */
int64_t ptq_windows_scored(const ptq_windows *w, int64_t i);

/** Cut windows as `text` says (`from_end`: the last ones). PTQ_E_ARG: a text
 * shorter than the windows asked, naming it and both numbers. A document's last
 * window (scoring `prefixed`) may reach back into the one before it, whose
 * tokens it does not score. */
ptq_status ptq_windows_cut(const ptq_text_spec *text, bool from_end,
                           const ptq_tokens *tokens, ptq_windows *out,
                           ptq_err *err);
void ptq_windows_release(ptq_windows *w);

#endif /* PTQ_SWEEP_TOKENS_H */
