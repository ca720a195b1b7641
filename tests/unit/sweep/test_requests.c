/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Requests from the cache, sound and damaged. */
#ifndef _XOPEN_SOURCE
#define _XOPEN_SOURCE 700 /* nftw */
#endif
#include "ptq/sweep/requests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sweep_files.h"
#include "tokenizer.h"

enum { COLUMNS = 6, N_CHOICES = 4, N_IDS = 14 };

static scratch files;
static char spec_path[256], model_dir[256], file_path[256];
static const ptq_model_info info = {
    .d_model = 8, .vocab = 40, .max_positions = 64};

/* Two requests of two choices: 3 tokens of context each, then 1, 1, 1, 2. */
static const int64_t good_table[N_CHOICES * COLUMNS] = {
    0, 3, 1, 4, 5, 1, 0, 3, 1, 4, 5, 0, 1, 2, 1, 4, 5, 0, 1, 2, 1, 4, 5, 1};

static ptq_spec spec_of(void) {
  return (ptq_spec){.path = spec_path,
                    .requests = {.path = file_path,
                                 .prefix = -1,
                                 .bos = -1,
                                 .delimiter = " ",
                                 .line = 7}};
}

/* "<prefix>-<settings>-<options>" as prepare.py names the files. */
static void cache_name(const char *part, char name[160]) {
  char t[PTQ_HASH_HEX], k[PTQ_HASH_HEX], s[PTQ_HASH_HEX], o[PTQ_HASH_HEX];
  char tokenizer[300];
  ptq_hash *h = NULL;
  snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer.json", model_dir);
  assert_int_equal(ptq_hash_file(file_path, t, NULL), PTQ_OK);
  assert_int_equal(ptq_hash_file(tokenizer, k, NULL), PTQ_OK);
  assert_int_equal(ptq_hash_create(&h, NULL), PTQ_OK);
  ptq_hash_text(h, k);
  ptq_hash_text(h, ""); /* no special_tokens_map.json */
  snprintf(tokenizer, sizeof tokenizer, "%s/tokenizer_config.json", model_dir);
  assert_int_equal(ptq_hash_file(tokenizer, k, NULL), PTQ_OK);
  ptq_hash_text(h, k);
  ptq_hash_hex(h, s);
  ptq_hash_free(h);
  assert_int_equal(ptq_hash_create(&h, NULL), PTQ_OK);
  ptq_hash_text(h, " "); /* delimiter, bos and prefix as they are without */
  ptq_hash_text(h, "");
  ptq_hash_text(h, "");
  ptq_hash_hex(h, o);
  ptq_hash_free(h);
  snprintf(name, 160, ".tokens/%s-%s-%s.%s.npy", t, s, o, part);
}

static void write_table(const int64_t *table, int64_t rows, int64_t columns) {
  char name[160], dict[112], header[128];
  cache_name("choices", name);
  memcpy(header, "\x93NUMPY\x01\x00\x76\x00", 10);
  snprintf(dict, sizeof dict,
           "{'descr': '<i8', 'fortran_order': False, 'shape': (%d, %d), }",
           (int)rows, (int)columns);
  snprintf(header + 10, sizeof header - 10, "%-117s", dict);
  header[127] = '\n';
  FILE *f = fopen(scratch_path(&files, name), "wb");
  assert_non_null(f);
  assert_int_equal(fwrite(header, 1, 128, f), 128);
  assert_int_equal(fwrite(table, 8, (size_t)(rows * columns), f),
                   rows * columns);
  assert_int_equal(fclose(f), 0);
}

static void write_ids(uint32_t first, size_t n) {
  char name[160];
  uint32_t ids[N_IDS];
  for (uint32_t i = 0; i < N_IDS; i++) ids[i] = first + i;
  cache_name("ids", name);
  scratch_npy(&files, name, "<u4", ids, n, sizeof *ids);
}

static int make_files(void **state) {
  (void)state;
  unsetenv("PTQSWEEP_TOKENS");
  scratch_make(&files);
  scratch_mkdir(&files, ".tokens");
  scratch_mkdir(&files, "model");
  strcpy(model_dir, files.path);
  scratch_text(&files, "model/tokenizer.json", "{}");
  scratch_text(&files, "model/tokenizer_config.json", "{\"a\": 1}");
  scratch_text(&files, "asked.jsonl", "{}\n\n  \t\r\n{}");
  strcpy(file_path, files.path);
  strcpy(spec_path, scratch_path(&files, "s.yaml"));
  return 0;
}

static int remove_files(void **state) {
  (void)state;
  scratch_remove(&files);
  return 0;
}

static int write_good(void **state) {
  (void)state;
  write_table(good_table, N_CHOICES, COLUMNS);
  write_ids(3, N_IDS);
  return 0;
}

static void lines_are_counted_that_are_not_blank(void **state) {
  (void)state;
  ptq_spec s = spec_of();
  int64_t n = 0;
  assert_int_equal(ptq_requests_count(&s, &n, NULL), PTQ_OK);
  assert_int_equal(n, 2);
  s.requests.limit = 1;
  assert_int_equal(ptq_requests_count(&s, &n, NULL), PTQ_OK);
  assert_int_equal(n, 1);
  s.requests.limit = 9;
  assert_int_equal(ptq_requests_count(&s, &n, NULL), PTQ_OK);
  assert_int_equal(n, 2);
  s.requests.path = NULL;
  assert_int_equal(ptq_requests_count(&s, &n, NULL), PTQ_OK);
  assert_int_equal(n, 0);
}

static void a_file_without_requests_is_refused(void **state) {
  (void)state;
  char path[256];
  ptq_spec s = spec_of();
  ptq_err err = {0};
  int64_t n = 0;
  scratch_text(&files, "none.jsonl", " \n\n");
  strcpy(path, files.path);
  s.requests.path = path;
  assert_int_equal(ptq_requests_count(&s, &n, &err), PTQ_E_ARG);
  assert_non_null(strstr(err.msg, "s.yaml:7: requests: '"));
  err = (ptq_err){0};
  char absent[] = "absent.jsonl";
  s.requests.path = absent;
  assert_int_equal(ptq_requests_count(&s, &n, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "s.yaml:7: requests: "));
  assert_non_null(strstr(err.msg, "absent.jsonl"));
}

static void cached_requests_are_loaded(void **state) {
  (void)state;
  ptq_spec s = spec_of();
  ptq_requests r;
  ptq_err err = {0};
  if (ptq_requests_load(&s, model_dir, &info, &r, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  assert_int_equal(r.n, 2);
  assert_int_equal(r.n_choices, N_CHOICES);
  assert_int_equal(r.n_targets, 4);
  assert_true(r.choices[0].right && !r.choices[1].right);
  assert_int_equal(r.targets[0].token, 6); /* ids count from 3 */
  ptq_requests_release(&r);
  s.requests.path = NULL;
  assert_int_equal(ptq_requests_load(&s, model_dir, &info, &r, &err), PTQ_OK);
  assert_int_equal(r.n, 0);
  assert_null(r.ids);
}

/* Other options, another tokenizer or file: other tokens. */
static void what_is_not_tokenized_says_how(void **state) {
  (void)state;
  ptq_requests r;
  for (int i = 0; i < 4; i++) {
    ptq_spec s = spec_of();
    ptq_err err = {0};
    if (i == 0) s.requests.bos = 1;
    if (i == 1) s.requests.prefix = 3;
    if (i == 2) s.requests.delimiter[0] = '\0';
    if (i == 3) scratch_text(&files, "model/special_tokens_map.json", "{}");
    assert_int_equal(ptq_requests_load(&s, model_dir, &info, &r, &err),
                     PTQ_E_IO);
    assert_non_null(strstr(err.msg, "prepare.py"));
    assert_null(r.ids);
  }
  (void)remove(scratch_path(&files, "model/special_tokens_map.json"));
}

static void settings_of_the_tokenizer_have_a_hash(void **state) {
  (void)state;
  char before[PTQ_HASH_HEX], after[PTQ_HASH_HEX];
  assert_int_equal(ptq_tokenizer_settings(model_dir, before, NULL), PTQ_OK);
  scratch_text(&files, "model/tokenizer_config.json", "{\"a\": 2}");
  assert_int_equal(ptq_tokenizer_settings(model_dir, after, NULL), PTQ_OK);
  assert_string_not_equal(before, after);
  scratch_text(&files, "model/tokenizer_config.json", "{\"a\": 1}");
  assert_int_equal(ptq_tokenizer_settings(model_dir, after, NULL), PTQ_OK);
  assert_string_equal(before, after);
}

static void damaged(const char *part) {
  ptq_spec s = spec_of();
  ptq_requests r;
  ptq_err err = {0};
  assert_int_equal(ptq_requests_load(&s, model_dir, &info, &r, &err),
                   PTQ_E_FORMAT);
  if (strstr(err.msg, part) == NULL) fail_msg("'%s' lacks '%s'", err.msg, part);
  assert_null(r.ids);
  assert_null(r.choices);
}

static void a_damaged_cache_is_refused(void **state) {
  (void)state;
  static const struct {
    int at;
    int64_t value;
  } rows[] = {{0, 1},  {0, -1}, {6, 2},         {12, 3},       {1, 0},
              {2, -4}, {3, 0},  {4, 0},         {5, 0},        {5, 2},
              {11, 1}, {1, 99}, {1, INT64_MAX}, {2, INT64_MIN}};
  for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
    int64_t table[N_CHOICES * COLUMNS];
    memcpy(table, good_table, sizeof table);
    table[rows[i].at] = rows[i].value;
    write_table(table, N_CHOICES, COLUMNS);
    damaged("damaged; remove the cache");
  }
  write_table(good_table, N_CHOICES - 1, COLUMNS);
  damaged("damaged; remove the cache");
  write_table(good_table, 3, 8);
  damaged("damaged; remove the cache");
  write_table(good_table, N_CHOICES, COLUMNS);
  write_ids(3, N_IDS - 1);
  damaged("damaged; remove the cache");
  write_ids(30, N_IDS);
  damaged("token 40 is beyond the vocabulary");
  write_ids(3, N_IDS);
}

static void tokens_that_the_model_sees_are_bounded(void **state) {
  (void)state;
  ptq_spec s = spec_of();
  ptq_requests r;
  ptq_model_info few = info;
  few.max_positions = 2;
  assert_int_equal(ptq_requests_load(&s, model_dir, &few, &r, NULL), PTQ_OK);
  assert_int_equal(r.branches[0].n, 2); /* of 3 tokens */
  ptq_requests_release(&r);
  s.requests.length = 2;
  assert_int_equal(ptq_requests_load(&s, model_dir, &info, &r, NULL), PTQ_OK);
  assert_int_equal(r.branches[0].n, 2);
  ptq_requests_release(&r);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lines_are_counted_that_are_not_blank),
      cmocka_unit_test(a_file_without_requests_is_refused),
      cmocka_unit_test_setup(cached_requests_are_loaded, write_good),
      cmocka_unit_test(what_is_not_tokenized_says_how),
      cmocka_unit_test(settings_of_the_tokenizer_have_a_hash),
      cmocka_unit_test(a_damaged_cache_is_refused),
      cmocka_unit_test_setup(tokens_that_the_model_sees_are_bounded,
                             write_good),
  };
  return cmocka_run_group_tests_name("sweep/requests", tests, make_files,
                                     remove_files);
}
