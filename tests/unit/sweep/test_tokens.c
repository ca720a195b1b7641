/* SPDX-License-Identifier: GPL-3.0-or-later */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/sweep/tokens.h"
#include "sweep_files.h"
#include "tokenizer.h"

enum { N_TOKENS = 50 };

static scratch files;
static char spec_path[256], model_dir[256], text_path[256];

/* Writes the cache of the text: ids i % 40, token i ends at byte 2 (i + 1). */
static void write_cache(uint32_t ids[N_TOKENS], uint64_t ends[N_TOKENS],
                        size_t n_ids, size_t n_ends) {
  char t[PTQ_HASH_HEX], k[PTQ_HASH_HEX], name[128], tokenizer[300];
  snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", model_dir);
  assert_int_equal(ptq_hash_file(text_path, t, NULL), PTQ_OK);
  assert_int_equal(ptq_hash_file(tokenizer, k, NULL), PTQ_OK);
  snprintf(name, sizeof name, ".tokens/%s-%s.ids.npy", t, k);
  scratch_npy(&files, name, "<u4", ids, n_ids, sizeof *ids);
  snprintf(name, sizeof name, ".tokens/%s-%s.ends.npy", t, k);
  scratch_npy(&files, name, "<u8", ends, n_ends, sizeof *ends);
}

static void fill(uint32_t ids[N_TOKENS], uint64_t ends[N_TOKENS]) {
  for (uint32_t i = 0; i < N_TOKENS; i++) {
    ids[i] = i % 40;
    ends[i] = 2 * (i + 1);
  }
}

static int make_files(void **state) {
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  (void)state;
  unsetenv("PTQSWEEP_TOKENS");
  scratch_make(&files);
  scratch_mkdir(&files, ".tokens");
  scratch_mkdir(&files, "model");
  strcpy(model_dir, files.path);
  scratch_text(&files, "model/tokenizer.json", "{}");
  scratch_text(&files, "text.txt", "some text");
  strcpy(text_path, files.path);
  strcpy(spec_path, scratch_path(&files, "s.yaml"));
  fill(ids, ends);
  write_cache(ids, ends, N_TOKENS, N_TOKENS);
  return 0;
}

static int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

static ptq_text_spec text_of(int64_t windows, int64_t length) {
  return (ptq_text_spec){
      .path = text_path, .windows = windows, .length = length, .line = 7};
}

static void refused(const ptq_text_spec *text, const char *dir, int64_t vocab,
                    ptq_status code, const char *part) {
  ptq_tokens tokens;
  ptq_err err = {0};
  assert_int_equal(ptq_tokens_load(spec_path, text, dir, vocab, &tokens, &err),
                   code);
  assert_null(tokens.ids);
  if (strstr(err.msg, part) == NULL) fail_msg("'%s' lacks '%s'", err.msg, part);
}

static void the_cache_is_beside_the_sweep_file_or_where_told(void **state) {
  (void)state;
  char *dir = NULL;
  assert_int_equal(ptq_tokens_dir("a/b/s.yaml", &dir, NULL), PTQ_OK);
  assert_string_equal(dir, "a/b/.tokens");
  ptq_free(dir);
  assert_int_equal(ptq_tokens_dir("s.yaml", &dir, NULL), PTQ_OK);
  assert_string_equal(dir, "./.tokens");
  ptq_free(dir);
  setenv("PTQSWEEP_TOKENS", "elsewhere", 1);
  assert_int_equal(ptq_tokens_dir("a/b/s.yaml", &dir, NULL), PTQ_OK);
  assert_string_equal(dir, "elsewhere");
  ptq_free(dir);
  const ptq_text_spec text = text_of(1, 2);
  refused(&text, model_dir, 40, PTQ_E_IO, "in 'elsewhere'");
  unsetenv("PTQSWEEP_TOKENS");
}

static void cached_tokens_are_loaded(void **state) {
  (void)state;
  const ptq_text_spec text = text_of(1, 2);
  ptq_tokens tokens;
  ptq_err err = {0};
  if (ptq_tokens_load(spec_path, &text, model_dir, 40, &tokens, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  assert_int_equal(tokens.n, N_TOKENS);
  assert_int_equal(tokens.ids[41], 1);
  assert_int_equal(tokens.ends[49], 100);
  ptq_tokens_release(&tokens);
}

static void absent_tokens_name_the_command_that_makes_them(void **state) {
  (void)state;
  ptq_text_spec text = text_of(1, 2);
  char other[256], command[400], gone[] = "gone.txt";
  scratch_mkdir(&files, "other");
  strcpy(other, files.path);
  refused(&text, other, 40, PTQ_E_IO, "tokenizer.json");
  scratch_text(&files, "other/tokenizer.json", "{ }");
  refused(&text, other, 40, PTQ_E_IO, "no tokens of '");
  refused(&text, other, 40, PTQ_E_IO, "/text.txt' for model '");
  snprintf(command, sizeof command,
           "make them with: python3 sweeps/prepare.py %s (./run.sh sweep does "
           "it)",
           spec_path);
  refused(&text, other, 40, PTQ_E_IO, command);
  text.path = gone;
  refused(&text, model_dir, 40, PTQ_E_IO, "s.yaml:7: text: cannot open");
}

static void impossible_tokens_are_refused(void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_text_spec text = text_of(1, 2);
  refused(&text, model_dir, 39, PTQ_E_FORMAT,
          "token 39 at position 39 is beyond the vocabulary of '");
  fill(ids, ends);
  ends[8] = ends[7] - 1;
  write_cache(ids, ends, N_TOKENS, N_TOKENS);
  refused(&text, model_dir, 40, PTQ_E_FORMAT,
          "the token at position 8 ends before");
  fill(ids, ends);
  write_cache(ids, ends, N_TOKENS, N_TOKENS - 1);
  refused(&text, model_dir, 40, PTQ_E_FORMAT, "50 ids but 49 ends");
  write_cache(ids, ends, N_TOKENS, N_TOKENS);
}

/* Tokens 0..N-1 whose token i ends at byte 2 (i + 1). */
static ptq_tokens counted(uint32_t ids[N_TOKENS], uint64_t ends[N_TOKENS]) {
  fill(ids, ends);
  for (uint32_t i = 0; i < N_TOKENS; i++) ids[i] = i;
  return (ptq_tokens){.ids = ids, .ends = ends, .n = N_TOKENS};
}

static void windows_without_a_seed_are_the_first_ones(void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_tokens tokens = counted(ids, ends);
  const ptq_text_spec text = text_of(5, 10); /* all 50 tokens */
  ptq_windows w;
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, NULL), PTQ_OK);
  assert_int_equal(w.n, 5);
  assert_int_equal(w.length, 10);
  for (uint32_t i = 0; i < 50; i++) assert_int_equal(w.ids[i], i);
  for (int64_t i = 0; i < 5; i++) {
    assert_int_equal(w.start[i], 10 * i);
    assert_int_equal(w.bytes[i], 18); /* nine scored tokens of two bytes */
  }
  ptq_windows_release(&w);
}

static void windows_from_the_end_are_the_last_ones(void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_tokens tokens = counted(ids, ends);
  const ptq_text_spec text = text_of(3, 7);
  ptq_windows w;
  assert_int_equal(ptq_windows_cut(&text, true, &tokens, &w, NULL), PTQ_OK);
  assert_int_equal(w.start[0], 29);
  assert_int_equal(w.ids[0], 29);
  assert_int_equal(w.ids[20], 49);
  ptq_windows_release(&w);
}

/* Starts, first scored tokens and bytes of windows under a preset. */
static void expect_windows(const ptq_text_spec *text, const ptq_tokens *tokens,
                           const int64_t start[3], const int64_t first[3]) {
  ptq_windows w;
  ptq_err err = {0};
  if (ptq_windows_cut(text, false, tokens, &w, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(w.start[i], start[i]);
    assert_int_equal(w.first[i], first[i]);
    assert_int_equal(ptq_windows_scored(&w, i), text->length - first[i]);
    assert_int_equal(w.bytes[i], 2 * (text->length - first[i]));
  }
  ptq_windows_release(&w);
}

static void presets_move_and_score_as_their_tools_do(void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_tokens tokens = counted(ids, ends);
  ptq_text_spec text = text_of(3, 10);
  text.scoring = (ptq_scoring){.preset = "llama.cpp", .context = 6};
  expect_windows(&text, &tokens, (int64_t[]){0, 10, 20}, (int64_t[]){6, 6, 6});
  text.scoring = (ptq_scoring){
      .preset = "strided:3", .stride = 3, .context = 7, .first_whole = true};
  expect_windows(&text, &tokens, (int64_t[]){0, 3, 6}, (int64_t[]){1, 7, 7});
  text.scoring = (ptq_scoring){.preset = "lm-eval", .stride = 9, .context = 1};
  expect_windows(&text, &tokens, (int64_t[]){0, 9, 18}, (int64_t[]){1, 1, 1});
  text.windows = 5; /* 4 * 9 + 10 tokens; six windows take 55 */
  ptq_windows w;
  ptq_err err = {0};
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, &err), PTQ_OK);
  ptq_windows_release(&w);
  text.windows = 6;
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, &err), PTQ_E_ARG);
  assert_non_null(
      strstr(err.msg, "has 50 tokens, but 6 windows of 10 take 55"));
}

static void a_document_is_scored_to_its_end(void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_tokens tokens = counted(ids, ends);
  ptq_text_spec text = text_of(6, 10);
  text.scoring = (ptq_scoring){
      .preset = "lm-eval", .stride = 9, .context = 1, .prefixed = true};
  /* five windows score tokens 1 to 45, the last one 46 to 49 */
  expect_windows(&text, &tokens, (int64_t[]){0, 9, 18, 27, 36, 40},
                 (int64_t[]){1, 1, 1, 1, 1, 6});
  assert_int_equal(ptq_windows_missing(&text, N_TOKENS), 0);
  text.windows = 5;
  expect_windows(&text, &tokens, (int64_t[]){0, 9, 18, 27, 36},
                 (int64_t[]){1, 1, 1, 1, 1});
  assert_int_equal(ptq_windows_missing(&text, N_TOKENS), 1);
  assert_int_equal(ptq_windows_missing(&text, 46), 0);
  assert_int_equal(ptq_windows_missing(&text, 47), 1);
  assert_int_equal(ptq_windows_missing(&text, 56), 2);
  text.scoring.prefixed = false;
  assert_int_equal(ptq_windows_missing(&text, N_TOKENS), 0);
  text.scoring.prefixed = true;
  text.windows = 7; /* one token in the last takes 56 */
  ptq_windows w;
  ptq_err err = {0};
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, &err), PTQ_E_ARG);
  assert_non_null(
      strstr(err.msg, "has 50 tokens, but 7 windows of 10 take 56"));
}

static void a_beginning_of_text_token_is_put(void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_tokens tokens = counted(ids, ends);
  ptq_text_spec text = text_of(3, 10);
  ptq_windows w;
  text.scoring =
      (ptq_scoring){.preset = "llama.cpp", .context = 6, .bos_each = true};
  ids[0] = 33;
  for (int with = 0; with < 2; with++) {
    if (with) ends[0] = 0; /* no bytes: the tokenizer's own */
    assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, NULL), PTQ_OK);
    assert_int_equal(w.ids[0], 33);
    assert_int_equal(w.ids[10], with ? 33 : 10);
    assert_int_equal(w.ids[11], 11);
    ptq_windows_release(&w);
  }
}

/* Beginning and end of text, as prepare.py writes them. */
static void write_special(int64_t bos, int64_t eos, size_t n) {
  char hex[PTQ_HASH_HEX], name[80];
  const int64_t ids[2] = {bos, eos};
  assert_int_equal(ptq_tokenizer_hash(model_dir, hex, NULL), PTQ_OK);
  snprintf(name, sizeof name, ".tokens/%s.special.npy", hex);
  scratch_npy(&files, name, "<i8", ids, n, sizeof *ids);
}

static void lm_eval_has_a_token_in_front(void **state) {
  (void)state;
  ptq_tokens t;
  ptq_text_spec text = text_of(1, 2);
  text.scoring = (ptq_scoring){.preset = "lm-eval", .prefixed = true};
  refused(&text, model_dir, 40, PTQ_E_IO, "no special tokens of model");
  for (int with = 0; with < 2; with++) {
    write_special(with ? 33 : -1, 7, 2);
    assert_int_equal(ptq_tokens_load(spec_path, &text, model_dir, 40, &t, NULL),
                     PTQ_OK);
    assert_int_equal(t.n, N_TOKENS + 1);
    assert_int_equal(t.ids[0], with ? 33 : 7);
    assert_int_equal(t.ends[0], 0);
    assert_int_equal(t.ids[50], 49 % 40);
    assert_int_equal(t.ends[50], 100);
    ptq_tokens_release(&t);
  }
  write_special(-1, -1, 2);
  refused(&text, model_dir, 40, PTQ_E_UNSUPPORTED, "names neither");
  write_special(40, 1, 2);
  refused(&text, model_dir, 40, PTQ_E_FORMAT, "beyond the vocabulary (40)");
  write_special(1, 1, 1);
  refused(&text, model_dir, 40, PTQ_E_FORMAT, "is damaged");
  write_special(-2, 1, 2);
  refused(&text, model_dir, 40, PTQ_E_FORMAT, "is damaged");
}

static void windows_with_a_seed_lie_anywhere_and_repeat(void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_tokens tokens = counted(ids, ends);
  ptq_text_spec text = text_of(2000, 10);
  text.random = true;
  text.seed = 5;
  ptq_windows w, again, other;
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, NULL), PTQ_OK);
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &again, NULL), 0);
  text.seed = 6;
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &other, NULL), 0);
  bool seen[41] = {false};
  for (int64_t i = 0; i < w.n; i++) {
    assert_in_range(w.start[i], 0, 40);
    assert_int_equal(w.ids[i * 10], w.start[i]);
    assert_int_equal(w.ids[i * 10 + 9], w.start[i] + 9);
    seen[w.start[i]] = true;
  }
  for (int i = 0; i <= 40; i++) assert_true(seen[i]);
  assert_memory_equal(w.start, again.start, 2000 * sizeof *w.start);
  assert_memory_not_equal(w.start, other.start, 2000 * sizeof *w.start);
  ptq_windows_release(&w);
  ptq_windows_release(&again);
  ptq_windows_release(&other);
}

static void a_text_that_is_too_short_is_refused_with_both_numbers(
    void **state) {
  (void)state;
  uint32_t ids[N_TOKENS];
  uint64_t ends[N_TOKENS];
  const ptq_tokens tokens = counted(ids, ends);
  ptq_text_spec text = text_of(5, 11);
  ptq_windows w;
  ptq_err err = {0};
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, &err), PTQ_E_ARG);
  assert_null(w.ids);
  assert_non_null(
      strstr(err.msg, "has 50 tokens, but 5 windows of 11 take 55"));
  assert_non_null(strstr(err.msg, "/text.txt'"));
  text = text_of(5, 51);
  text.random = true;
  err = (ptq_err){0};
  assert_int_equal(ptq_windows_cut(&text, false, &tokens, &w, &err), PTQ_E_ARG);
  assert_non_null(
      strstr(err.msg, "has 50 tokens, but 1 windows of 51 take 51"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_cache_is_beside_the_sweep_file_or_where_told),
      cmocka_unit_test(cached_tokens_are_loaded),
      cmocka_unit_test(absent_tokens_name_the_command_that_makes_them),
      cmocka_unit_test(impossible_tokens_are_refused),
      cmocka_unit_test(windows_without_a_seed_are_the_first_ones),
      cmocka_unit_test(windows_from_the_end_are_the_last_ones),
      cmocka_unit_test(presets_move_and_score_as_their_tools_do),
      cmocka_unit_test(a_document_is_scored_to_its_end),
      cmocka_unit_test(a_beginning_of_text_token_is_put),
      cmocka_unit_test(lm_eval_has_a_token_in_front),
      cmocka_unit_test(windows_with_a_seed_lie_anywhere_and_repeat),
      cmocka_unit_test(a_text_that_is_too_short_is_refused_with_both_numbers),
  };
  return cmocka_run_group_tests_name("sweep/tokens", tests, make_files,
                                     remove_files);
}
