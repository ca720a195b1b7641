/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One flipped bit anywhere in a finished store is found: in every dataset, and
 * in every other byte of the file (HDF5's structure, attributes, gaps), a bit
 * of every nth byte (all bytes with PTQ_FLIPS=all; of small sets always all
 * bits) is flipped behind the store's back. What is left out belongs to no
 * finished row: layers, windows and answers of a failed point, and lines that
 * the log does not have yet. And one bit that HDF5 does not read: the
 * superblock's mark that the file is open for writing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <mpi.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pack.h"
#include "store_fixture.h"

enum {
  N = 6,
  FAILED_POINT = N - 1,
  LOG_LINES = 5,
  OPEN_MARK_AT = 20,
  STEPS = 3
};

static char dir[64] = "/dev/shm/ptqflip-XXXXXX", path[80];
static int fd = -1;
static long long n_flips;

/* A direction with a profile and a layer. */
static ptq_status put_direction(ptq_store *st, const ptq_direction_row *row,
                                ptq_err *err) {
  ptq_profile_row steps[STEPS];
  ptq_direction_layer_row layer;
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTION_LAYERS), &layer);
  for (int i = 0; i < STEPS; i++) {
    ptq_row_clear(ptq_table_get(PTQ_TABLE_PROFILES), &steps[i]);
    steps[i].step = i;
    steps[i].nll = 3.0 + i;
  }
  const ptq_direction_result r = {.state = PTQ_STATE_DONE,
                                  .row = *row,
                                  .profile = steps,
                                  .n_profile = STEPS,
                                  .layers = &layer,
                                  .n_layers = 1};
  return ptq_store_put_direction(st, &r, err);
}

static void make_store(void) {
  static const int64_t steps = STEPS, layers = 1, none = 0;
  ptq_err err = {0};
  ptq_store *st = NULL;
  ptq_direction_row direction;
  fixture fx = fixture_create(N);
  ptq_store_layout l = *fixture_layout(&fx, N);
  ptq_row_clear(ptq_table_get(PTQ_TABLE_DIRECTIONS), &direction);
  snprintf(direction.key, sizeof direction.key, "%032d", 7);
  l.n_directions = 1;
  l.directions = &direction;
  l.direction_steps = &steps;
  l.direction_layers = &layers;
  l.direction_ritz = &none;
  ptq_status rc = ptq_store_open(MPI_COMM_SELF, path, &l, &st, &err);
  if (rc == PTQ_OK) rc = put_direction(st, &direction, &err);
  for (int64_t p = 0; rc == PTQ_OK && p < N; p++)
    rc = p == FAILED_POINT
             ? ptq_store_mark(st, p, PTQ_STATE_FAILED, "why", &err)
             : fixture_put_point(&fx, st, p, &err);
  for (int64_t s = 0; rc == PTQ_OK && s < FX_SUBJECTS; s++)
    rc = fixture_put_subject(&fx, st, s, &err);
  for (int i = 0; rc == PTQ_OK && i < LOG_LINES; i++)
    rc = ptq_store_log(st, "something happened", &err);
  if (rc == PTQ_OK) rc = ptq_store_close(st, &err);
  fixture_free(&fx);
  if (rc != PTQ_OK) fail_msg("%s", err.msg);
}

/* What a reader says of it. */
static char said[2048];

static void listen(void *ctx, const char *line) {
  (void)ctx;
  const size_t used = strlen(said);
  (void)snprintf(said + used, sizeof said - used, "%s\n", line);
}

/* Does a reader notice, and say so? */
static bool is_found(void) {
  ptq_view *v = NULL;
  ptq_err err = {0};
  int64_t checked = 0, bad = 0;
  said[0] = '\0';
  ptq_status rc = ptq_view_open(path, &v, &err);
  if (rc == PTQ_OK) rc = ptq_view_verify(v, listen, NULL, &checked, &bad, &err);
  ptq_view_close(v);
  if (rc != PTQ_OK) listen(NULL, err.msg);
  return (rc != PTQ_OK || bad > 0) && said[0] != '\0';
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

static bool all_bytes(void) {
  const char *text = getenv("PTQ_FLIPS");
  return text != NULL && strcmp(text, "all") == 0;
}

static void flip_all(const char *name, long long from, long long to, int step) {
  const bool all = all_bytes();
  const long long at = set_offset(path, name);
  assert_true(at > 0);
  for (long long i = from; i < to; i += all ? 1 : step) {
    for (int k = 0; k < (step == 1 ? 8 : 1); k++) {
      const int bit = (int)((i / step + k) % 8);
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
                                      "spectra/opt/mlp_in",
                                      "landscape/directions",
                                      "landscape/profiles",
                                      "landscape/layers"};
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
  static const char *const names[] = {
      "state",           "checksum",           "models_state",
      "spectra_state",   "models_checksum",    "spectra_checksum",
      "landscape/state", "landscape/checksum", "landscape/profiles_checksum"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    flip_all(names[i], 0, size_of(names[i]), 1);
}

/* Where the rows of a point begin, and whose they are. */
static void a_bit_of_an_index_is_found(void **state) {
  (void)state;
  static const char *const names[] = {
      "index/subject",        "index/first_layer",
      "index/first_window",   "index/first_answer",
      "index/first_baseline", "index/first_baseline_answer",
      "index/first_profile",  "index/first_direction_layer",
      "index/first_ritz"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
    flip_all(names[i], 0, size_of(names[i]), 1);
}

/* A row of `size` bytes in a set: its first, middle and last bytes. */
static void row_is_named(const char *set, long long size, long long row,
                         const char *name) {
  const long long at = set_offset(path, set) + row * size;
  for (long long i = 0; i<size; i += size> 2 ? (size - 1) / 2 : 1) {
    turn(at + i, 3);
    const bool found = is_found() && strstr(said, name) != NULL;
    turn(at + i, 3);
    if (!found)
      fail_msg("byte %lld of row %lld of '%s': %s", i, row, set, said);
  }
}

/* What is not a result: attempts, and the log. */
static void a_bit_beside_the_results_is_found(void **state) {
  (void)state;
  const long long attempt =
      (long long)ptq_pack_size(ptq_table_get(PTQ_TABLE_ATTEMPTS));
  flip_all("attempts", 0, N * attempt, 19);
  flip_all("models_attempts", 0, FX_SUBJECTS * attempt, 19);
  flip_all("attempts_checksum", 0, 4 * N, 1);
  flip_all("models_attempts_checksum", 0, 4 * FX_SUBJECTS, 1);
  flip_all("landscape/attempts", 0, attempt, 19);
  flip_all("landscape/attempts_checksum", 0, 4, 1);
  const long long lines = size_of("log_checksum") / 4 - 1;
  const long long line = size_of("log") / lines;
  flip_all("log", 0, LOG_LINES * line, 19);
  flip_all("log_next", 0, 8, 1);
  flip_all("log_checksum", 0, 4 * LOG_LINES, 1);
  flip_all("log_checksum", 4 * lines, 4 * lines + 4, 1);
  flip_all("fixed_checksum", 0, size_of("fixed_checksum"), 1);
  flip_all("index/spectra", 0, size_of("index/spectra"), 19);
  row_is_named("attempts", attempt, 2, "row 2 of 'attempts'");
  row_is_named("attempts", attempt, FAILED_POINT, "row 5 of 'attempts'");
  row_is_named("models_attempts", attempt, 1, "row 1 of 'models_attempts'");
  row_is_named("log", line, 3, "row 3 of 'log'");
  row_is_named("log_next", 8, 0, "'log_next'");
  row_is_named("state", 1, FAILED_POINT, "point 5 (");
  row_is_named("index/first_window", 8, 0, "'index/first_window'");
}

/* Places of all datasets in the file. */
typedef struct places {
  long long at[64], end[64];
  int n;
} places;

static herr_t note_place(hid_t file, const char *name, const H5O_info_t *info,
                         void *ctx) {
  places *p = ctx;
  if (info->type != H5O_TYPE_DATASET) return 0;
  const hid_t set = H5Dopen2(file, name, H5P_DEFAULT);
  const haddr_t at = H5Dget_offset(set);
  if (at != HADDR_UNDEF) {
    assert_true(p->n < 64);
    p->at[p->n] = (long long)at;
    p->end[p->n++] = (long long)(at + H5Dget_storage_size(set));
  }
  H5Dclose(set);
  return 0;
}

static bool in_a_dataset(const places *p, long long byte) {
  for (int i = 0; i < p->n; i++)
    if (byte >= p->at[i] && byte < p->end[i]) return true;
  return false;
}

/* Bytes [from, to) outside the datasets, in a process of its own: a library
 * that dies or never ends of a damaged file would be found wanting too. */
static void flip_structure(const places *p, long long from, long long to) {
  int status = 0;
  const pid_t pid = fork();
  assert_true(pid >= 0);
  if (pid == 0) {
    alarm(1200);
#if !defined(__SANITIZE_ADDRESS__)
    const struct rlimit memory = {(rlim_t)4 << 30, (rlim_t)4 << 30};
    (void)setrlimit(RLIMIT_AS, &memory); /* nor take all there is */
#endif
    for (long long i = from; i < to; i++) {
      int bit = (int)(i % 8);
      if (i == OPEN_MARK_AT && bit == 0) bit = 1;
      if (in_a_dataset(p, i)) continue;
      if (!all_bytes() && i > 96 && i % 41 != 0) continue;
      turn(i, bit);
      if (!is_found()) {
        fprintf(stderr, "bit %d of byte %lld of the file\n", bit, i);
        _exit(1);
      }
      turn(i, bit);
    }
    _exit(0);
  }
  assert_int_equal(waitpid(pid, &status, 0), pid);
  if (status != 0)
    fail_msg("bytes %lld to %lld: wait status %x", from, to, (unsigned)status);
}

static void a_bit_of_the_structure_is_found(void **state) {
  (void)state;
  places p = {0};
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  assert_true(H5Ovisit(file, H5_INDEX_NAME, H5_ITER_NATIVE, note_place, &p) >=
              0);
  H5Fclose(file);
  assert_true(p.n > 30);
  const long long size = (long long)lseek(fd, 0, SEEK_END);
  for (long long at = 0; at < size; at += 4096)
    flip_structure(&p, at, at + 4096 < size ? at + 4096 : size);
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
      cmocka_unit_test(a_bit_beside_the_results_is_found),
      cmocka_unit_test(a_bit_of_the_structure_is_found),
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
