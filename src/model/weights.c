/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "weights.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/mem.h"

static const char SINGLE[] = "model.safetensors";
static const char INDEX[] = "model.safetensors.index.json";
enum { INDEX_MAX = 64 << 20 };

struct ptq_weights {
  ptq_safetensors *files; /* owned; [n_files], in name order */
  int64_t n_files;
  ptq_tensor **sorted; /* owned; [n] pointers into files, in name order */
  int64_t n;
};

static int by_name(const void *a, const void *b) {
  const ptq_tensor *const *x = a, *const *y = b;
  return strcmp((*x)->name, (*y)->name);
}

static ptq_status sort_tensors(ptq_weights *w, ptq_err *err) {
  int64_t n = 0;
  for (int64_t f = 0; f < w->n_files; f++) n += w->files[f].n;
  const ptq_status rc =
      ptq_alloc(&w->sorted, n, sizeof(ptq_tensor *), "tensor names", err);
  if (rc != PTQ_OK) return rc;
  for (int64_t f = 0; f < w->n_files; f++)
    for (int64_t i = 0; i < w->files[f].n; i++)
      w->sorted[w->n++] = &w->files[f].tensors[i];
  if (n > 0) qsort(w->sorted, (size_t)n, sizeof *w->sorted, by_name);
  for (int64_t i = 1; i < n; i++)
    if (strcmp(w->sorted[i - 1]->name, w->sorted[i]->name) == 0)
      return PTQ_FAIL(err, PTQ_E_FORMAT, "tensor '%s' is in both '%s' and '%s'",
                      w->sorted[i]->name, ptq_file_path(w->sorted[i - 1]->file),
                      ptq_file_path(w->sorted[i]->file));
  return PTQ_OK;
}

static int by_text(const void *a, const void *b) {
  const char *const *x = a, *const *y = b;
  return strcmp(*x, *y);
}

/* Distinct shard names of the index, sorted; the texts are borrowed. */
static ptq_status shard_names(const char *path, json_t *map,
                              const char ***names, int64_t *n, ptq_err *err) {
  const char *tensor = NULL;
  json_t *value = NULL;
  const ptq_status rc = ptq_alloc(names, (int64_t)json_object_size(map),
                                  sizeof(char *), "shard names", err);
  if (rc != PTQ_OK) return rc;
  int64_t all = 0;
  json_object_foreach(map, tensor, value) {
    const char *shard = json_string_value(value);
    if (shard == NULL || shard[0] == '\0' || strchr(shard, '/') != NULL)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "'%s': the shard of tensor '%s' is not the name of a "
                      "file in this directory",
                      path, tensor);
    (*names)[all++] = shard;
  }
  if (all > 0) qsort(*names, (size_t)all, sizeof **names, by_text);
  for (int64_t i = 0; i < all; i++)
    if (i == 0 || strcmp((*names)[i], (*names)[*n - 1]) != 0)
      (*names)[(*n)++] = (*names)[i];
  return PTQ_OK;
}

static ptq_status open_file(ptq_weights *w, const char *dir, const char *name,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *path = NULL;
  PTQ_TRY(ptq_path_join(dir, name, &path, err));
  if (!ptq_path_exists(path))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_IO,
                     "'%s' is missing, though '%s' names it: download it "
                     "again",
                     path, INDEX));
  PTQ_TRY(ptq_safetensors_open(path, &w->files[w->n_files], err));
  w->n_files++;
done:
  ptq_free(path);
  return rc;
}

/* The index and the shards' own headers must tell the same. */
static ptq_status check_index(const ptq_weights *w, const char *path,
                              const char *const *names, json_t *map,
                              ptq_err *err) {
  const char *tensor = NULL;
  json_t *value = NULL;
  json_object_foreach(map, tensor, value) {
    const char *shard = json_string_value(value);
    const ptq_tensor *t = ptq_weights_find(w, tensor);
    int64_t f = 0;
    while (strcmp(names[f], shard) != 0) f++;
    if (t == NULL || t->file != w->files[f].file)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "'%s' puts tensor '%s' in '%s', which does not have it",
                      path, tensor, shard);
  }
  for (int64_t i = 0; i < w->n; i++)
    if (json_object_get(map, w->sorted[i]->name) == NULL)
      return PTQ_FAIL(err, PTQ_E_FORMAT,
                      "'%s' does not name tensor '%s', which is in '%s'", path,
                      w->sorted[i]->name, ptq_file_path(w->sorted[i]->file));
  return PTQ_OK;
}

static ptq_status open_shards(ptq_weights *w, const char *dir,
                              const char *index, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *text = NULL;
  const char **names = NULL;
  json_t *root = NULL, *map = NULL;
  size_t size = 0;
  int64_t n = 0;
  json_error_t at;
  PTQ_TRY(ptq_file_read(index, INDEX_MAX, &text, &size, err));
  root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &at);
  if (root == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT, "'%s': line %d: %s", index, at.line,
                     at.text));
  map = json_object_get(root, "weight_map");
  if (!json_is_object(map) || json_object_size(map) == 0)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_FORMAT,
                     "'%s' has no 'weight_map' of tensors to files", index));
  PTQ_TRY(shard_names(index, map, &names, &n, err));
  PTQ_TRY(ptq_alloc(&w->files, n, sizeof *w->files, "shards", err));
  for (int64_t i = 0; i < n; i++) PTQ_TRY(open_file(w, dir, names[i], err));
  PTQ_TRY(sort_tensors(w, err));
  PTQ_TRY(check_index(w, index, names, map, err));
done:
  ptq_free(names);
  json_decref(root);
  ptq_free(text);
  return rc;
}

static ptq_status no_weights(const char *dir, ptq_err *err) {
  static const char *const old[] = {"pytorch_model.bin",
                                    "pytorch_model.bin.index.json"};
  bool is_old = false;
  for (int i = 0; i < 2; i++) {
    char *path = NULL;
    const ptq_status rc = ptq_path_join(dir, old[i], &path, err);
    if (rc != PTQ_OK) return rc;
    is_old = is_old || ptq_path_exists(path);
    ptq_free(path);
  }
  return PTQ_FAIL(err, PTQ_E_IO, "'%s' has neither %s nor %s%s", dir, SINGLE,
                  INDEX,
                  is_old ? "; make them of its pytorch_model.bin with "
                           "sweeps/convert.py DIR"
                         : "");
}

ptq_status ptq_weights_open(const char *dir, ptq_weights **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_weights *w = NULL;
  char *single = NULL, *index = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&w, 1, sizeof *w, "a checkpoint", err));
  PTQ_TRY(ptq_path_join(dir, SINGLE, &single, err));
  PTQ_TRY(ptq_path_join(dir, INDEX, &index, err));
  if (ptq_path_exists(single)) {
    PTQ_TRY(ptq_alloc(&w->files, 1, sizeof *w->files, "weight file", err));
    PTQ_TRY(ptq_safetensors_open(single, &w->files[0], err));
    w->n_files = 1;
    PTQ_TRY(sort_tensors(w, err));
  } else if (ptq_path_exists(index)) {
    PTQ_TRY(open_shards(w, dir, index, err));
  } else {
    PTQ_TRY(no_weights(dir, err));
  }
  *out = w;
  w = NULL;
done:
  ptq_free(single);
  ptq_free(index);
  ptq_weights_close(w);
  return rc;
}

void ptq_weights_close(ptq_weights *w) {
  if (w == NULL) return;
  for (int64_t f = 0; f < w->n_files; f++) ptq_safetensors_close(&w->files[f]);
  ptq_free(w->files);
  ptq_free(w->sorted);
  ptq_free(w);
}

ptq_tensor *ptq_weights_find(const ptq_weights *w, const char *name) {
  int64_t low = 0, high = w->n;
  while (low < high) {
    const int64_t mid = low + (high - low) / 2;
    const int order = strcmp(name, w->sorted[mid]->name);
    if (order == 0) return w->sorted[mid];
    if (order < 0)
      high = mid;
    else
      low = mid + 1;
  }
  return NULL;
}

ptq_tensor *const *ptq_weights_all(const ptq_weights *w, int64_t *n) {
  *n = w->n;
  return w->sorted;
}

const char *ptq_weights_file(const ptq_weights *w, int64_t i) {
  return ptq_file_path(w->files[i].file);
}

int64_t ptq_weights_n_files(const ptq_weights *w) {
  return w->n_files;
}
