/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"

void ptq_text_release(ptq_text *t) {
  ptq_free(t->buf);
  *t = (ptq_text){0};
}

static bool reserve(ptq_text *t, size_t more) {
  if (t->rc != PTQ_OK) return false;
  const size_t need = t->len + more + 1;
  if (need <= t->cap) return true;
  size_t cap = t->cap > 0 ? t->cap : 256;
  while (cap < need) cap *= 2;
  t->rc = ptq_grow(&t->buf, (int64_t)t->cap, (int64_t)cap, 1, "a text", NULL);
  if (t->rc != PTQ_OK) return false;
  t->cap = cap;
  return true;
}

void ptq_text_add(ptq_text *t, const char *s) {
  const size_t n = strlen(s);
  if (!reserve(t, n)) return;
  memcpy(t->buf + t->len, s, n + 1);
  t->len += n;
}

void ptq_text_addf(ptq_text *t, const char *fmt, ...) {
  va_list args;
  va_start(args, fmt);
  va_list again;
  va_copy(again, args);
  const int n = vsnprintf(NULL, 0, fmt, args);
  va_end(args);
  if (n >= 0 && reserve(t, (size_t)n)) {
    vsnprintf(t->buf + t->len, (size_t)n + 1, fmt, again);
    t->len += (size_t)n;
  }
  va_end(again);
}

void ptq_text_column(ptq_text *t, int width, int decimals, double v) {
  if (snprintf(NULL, 0, "%.*f", decimals, v) <= width)
    ptq_text_addf(t, "%*.*f", width, decimals, v);
  else
    ptq_text_addf(t, "%*.3g", width, v);
}

const char *ptq_text_str(const ptq_text *t) {
  return t->buf != NULL ? t->buf : "";
}

bool ptq_text_copy(char *dst, size_t size, const char *s) {
  const size_t n = strlen(s);
  const size_t kept = n < size ? n : size - 1;
  memcpy(dst, s, kept);
  memset(dst + kept, 0, size - kept);
  return kept == n;
}

/* Levenshtein distance, two rows; words longer than the buffer are cut. */
static size_t edit_distance(const char *a, const char *b) {
  enum { MAX = 63 };
  size_t row[MAX + 1];
  size_t na = strlen(a), nb = strlen(b);
  if (na > MAX) na = MAX;
  if (nb > MAX) nb = MAX;
  for (size_t j = 0; j <= nb; j++) row[j] = j;
  for (size_t i = 1; i <= na; i++) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= nb; j++) {
      const size_t above = row[j];
      size_t best = diagonal + (a[i - 1] != b[j - 1]);
      if (above + 1 < best) best = above + 1;
      if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
      diagonal = above;
      row[j] = best;
    }
  }
  return row[nb];
}

const char *ptq_text_nearest(const char *word, const char *const *names,
                             size_t n) {
  const char *best = NULL;
  size_t best_distance = 1 + (strlen(word) + 1) / 2;
  for (size_t i = 0; i < n; i++) {
    const size_t d = edit_distance(word, names[i]);
    if (d < best_distance) {
      best_distance = d;
      best = names[i];
    }
  }
  return best;
}
