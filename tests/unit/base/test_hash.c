/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ptq/base/hash.h"

/* Expected values from Python's xxhash 3.5.0, xxh3_128_hexdigest. */
static void hashes_equal_those_of_python(void **state) {
  (void)state;
  char hex[PTQ_HASH_HEX];
  ptq_hash_buffer("", 0, hex);
  assert_string_equal(hex, "99aa06d3014798d86001c324468d497f");
  ptq_hash_buffer("ptqsweep", 8, hex);
  assert_string_equal(hex, "4977991d49d809a87c431e30c2035b01");
}

static void pieces_hash_like_the_whole(void **state) {
  (void)state;
  char data[5000], whole[PTQ_HASH_HEX], pieces[PTQ_HASH_HEX];
  for (size_t i = 0; i < sizeof data; i++) data[i] = (char)(i * 7);
  ptq_hash_buffer(data, sizeof data, whole);
  ptq_hash *h = NULL;
  assert_int_equal(ptq_hash_create(&h, NULL), PTQ_OK);
  for (size_t i = 0; i < sizeof data; i += 1000)
    ptq_hash_update(h, data + i, 1000);
  ptq_hash_hex(h, pieces);
  ptq_hash_free(h);
  assert_string_equal(pieces, whole);
}

static void fields_cannot_run_into_one_another(void **state) {
  (void)state;
  char a[PTQ_HASH_HEX], b[PTQ_HASH_HEX];
  ptq_hash *h = NULL;
  assert_int_equal(ptq_hash_create(&h, NULL), PTQ_OK);
  ptq_hash_text(h, "ab");
  ptq_hash_text(h, "c");
  ptq_hash_hex(h, a);
  ptq_hash_free(h);
  assert_int_equal(ptq_hash_create(&h, NULL), PTQ_OK);
  ptq_hash_text(h, "a");
  ptq_hash_text(h, "bc");
  ptq_hash_hex(h, b);
  ptq_hash_free(h);
  assert_string_not_equal(a, b);
}

static void a_file_hashes_like_its_bytes(void **state) {
  (void)state;
  char path[] = "test_hash_XXXXXX", file[PTQ_HASH_HEX], memory[PTQ_HASH_HEX];
  const int fd = mkstemp(path);
  assert_true(fd >= 0);
  assert_int_equal(write(fd, "hello", 5), 5);
  close(fd);
  assert_int_equal(ptq_hash_file(path, file, NULL), PTQ_OK);
  unlink(path);
  ptq_hash_buffer("hello", 5, memory);
  assert_string_equal(file, memory);
  ptq_err err = {0};
  assert_int_equal(ptq_hash_file(path, file, &err), PTQ_E_IO);
  assert_non_null(strstr(err.msg, path));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(hashes_equal_those_of_python),
      cmocka_unit_test(pieces_hash_like_the_whole),
      cmocka_unit_test(fields_cannot_run_into_one_another),
      cmocka_unit_test(a_file_hashes_like_its_bytes),
  };
  return cmocka_run_group_tests_name("base/hash", tests, NULL, NULL);
}
