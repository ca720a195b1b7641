/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file text.h
 * A growing string, and helpers for fixed-length text fields.
 */
#ifndef PTQ_BASE_TEXT_H
#define PTQ_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "ptq/base/status.h"

/** `buf` is NUL-terminated once anything was added, else NULL. A failed
 * allocation is remembered in `rc` and makes further adds do nothing, so a
 * caller checks once at the end. */
typedef struct ptq_text {
  char *buf; /* owned */
  size_t len, cap;
  ptq_status rc;
} ptq_text;

void ptq_text_release(ptq_text *t);
void ptq_text_add(ptq_text *t, const char *s);
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void ptq_text_addf(ptq_text *t, const char *fmt, ...);
/** Add `v` right-aligned in a column of `width` with `decimals`; what the
 * column does not hold so, as %.3g. */
void ptq_text_column(ptq_text *t, int width, int decimals, double v);
/** The text so far, "" if nothing was added; borrowed. */
const char *ptq_text_str(const ptq_text *t);

/** Copy `s` into `dst[size]`, NUL-padded to the end (so that equal texts are
 * equal bytes). Returns false if it was cut short. */
bool ptq_text_copy(char *dst, size_t size, const char *s);

/** Nearest of `n` names to `word` by edit distance, NULL if none is near
 * enough to suggest. For "unknown X 'foo'; did you mean 'bar'?". */
const char *ptq_text_nearest(const char *word, const char *const *names,
                             size_t n);

#endif /* PTQ_BASE_TEXT_H */
