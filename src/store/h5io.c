/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "h5io.h"

#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"

enum { ATTRIBUTE_MAX = 65536 };

void ptq_h5_quiet(void) {
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* Upward: the first entry is where it failed, which says why. */
static herr_t keep_first(unsigned n, const H5E_error2_t *entry, void *ctx) {
  if (n == 0 && entry->desc != NULL) (void)ptq_text_copy(ctx, 160, entry->desc);
  return 0;
}

ptq_status ptq_h5_fail(ptq_err *err, ptq_status code, const char *path,
                       const char *what, const char *name) {
  char reason[160] = "";
  (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, reason);
  (void)H5Eclear2(H5E_DEFAULT);
  return PTQ_FAIL(err, code, "store '%s': %s '%s'%s%s", path, what, name,
                  reason[0] != '\0' ? ": " : "", reason);
}

hid_t ptq_h5_plain_access(void) {
  const hid_t fapl = H5Pcreate(H5P_FILE_ACCESS);
  if (fapl < 0) return fapl;
  herr_t bad = H5Pset_fapl_sec2(fapl);
  /* Small metadata may share pages; tables start on one. */
  if (bad >= 0) bad = H5Pset_alignment(fapl, 65536, 4096);
  /* No cached raw data: a reader shall see what a run wrote meanwhile. */
  if (bad >= 0) bad = H5Pset_sieve_buf_size(fapl, 0);
#if H5_VERSION_GE(1, 10, 7) && \
    !(H5_VERS_MAJOR == 1 && H5_VERS_MINOR == 12 && H5_VERS_RELEASE == 0)
  if (bad >= 0) bad = H5Pset_file_locking(fapl, false, true);
#endif
  if (bad < 0) {
    (void)H5Pclose(fapl);
    return H5I_INVALID_HID;
  }
  return fapl;
}

hid_t ptq_h5_text_type(size_t size) {
  const hid_t type = H5Tcopy(H5T_C_S1);
  if (type < 0) return type;
  if (H5Tset_size(type, size) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0 ||
      H5Tset_strpad(type, H5T_STR_NULLTERM) < 0) {
    (void)H5Tclose(type);
    return H5I_INVALID_HID;
  }
  return type;
}

static hid_t column_type(const ptq_field *f) {
  switch (f->kind) {
    case PTQ_KIND_TEXT:
      return ptq_h5_text_type(f->size);
    case PTQ_KIND_F64:
      return H5Tcopy(H5T_IEEE_F64LE);
    case PTQ_KIND_I64:
      return H5Tcopy(H5T_STD_I64LE);
  }
  return H5I_INVALID_HID;
}

hid_t ptq_h5_row_type(const ptq_table *t) {
  size_t size = 0, at = 0;
  for (size_t i = 0; i < t->n_fields; i++) size += t->fields[i].size;
  const hid_t row = H5Tcreate(H5T_COMPOUND, size);
  if (row < 0) return row;
  for (size_t i = 0; i < t->n_fields; i++) {
    const hid_t member = column_type(&t->fields[i]);
    const herr_t bad =
        member < 0 ? -1 : H5Tinsert(row, t->fields[i].name, at, member);
    if (member >= 0) (void)H5Tclose(member);
    if (bad < 0) {
      (void)H5Tclose(row);
      return H5I_INVALID_HID;
    }
    at += t->fields[i].size;
  }
  return row;
}

/* Does a member of the file's row hold what the record table says? */
static bool right_kind(hid_t member, const ptq_field *f) {
  switch (f->kind) {
    case PTQ_KIND_TEXT:
      return H5Tget_class(member) == H5T_STRING &&
             H5Tis_variable_str(member) == 0;
    case PTQ_KIND_F64:
      return H5Tequal(member, H5T_IEEE_F64LE) > 0;
    case PTQ_KIND_I64:
      return H5Tequal(member, H5T_STD_I64LE) > 0;
  }
  return false;
}

ptq_status ptq_h5_columns(const ptq_h5_set *set, const ptq_table *t,
                          int64_t schema, ptq_pack_column *out, ptq_err *err) {
  for (size_t i = 0; i < t->n_fields; i++) {
    const ptq_field *f = &t->fields[i];
    const int at = H5Tget_member_index(set->type, f->name);
    out[i] = (ptq_pack_column){0, 0};
    if (at < 0 && schema < PTQ_H5_SCHEMA) continue;
    if (at < 0)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "store '%s': table '%s' has no column '%s'; it was made "
                      "by another version of the program",
                      set->path, set->name, f->name);
    const hid_t member = H5Tget_member_type(set->type, (unsigned)at);
    const bool good = member >= 0 && right_kind(member, f);
    out[i].offset = H5Tget_member_offset(set->type, (unsigned)at);
    out[i].size = member >= 0 ? H5Tget_size(member) : 0;
    if (member >= 0) (void)H5Tclose(member);
    if (!good)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "store '%s': column '%s' of table '%s' has another type",
                      set->path, f->name, set->name);
    /* A damaged file may say anything. */
    if (out[i].offset > set->row_bytes ||
        out[i].size > set->row_bytes - out[i].offset)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "store '%s': column '%s' of table '%s' leaves the row: "
                      "the file is damaged, take a copy or run the sweep again",
                      set->path, f->name, set->name);
  }
  return PTQ_OK;
}

/* Does the file give the dataset room for all it says it has? */
static bool has_bytes(hid_t set, uint64_t rows, uint64_t size,
                      uint64_t columns) {
  const uint64_t stored = H5Dget_storage_size(set);
  if (rows == 0 || size == 0 || columns == 0) return true;
  return columns <= stored / size && rows <= stored / (size * columns);
}

ptq_status ptq_h5_open(hid_t file, const char *path, const char *name,
                       ptq_h5_set *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  hid_t space = H5I_INVALID_HID;
  hsize_t dims[2] = {0, 1};
  *out = PTQ_H5_SET_NONE;
  out->path = path;
  out->name = name;
  out->id = ptq_fault() ? H5I_INVALID_HID : H5Dopen2(file, name, H5P_DEFAULT);
  if (out->id < 0)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_FORMAT, path, "no dataset", name));
  out->type = H5Dget_type(out->id);
  space = H5Dget_space(out->id);
  const int rank = space < 0 ? -1 : H5Sget_simple_extent_ndims(space);
  if (out->type < 0 || rank < 1 || rank > 2 ||
      H5Sget_simple_extent_dims(space, dims, NULL) < 0)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_FORMAT, path, "unexpected shape of", name));
  out->rows = (int64_t)dims[0];
  out->row_bytes = H5Tget_size(out->type) * (size_t)dims[1];
  /* A damaged file may say anything; memory is asked for by it. */
  if (dims[1] > SIZE_MAX || dims[0] > INT64_MAX ||
      !has_bytes(out->id, dims[0], H5Tget_size(out->type), dims[1]))
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_FORMAT, path,
                        "(damaged?) unexpected size of", name));
done:
  if (space >= 0) (void)H5Sclose(space);
  if (rc != PTQ_OK) ptq_h5_close(out);
  return rc;
}

void ptq_h5_close(ptq_h5_set *set) {
  if (set->type >= 0) (void)H5Tclose(set->type);
  if (set->id >= 0) (void)H5Dclose(set->id);
  *set = PTQ_H5_SET_NONE;
}

/* Memory and file spaces of rows [at, at + n). */
static bool select_rows(const ptq_h5_set *set, int64_t at, int64_t n,
                        hid_t *file_space, hid_t *mem_space) {
  hsize_t dims[2] = {0, 1};
  *mem_space = H5I_INVALID_HID;
  *file_space = H5Dget_space(set->id);
  if (*file_space < 0) return false;
  const int rank = H5Sget_simple_extent_dims(*file_space, dims, NULL);
  if (rank < 1 || rank > 2) return false;
  const hsize_t start[2] = {(hsize_t)at, 0};
  const hsize_t count[2] = {(hsize_t)n, dims[1]};
  *mem_space = H5Screate_simple(rank, count, NULL);
  return *mem_space >= 0 && H5Sselect_hyperslab(*file_space, H5S_SELECT_SET,
                                                start, NULL, count, NULL) >= 0;
}

static ptq_status transfer(const ptq_h5_set *set, int64_t at, int64_t n,
                           void *in, const void *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  hid_t file_space = H5I_INVALID_HID, mem_space = H5I_INVALID_HID;
  char what[96];
  if (n == 0) return PTQ_OK;
  /* Memory type = file type: bytes go through unconverted. */
  bool good = !ptq_fault() && at >= 0 && n > 0 && at + n <= set->rows &&
              select_rows(set, at, n, &file_space, &mem_space);
  if (good && in != NULL)
    good = H5Dread(set->id, set->type, mem_space, file_space, H5P_DEFAULT,
                   in) >= 0;
  else if (good)
    good = H5Dwrite(set->id, set->type, mem_space, file_space, H5P_DEFAULT,
                    out) >= 0;
  if (!good) {
    (void)snprintf(what, sizeof what, "cannot %s row %lld of",
                   in != NULL ? "read" : "write", (long long)at);
    rc = ptq_h5_fail(err, PTQ_E_IO, set->path, what, set->name);
  }
  if (mem_space >= 0) (void)H5Sclose(mem_space);
  if (file_space >= 0) (void)H5Sclose(file_space);
  return rc;
}

ptq_status ptq_h5_read(const ptq_h5_set *set, int64_t at, int64_t n, void *buf,
                       ptq_err *err) {
  return transfer(set, at, n, buf, NULL, err);
}

ptq_status ptq_h5_write(const ptq_h5_set *set, int64_t at, int64_t n,
                        const void *buf, ptq_err *err) {
  return transfer(set, at, n, NULL, buf, err);
}

ptq_status ptq_h5_attribute_list(hid_t object, const char *path,
                                 const char *name, const char *const *texts,
                                 int64_t n, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  hid_t type = H5I_INVALID_HID, space = H5I_INVALID_HID,
        attribute = H5I_INVALID_HID;
  char *packed = NULL;
  size_t size = 1;
  for (int64_t i = 0; i < n; i++)
    if (strlen(texts[i]) + 1 > size) size = strlen(texts[i]) + 1;
  PTQ_TRY(ptq_alloc(&packed, n, size, "attribute", err));
  for (int64_t i = 0; i < n; i++)
    (void)ptq_text_copy(packed + (size_t)i * size, size, texts[i]);
  const hsize_t dims[1] = {(hsize_t)n};
  type = ptq_h5_text_type(size);
  space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, dims, NULL);
  if (type >= 0 && space >= 0)
    attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute < 0 || H5Awrite(attribute, type, packed) < 0)
    rc = ptq_h5_fail(err, PTQ_E_IO, path, "cannot write attribute", name);
done:
  if (attribute >= 0) (void)H5Aclose(attribute);
  if (space >= 0) (void)H5Sclose(space);
  if (type >= 0) (void)H5Tclose(type);
  ptq_free(packed);
  return rc;
}

ptq_status ptq_h5_attribute_set(hid_t object, const char *path,
                                const char *name, const char *text,
                                ptq_err *err) {
  return ptq_h5_attribute_list(object, path, name, &text, 1, err);
}

ptq_status ptq_h5_attribute_get(hid_t object, const char *path,
                                const char *name, char **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  hid_t type = H5I_INVALID_HID, space = H5I_INVALID_HID;
  *out = NULL;
  const hid_t attribute = H5Aopen(object, name, H5P_DEFAULT);
  if (attribute >= 0) type = H5Aget_type(attribute);
  if (attribute >= 0) space = H5Aget_space(attribute);
  if (type < 0 || space < 0 || H5Tget_class(type) != H5T_STRING ||
      H5Tis_variable_str(type) != 0 || H5Sget_simple_extent_npoints(space) != 1)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_FORMAT, path, "no text attribute", name));
  /* An attribute fits an object header; a damaged one may say anything. */
  if (H5Tget_size(type) > ATTRIBUTE_MAX)
    PTQ_TRY(ptq_h5_fail(err, PTQ_E_FORMAT, path,
                        "(damaged?) unexpected size of attribute", name));
  PTQ_TRY(ptq_alloc(out, (int64_t)H5Tget_size(type) + 1, 1, "attribute", err));
  if (H5Aread(attribute, type, *out) < 0)
    rc = ptq_h5_fail(err, PTQ_E_IO, path, "cannot read attribute", name);
done:
  if (rc != PTQ_OK) {
    ptq_free(*out);
    *out = NULL;
  }
  if (space >= 0) (void)H5Sclose(space);
  if (type >= 0) (void)H5Tclose(type);
  if (attribute >= 0) (void)H5Aclose(attribute);
  return rc;
}
