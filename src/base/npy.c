/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/npy.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"

/* clang-format off */
static const struct { const char *descr; size_t size; } types[PTQ_NPY_COUNT] = {
  [PTQ_NPY_F32] = {"<f4", 4}, [PTQ_NPY_F64] = {"<f8", 8},
  [PTQ_NPY_I8]  = {"|i1", 1}, [PTQ_NPY_U8]  = {"|u1", 1},
  [PTQ_NPY_I32] = {"<i4", 4}, [PTQ_NPY_U32] = {"<u4", 4},
  [PTQ_NPY_I64] = {"<i8", 8}, [PTQ_NPY_U64] = {"<u8", 8},
};
/* clang-format on */

/* The value after 'key': in the header's Python dict, NULL if absent. */
static const char *dict_value(const char *header, const char *key) {
  const char *at = strstr(header, key);
  if (at == NULL) return NULL;
  at += strlen(key);
  while (*at == ' ' || *at == ':') at++;
  return at;
}

/* "(3, 4)" into dims; -1 when it is not a tuple of at most 4 sizes. */
static int parse_shape(const char *at, int64_t dims[4]) {
  int n = 0;
  if (at == NULL || *at++ != '(') return -1;
  for (;;) {
    while (*at == ' ' || *at == ',') at++;
    if (*at == ')') return n;
    char *end = NULL;
    const long long v = strtoll(at, &end, 10);
    if (end == at || v < 0 || n == 4) return -1;
    dims[n++] = v;
    at = end;
  }
}

static ptq_status parse_header(const char *path, const char *header,
                               ptq_npy_type type, int n_dims, ptq_npy *out,
                               ptq_err *err) {
  const char *descr = dict_value(header, "'descr'");
  const char *order = dict_value(header, "'fortran_order'");
  const char *shape = dict_value(header, "'shape'");
  if (descr == NULL || order == NULL || strncmp(order, "False", 5) != 0)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': not a C-ordered .npy array",
                    path);
  if (strncmp(descr + 1, types[type].descr, 3) != 0)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': elements are %.5s, expected '%s'",
                    path, descr, types[type].descr);
  out->type = type;
  out->n_dims = parse_shape(shape, out->dims);
  if (out->n_dims != n_dims)
    return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': %d dimensions, expected %d", path,
                    out->n_dims, n_dims);
  out->n = 1;
  for (int i = 0; i < n_dims; i++) {
    if (out->dims[i] > 0 && out->n > INT64_MAX / 16 / out->dims[i])
      return PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': shape overflows", path);
    out->n *= out->dims[i];
  }
  return PTQ_OK;
}

ptq_status ptq_npy_read(const char *path, ptq_npy_type type, int n_dims,
                        ptq_npy *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_file *f = NULL;
  char *header = NULL;
  unsigned char start[12];
  *out = (ptq_npy){0};
  PTQ_TRY(ptq_file_open(path, &f, err));
  PTQ_TRY(ptq_file_pread(f, 0, start, sizeof start, err));
  if (memcmp(start, "\x93NUMPY", 6) != 0 || start[6] < 1 || start[6] > 3)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s' is not an .npy file", path));
  const bool v1 = start[6] == 1;
  int64_t size = start[8] | start[9] << 8;
  if (!v1) size |= (int64_t)start[10] << 16 | (int64_t)start[11] << 24;
  const int64_t at = v1 ? 10 : 12;
  if (size > ptq_file_size(f) - at)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s' is truncated", path));
  PTQ_TRY(ptq_alloc(&header, size + 1, 1, path, err));
  PTQ_TRY(ptq_file_pread(f, at, header, (size_t)size, err));
  PTQ_TRY(parse_header(path, header, type, n_dims, out, err));
  const int64_t bytes = out->n * (int64_t)types[type].size;
  if (bytes != ptq_file_size(f) - at - size)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                     "'%s' is truncated: %lld bytes of data, expected %lld",
                     path, (long long)(ptq_file_size(f) - at - size),
                     (long long)bytes));
  PTQ_TRY(ptq_alloc(&out->data, out->n, types[type].size, path, err));
  PTQ_TRY(ptq_file_pread(f, at + size, out->data, (size_t)bytes, err));
done:
  ptq_free(header);
  ptq_file_close(f);
  if (rc != PTQ_OK) ptq_npy_release(out);
  return rc;
}

void ptq_npy_release(ptq_npy *a) {
  ptq_free(a->data);
  *a = (ptq_npy){0};
}
