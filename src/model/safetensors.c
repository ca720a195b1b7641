/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "safetensors.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/num/vec.h"
#include "storage.h"

/* The format's own limit; a larger length is a wrong file or a lie. */
static const int64_t HEADER_MAX = 100000000;

typedef struct parser {
  const char *path;  /* borrowed */
  int64_t data;      /* byte where the data begins */
  int64_t data_size; /* bytes of data */
  ptq_err *err;
} parser;

#define LIE(p, name, fmt, ...)                                           \
  PTQ_FAIL((p)->err, PTQ_E_FORMAT, "'%s': tensor '%s': " fmt, (p)->path, \
           (name), __VA_ARGS__)

static ptq_status parse_shape(const parser *p, ptq_tensor *t,
                              const json_t *shape) {
  if (!json_is_array(shape))
    return LIE(p, t->name, "%s", "has no 'shape' array");
  if (json_array_size(shape) > PTQ_TENSOR_DIMS)
    return LIE(p, t->name, "has %zu dimensions, at most %d are supported",
               json_array_size(shape), PTQ_TENSOR_DIMS);
  t->n_dims = (int)json_array_size(shape);
  t->count = 1;
  for (int i = 0; i < t->n_dims; i++) {
    const json_t *v = json_array_get(shape, (size_t)i);
    const int64_t dim = json_is_integer(v) ? json_integer_value(v) : -1;
    if (dim < 0)
      return LIE(p, t->name, "dimension %d of its shape is not a size", i);
    if (dim > 0 && t->count > INT64_MAX / 16 / dim)
      return LIE(p, t->name, "%s", "its shape overflows");
    t->dims[i] = dim;
    t->count *= dim;
  }
  return PTQ_OK;
}

static ptq_status parse_range(const parser *p, ptq_tensor *t,
                              const json_t *offsets) {
  const json_t *a = json_array_get(offsets, 0), *b = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(a) ||
      !json_is_integer(b))
    return LIE(p, t->name, "%s", "'data_offsets' is not a pair of integers");
  const int64_t begin = json_integer_value(a), end = json_integer_value(b);
  if (begin < 0 || end < begin)
    return LIE(p, t->name, "data_offsets [%lld, %lld] is not a range",
               (long long)begin, (long long)end);
  if (end > p->data_size)
    return LIE(p, t->name,
               "data_offsets end at %lld but the file has %lld bytes of data; "
               "it is truncated or its header is wrong: download it again",
               (long long)end, (long long)p->data_size);
  t->bytes = end - begin;
  t->offset = p->data + begin;
  if (t->bytes != t->count * t->storage->size)
    return LIE(p, t->name,
               "its shape and dtype %s take %lld bytes, its data_offsets %lld",
               t->storage->name, (long long)(t->count * t->storage->size),
               (long long)t->bytes);
  return PTQ_OK;
}

static ptq_status parse_tensor(const parser *p, const char *name,
                               const json_t *entry, ptq_tensor *t) {
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_strdup(&t->name, name, p->err));
  if (!json_is_object(entry))
    PTQ_TRY(LIE(p, name, "%s", "its entry is not an object"));
  const char *dtype = json_string_value(json_object_get(entry, "dtype"));
  if (dtype == NULL) PTQ_TRY(LIE(p, name, "%s", "has no 'dtype'"));
  t->storage = ptq_storage_find(dtype);
  if (t->storage == NULL)
    PTQ_TRY(LIE(p, name, "dtype '%.32s' is not known; readable are %s", dtype,
                ptq_storage_readable()));
  PTQ_TRY(parse_shape(p, t, json_object_get(entry, "shape")));
  PTQ_TRY(parse_range(p, t, json_object_get(entry, "data_offsets")));
done:
  return rc;
}

static int by_offset(const void *a, const void *b) {
  const ptq_tensor *const *x = a, *const *y = b;
  if ((*x)->offset != (*y)->offset) return (*x)->offset < (*y)->offset ? -1 : 1;
  return (*x)->bytes < (*y)->bytes ? -1 : (*x)->bytes > (*y)->bytes;
}

/* Tensors must follow one another without overlap and without gaps. */
static ptq_status check_layout(const parser *p, ptq_safetensors *st) {
  ptq_status rc = PTQ_OK;
  ptq_tensor **order = NULL;
  int64_t at = p->data;
  PTQ_TRY(
      ptq_alloc(&order, st->n, sizeof(ptq_tensor *), "tensor order", p->err));
  for (int64_t i = 0; i < st->n; i++) order[i] = &st->tensors[i];
  if (st->n > 0) qsort(order, (size_t)st->n, sizeof *order, by_offset);
  for (int64_t i = 0; i < st->n; i++) {
    const ptq_tensor *t = order[i];
    if (t->offset < at)
      PTQ_TRY(LIE(p, t->name, "its data overlaps that of '%s'",
                  order[i - 1]->name));
    if (t->offset > at)
      PTQ_TRY(LIE(p, t->name, "%lld bytes before its data belong to no tensor",
                  (long long)(t->offset - at)));
    at = t->offset + t->bytes;
  }
  if (at != p->data + p->data_size)
    PTQ_TRY(PTQ_FAIL(p->err, PTQ_E_FORMAT,
                     "'%s': %lld bytes behind the last tensor belong to no "
                     "tensor; the header is wrong",
                     p->path, (long long)(p->data + p->data_size - at)));
done:
  ptq_free(order);
  return rc;
}

static ptq_status parse_header(const parser *p, const json_t *root,
                               ptq_safetensors *st) {
  ptq_status rc = PTQ_OK;
  const char *name = NULL;
  json_t *entry = NULL, *object = NULL;
  if (!json_is_object(root))
    return PTQ_FAIL(p->err, PTQ_E_FORMAT,
                    "'%s': the header is not a JSON object", p->path);
  PTQ_TRY(ptq_alloc(&st->tensors, (int64_t)json_object_size(root),
                    sizeof *st->tensors, "tensor table", p->err));
  memcpy(&object, &root, sizeof object); /* jansson iterates non-const */
  json_object_foreach(object, name, entry) {
    if (strcmp(name, "__metadata__") == 0) continue;
    ptq_tensor *t = &st->tensors[st->n++];
    t->file = st->file;
    PTQ_TRY(parse_tensor(p, name, entry, t));
  }
  PTQ_TRY(check_layout(p, st));
done:
  return rc;
}

static ptq_status header_length(const char *path, ptq_file *f, int64_t *out,
                                ptq_err *err) {
  unsigned char raw[8];
  uint64_t length = 0;
  const int64_t size = ptq_file_size(f);
  *out = 0;
  if (size < (int64_t)sizeof raw)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s' has %lld bytes: too short for a safetensors file",
                    path, (long long)size);
  const ptq_status rc = ptq_file_pread(f, 0, raw, sizeof raw, err);
  if (rc != PTQ_OK) return rc;
  for (int i = 7; i >= 0; i--) length = length << 8 | raw[i];
  if (length > (uint64_t)HEADER_MAX)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s': header length %llu exceeds %lld: not a safetensors "
                    "file",
                    path, (unsigned long long)length, (long long)HEADER_MAX);
  if ((int64_t)length > size - (int64_t)sizeof raw)
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "'%s': header length %llu but the file has %lld bytes; it "
                    "is truncated: download it again",
                    path, (unsigned long long)length, (long long)size);
  *out = (int64_t)length;
  return PTQ_OK;
}

ptq_status ptq_safetensors_open(const char *path, ptq_safetensors *out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_safetensors st = {0};
  char *text = NULL;
  json_t *root = NULL;
  int64_t length = 0;
  *out = (ptq_safetensors){0};
  PTQ_TRY(ptq_file_open(path, &st.file, err));
  PTQ_TRY(header_length(path, st.file, &length, err));
  PTQ_TRY(ptq_alloc(&text, length + 1, 1, "safetensors header", err));
  PTQ_TRY(ptq_file_pread(st.file, 8, text, (size_t)length, err));
  json_error_t at;
  root = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &at);
  if (root == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': header, byte %d: %s", path,
                     at.position, at.text));
  const parser p = {.path = path,
                    .data = 8 + length,
                    .data_size = ptq_file_size(st.file) - 8 - length,
                    .err = err};
  PTQ_TRY(parse_header(&p, root, &st));
  *out = st;
  st = (ptq_safetensors){0};
done:
  json_decref(root);
  ptq_free(text);
  ptq_safetensors_close(&st);
  return rc;
}

void ptq_safetensors_close(ptq_safetensors *st) {
  for (int64_t i = 0; i < st->n; i++) ptq_free(st->tensors[i].name);
  ptq_free(st->tensors);
  ptq_file_close(st->file);
  *st = (ptq_safetensors){0};
}

static ptq_status not_finite(const ptq_tensor *t, const float *x, int64_t from,
                             int64_t n, ptq_err *err) {
  int64_t i = 0;
  while (i < n && isfinite(x[i])) i++;
  return PTQ_FAIL(err, PTQ_E_NUMERIC,
                  "'%s': tensor '%s': element %lld is %s; the checkpoint is "
                  "damaged or did not survive its training",
                  ptq_file_path(t->file), t->name, (long long)(from + i),
                  i < n && isnan(x[i]) ? "NaN" : "infinite");
}

/* Bytes of a tensor; its name stands in the message. */
static ptq_status read_bytes(const ptq_tensor *t, int64_t at,
                             unsigned char *raw, int64_t n, ptq_err *err) {
  ptq_err why = {0};
  const ptq_status rc =
      ptq_file_pread(t->file, t->offset + at, raw, (size_t)n, &why);
  if (rc == PTQ_OK) return rc;
  return PTQ_FAIL(err, rc, "tensor '%s': %s", t->name, why.msg);
}

ptq_status ptq_tensor_read(const ptq_tensor *t, float *out, ptq_err *err) {
  enum { CHUNK = 1 << 18 }; /* bytes; stays in cache */
  ptq_status rc = PTQ_OK;
  unsigned char *raw = NULL;
  const int64_t size = t->storage->size, step = CHUNK / size;
  if (t->storage->to_f32 == NULL)
    return PTQ_FAIL(err, PTQ_E_UNSUPPORTED,
                    "'%s': tensor '%s' has dtype %s; weights can be %s",
                    ptq_file_path(t->file), t->name, t->storage->name,
                    ptq_storage_readable());
  PTQ_TRY(ptq_alloc(&raw, CHUNK, 1, "read buffer", err));
  for (int64_t i = 0; i < t->count; i += step) {
    const int64_t n = t->count - i < step ? t->count - i : step;
    PTQ_TRY(read_bytes(t, i * size, raw, n * size, err));
    t->storage->to_f32(raw, n, out + i);
    if (!ptq_vec_all_finite(out + i, n))
      PTQ_TRY(not_finite(t, out + i, i, n, err));
  }
done:
  ptq_free(raw);
  return rc;
}
