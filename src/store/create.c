/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * One process creates the file with the plain driver. A collective creation
 * would make the same bytes, but a disk that is full on some ranks only could
 * leave the others inside a collective close; here a failure is one process's
 * and the ranks agree on it afterwards. Nothing in the file is of variable
 * length, chunked or filtered, and every dataset has its place from the
 * start, so that no metadata changes after the rename.
 */
#include "create.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "by_model.h"
#include "fixed.h"
#include "pack.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "reserve.h"

/* An attribute has to fit an object header message of 64 KiB. */
enum { ATTRIBUTE_MAX = 60000, SLAB_ROWS = 4096 };

static int64_t sum(const int64_t *v, int64_t n) {
  int64_t total = 0;
  for (int64_t i = 0; v != NULL && i < n; i++) total += v[i];
  return total;
}

void ptq_store_count(const ptq_store_layout *layout, ptq_set_rows *out) {
  const int64_t points = layout->n_points, subjects = layout->n_subjects;
  for (int i = 0; i < PTQ_SET_COUNT; i++) out->n[i] = points;
  for (int i = PTQ_SET_MODELS; i <= PTQ_SET_MODELS_ATTEMPTS; i++)
    out->n[i] = subjects;
  out->n[PTQ_SET_LAYERS] = sum(layout->point_layers, points);
  out->n[PTQ_SET_WINDOWS] = sum(layout->point_windows, points);
  out->n[PTQ_SET_BASELINE] = sum(layout->subject_windows, subjects);
  for (int i = PTQ_SET_SPECTRA_STATE; i <= PTQ_SET_SPECTRA_TOKENS; i++)
    out->n[i] = layout->n_spectra;
  out->n[PTQ_SET_SPECTRA_INDEX] = layout->n_spectra;
  out->n[PTQ_SET_FIRST_LAYER] = points + 1;
  out->n[PTQ_SET_FIRST_WINDOW] = points + 1;
  out->n[PTQ_SET_FIRST_BASELINE] = subjects + 1;
  out->n[PTQ_SET_ANSWERS] = sum(layout->point_answers, points);
  out->n[PTQ_SET_FIRST_ANSWER] = points + 1;
  out->n[PTQ_SET_BASELINE_ANSWERS] = sum(layout->subject_answers, subjects);
  out->n[PTQ_SET_FIRST_BASELINE_ANSWER] = subjects + 1;
  for (int i = PTQ_SET_DIRECTIONS; i <= PTQ_SET_DIRECTIONS_ATTEMPTS; i++)
    out->n[i] = layout->n_directions;
  for (int i = PTQ_SET_FIRST_PROFILE; i <= PTQ_SET_FIRST_RITZ; i++)
    out->n[i] = layout->n_directions + 1;
  const int64_t n = layout->n_directions;
  out->n[PTQ_SET_PROFILES] = sum(layout->direction_steps, n);
  out->n[PTQ_SET_DIRECTION_LAYERS] = sum(layout->direction_layers, n);
  out->n[PTQ_SET_RITZ] = sum(layout->direction_ritz, n);
  out->n[PTQ_SET_LOG] = PTQ_LOG_LINES;
  out->n[PTQ_SET_LOG_NEXT] = 1;
  out->n[PTQ_SET_MODELS_ATTEMPTS_CHECKSUM] = subjects;
  out->n[PTQ_SET_DIRECTIONS_ATTEMPTS_CHECKSUM] = n;
  out->n[PTQ_SET_LOG_CHECKSUM] = PTQ_LOG_LINES + 1;
  out->n[PTQ_SET_FIXED_CHECKSUM] = ptq_fixed_count();
  out->n[PTQ_SET_PROFILES_CHECKSUM] = out->n[PTQ_SET_PROFILES];
}

static int64_t bytes_needed(const ptq_store_layout *layout) {
  ptq_set_rows rows;
  ptq_store_count(layout, &rows);
  int64_t bytes = (int64_t)1 << 20; /* metadata and attributes */
  for (int i = 0; i < PTQ_SET_COUNT; i++) {
    const ptq_set_info *info = ptq_set_get((ptq_set_id)i);
    size_t size = sizeof(int64_t);
    if (info->element == PTQ_ELEMENT_ROW) size = ptq_pack_size(info->table());
    if (info->element == PTQ_ELEMENT_LINE) size = PTQ_LOG_LINE;
    bytes += rows.n[i] * (int64_t)size;
  }
  for (int64_t i = 0; i < layout->n_spectra; i++)
    bytes += layout->spectra[i].n_blocks * layout->spectra[i].d *
             (int64_t)sizeof(double);
  return bytes;
}

/* A dataset that has its place in the file at once and is not filled: a new
 * file is zeros, and pages of a reserved file cost nothing until written. */
static hid_t create_set(hid_t file, const char *name, hid_t type, int rank,
                        const hsize_t *dims) {
  hid_t set = H5I_INVALID_HID;
  const hid_t space = H5Screate_simple(rank, dims, NULL);
  const hid_t dcpl = H5Pcreate(H5P_DATASET_CREATE);
  const hid_t lcpl = H5Pcreate(H5P_LINK_CREATE);
  if (space >= 0 && dcpl >= 0 && lcpl >= 0 && type >= 0 &&
      H5Pset_layout(dcpl, H5D_CONTIGUOUS) >= 0 &&
      H5Pset_alloc_time(dcpl, H5D_ALLOC_TIME_EARLY) >= 0 &&
      H5Pset_fill_time(dcpl, H5D_FILL_TIME_NEVER) >= 0 &&
      H5Pset_create_intermediate_group(lcpl, 1) >= 0)
    set = H5Dcreate2(file, name, type, space, lcpl, dcpl, H5P_DEFAULT);
  if (lcpl >= 0) (void)H5Pclose(lcpl);
  if (dcpl >= 0) (void)H5Pclose(dcpl);
  if (space >= 0) (void)H5Sclose(space);
  return set;
}

static ptq_status create_sets(hid_t file, const char *path,
                              const ptq_store_layout *layout, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_set_rows rows;
  ptq_store_count(layout, &rows);
  for (int i = 0; rc == PTQ_OK && i < PTQ_SET_COUNT; i++) {
    const ptq_set_info *info = ptq_set_get((ptq_set_id)i);
    const hsize_t dims[1] = {(hsize_t)rows.n[i]};
    const hid_t type = ptq_set_type(info);
    const hid_t set = create_set(file, info->name, type, 1, dims);
    if (type >= 0) (void)H5Tclose(type);
    if (set < 0)
      return ptq_h5_fail(err, PTQ_E_IO, path, "cannot create", info->name);
    rc = ptq_set_describe(set, path, info, err);
    (void)H5Dclose(set);
  }
  return rc;
}

static ptq_status create_spectra(hid_t file, const char *path,
                                 const ptq_store_layout *layout, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const hid_t group =
      H5Gcreate2(file, "spectra", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  if (group < 0)
    return ptq_h5_fail(err, PTQ_E_IO, path, "cannot create", "spectra");
  rc = ptq_h5_attribute_set(group, path, "description",
                            "eigenvalues [block, i] of the uncentred second "
                            "moment of a site's inputs, descending; zero "
                            "until spectra_state is 2",
                            err);
  for (int64_t i = 0; rc == PTQ_OK && i < layout->n_spectra; i++) {
    const ptq_spectrum_slot *slot = &layout->spectra[i];
    char name[160];
    (void)snprintf(name, sizeof name, "%s/%s", slot->group, slot->site);
    const hsize_t dims[2] = {(hsize_t)slot->n_blocks, (hsize_t)slot->d};
    const hid_t set = create_set(group, name, H5T_IEEE_F64LE, 2, dims);
    if (set < 0)
      rc = ptq_h5_fail(err, PTQ_E_IO, path, "cannot create spectrum", name);
    else
      (void)H5Dclose(set);
  }
  (void)H5Gclose(group);
  return rc;
}

/* A text of any length by name: an attribute, or a scalar dataset where an
 * attribute cannot hold it. */
static ptq_status root_text(hid_t file, const char *path, const char *name,
                            const char *text, ptq_err *err) {
  const size_t size = strlen(text) + 1;
  if (size <= ATTRIBUTE_MAX)
    return ptq_h5_attribute_set(file, path, name, text, err);
  ptq_status rc = PTQ_OK;
  const hsize_t dims[1] = {1};
  const hid_t type = ptq_h5_text_type(size);
  const hid_t set = create_set(file, name, type, 1, dims);
  if (set < 0 || H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0)
    rc = ptq_h5_fail(err, PTQ_E_IO, path, "cannot write", name);
  if (set >= 0) (void)H5Dclose(set);
  if (type >= 0) (void)H5Tclose(type);
  return rc;
}

static ptq_status root_schema(hid_t file, const char *path, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int schema = PTQ_STORE_SCHEMA;
  const hid_t space = H5Screate(H5S_SCALAR);
  const hid_t attribute =
      space < 0 ? space
                : H5Acreate2(file, "schema_version", H5T_STD_I64LE, space,
                             H5P_DEFAULT, H5P_DEFAULT);
  if (attribute < 0 || H5Awrite(attribute, H5T_NATIVE_INT, &schema) < 0)
    rc = ptq_h5_fail(err, PTQ_E_IO, path, "cannot write attribute",
                     "schema_version");
  if (attribute >= 0) (void)H5Aclose(attribute);
  if (space >= 0) (void)H5Sclose(space);
  return rc;
}

/* Version 4 UUID from the system's random numbers. */
static ptq_status make_uuid(char out[37], ptq_err *err) {
  unsigned char b[16];
  FILE *f = fopen("/dev/urandom", "rb");
  const size_t got = f != NULL ? fread(b, 1, sizeof b, f) : 0;
  if (f != NULL) (void)fclose(f);
  if (got != sizeof b)
    return PTQ_FAIL(err, PTQ_E_IO, "cannot read '/dev/urandom'");
  b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
  b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
  char *at = out;
  for (int i = 0; i < 16; i++) {
    if (i == 4 || i == 6 || i == 8 || i == 10) *at++ = '-';
    at += snprintf(at, 3, "%02x", b[i]);
  }
  return PTQ_OK;
}

static ptq_status root_attributes(hid_t file, const char *path,
                                  const char *uuid,
                                  const ptq_store_layout *layout,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char created[32] = "";
  struct tm utc;
  const time_t now = time(NULL);
  if (gmtime_r(&now, &utc) != NULL)
    (void)strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
  const ptq_store_attribute texts[] = {
      {"format", PTQ_STORE_FORMAT},
      {"uuid", uuid},
      {"created", created},
      {"program_version", layout->program_version},
      {"numerics", layout->numerics},
      {"fingerprint", layout->fingerprint},
      {"spec_text", layout->spec_text},
  };
  PTQ_TRY(root_schema(file, path, err));
  for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
    PTQ_TRY(root_text(file, path, texts[i].name, texts[i].text, err));
  for (int64_t i = 0; i < layout->n_attributes; i++)
    PTQ_TRY(root_text(file, path, layout->attributes[i].name,
                      layout->attributes[i].text, err));
done:
  return rc;
}

/* Write rows of a table; `rows` NULL writes cleared ones. */
static ptq_status write_rows(hid_t file, const char *path, ptq_set_id id,
                             const void *rows, int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_set_info *info = ptq_set_get(id);
  const ptq_table *t = info->table();
  const size_t size = ptq_pack_size(t);
  ptq_h5_set set = PTQ_H5_SET_NONE;
  unsigned char *slab = NULL;
  char *clear = NULL;
  PTQ_TRY(ptq_h5_open(file, path, info->name, &set, err));
  PTQ_TRY(ptq_alloc(&slab, SLAB_ROWS, size, info->name, err));
  PTQ_TRY(ptq_alloc(&clear, 1, t->row_size, info->name, err));
  ptq_row_clear(t, clear);
  for (int64_t i = 0; rows == NULL && i < SLAB_ROWS; i++)
    ptq_pack_rows(t, clear, 1, slab + (size_t)i * size);
  for (int64_t at = 0; at < n; at += SLAB_ROWS) {
    const int64_t some = n - at < SLAB_ROWS ? n - at : SLAB_ROWS;
    if (rows != NULL)
      ptq_pack_rows(t, (const char *)rows + (size_t)at * t->row_size, some,
                    slab);
    PTQ_TRY(ptq_h5_write(&set, at, some, slab, err));
  }
done:
  ptq_free(clear);
  ptq_free(slab);
  ptq_h5_close(&set);
  return rc;
}

/* Write little-endian integers: `v` itself, or its running sum from 0. NULL
 * is zeros. */
static ptq_status write_index(hid_t file, const char *path, ptq_set_id id,
                              const int64_t *v, int64_t n, bool running,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_h5_set set = PTQ_H5_SET_NONE;
  unsigned char *raw = NULL;
  int64_t total = 0;
  PTQ_TRY(ptq_h5_open(file, path, ptq_set_get(id)->name, &set, err));
  PTQ_TRY(ptq_alloc(&raw, n + 1, 8, set.name, err));
  for (int64_t i = 0; i < n; i++) {
    const int64_t value = v != NULL ? v[i] : 0;
    ptq_pack_i64(raw + 8 * i, running ? total : value);
    total += value;
  }
  ptq_pack_i64(raw + 8 * n, total);
  PTQ_TRY(ptq_h5_write(&set, 0, running ? n + 1 : n, raw, err));
done:
  ptq_free(raw);
  ptq_h5_close(&set);
  return rc;
}

static ptq_status write_contents(hid_t file, const char *path,
                                 const ptq_store_layout *l, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const int64_t n = l->n_points, m = l->n_subjects;
  PTQ_TRY(write_rows(file, path, PTQ_SET_POINTS, l->points, n, err));
  PTQ_TRY(write_rows(file, path, PTQ_SET_ATTEMPTS, NULL, n, err));
  PTQ_TRY(write_rows(file, path, PTQ_SET_MODELS, l->subjects, m, err));
  PTQ_TRY(write_rows(file, path, PTQ_SET_MODELS_ATTEMPTS, NULL, m, err));
  PTQ_TRY(write_rows(file, path, PTQ_SET_SPECTRA_INDEX, l->spectra,
                     l->n_spectra, err));
  PTQ_TRY(write_index(file, path, PTQ_SET_SUBJECT, l->point_subject, n, false,
                      err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_LAYER, l->point_layers, n, true,
                      err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_WINDOW, l->point_windows, n,
                      true, err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_BASELINE, l->subject_windows, m,
                      true, err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_ANSWER, l->point_answers, n,
                      true, err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_BASELINE_ANSWER,
                      l->subject_answers, m, true, err));
  const int64_t k = l->n_directions;
  PTQ_TRY(write_rows(file, path, PTQ_SET_DIRECTIONS, l->directions, k, err));
  PTQ_TRY(write_rows(file, path, PTQ_SET_DIRECTIONS_ATTEMPTS, NULL, k, err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_PROFILE, l->direction_steps, k,
                      true, err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_DIRECTION_LAYER,
                      l->direction_layers, k, true, err));
  PTQ_TRY(write_index(file, path, PTQ_SET_FIRST_RITZ, l->direction_ritz, k,
                      true, err));
done:
  return rc;
}

static ptq_status make_file(const char *temporary, const char *path,
                            const char *uuid, const ptq_store_layout *layout,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  hid_t file = H5I_INVALID_HID;
  const hid_t fapl = ptq_h5_plain_access();
  if (fapl >= 0 && !ptq_fault())
    file = H5Fcreate(temporary, H5F_ACC_EXCL, H5P_DEFAULT, fapl);
  if (file < 0)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_IO, path, "cannot create", temporary));
  PTQ_TRY(root_attributes(file, path, uuid, layout, err));
  PTQ_TRY(create_sets(file, path, layout, err));
  PTQ_TRY(create_spectra(file, path, layout, err));
  PTQ_TRY(ptq_by_model_create(file, path, layout, err));
  PTQ_TRY(write_contents(file, path, layout, err));
  if (H5Fflush(file, H5F_SCOPE_GLOBAL) < 0)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_IO, path, "cannot write", temporary));
done:
  if (file >= 0 && H5Fclose(file) < 0 && rc == PTQ_OK)
    rc = ptq_h5_fail(err, PTQ_E_IO, path, "cannot write", temporary);
  if (fapl >= 0) (void)H5Pclose(fapl);
  return rc;
}

/* Nothing outside the datasets changes from here on. */
static ptq_status seal(const char *temporary, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_sets sets;
  ptq_sets_init(&sets);
  const hid_t fapl = ptq_h5_plain_access();
  if (fapl < 0)
    PTQ_TRY(
        ptq_h5_fail(err, PTQ_E_NOMEM, temporary, "access properties of", "/"));
  PTQ_TRY(ptq_sets_open(temporary, H5F_ACC_RDWR, fapl, &sets, err));
  PTQ_TRY(ptq_fixed_seal(&sets, err));
  rc = ptq_sets_close(&sets, err);
done:
  (void)ptq_sets_close(&sets, NULL);
  if (fapl >= 0) (void)H5Pclose(fapl);
  return rc;
}

ptq_status ptq_store_make(const char *path, const ptq_store_layout *layout,
                          char **temporary, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text name = {0};
  char uuid[37];
  *temporary = NULL;
  ptq_reserve_sweep(path);
  PTQ_TRY(make_uuid(uuid, err));
  ptq_text_addf(&name, "%s.new-%s", path, uuid);
  if (name.rc != PTQ_OK)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "store '%s': its name", path));
  PTQ_TRY(ptq_reserve_check(path, name.buf, bytes_needed(layout), err));
  PTQ_TRY(ptq_strdup(temporary, name.buf, err));
  PTQ_TRY(make_file(name.buf, path, uuid, layout, err));
  PTQ_TRY(seal(name.buf, err));
done:
  if (rc != PTQ_OK && *temporary != NULL) {
    ptq_reserve_discard(*temporary);
    ptq_free(*temporary);
    *temporary = NULL;
  }
  ptq_text_release(&name);
  return rc;
}

ptq_status ptq_store_create(const char *path, const ptq_store_layout *layout,
                            ptq_err *err) {
  char *temporary = NULL;
  ptq_status rc = ptq_store_make(path, layout, &temporary, err);
  if (rc != PTQ_OK) return rc;
  rc = ptq_reserve_publish(temporary, path, err);
  if (rc != PTQ_OK) ptq_reserve_discard(temporary);
  ptq_free(temporary);
  return rc;
}
