/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/model/export.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model_private.h"
#include "ptq/base/check.h"
#include "ptq/base/mem.h"
#include "ptq/num/vec.h"

enum { CHUNK = 1 << 16, PATH_ROOM = 4096, COPY_MAX = 256 << 20 };

struct ptq_export {
  ptq_model *model; /* borrowed */
  ptq_export_type type;
  char *source, *dir, *note; /* owned */
  char part[PATH_ROOM];      /* the weights while they are being written */
  int fd;                    /* -1: closed */
  int64_t data;              /* byte where the data begins */
  int64_t *offset;           /* owned; of each tensor in name order, or -1 */
  int64_t blocks_done;
  unsigned char *raw; /* owned; [4 * CHUNK] */
};

static int64_t size_of(ptq_export_type type) {
  return type == PTQ_EXPORT_F32 ? 4 : 2;
}

/* float32 as the file's little-endian bytes; bfloat16 to nearest, ties to
 * even. */
static void encode(ptq_export_type type, const float *x, int64_t n,
                   unsigned char *raw) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits = 0;
    memcpy(&bits, &x[i], sizeof bits);
    if (type == PTQ_EXPORT_BF16) {
      bits = (bits + 0x7fffU + (bits >> 16 & 1U)) >> 16;
      raw[2 * i] = (unsigned char)(bits & 0xffU);
      raw[2 * i + 1] = (unsigned char)(bits >> 8 & 0xffU);
      continue;
    }
    for (int b = 0; b < 4; b++)
      raw[4 * i + b] = (unsigned char)(bits >> 8 * b & 0xffU);
  }
}

static ptq_status write_at(ptq_export *e, const void *data, size_t size,
                           int64_t at, ptq_err *err) {
  const unsigned char *p = data;
  while (size > 0) {
    const ssize_t n = pwrite(e->fd, p, size, (off_t)at);
    if (n <= 0)
      return PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': is the disk full?",
                      e->part);
    p += n;
    at += n;
    size -= (size_t)n;
  }
  return PTQ_OK;
}

static ptq_status write_floats(ptq_export *e, const float *x, int64_t n,
                               int64_t at, ptq_err *err) {
  for (int64_t i = 0; i < n; i += CHUNK) {
    const int64_t k = n - i < CHUNK ? n - i : CHUNK;
    encode(e->type, x + i, k, e->raw);
    const ptq_status rc = write_at(e, e->raw, (size_t)(k * size_of(e->type)),
                                   at + i * size_of(e->type), err);
    if (rc != PTQ_OK) return rc;
  }
  return PTQ_OK;
}

/* Where the tensor of that name goes. */
static int64_t place_of(const ptq_export *e, const char *name) {
  int64_t n = 0;
  ptq_tensor *const *all = ptq_weights_all(e->model->weights, &n);
  for (int64_t i = 0; i < n; i++)
    if (strcmp(all[i]->name, name) == 0) return e->data + e->offset[i];
  ptq_check_failed("a tensor without a place", __FILE__, __LINE__);
}

/* The header's text; fills e->offset. */
static char *header_text(ptq_export *e) {
  int64_t n = 0, at = 0;
  ptq_tensor *const *all = ptq_weights_all(e->model->weights, &n);
  json_t *root = json_pack("{s:{s:s}}", "__metadata__", "format", "pt");
  for (int64_t i = 0; i < n; i++) {
    const ptq_tensor *t = all[i];
    e->offset[i] = -1;
    if (!t->used) continue;
    const int64_t end = at + t->count * size_of(e->type);
    json_t *shape = json_array();
    for (int d = 0; d < t->n_dims; d++)
      (void)json_array_append_new(shape, json_integer(t->dims[d]));
    (void)json_object_set_new(
        root, t->name,
        json_pack("{s:s, s:o, s:[I, I]}", "dtype",
                  e->type == PTQ_EXPORT_F32 ? "F32" : "BF16", "shape", shape,
                  "data_offsets", (json_int_t)at, (json_int_t)end));
    e->offset[i] = at;
    at = end;
  }
  char *text = json_dumps(root, JSON_COMPACT);
  json_decref(root);
  return text;
}

static ptq_status write_header(ptq_export *e, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  unsigned char length[8];
  char *text = header_text(e);
  if (text == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "no memory for a header"));
  const size_t size = strlen(text), room = (size + 7) / 8 * 8;
  for (int b = 0; b < 8; b++)
    length[b] = (unsigned char)((uint64_t)room >> 8 * b & 0xffU);
  PTQ_TRY(write_at(e, length, sizeof length, 0, err));
  PTQ_TRY(write_at(e, text, size, 8, err));
  PTQ_TRY(write_at(e, "       ", room - size, 8 + (int64_t)size, err));
  e->data = 8 + (int64_t)room;
done:
  free(text);
  return rc;
}

/* Every tensor but the linear layers' weights. */
static ptq_status copy_others(ptq_export *e, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  int64_t n = 0;
  ptq_tensor *const *all = ptq_weights_all(e->model->weights, &n);
  float *x = NULL;
  for (int64_t i = 0; i < n; i++) {
    if (!all[i]->used || all[i]->linear) continue;
    PTQ_TRY(ptq_alloc(&x, all[i]->count, sizeof *x, "a tensor", err));
    PTQ_TRY(ptq_tensor_read(all[i], x, err));
    PTQ_TRY(write_floats(e, x, all[i]->count, e->data + e->offset[i], err));
    ptq_free(x);
    x = NULL;
  }
done:
  ptq_free(x);
  return rc;
}

/* Files beside the weights that other tools read. */
static const char *const companions[] = {
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "added_tokens.json",
    "chat_template.jinja",
};

static ptq_status copy_companions(const ptq_export *e, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *from = NULL, *to = NULL, *bytes = NULL;
  size_t size = 0;
  for (size_t i = 0; i < sizeof companions / sizeof companions[0]; i++) {
    PTQ_TRY(ptq_path_join(e->source, companions[i], &from, err));
    PTQ_TRY(ptq_path_join(e->dir, companions[i], &to, err));
    if (ptq_path_exists(from)) {
      PTQ_TRY(ptq_file_read(from, COPY_MAX, &bytes, &size, err));
      PTQ_TRY(ptq_file_write_atomic(to, bytes, size, err));
    }
    ptq_free(bytes);
    ptq_free(from);
    ptq_free(to);
    bytes = from = to = NULL;
  }
done:
  ptq_free(bytes);
  ptq_free(from);
  ptq_free(to);
  return rc;
}

static ptq_status begin_directory(ptq_export *e, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *config = NULL;
  if (mkdir(e->dir, 0777) != 0 && !ptq_path_is_dir(e->dir))
    return PTQ_FAIL(err, PTQ_E_IO, "cannot make the directory '%s': %s", e->dir,
                    strerror(errno));
  PTQ_TRY(ptq_path_join(e->dir, "config.json", &config, err));
  if (ptq_path_exists(config))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "'%s' holds a model already; name another directory",
                     e->dir));
  snprintf(e->part, sizeof e->part, "%s/model.safetensors.part", e->dir);
  e->fd = open(e->part, O_RDWR | O_CREAT | O_TRUNC, 0666);
  if (e->fd < 0) PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s'", e->part));
done:
  ptq_free(config);
  return rc;
}

ptq_status ptq_export_open(ptq_model *m, const char *source, const char *dir,
                           ptq_export_type type, const char *note,
                           ptq_export **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_export *e = NULL;
  int64_t n = 0;
  *out = NULL;
  (void)ptq_weights_all(m->weights, &n);
  PTQ_TRY(ptq_alloc(&e, 1, sizeof *e, "a model to write", err));
  e->fd = -1;
  e->model = m;
  e->type = type;
  PTQ_TRY(ptq_strdup(&e->source, source, err));
  PTQ_TRY(ptq_strdup(&e->dir, dir, err));
  PTQ_TRY(ptq_strdup(&e->note, note, err));
  PTQ_TRY(ptq_alloc(&e->offset, n, sizeof *e->offset, "offsets", err));
  PTQ_TRY(ptq_alloc(&e->raw, 4 * (int64_t)CHUNK, 1, "a write buffer", err));
  PTQ_TRY(begin_directory(e, err));
  PTQ_TRY(write_header(e, err));
  PTQ_TRY(copy_others(e, err));
  PTQ_TRY(copy_companions(e, err));
  *out = e;
  e = NULL;
done:
  ptq_export_free(e);
  return rc;
}

static ptq_status write_linear(ptq_export *e, const ptq_linear *l,
                               const char *name, ptq_err *err) {
  const int64_t at = place_of(e, name);
  if (!e->model->info.transposed)
    return write_floats(e, l->weight, l->out * l->in, at, err);
  ptq_status rc = PTQ_OK;
  float *column = NULL;
  PTQ_TRY(ptq_alloc(&column, l->out, sizeof *column, "a column", err));
  for (int64_t i = 0; i < l->in; i++) {
    for (int64_t o = 0; o < l->out; o++) column[o] = l->weight[o * l->in + i];
    PTQ_TRY(write_floats(e, column, l->out, at + i * l->out * size_of(e->type),
                         err));
  }
done:
  ptq_free(column);
  return rc;
}

ptq_status ptq_export_block(ptq_export *e, const ptq_block *b, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char name[PTQ_TENSOR_NAME_MAX];
  for (int l = 0; l < ptq_layer_count(&e->model->info); l++) {
    if (!ptq_layer_present(&e->model->info, l)) continue;
    ptq_layer_tensor_name(e->model, b->index, l, name);
    PTQ_TRY(write_linear(e, &b->linear[l], name, err));
  }
  e->blocks_done++;
done:
  return rc;
}

/* config.json with the element type and where the weights are from. */
static ptq_status write_config(const ptq_export *e, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *path = NULL, *text = NULL;
  json_t *root = json_load_file(ptq_config_path(e->model->config), 0, NULL);
  const char *type = e->type == PTQ_EXPORT_F32 ? "float32" : "bfloat16";
  if (root == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO, "cannot read '%s' again",
                     ptq_config_path(e->model->config)));
  (void)json_object_del(root, "dtype");
  (void)json_object_set_new(root, "torch_dtype", json_string(type));
  (void)json_object_set_new(root, "ptqsweep_provenance",
                            json_string("dequantized"));
  (void)json_object_set_new(root, "ptqsweep_source", json_string(e->note));
  text = json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS);
  if (text == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "no memory for config.json"));
  PTQ_TRY(ptq_path_join(e->dir, "config.json", &path, err));
  PTQ_TRY(ptq_file_write_atomic(path, text, strlen(text), err));
done:
  ptq_free(path);
  free(text);
  json_decref(root);
  return rc;
}

ptq_status ptq_export_finish(ptq_export *e, ptq_err *err) {
  char whole[PATH_ROOM];
  if (e->blocks_done != e->model->info.n_blocks)
    return PTQ_FAIL(err, PTQ_E_ARG, "%lld of %lld blocks were written",
                    (long long)e->blocks_done,
                    (long long)e->model->info.n_blocks);
  const bool bad = fsync(e->fd) != 0 || close(e->fd) != 0;
  e->fd = -1;
  snprintf(whole, sizeof whole, "%s/model.safetensors", e->dir);
  if (bad || rename(e->part, whole) != 0)
    return PTQ_FAIL(err, PTQ_E_IO, "cannot write '%s': is the disk full?",
                    whole);
  e->part[0] = '\0';
  return write_config(e, err);
}

void ptq_export_free(ptq_export *e) {
  if (e == NULL) return;
  if (e->fd >= 0) close(e->fd);
  if (e->part[0] != '\0') (void)unlink(e->part);
  ptq_free(e->source);
  ptq_free(e->dir);
  ptq_free(e->note);
  ptq_free(e->offset);
  ptq_free(e->raw);
  ptq_free(e);
}
