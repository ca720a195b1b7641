/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/store/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "create.h"
#include "extend.h"
#include "integrity.h"
#include "lockfile.h"
#include "mend.h"
#include "pack.h"
#include "ptq/base/check.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/comm/agree.h"
#include "ptq/comm/meet.h"
#include "reserve.h"
#include "store_impl.h"

enum { SLAB_ROWS = 4096 };

static ptq_status check_layout(const char *path, const ptq_store_layout *l,
                               ptq_err *err) {
  if (l->n_points < 1 || l->n_subjects < 1)
    return PTQ_FAIL(err, PTQ_E_ARG, "store '%s': no grid points", path);
  for (int64_t i = 0; i < l->n_points; i++)
    if (l->point_subject[i] < 0 || l->point_subject[i] >= l->n_subjects ||
        l->point_layers[i] < 0 || l->point_windows[i] < 0 ||
        (l->point_answers != NULL && l->point_answers[i] < 0))
      return PTQ_FAIL(err, PTQ_E_ARG, "store '%s': layout of point %lld", path,
                      (long long)i);
  for (int64_t i = 0; i < l->n_directions; i++)
    if (l->directions[i].subject < 0 ||
        l->directions[i].subject >= l->n_subjects ||
        l->direction_steps[i] < 0 || l->direction_layers[i] < 0 ||
        l->direction_ritz[i] < 0)
      return PTQ_FAIL(err, PTQ_E_ARG, "store '%s': layout of direction %lld",
                      path, (long long)i);
  for (int64_t i = 0; i < l->n_spectra; i++)
    if (l->spectra[i].subject < 0 || l->spectra[i].subject >= l->n_subjects ||
        l->spectra[i].n_blocks < 1 || l->spectra[i].d < 1)
      return PTQ_FAIL(err, PTQ_E_ARG, "store '%s': layout of spectrum %lld",
                      path, (long long)i);
  return PTQ_OK;
}

/* A root attribute of the store against what this run has. */
static ptq_status same_attribute(const ptq_sets *s, const char *name,
                                 const char *ours, const char *why,
                                 const char *remedy, ptq_err *err) {
  char *theirs = NULL;
  ptq_status rc = ptq_h5_attribute_get(s->file, s->path, name, &theirs, err);
  if (rc == PTQ_OK && strcmp(theirs, ours) != 0)
    rc = PTQ_FAIL(err, PTQ_E_ARG,
                  "store '%s': %s (%s '%.96s', here '%.96s'); %s", s->path, why,
                  name, theirs, ours, remedy);
  ptq_free(theirs);
  return rc;
}

static ptq_status same_types(const ptq_sets *s, ptq_err *err) {
  for (int i = 0; i < PTQ_SET_COUNT; i++) {
    const hid_t ours = ptq_set_type(ptq_set_get((ptq_set_id)i));
    const bool same =
        ours >= 0 && s->set[i].type >= 0 && H5Tequal(ours, s->set[i].type) > 0;
    if (ours >= 0) (void)H5Tclose(ours);
    if (!same)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "store '%s': '%s' has other columns than this program "
                      "writes; go on with the program that made it, carry "
                      "it over with --extend, or choose another file with -o",
                      s->path, s->set[i].name);
  }
  return PTQ_OK;
}

/* Directions are found by their place; their keys are not the points'. */
static ptq_status same_directions(const ptq_sets *s, const ptq_store_layout *l,
                                  ptq_err *err) {
  const ptq_h5_set *set = &s->set[PTQ_SET_DIRECTIONS];
  for (int64_t i = 0; i < l->n_directions; i++) {
    ptq_direction_row row;
    const ptq_status rc = ptq_store_read_row(
        set, ptq_table_get(PTQ_TABLE_DIRECTIONS), i, &row, err);
    if (rc != PTQ_OK) return rc;
    if (strcmp(row.key, l->directions[i].key) != 0)
      return PTQ_FAIL(err, PTQ_E_ARG,
                      "store '%s': its landscape was measured otherwise "
                      "(direction %lld, %s of '%s'): give the sweep file's "
                      "measure.landscape back what it was, carry the rest over "
                      "with --extend, or choose another file with -o",
                      s->path, (long long)i, row.kind, row.model);
  }
  return PTQ_OK;
}

/* Is the store the one this layout would make? Numerics come first: they are
 * part of every key, so that other numerics change the fingerprint too. */
static ptq_status same_sweep(const ptq_sets *s, const ptq_store_layout *l,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_set_rows rows;
  PTQ_TRY(same_types(s, err));
  PTQ_TRY(same_attribute(
      s, "numerics", l->numerics,
      "its results were computed with other numerics, whose last bits differ",
      "give the same 'compute', set OPENBLAS_CORETYPE to the store's core and "
      "use the same libraries, or choose another file with -o",
      err));
  PTQ_TRY(same_attribute(s, "fingerprint", l->fingerprint,
                         "it belongs to another sweep",
                         "give the sweep file, models and texts it was made "
                         "from, or choose another file with -o",
                         err));
  ptq_store_count(l, &rows);
  for (int i = 0; i < PTQ_SET_COUNT; i++)
    if (s->set[i].rows != rows.n[i])
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                       "store '%s': '%s' has %lld rows, this sweep %lld "
                       "(other measurements): give 'measure' and 'requests' "
                       "back what they were; where there are only more of "
                       "them, as further directions, carry it over with "
                       "--extend; or choose another file with -o",
                       s->path, s->set[i].name, (long long)s->set[i].rows,
                       (long long)rows.n[i]));
  PTQ_TRY(same_directions(s, l, err));
done:
  return rc;
}

typedef struct bad_rows {
  unsigned char *point, *model, *direction; /* borrowed */
  const ptq_sets *sets;
} bad_rows;

static void remember_bad(void *ctx, const char *kind, int64_t row,
                         const char *why) {
  bad_rows *bad = ctx;
  (void)why;
  if (strcmp(kind, "point") == 0)
    bad->point[row] = 1;
  else if (strcmp(kind, "model") == 0)
    bad->model[row] = 1;
  else if (strcmp(kind, "direction") == 0)
    bad->direction[row] = 1;
  else /* a spectrum is redone with its model */
    bad->model[bad->sets->spectra[row].subject] = 1;
}

/* This rank's share of the checksums. */
static ptq_status check_share(ptq_store *st, int size, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  bad_rows bad = {st->bad_points, st->bad_models, st->bad_directions, s};
  int64_t checked = 0, n_bad = 0;
  const int64_t r = st->rank;
  PTQ_TRY(ptq_integrity_points(s, s->n_points * r / size,
                               s->n_points * (r + 1) / size, remember_bad, &bad,
                               &checked, &n_bad, err));
  PTQ_TRY(ptq_integrity_models(s, s->n_subjects * r / size,
                               s->n_subjects * (r + 1) / size, remember_bad,
                               &bad, &checked, &n_bad, err));
  PTQ_TRY(ptq_integrity_directions(s, s->n_directions * r / size,
                                   s->n_directions * (r + 1) / size,
                                   remember_bad, &bad, &checked, &n_bad, err));
  PTQ_TRY(ptq_integrity_spectra(s, s->n_spectra * r / size,
                                s->n_spectra * (r + 1) / size, remember_bad,
                                &bad, &checked, &n_bad, err));
done:
  return rc;
}

/* Collective: every rank checks a share, rank 0 mends. */
static ptq_status resume(MPI_Comm comm, ptq_store *st,
                         const ptq_store_layout *l, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int size = 1;
  (void)MPI_Comm_size(comm, &size);
  PTQ_TRY(ptq_agree(comm, same_sweep(&st->sets, l, err), err));
  if (st->rank == 0) rc = ptq_mend_refuse(&st->sets, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  PTQ_TRY(ptq_agree(comm, check_share(st, size, err), err));
  PTQ_TRY(ptq_meet_allreduce(comm, st->bad_points, st->sets.n_points,
                             MPI_UNSIGNED_CHAR, MPI_MAX, "bad points", err));
  PTQ_TRY(ptq_meet_allreduce(comm, st->bad_models, st->sets.n_subjects,
                             MPI_UNSIGNED_CHAR, MPI_MAX, "bad models", err));
  PTQ_TRY(ptq_meet_allreduce(comm, st->bad_directions, st->sets.n_directions,
                             MPI_UNSIGNED_CHAR, MPI_MAX, "bad directions",
                             err));
  if (st->rank == 0) {
    rc = ptq_mend_rows(&st->sets, PTQ_SET_POINTS, PTQ_SET_STATE,
                       PTQ_SET_CHECKSUM, l->points, st->bad_points, err);
    if (rc == PTQ_OK)
      rc = ptq_mend_rows(&st->sets, PTQ_SET_MODELS, PTQ_SET_MODELS_STATE,
                         PTQ_SET_MODELS_CHECKSUM, l->subjects, st->bad_models,
                         err);
    if (rc == PTQ_OK)
      rc = ptq_mend_rows(&st->sets, PTQ_SET_DIRECTIONS,
                         PTQ_SET_DIRECTIONS_STATE, PTQ_SET_DIRECTIONS_CHECKSUM,
                         l->directions, st->bad_directions, err);
    if (rc == PTQ_OK) rc = ptq_mend_rest(&st->sets, err);
    if (rc == PTQ_OK) rc = ptq_past_reset(st, err);
  }
  PTQ_TRY(ptq_agree(comm, rc, err));
done:
  return rc;
}

/* Rank 0: lock, and create unless there is a store. */
static ptq_status prepare(ptq_store *st, const char *path,
                          const ptq_store_layout *layout, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_reserve_directory(path, err));
  PTQ_TRY(ptq_lockfile_take(path, 1, &st->lock_fd, err));
  st->resumed = ptq_path_exists(path);
  if (!st->resumed)
    PTQ_TRY(ptq_store_create(path, layout, err));
  else
    PTQ_TRY(ptq_extend(path, layout, err));
  if (access(path, R_OK | W_OK) != 0)
    rc = PTQ_FAIL(err, PTQ_E_IO,
                  "store '%s': cannot write it; check its permissions, or "
                  "choose another file with -o",
                  path);
done:
  return rc;
}

static ptq_status note_size(ptq_store *st, ptq_err *err);

/* Collective where it says so; no HDF5 call after the barrier is. */
static ptq_status open_all(MPI_Comm comm, ptq_store *st, const char *path,
                           const ptq_store_layout *layout, hid_t *fapl,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  rc = check_layout(path, layout, err);
  *fapl = H5Pcreate(H5P_FILE_ACCESS);
  if (rc == PTQ_OK && *fapl < 0)
    rc = ptq_h5_fail(err, PTQ_E_NOMEM, path, "access properties of", "/");
  if (rc == PTQ_OK)
    rc = ptq_alloc(&st->bad_points, layout->n_points, 1, "bad points", err);
  if (rc == PTQ_OK)
    rc = ptq_alloc(&st->bad_models, layout->n_subjects, 1, "bad models", err);
  if (rc == PTQ_OK)
    rc = ptq_alloc(&st->bad_directions, layout->n_directions, 1,
                   "bad directions", err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  if (st->rank == 0) rc = prepare(st, path, layout, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  int resumed = st->resumed;
  PTQ_TRY(ptq_meet_bcast(comm, &resumed, 1, MPI_INT, 0, path, err));
  st->resumed = resumed != 0;
  if (st->rank != 0) rc = ptq_lockfile_take(path, 0, &st->lock_fd, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  /* MPI_COMM_SELF: from here on no rank needs another. */
  if (H5Pset_fapl_mpio(*fapl, MPI_COMM_SELF, MPI_INFO_NULL) < 0)
    rc = ptq_h5_fail(err, PTQ_E_IO, path, "MPI-IO driver for", "/");
  if (rc == PTQ_OK)
    rc = ptq_sets_open(path, H5F_ACC_RDWR, *fapl, &st->sets, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  if (st->resumed) PTQ_TRY(resume(comm, st, layout, err));
  rc = ptq_words_init(&st->words, path, err);
  if (rc == PTQ_OK) rc = note_size(st, err);
  PTQ_TRY(ptq_agree(comm, rc, err));
  st->durable = layout->durable;
done:
  return rc;
}

static ptq_status new_handle(const char *path, ptq_store **out, ptq_err *err) {
  ptq_h5_quiet();
  const ptq_status rc = ptq_alloc(out, 1, sizeof **out, "store handle", err);
  if (rc != PTQ_OK) return rc;
  ptq_store *st = *out;
  ptq_sets_init(&st->sets);
  st->lock_fd = -1;
  st->words.fd = -1;
  if (gethostname(st->host, sizeof st->host - 1) != 0)
    (void)ptq_text_copy(st->host, sizeof st->host, "unknown");
  return ptq_strdup(&st->path, path, err);
}

ptq_status ptq_store_attach(const char *path, ptq_store **out, ptq_err *err) {
  ptq_store *st = NULL;
  hid_t fapl = H5I_INVALID_HID;
  ptq_status rc = new_handle(path, &st, err);
  *out = NULL;
  if (rc == PTQ_OK && (fapl = ptq_h5_plain_access()) < 0)
    rc = ptq_h5_fail(err, PTQ_E_NOMEM, path, "access properties of", "/");
  if (rc == PTQ_OK)
    rc = ptq_sets_open(path, H5F_ACC_RDWR, fapl, &st->sets, err);
  if (fapl >= 0) (void)H5Pclose(fapl);
  if (rc == PTQ_OK)
    *out = st;
  else
    (void)ptq_store_close(st, NULL);
  return rc;
}

ptq_status ptq_store_open(MPI_Comm comm, const char *path,
                          const ptq_store_layout *layout, ptq_store **out,
                          ptq_err *err) {
  ptq_store *st = NULL;
  hid_t fapl = H5I_INVALID_HID;
  *out = NULL;
  ptq_status rc = new_handle(path, &st, err);
  if (rc == PTQ_OK) (void)MPI_Comm_rank(comm, &st->rank);
  rc = ptq_agree(comm, rc, err);
  if (rc == PTQ_OK) rc = open_all(comm, st, path, layout, &fapl, err);
  if (fapl >= 0) (void)H5Pclose(fapl);
  if (rc == PTQ_OK)
    *out = st;
  else
    (void)ptq_store_close(st, NULL);
  return rc;
}

ptq_status ptq_store_close(ptq_store *st, ptq_err *err) {
  if (st == NULL) return PTQ_OK;
  ptq_words_release(&st->words);
  const ptq_status rc = ptq_sets_close(&st->sets, err);
  ptq_lockfile_release(st->path, st->lock_fd);
  ptq_free(st->path);
  ptq_free(st->bad_points);
  ptq_free(st->bad_models);
  ptq_free(st->bad_directions);
  ptq_free(st->scratch);
  ptq_free(st);
  return rc;
}

void ptq_store_library(char text[64]) {
  unsigned major = 0, minor = 0, release = 0;
  (void)H5get_libversion(&major, &minor, &release);
  (void)snprintf(text, 64, "HDF5 %u.%u.%u", major, minor, release);
}

void ptq_store_shutdown(void) {
  (void)H5close();
}

bool ptq_store_resumed(const ptq_store *st) {
  return st->resumed;
}

ptq_status ptq_store_still_there(const ptq_store *st, ptq_err *err) {
  struct stat mine, named;
  if (st->words.fd < 0) return PTQ_OK; /* a file that nobody knows of */
  if (fstat(st->words.fd, &mine) == 0 && stat(st->path, &named) == 0 &&
      mine.st_dev == named.st_dev && mine.st_ino == named.st_ino &&
      mine.st_size >= st->size)
    return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_IO,
                  "store '%s': it was removed, replaced or cut short while "
                  "this run was writing it; put it back, or start anew with "
                  "another file (-o)",
                  st->path);
}

static ptq_status note_size(ptq_store *st, ptq_err *err) {
  struct stat file;
  if (fstat(st->words.fd, &file) != 0)
    return PTQ_FAIL(err, PTQ_E_IO, "store '%s': %s", st->path, strerror(errno));
  st->size = file.st_size;
  return PTQ_OK;
}

ptq_status ptq_store_scratch(ptq_store *st, int64_t bytes, ptq_err *err) {
  if (bytes <= st->scratch_cap) return PTQ_OK;
  ptq_free(st->scratch);
  st->scratch_cap = 0;
  const ptq_status rc = ptq_alloc(&st->scratch, bytes, 1, "rows to write", err);
  if (rc == PTQ_OK) st->scratch_cap = bytes;
  return rc;
}

static ptq_status load_states(const ptq_h5_set *set, int *out, ptq_err *err) {
  unsigned char *raw = NULL;
  ptq_status rc = ptq_alloc(&raw, set->rows, 1, "states", err);
  if (rc == PTQ_OK) rc = ptq_h5_read(set, 0, set->rows, raw, err);
  for (int64_t i = 0; rc == PTQ_OK && i < set->rows; i++) out[i] = raw[i];
  ptq_free(raw);
  return rc;
}

static ptq_status load_attempts(const ptq_h5_set *set, int64_t *out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_table *t = ptq_table_get(PTQ_TABLE_ATTEMPTS);
  ptq_pack_column columns[16];
  unsigned char *raw = NULL;
  ptq_attempt_row *rows = NULL;
  ptq_pack_columns(t, columns);
  PTQ_TRY(ptq_alloc(&raw, SLAB_ROWS, set->row_bytes, set->name, err));
  PTQ_TRY(ptq_alloc(&rows, SLAB_ROWS, sizeof *rows, set->name, err));
  for (int64_t at = 0; at < set->rows; at += SLAB_ROWS) {
    const int64_t n = set->rows - at < SLAB_ROWS ? set->rows - at : SLAB_ROWS;
    PTQ_TRY(ptq_h5_read(set, at, n, raw, err));
    ptq_unpack_rows(t, columns, set->row_bytes, raw, n, rows);
    for (int64_t i = 0; i < n; i++) out[at + i] = rows[i].attempts;
  }
done:
  ptq_free(rows);
  ptq_free(raw);
  return rc;
}

ptq_status ptq_store_directions(ptq_store *st, int *state, ptq_store_past *past,
                                int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  PTQ_TRY(load_states(&s->set[PTQ_SET_DIRECTIONS_STATE], state, err));
  PTQ_TRY(ptq_past_directions(st, past, err));
  *n_bad = 0;
  for (int64_t i = 0; i < s->n_directions; i++) *n_bad += st->bad_directions[i];
done:
  return rc;
}

ptq_status ptq_store_states(ptq_store *st, int *point_state,
                            int64_t *point_attempts, int *subject_state,
                            int64_t *n_bad, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_sets *s = &st->sets;
  PTQ_TRY(load_states(&s->set[PTQ_SET_STATE], point_state, err));
  PTQ_TRY(load_states(&s->set[PTQ_SET_MODELS_STATE], subject_state, err));
  PTQ_TRY(load_attempts(&s->set[PTQ_SET_ATTEMPTS], point_attempts, err));
  *n_bad = 0;
  for (int64_t i = 0; i < s->n_points; i++) *n_bad += st->bad_points[i];
  for (int64_t i = 0; i < s->n_subjects; i++) *n_bad += st->bad_models[i];
done:
  return rc;
}
