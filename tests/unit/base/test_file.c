/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/npy.h"

static char path[] = "test_file_XXXXXX";

static int make_file(void **state) {
  (void)state;
  const int fd = mkstemp(path);
  return fd < 0 || close(fd) != 0;
}

static int remove_file(void **state) {
  (void)state;
  return unlink(path);
}

static void what_is_written_is_read(void **state) {
  (void)state;
  char *text = NULL;
  size_t size = 0;
  assert_int_equal(ptq_file_write_atomic(path, "a\0b", 3, NULL), PTQ_OK);
  assert_int_equal(ptq_file_read(path, 100, &text, &size, NULL), PTQ_OK);
  assert_int_equal(size, 3);
  assert_memory_equal(text, "a\0b\0", 4);
  ptq_free(text);
}

/* Without a writer: opening it for reading would wait for ever. */
static void a_pipe_is_not_read(void **state) {
  (void)state;
  char pipe[] = "read-pipe-XXXXXX";
  ptq_file *f = NULL;
  ptq_err err = {0};
  const int fd = mkstemp(pipe);
  assert_true(fd >= 0 && close(fd) == 0 && unlink(pipe) == 0);
  assert_int_equal(mkfifo(pipe, 0600), 0);
  assert_int_equal(ptq_file_open(pipe, &f, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "is not a regular file"));
  assert_null(f);
  assert_int_equal(unlink(pipe), 0);
}

static void a_pipe_is_written_into_and_stays(void **state) {
  (void)state;
  struct stat st;
  char got[8] = {0};
  const char *pipe = "test_file_pipe";
  (void)unlink(pipe);
  assert_int_equal(mkfifo(pipe, 0600), 0);
  const int fd = open(pipe, O_RDONLY | O_NONBLOCK);
  assert_true(fd >= 0);
  assert_int_equal(ptq_file_write_atomic(pipe, "12345", 5, NULL), PTQ_OK);
  assert_int_equal(read(fd, got, sizeof got), 5);
  assert_string_equal(got, "12345");
  assert_int_equal(close(fd), 0);
  assert_int_equal(stat(pipe, &st), 0);
  assert_true(S_ISFIFO(st.st_mode));
  assert_int_equal(unlink(pipe), 0);
}

static void a_large_file_is_refused_and_a_missing_one_named(void **state) {
  (void)state;
  char *text = NULL;
  size_t size = 0;
  ptq_err err = {0};
  assert_int_equal(ptq_file_write_atomic(path, "12345", 5, NULL), PTQ_OK);
  assert_int_equal(ptq_file_read(path, 4, &text, &size, &err), PTQ_E_FORMAT);
  assert_null(text);
  err = (ptq_err){0};
  assert_int_equal(ptq_file_read("no/such", 4, &text, &size, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, "no/such"));
  err = (ptq_err){0};
  assert_int_equal(ptq_file_read(".", 4, &text, &size, &err), PTQ_E_IO);
  assert_int_equal(ptq_file_write_atomic("no/such", "", 0, NULL), PTQ_E_IO);
}

static void reading_past_the_end_says_truncated(void **state) {
  (void)state;
  char buf[8];
  ptq_file *f = NULL;
  ptq_err err = {0};
  assert_int_equal(ptq_file_write_atomic(path, "12345", 5, NULL), PTQ_OK);
  assert_int_equal(ptq_file_open(path, &f, NULL), PTQ_OK);
  assert_int_equal(ptq_file_size(f), 5);
  assert_int_equal(ptq_file_pread(f, 1, buf, 4, NULL), PTQ_OK);
  assert_memory_equal(buf, "2345", 4);
  assert_int_equal(ptq_file_pread(f, 2, buf, 4, &err), PTQ_E_FORMAT);
  assert_non_null(strstr(err.msg, "truncated"));
  ptq_file_close(f);
}

static void check_path(ptq_status (*make)(const char *, char **, ptq_err *),
                       const char *in, const char *expected) {
  char *out = NULL;
  assert_int_equal(make(in, &out, NULL), PTQ_OK);
  assert_string_equal(out, expected);
  ptq_free(out);
}

static void paths_come_apart_and_together(void **state) {
  (void)state;
  check_path(ptq_path_dir, "a/b/c.yaml", "a/b");
  check_path(ptq_path_dir, "c.yaml", ".");
  check_path(ptq_path_dir, "/c.yaml", "/");
  check_path(ptq_path_dir, "a/b/", "a");
  check_path(ptq_path_base, "a/b/c.yaml", "c.yaml");
  check_path(ptq_path_base, "a/b//", "b");
  char *out = NULL;
  assert_int_equal(ptq_path_join("a", "b", &out, NULL), PTQ_OK);
  assert_string_equal(out, "a/b");
  ptq_free(out);
  assert_int_equal(ptq_path_join("a", "/b", &out, NULL), PTQ_OK);
  assert_string_equal(out, "/b");
  ptq_free(out);
}

static void two_paths_of_a_file_are_the_same(void **state) {
  (void)state;
  char other[] = "./test_file_XXXXXX";
  assert_int_equal(ptq_file_write_atomic(path, "1", 1, NULL), PTQ_OK);
  memcpy(other + 2, path, sizeof path);
  assert_true(ptq_path_same(path, other));
  assert_false(ptq_path_same(path, "."));
  assert_false(ptq_path_same(path, "no such file"));
  assert_false(ptq_path_same("no such file", "no such file"));
}

static void a_link_is_followed_to_what_is_there(void **state) {
  (void)state;
  char link[sizeof path + 8];
  snprintf(link, sizeof link, "%s.link", path);
  assert_int_equal(ptq_file_write_atomic(path, "1", 1, NULL), PTQ_OK);
  check_path(ptq_path_follow, path, path);
  check_path(ptq_path_follow, "no such file", "no such file");
  assert_int_equal(symlink(path, link), 0);
  char *out = NULL;
  assert_int_equal(ptq_path_follow(link, &out, NULL), PTQ_OK);
  assert_string_not_equal(out, link);
  assert_true(ptq_path_same(out, path));
  ptq_free(out);
  assert_int_equal(unlink(link), 0);
  assert_int_equal(symlink("no such file", link), 0);
  check_path(ptq_path_follow, link, link);
  assert_int_equal(unlink(link), 0);
}

/* An .npy of the given header text and data. */
static void write_npy(const char *dict, const void *data, size_t size) {
  unsigned char file[512] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
  const size_t n = strlen(dict);
  file[8] = (unsigned char)n;
  memcpy(file + 10, dict, n);
  memcpy(file + 10 + n, data, size);
  assert_int_equal(ptq_file_write_atomic(path, file, 10 + n + size, NULL),
                   PTQ_OK);
}

static void an_npy_array_is_read(void **state) {
  (void)state;
  const uint32_t data[6] = {1, 2, 3, 4, 5, 6};
  ptq_npy a;
  write_npy("{'descr': '<u4', 'fortran_order': False, 'shape': (2, 3), }\n",
            data, sizeof data);
  assert_int_equal(ptq_npy_read(path, PTQ_NPY_U32, 2, &a, NULL), PTQ_OK);
  assert_int_equal(a.dims[0], 2);
  assert_int_equal(a.dims[1], 3);
  assert_memory_equal(a.data, data, sizeof data);
  ptq_npy_release(&a);
}

static void check_npy_refused(const char *dict, size_t size,
                              const char *expected) {
  const uint32_t data[8] = {0};
  ptq_npy a;
  ptq_err err = {0};
  write_npy(dict, data, size);
  assert_int_equal(ptq_npy_read(path, PTQ_NPY_U32, 1, &a, &err), PTQ_E_FORMAT);
  if (strstr(err.msg, expected) == NULL)
    fail_msg("'%s' does not say '%s'", err.msg, expected);
  assert_null(a.data);
}

static void a_wrong_npy_array_is_refused_with_the_reason(void **state) {
  (void)state;
  check_npy_refused("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)}",
                    24, "elements are");
  check_npy_refused("{'descr': '<u4', 'fortran_order': True, 'shape': (6,)}",
                    24, "C-ordered");
  check_npy_refused("{'descr': '<u4', 'fortran_order': False, 'shape': (2, 3)}",
                    24, "2 dimensions, expected 1");
  check_npy_refused("{'descr': '<u4', 'fortran_order': False, 'shape': (6,)}",
                    20, "truncated");
  check_npy_refused("{'descr': '<u4', 'fortran_order': False, 'shape': (-1,)}",
                    20, "dimensions");
  ptq_npy a;
  ptq_err err = {0};
  assert_int_equal(ptq_file_write_atomic(path, "not an array at all", 19, NULL),
                   PTQ_OK);
  assert_int_equal(ptq_npy_read(path, PTQ_NPY_U32, 1, &a, &err), PTQ_E_FORMAT);
  assert_non_null(strstr(err.msg, "not an .npy file"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_pipe_is_not_read),
      cmocka_unit_test(a_pipe_is_written_into_and_stays),
      cmocka_unit_test(what_is_written_is_read),
      cmocka_unit_test(a_large_file_is_refused_and_a_missing_one_named),
      cmocka_unit_test(reading_past_the_end_says_truncated),
      cmocka_unit_test(paths_come_apart_and_together),
      cmocka_unit_test(two_paths_of_a_file_are_the_same),
      cmocka_unit_test(a_link_is_followed_to_what_is_there),
      cmocka_unit_test(an_npy_array_is_read),
      cmocka_unit_test(a_wrong_npy_array_is_refused_with_the_reason),
  };
  return cmocka_run_group_tests_name("base/file", tests, make_file,
                                     remove_file);
}
