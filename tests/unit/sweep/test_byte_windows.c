/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include "byte_windows.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ptq/base/mem.h"
#include "sweep_files.h"

/* Words end at bytes 4, 10, 13, 17, 24 and 28, not at the end of the text. */
static const char text[] = "It's done, so  we\nshall. And on";

static scratch files;
static char path[256];

static int make_files(void **state) {
  (void)state;
  scratch_make(&files);
  scratch_text(&files, "t.txt", text);
  strcpy(path, files.path);
  return 0;
}

static int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

static ptq_text_spec spec_of(int64_t windows, int64_t length, int64_t bytes) {
  return (ptq_text_spec){
      .path = path,
      .windows = windows,
      .length = length,
      .scoring = {.preset = "bytes:N", .context = 1, .bytes = bytes}};
}

/* A token a byte, and a token a word with the blanks before it. */
static void tokenize(bool by_words, ptq_tokens *t) {
  const size_t size = sizeof text - 1;
  *t = (ptq_tokens){0};
  assert_int_equal(ptq_alloc(&t->ids, 64, sizeof *t->ids, "t", NULL), PTQ_OK);
  assert_int_equal(ptq_alloc(&t->ends, 64, sizeof *t->ends, "t", NULL), PTQ_OK);
  for (size_t i = 0; i < size; i++) {
    const bool blank = text[i] == ' ' || text[i] == '\n';
    const bool ends =
        i + 1 == size || text[i + 1] == ' ' || text[i + 1] == '\n';
    if (by_words && (blank || !ends)) continue;
    t->ids[t->n] = (uint32_t)t->n + 100;
    t->ends[t->n++] = i + 1;
  }
}

static void both_tokenizers_score_the_same_bytes(void **state) {
  (void)state;
  int64_t bytes[2][2];
  for (int by_words = 0; by_words < 2; by_words++) {
    ptq_tokens t;
    ptq_windows w;
    ptq_err err = {0};
    const ptq_text_spec s = spec_of(2, 20, 7);
    tokenize(by_words, &t);
    /* From 4 (the first end), to 10 and to 17. */
    if (ptq_windows_cut(&s, false, &t, &w, &err) != PTQ_OK)
      fail_msg("%s", err.msg);
    assert_int_equal(w.n, 2);
    for (int i = 0; i < 2; i++) {
      bytes[by_words][i] = w.bytes[i];
      assert_int_equal(w.first[i], 1);
      assert_int_equal(ptq_windows_scored(&w, i), w.end[i] - 1);
      /* One token of context, then those up to the bound. */
      const int64_t last = w.start[i] + w.end[i] - 1;
      assert_int_equal(t.ends[last] - t.ends[w.start[i]], w.bytes[i]);
      for (int64_t k = 0; k < w.length; k++)
        assert_int_equal(w.ids[i * w.length + k],
                         t.ids[k < w.end[i] ? w.start[i] + k : last]);
    }
    assert_int_equal(w.start[1], w.start[0] + w.end[0] - 1);
    /* As long as the longest of them. */
    assert_int_equal(w.length, by_words ? 3 : 8);
    ptq_windows_release(&w);
    ptq_tokens_release(&t);
  }
  assert_int_equal(bytes[0][0], 6);
  assert_int_equal(bytes[0][1], 7);
  assert_memory_equal(bytes[0], bytes[1], sizeof bytes[0]);
}

static void refused(const ptq_text_spec *s, const ptq_tokens *t,
                    ptq_status code, const char *part) {
  ptq_windows w;
  ptq_err err = {0};
  assert_int_equal(ptq_windows_cut(s, false, t, &w, &err), code);
  if (strstr(err.msg, part) == NULL) fail_msg("'%s' lacks '%s'", err.msg, part);
  assert_null(w.ids);
}

static void what_cannot_be_is_refused(void **state) {
  (void)state;
  ptq_tokens t;
  tokenize(false, &t);
  ptq_text_spec s = spec_of(3, 20, 12);
  refused(&s, &t, PTQ_E_ARG, "has 31 bytes, but 3 windows of 12 bytes");
  s = spec_of(2, 7, 7);
  refused(&s, &t, PTQ_E_ARG, "window 1 takes 8 tokens, more than 'length' 7");
  t.ends[9] = 11; /* the comma and the blank behind it as one */
  s = spec_of(2, 20, 7);
  refused(&s, &t, PTQ_E_UNSUPPORTED, "a word ends at byte 10, but no token");
  ptq_tokens_release(&t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(both_tokenizers_score_the_same_bytes),
      cmocka_unit_test(what_cannot_be_is_refused),
  };
  return cmocka_run_group_tests_name("sweep/byte_windows", tests, make_files,
                                     remove_files);
}
