/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One flipped bit anywhere in a row that is done, or of a failed one, is found:
 * in every dataset that belongs to one, a bit of every nineteenth byte (all
 * bits of all bytes with PTQ_FLIPS=all) is flipped behind the store's back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <mpi.h>
#include <unistd.h>

#include "store_fixture.h"

enum { N = 6, FAILED_POINT = N - 1 };

static char dir[64] = "/dev/shm/ptqflip-XXXXXX", path[80];
static int fd = -1;
static long long n_flips;

static void make_store(void) {
  ptq_err err = {0};
  ptq_store *st = NULL;
  fixture fx = fixture_create(N);
  ptq_status rc =
      ptq_store_open(MPI_COMM_SELF, path, fixture_layout(&fx, N), &st, &err);
  for (int64_t p = 0; rc == PTQ_OK && p < N; p++)
    rc = p == FAILED_POINT
             ? ptq_store_mark(st, p, PTQ_STATE_FAILED, "why", &err)
             : fixture_put_point(&fx, st, p, &err);
  for (int64_t s = 0; rc == PTQ_OK && s < FX_SUBJECTS; s++)
    rc = fixture_put_subject(&fx, st, s, &err);
  if (rc == PTQ_OK) rc = ptq_store_close(st, &err);
  fixture_free(&fx);
  if (rc != PTQ_OK) fail_msg("%s", err.msg);
}

/* Does a reader notice? */
static bool is_found(void) {
  ptq_view *v = NULL;
  int64_t checked = 0, bad = 0;
  ptq_status rc = ptq_view_open(path, &v, NULL);
  if (rc == PTQ_OK) rc = ptq_view_verify(v, NULL, NULL, &checked, &bad, NULL);
  ptq_view_close(v);
  return rc != PTQ_OK || bad > 0;
}

static void turn(long long at, int bit) {
  unsigned char byte = 0;
  assert_int_equal(pread(fd, &byte, 1, at), 1);
  byte ^= (unsigned char)(1U << bit);
  assert_int_equal(pwrite(fd, &byte, 1, at), 1);
}

/* Bytes of a dataset in the file. */
static long long size_of(const char *name) {
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  assert_true(set >= 0);
  const hid_t space = H5Dget_space(set), type = H5Dget_type(set);
  const long long size = (long long)H5Sget_simple_extent_npoints(space) *
                         (long long)H5Tget_size(type);
  H5Tclose(type);
  H5Sclose(space);
  H5Dclose(set);
  H5Fclose(file);
  return size;
}

/* The one bit that makes a failed point an interrupted one (3, 1): it has no
 * results to lose, and a run does it again. */
static bool is_harmless(const char *name, long long byte, int bit) {
  return strcmp(name, "state") == 0 && byte == FAILED_POINT && bit == 1;
}

static void flip_all(const char *name, long long from, long long to, int step) {
  const char *text = getenv("PTQ_FLIPS");
  const bool all = text != NULL && strcmp(text, "all") == 0;
  const long long at = set_offset(path, name);
  assert_true(at > 0);
  for (long long i = from; i < to; i += all ? 1 : step) {
    for (int k = 0; k < (all || step == 1 ? 8 : 1); k++) {
      const int bit = (int)((i / step + k) % 8);
      if (is_harmless(name, i, bit)) continue;
      turn(at + i, bit);
      if (!is_found()) fail_msg("bit %d of byte %lld of '%s'", bit, i, name);
      turn(at + i, bit);
      n_flips++;
    }
  }
}

static void a_bit_of_a_table_is_found(void **state) {
  (void)state;
  static const char *const names[] = {"points",
                                      "layers",
                                      "windows",
                                      "models",
                                      "baseline",
                                      "answers",
                                      "baseline_answers",
                                      "spectra/llama-25k/attn_in",
                                      "spectra_tokens",
                                      "spectra/llama-25k/attn_in_nofirst",
                                      "spectra/opt/mlp_in"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    long long size = size_of(names[i]);
    /* A failed point, here the last one, has no rows in these. */
    if (strcmp(names[i], "layers") == 0) size = size / 24 * (24 - 5);
    if (strcmp(names[i], "windows") == 0) size = size / 33 * (33 - 7);
    if (strcmp(names[i], "answers") == 0) size = size / 24 * (24 - 2);
    flip_all(names[i], 0, size, 19);
  }
}

/* Small ones, whole. */
static void a_bit_of_a_state_or_checksum_is_found(void **state) {
  (void)state;
  static const char *const names[] = {"state",           "checksum",
                                      "models_state",    "spectra_state",
                                      "models_checksum", "spectra_checksum"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    flip_all(names[i], 0, size_of(names[i]), 1);
}

/* Where the rows of a point begin, and whose they are. */
static void a_bit_of_an_index_is_found(void **state) {
  (void)state;
  static const char *const names[] = {
      "index/subject",        "index/first_layer",
      "index/first_window",   "index/first_answer",
      "index/first_baseline", "index/first_baseline_answer"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    flip_all(names[i], 0, size_of(names[i]), 1);
}

static void nothing_else_is(void **state) {
  (void)state;
  assert_false(is_found());
  printf("%lld bits\n", n_flips);
  assert_true(n_flips > 2000);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  if (mkdtemp(dir) == NULL) {
    strcpy(dir, "ptqflip-XXXXXX");
    if (mkdtemp(dir) == NULL) return 1;
  }
  snprintf(path, sizeof path, "%s/s.h5", dir);
  make_store();
  fd = open(path, O_RDWR | O_CLOEXEC);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_bit_of_a_table_is_found),
      cmocka_unit_test(a_bit_of_a_state_or_checksum_is_found),
      cmocka_unit_test(a_bit_of_an_index_is_found),
      cmocka_unit_test(nothing_else_is),
  };
  const int failed =
      cmocka_run_group_tests_name("store/flips", tests, NULL, NULL);
  close(fd);
  unlink(path);
  rmdir(dir);
  MPI_Finalize();
  return failed;
}
