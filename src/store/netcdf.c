/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/store/netcdf.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <stdio.h>
#include <string.h>

#include "h5io.h"
#include "ptq/base/file.h"
#include "ptq/base/mem.h"

static const char source[] = "ptqsweep export";

static ptq_status failed(const char *path, const char *what, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': %s; is the disk full?",
                  path, what);
}

/* A string as netCDF has it: fixed length, UTF-8. */
static herr_t put_text(hid_t object, const char *name, const char *text) {
  if (text[0] == '\0') return 0;
  const hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
  (void)H5Tset_size(type, strlen(text));
  (void)H5Tset_cset(type, H5T_CSET_UTF8);
  const hid_t attribute =
      H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  const herr_t rc = attribute >= 0 ? H5Awrite(attribute, type, text) : -1;
  if (attribute >= 0) (void)H5Aclose(attribute);
  (void)H5Sclose(space);
  (void)H5Tclose(type);
  return rc;
}

/* A dataset whose attributes keep their order, which netCDF relies on. */
static hid_t create(hid_t file, const char *name, hid_t type, hsize_t n) {
  const hid_t space = H5Screate_simple(1, &n, NULL);
  const hid_t plan = H5Pcreate(H5P_DATASET_CREATE);
  (void)H5Pset_attr_creation_order(
      plan, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
  const hid_t d =
      H5Dcreate2(file, name, type, space, H5P_DEFAULT, plan, H5P_DEFAULT);
  (void)H5Pclose(plan);
  (void)H5Sclose(space);
  return d;
}

/* The dimension without a variable of its own: netCDF's way of saying so. */
static hid_t put_dimension(hid_t file, int64_t n) {
  char name[80];
  (void)snprintf(name, sizeof name,
                 "This is a netCDF dimension but not a netCDF variable. "
                 "%9lld",
                 (long long)n);
  const hid_t d = create(file, "row", H5T_IEEE_F32BE, (hsize_t)n);
  if (d >= 0 && H5DSset_scale(d, name) < 0) {
    (void)H5Dclose(d);
    return -1;
  }
  return d;
}

static herr_t put_column(hid_t file, hid_t dimension, int64_t n,
                         const ptq_netcdf_column *c) {
  hid_t stored = H5T_IEEE_F64LE, memory = H5T_NATIVE_DOUBLE, text = -1;
  if (c->field->kind == PTQ_KIND_I64) {
    stored = H5T_STD_I64LE;
    memory = H5T_NATIVE_INT64;
  } else if (c->field->kind == PTQ_KIND_TEXT) {
    text = H5Tcopy(H5T_C_S1);
    (void)H5Tset_size(text, H5T_VARIABLE);
    (void)H5Tset_cset(text, H5T_CSET_UTF8);
    stored = memory = text;
  }
  const hid_t d = create(file, c->field->name, stored, (hsize_t)n);
  herr_t rc = d >= 0 ? 0 : -1;
  if (rc >= 0 && n > 0)
    rc = H5Dwrite(d, memory, H5S_ALL, H5S_ALL, H5P_DEFAULT, c->values);
  if (rc >= 0) rc = H5DSattach_scale(d, dimension, 0);
  if (rc >= 0) rc = put_text(d, "long_name", c->field->text);
  /* netCDF's word for a number without one; counts and rows have none. */
  const bool bare = c->field->kind == PTQ_KIND_F64 && c->field->unit[0] == '\0';
  if (rc >= 0) rc = put_text(d, "units", bare ? "1" : c->field->unit);
  if (d >= 0) (void)H5Dclose(d);
  if (text >= 0) (void)H5Tclose(text);
  return rc;
}

static hid_t create_file(const char *path) {
  const hid_t plan = H5Pcreate(H5P_FILE_CREATE);
  const unsigned order = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
  (void)H5Pset_link_creation_order(plan, order);
  (void)H5Pset_attr_creation_order(plan, order);
  const hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, plan, H5P_DEFAULT);
  (void)H5Pclose(plan);
  return file;
}

ptq_status ptq_netcdf_write(const char *path, const char *title, int64_t n,
                            const ptq_netcdf_column *columns, int n_columns,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  hid_t file = H5I_INVALID_HID, row = H5I_INVALID_HID;
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  file = create_file(path);
  if (file < 0) PTQ_TRY(failed(path, "the file", err));
  row = put_dimension(file, n);
  if (row < 0) PTQ_TRY(failed(path, "the dimension 'row'", err));
  for (int i = 0; i < n_columns; i++)
    if (put_column(file, row, n, &columns[i]) < 0)
      PTQ_TRY(failed(path, columns[i].field->name, err));
  if (put_text(file, "title", title) < 0 ||
      put_text(file, "source", source) < 0)
    PTQ_TRY(failed(path, "its attributes", err));
done:
  if (row >= 0) (void)H5Dclose(row);
  if (file >= 0 && H5Fclose(file) < 0 && rc == PTQ_OK)
    rc = failed(path, "closing", err);
  if (rc != PTQ_OK && file >= 0) (void)remove(path);
  return rc;
}

/* The signature alone: a store that HDF5 cannot open any more is one too. */
static bool is_hdf5(const char *path) {
  static const char signature[8] = "\x89HDF\r\n\x1a\n";
  char start[sizeof signature];
  ptq_file *f = NULL;
  ptq_err why = {0};
  if (ptq_file_open(path, &f, &why) != PTQ_OK) return false;
  const bool is = ptq_file_pread(f, 0, start, sizeof start, &why) == PTQ_OK &&
                  memcmp(start, signature, sizeof start) == 0;
  ptq_file_close(f);
  return is;
}

bool ptq_netcdf_may_replace(const char *path) {
  char *text = NULL;
  ptq_err why = {0};
  if (!is_hdf5(path)) return true;
  (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  const hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
  if (file < 0) return false;
  const bool ours =
      H5Aexists(file, "source") > 0 &&
      ptq_h5_attribute_get(file, path, "source", &text, &why) == PTQ_OK &&
      strcmp(text, source) == 0;
  ptq_free(text);
  (void)H5Fclose(file);
  return ours;
}
