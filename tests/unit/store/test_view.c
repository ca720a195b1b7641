/* SPDX-License-Identifier: GPL-3.0-or-later */
/* mpi-ranks: 1 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pack.h"
#include "store_fixture.h"

enum { N = 4 };

static char dir[] = "ptqview-XXXXXX", path[64];
static fixture fx;
static long long ids_before;

/* Points 0 and 1, both models and all spectra are done; 2 has failed, 3 is
 * pending. */
static int fresh(void **state) {
  (void)state;
  ptq_store *st = NULL;
  ptq_err err = {0};
  unlink(path);
  fx = fixture_create(N);
  ids_before = open_ids();
  if (ptq_store_open(MPI_COMM_SELF, path, fixture_layout(&fx, N), &st, &err) !=
          PTQ_OK ||
      fixture_put_point(&fx, st, 0, &err) != PTQ_OK ||
      fixture_put_point(&fx, st, 1, &err) != PTQ_OK ||
      ptq_store_mark(st, 2, PTQ_STATE_FAILED, "why", &err) != PTQ_OK ||
      fixture_put_subject(&fx, st, 0, &err) != PTQ_OK ||
      fixture_put_subject(&fx, st, 1, &err) != PTQ_OK ||
      ptq_store_close(st, &err) != PTQ_OK) {
    fprintf(stderr, "%s\n", err.msg);
    return -1;
  }
  return 0;
}

static int cleanup(void **state) {
  (void)state;
  fixture_free(&fx);
  return open_ids() == ids_before ? 0 : -1;
}

static void keep_line(void *ctx, const char *line) {
  ptq_text_add(ctx, line);
  ptq_text_add(ctx, "\n");
}

static int64_t bad_rows(ptq_text *lines) {
  ptq_view *v = NULL;
  ptq_err err = {0};
  int64_t checked = 0, bad = -1;
  if (ptq_view_open(path, &v, &err) != PTQ_OK) return -1;
  if (ptq_view_verify(v, lines != NULL ? keep_line : NULL, lines, &checked,
                      &bad, &err) != PTQ_OK)
    fail_msg("%s", err.msg);
  ptq_view_close(v);
  return bad;
}

static void an_untouched_store_verifies(void **state) {
  (void)state;
  assert_int_equal(bad_rows(NULL), 0);
}

/* One bit of a byte at a time, in place and back: every byte of small areas,
 * every seventh of tables, which passes through all columns and bits. */
static void one_flipped_bit_anywhere_in_a_finished_row_is_found(void **state) {
  (void)state;
  const struct {
    const char *name;
    size_t bytes;
  } areas[] = {
      {"points", 3 * ptq_pack_size(ptq_table_get(PTQ_TABLE_POINTS))},
      {"state", 3},
      {"checksum", 12},
      {"layers", (3 + 5) * ptq_pack_size(ptq_table_get(PTQ_TABLE_LAYERS))},
      {"windows", (4 + 7) * ptq_pack_size(ptq_table_get(PTQ_TABLE_WINDOWS))},
      {"answers", (6 + 2) * ptq_pack_size(ptq_table_get(PTQ_TABLE_ANSWERS))},
      {"baseline_answers",
       (6 + 2) * ptq_pack_size(ptq_table_get(PTQ_TABLE_BASELINE_ANSWERS))},
      {"models", 2 * ptq_pack_size(ptq_table_get(PTQ_TABLE_MODELS))},
      {"models_state", 2},
      {"models_checksum", 8},
      {"baseline", (4 + 7) * ptq_pack_size(ptq_table_get(PTQ_TABLE_BASELINE))},
      {"spectra_state", 3},
      {"spectra_checksum", 12},
      {"spectra_tokens", 24},
      {"spectra/llama-25k/attn_in", 2 * 8 * 8},
      {"spectra/opt/mlp_in", 3 * 4 * 8},
      {"index/subject", 3 * 8},
      {"index/first_layer", 3 * 8},
      {"index/first_answer", 3 * 8},
  };
  for (size_t a = 0; a < sizeof areas / sizeof areas[0]; a++) {
    const long long start = set_offset(path, areas[a].name);
    assert_true(start > 0);
    const size_t step = areas[a].bytes > 256 ? 7 : 1;
    for (size_t i = 0; i < areas[a].bytes; i += step) {
      const int mask = 1 << (i % 8);
      flip(path, start + (long long)i, mask);
      const int64_t bad = bad_rows(NULL);
      flip(path, start + (long long)i, mask);
      /* A damaged index is not opened, or it is bad with its two neighbours. */
      const bool index = strncmp(areas[a].name, "index/", 6) == 0;
      if (bad != 1 && !(index && (bad == -1 || bad == 2 || bad == 3)))
        fail_msg("'%s' byte %zu: %d bad rows", areas[a].name, i, (int)bad);
    }
  }
  assert_int_equal(bad_rows(NULL), 0);
}

static void a_bad_row_is_named(void **state) {
  (void)state;
  ptq_text lines = {0};
  flip(path, set_offset(path, "windows") + 30, 1);
  flip(path, set_offset(path, "baseline") + 20, 1);
  flip(path, set_offset(path, "spectra/opt/mlp_in") + 20, 1);
  assert_int_equal(bad_rows(&lines), 3);
  assert_non_null(strstr(lines.buf, "point 0 (llama-25k int4 rtn group 16"));
  assert_non_null(strstr(lines.buf, fx.points[0].key));
  assert_non_null(strstr(lines.buf, "model 0 (llama-25k)"));
  assert_non_null(strstr(lines.buf, "spectrum 2 (opt/mlp_in)"));
  ptq_text_release(&lines);
}

static void numbers_of_unfinished_rows_are_nan(void **state) {
  (void)state;
  ptq_view *v = NULL;
  ptq_err err = {0};
  const void *rows;
  int64_t n;
  assert_int_equal(ptq_view_open(path, &v, &err), PTQ_OK);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &n, &err),
                   PTQ_OK);
  assert_int_equal(n, N);
  const ptq_point_row *points = rows;
  assert_true(isnan(points[3].nll));
  assert_string_equal(points[3].key, fx.points[3].key);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_LAYERS, &rows, &n, &err),
                   PTQ_OK);
  assert_int_equal(n, 3 + 5 + 3 + 5);
  const ptq_layer_row *layers = rows;
  assert_int_equal(layers[8].point, 2);
  assert_true(isnan(layers[8].sqnr_weight));
  assert_int_equal(layers[15].point, 3);
  assert_true(fixture_point_is_right(v, &fx, 0));
  assert_true(fixture_point_is_right(v, &fx, 1));
  ptq_view_close(v);
}

static void a_store_is_read_while_it_is_written(void **state) {
  (void)state;
  ptq_store *st = NULL;
  ptq_view *v = NULL;
  ptq_err err = {0};
  assert_int_equal(
      ptq_store_open(MPI_COMM_SELF, path, fixture_layout(&fx, N), &st, &err),
      PTQ_OK);
  /* By another process, as a user would. */
  int words[2];
  assert_int_equal(pipe(words), 0);
  assert_int_equal(fixture_put_point(&fx, st, 3, &err), PTQ_OK);
  const pid_t pid = fork();
  if (pid == 0) {
    long owner = 0;
    char c = 'n';
    if (ptq_view_open(path, &v, NULL) == PTQ_OK &&
        fixture_point_is_right(v, &fx, 3) && ptq_view_running(v, &owner) &&
        owner == (long)getppid())
      c = 'y';
    _exit(write(words[1], &c, 1) == 1 ? 0 : 1);
  }
  char c = 0;
  assert_int_equal(read(words[0], &c, 1), 1);
  waitpid(pid, NULL, 0);
  assert_int_equal(c, 'y');
  close(words[0]);
  close(words[1]);
  assert_int_equal(ptq_store_close(st, &err), PTQ_OK);
}

static void must_not_open(ptq_status code, const char *why) {
  ptq_view *v = NULL;
  ptq_err err = {0};
  const ptq_status rc = ptq_view_open(path, &v, &err);
  assert_null(v);
  if (rc != code || strstr(err.msg, why) == NULL ||
      strstr(err.msg, path) == NULL)
    fail_msg("%s: %s", ptq_status_str(rc), err.msg);
}

static void what_is_no_store_is_refused_by_name(void **state) {
  (void)state;
  assert_int_equal(truncate(path, 3000), 0);
  must_not_open(PTQ_E_FORMAT, "truncated");
  assert_int_equal(truncate(path, 0), 0);
  must_not_open(PTQ_E_FORMAT, "not an HDF5 file");
  unlink(path);
  must_not_open(PTQ_E_IO, "No such file");
  H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
  must_not_open(PTQ_E_FORMAT, "not one of ptqsweep");
}

static hid_t modify(void) {
  return H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
}

static void a_newer_schema_is_refused(void **state) {
  (void)state;
  const long long newer = 99;
  const hid_t file = modify(),
              at = H5Aopen(file, "schema_version", H5P_DEFAULT);
  H5Awrite(at, H5T_NATIVE_LLONG, &newer);
  H5Aclose(at);
  H5Fclose(file);
  must_not_open(PTQ_E_FORMAT, "newer");
}

static void a_missing_dataset_is_named(void **state) {
  (void)state;
  const hid_t file = modify();
  H5Ldelete(file, "checksum", H5P_DEFAULT);
  H5Fclose(file);
  must_not_open(PTQ_E_FORMAT, "'checksum'");
}

static void a_missing_column_is_named(void **state) {
  (void)state;
  const hid_t file = modify();
  const hid_t type = H5Tcreate(H5T_COMPOUND, 8);
  const hsize_t n = N;
  H5Tinsert(type, "nll", 0, H5T_IEEE_F64LE);
  H5Ldelete(file, "points", H5P_DEFAULT);
  const hid_t space = H5Screate_simple(1, &n, NULL);
  const hid_t early = H5Pcreate(H5P_DATASET_CREATE);
  H5Pset_alloc_time(early, H5D_ALLOC_TIME_EARLY);
  const hid_t set =
      H5Dcreate2(file, "points", type, space, H5P_DEFAULT, early, H5P_DEFAULT);
  H5Dclose(set);
  H5Pclose(early);
  H5Sclose(space);
  H5Tclose(type);
  H5Fclose(file);
  ptq_view *v = NULL;
  ptq_err err = {0};
  const void *rows;
  int64_t got;
  assert_int_equal(ptq_view_open(path, &v, &err), PTQ_OK);
  assert_int_equal(ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &got, &err),
                   PTQ_E_FORMAT);
  assert_non_null(strstr(err.msg, "no column 'key'"));
  ptq_view_close(v);
}

static void the_columns_describe_themselves(void **state) {
  (void)state;
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  const hid_t set = H5Dopen2(file, "points", H5P_DEFAULT);
  const hid_t at = H5Aopen(set, "units", H5P_DEFAULT);
  const hid_t space = H5Aget_space(at);
  assert_int_equal(H5Sget_simple_extent_npoints(space),
                   ptq_table_get(PTQ_TABLE_POINTS)->n_fields);
  H5Sclose(space);
  H5Aclose(at);
  assert_true(H5Aexists(set, "descriptions") > 0);
  assert_true(H5Aexists(set, "description") > 0);
  H5Dclose(set);
  H5Fclose(file);
}

/* The offset of a member stands behind its name in the file. */
static void a_column_outside_its_row_is_refused(void **state) {
  (void)state;
  static char bytes[1 << 22];
  FILE *f = fopen(path, "r+b");
  assert_non_null(f);
  const size_t n = fread(bytes, 1, sizeof bytes, f);
  int refused = 0;
  for (size_t i = 0; i + 16 < n; i++) {
    if (memcmp(bytes + i, "method", 7) != 0) continue;
    const long at = (long)i + 9; /* second byte of the offset */
    ptq_view *v = NULL;
    ptq_err err = {0};
    const void *rows = NULL;
    int64_t count = 0;
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    fputc(0x7f, f);
    assert_int_equal(fflush(f), 0);
    if (ptq_view_open(path, &v, &err) != PTQ_OK ||
        ptq_view_table(v, PTQ_TABLE_POINTS, &rows, &count, &err) != PTQ_OK) {
      assert_int_equal(err.code, PTQ_E_FORMAT);
      assert_non_null(strstr(err.msg, path));
      refused++;
    }
    ptq_view_close(v);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    fputc(bytes[at], f);
    assert_int_equal(fflush(f), 0);
  }
  fclose(f);
  assert_true(refused > 0);
}

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  if (mkdtemp(dir) == NULL) return 1;
  snprintf(path, sizeof path, "%s/s.h5", dir);
#define CASE(f) cmocka_unit_test_setup_teardown(f, fresh, cleanup)
  const struct CMUnitTest tests[] = {
      CASE(an_untouched_store_verifies),
      CASE(one_flipped_bit_anywhere_in_a_finished_row_is_found),
      CASE(a_bad_row_is_named),
      CASE(numbers_of_unfinished_rows_are_nan),
      CASE(a_store_is_read_while_it_is_written),
      CASE(what_is_no_store_is_refused_by_name),
      CASE(a_newer_schema_is_refused),
      CASE(a_missing_dataset_is_named),
      CASE(a_missing_column_is_named),
      CASE(the_columns_describe_themselves),
      CASE(a_column_outside_its_row_is_refused),
  };
  const int failed =
      cmocka_run_group_tests_name("store/view", tests, NULL, NULL);
  unlink(path);
  rmdir(dir);
  ptq_store_shutdown();
  MPI_Finalize();
  return failed;
}
