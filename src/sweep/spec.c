/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/sweep/spec.h"

#include <inttypes.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/team.h"
#include "ptq/base/text.h"
#include "spec_parts.h"

enum { MAX_FILE = 1 << 20, MAX_KNOWN = 32 };

ptq_status ptq_spec_items(const ptq_spec_source *src, const ptq_yaml_node *node,
                          const char *what, const ptq_yaml_node **first,
                          int64_t *n, ptq_err *err) {
  *first = node->kind == PTQ_YAML_LIST ? node->child : node;
  *n = node->kind == PTQ_YAML_LIST ? node->n_children : 1;
  if (*n > 0) return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG, "'%s' is an empty list",
                       what);
}

/* "dtype, method, group" for a message. */
static ptq_status unknown_key(const ptq_spec_source *src,
                              const ptq_yaml_node *node, const char *what,
                              const char *const *known, ptq_err *err) {
  ptq_text list = {0};
  size_t n = 0;
  for (; known[n] != NULL && n < MAX_KNOWN; n++)
    ptq_text_addf(&list, "%s%s", n > 0 ? ", " : "", known[n]);
  const char *near = ptq_text_nearest(node->key, known, n);
  const ptq_status rc = PTQ_YAML_FAIL(
      src->path, node, err, PTQ_E_ARG,
      "unknown key '%s' in %s%s%s%s; known: %s", node->key, what,
      near != NULL ? ", did you mean '" : "", near != NULL ? near : "",
      near != NULL ? "'?" : "", ptq_text_str(&list));
  ptq_text_release(&list);
  return rc;
}

ptq_status ptq_spec_check_map(const ptq_spec_source *src,
                              const ptq_yaml_node *node, const char *what,
                              const char *const *known, ptq_err *err) {
  if (node->kind != PTQ_YAML_MAP)
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "%s must be a mapping (key: value)", what);
  for (const ptq_yaml_node *m = node->child; m != NULL; m = m->next) {
    size_t i = 0;
    while (known[i] != NULL && strcmp(known[i], m->key) != 0) i++;
    if (known[i] == NULL) return unknown_key(src, m, what, known, err);
  }
  return PTQ_OK;
}

ptq_status ptq_spec_member(const ptq_spec_source *src, const ptq_yaml_node *map,
                           const char *what, const char *key,
                           const ptq_yaml_node **out, ptq_err *err) {
  *out = ptq_yaml_get(map, key);
  if (*out != NULL) return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, map, err, PTQ_E_ARG, "%s lacks '%s'", what,
                       key);
}

ptq_status ptq_spec_check_scalar(const ptq_spec_source *src,
                                 const ptq_yaml_node *node, const char *what,
                                 ptq_err *err) {
  if (node->kind == PTQ_YAML_SCALAR && node->text[0] != '\0') return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "%s must be a single value, got %s", what,
                       node->kind == PTQ_YAML_SCALAR ? "nothing"
                       : node->kind == PTQ_YAML_LIST ? "a list"
                                                     : "a mapping");
}

ptq_status ptq_spec_count(const ptq_spec_source *src, const ptq_yaml_node *map,
                          const char *what, const char *key, int64_t least,
                          int64_t most, int64_t *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *node = NULL;
  PTQ_TRY(ptq_spec_member(src, map, what, key, &node, err));
  PTQ_TRY(ptq_yaml_int(src->path, node, out, err));
  if (*out < least || *out > most)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                          "'%s' must be %" PRId64 " to %" PRId64
                          ", got %" PRId64,
                          key, least, most, *out));
done:
  return rc;
}

bool ptq_spec_is_name(const char *name, size_t size) {
  static const char allowed[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-";
  const size_t n = strlen(name);
  return n > 0 && n < size && name[0] != '.' && strspn(name, allowed) == n;
}

/* `name:`, else the file's base name without its extension. */
static ptq_status read_name(const ptq_spec_source *src,
                            const ptq_yaml_node *root, ptq_spec *out,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *node = ptq_yaml_get(root, "name");
  char *base = NULL;
  if (node != NULL) {
    PTQ_TRY(ptq_spec_check_scalar(src, node, "name", err));
    PTQ_TRY(ptq_strdup(&base, node->text, err));
  } else {
    node = root;
    PTQ_TRY(ptq_path_base(src->path, &base, err));
    char *dot = strrchr(base, '.');
    if (dot != NULL && dot != base) *dot = '\0';
  }
  if (!ptq_spec_is_name(base, sizeof out->name))
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                          "the sweep's name '%s' must be letters, digits, "
                          "'._+-', at most %zu; give another with 'name:'",
                          base, sizeof out->name - 1));
  (void)ptq_text_copy(out->name, sizeof out->name, base);
done:
  ptq_free(base);
  return rc;
}

static ptq_status read_compute(const ptq_spec_source *src,
                               const ptq_yaml_node *node, ptq_spec *out,
                               ptq_err *err) {
  out->compute = PTQ_COMPUTE_F32;
  if (node == NULL || (node->kind == PTQ_YAML_SCALAR &&
                       ptq_compute_parse(node->text, &out->compute)))
    return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "compute must be 'f32' or 'bf16', got '%s'",
                       node->kind == PTQ_YAML_SCALAR ? node->text
                       : node->kind == PTQ_YAML_LIST ? "a list"
                                                     : "a mapping");
}

/* How to run, which changes no result. */
static ptq_status read_run(const ptq_spec_source *src,
                           const ptq_yaml_node *node, ptq_spec *out,
                           ptq_err *err) {
  static const char *const known[] = {"threads", "ranks_per_point", NULL};
  ptq_status rc = PTQ_OK;
  if (node == NULL) return PTQ_OK;
  PTQ_TRY(ptq_spec_check_map(src, node, "run", known, err));
  if (ptq_yaml_get(node, known[0]) != NULL)
    PTQ_TRY(ptq_spec_count(src, node, "run", known[0], 1, PTQ_CREW_MAX,
                           &out->threads, err));
  if (ptq_yaml_get(node, known[1]) != NULL)
    PTQ_TRY(ptq_spec_count(src, node, "run", known[1], 1, PTQ_TEAM_MAX,
                           &out->ranks_per_point, err));
done:
  return rc;
}

static ptq_status read_root(const ptq_spec_source *src,
                            const ptq_yaml_node *root, ptq_spec *out,
                            ptq_err *err) {
  static const char *const known[] = {"name",    "models",  "data",
                                      "grid",    "exclude", "measure",
                                      "compute", "run",     NULL};
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_spec_check_map(src, root, "a sweep file", known, err));
  const ptq_yaml_node *models = NULL, *data = NULL, *grid = NULL;
  PTQ_TRY(ptq_spec_member(src, root, "the sweep file", "models", &models, err));
  PTQ_TRY(ptq_spec_member(src, root, "the sweep file", "data", &data, err));
  PTQ_TRY(ptq_spec_member(src, root, "the sweep file", "grid", &grid, err));
  PTQ_TRY(read_name(src, root, out, err));
  PTQ_TRY(ptq_spec_read_models(src, models, out, err));
  PTQ_TRY(ptq_spec_read_data(src, data, out, err));
  PTQ_TRY(ptq_spec_read_grid(src, grid, out, err));
  PTQ_TRY(ptq_spec_read_excludes(src, ptq_yaml_get(root, "exclude"), out, err));
  PTQ_TRY(ptq_spec_read_measure(src, ptq_yaml_get(root, "measure"), out, err));
  PTQ_TRY(read_compute(src, ptq_yaml_get(root, "compute"), out, err));
  PTQ_TRY(read_run(src, ptq_yaml_get(root, "run"), out, err));
  if (out->landscape.mode != PTQ_LANDSCAPE_OFF &&
      out->compute != PTQ_COMPUTE_F32)
    rc = PTQ_YAML_FAIL(src->path, ptq_yaml_get(root, "measure"), err, PTQ_E_ARG,
                       "the landscape is measured in float32; leave it out of "
                       "a sweep with 'compute: %s'",
                       ptq_compute_name(out->compute));
done:
  return rc;
}

/* The file's text and the overrides as comments, for the store. */
static ptq_status keep_text(ptq_spec *out, const char *text,
                            const char *const *sets, int64_t n_sets,
                            ptq_err *err) {
  ptq_text all = {0};
  ptq_text_add(&all, text);
  if (all.len > 0 && all.buf[all.len - 1] != '\n') ptq_text_add(&all, "\n");
  for (int64_t i = 0; i < n_sets; i++)
    ptq_text_addf(&all, "# --set %s\n", sets[i]);
  if (all.rc != PTQ_OK) {
    ptq_text_release(&all);
    return PTQ_FAIL(err, PTQ_E_NOMEM, "the text of a sweep file");
  }
  out->text = all.buf;
  return PTQ_OK;
}

ptq_status ptq_spec_read(const char *path, const char *const *sets,
                         int64_t n_sets, ptq_spec *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *text = NULL, *dir = NULL;
  size_t size = 0;
  ptq_yaml_node *root = NULL;
  *out = (ptq_spec){0};
  PTQ_TRY(ptq_file_read(path, MAX_FILE, &text, &size, err));
  PTQ_TRY(ptq_yaml_parse(path, text, size, &root, err));
  PTQ_TRY(ptq_strdup(&out->path, path, err));
  PTQ_TRY(keep_text(out, text, sets, n_sets, err));
  out->overridden = n_sets > 0;
  PTQ_TRY(ptq_path_dir(path, &dir, err));
  for (int64_t i = 0; i < n_sets; i++)
    PTQ_TRY(ptq_spec_override(path, root, sets[i], err));
  const ptq_spec_source src = {
      .path = path, .dir = dir, .overridden = n_sets > 0};
  PTQ_TRY(read_root(&src, root, out, err));
done:
  ptq_yaml_free(root);
  ptq_free(dir);
  ptq_free(text);
  if (rc != PTQ_OK) ptq_spec_release(out);
  return rc;
}

static void release_texts(ptq_text_spec *texts, int64_t n) {
  for (int64_t i = 0; texts != NULL && i < n; i++) ptq_free(texts[i].path);
  ptq_free(texts);
}

const ptq_mixture *ptq_spec_mixture(const ptq_spec *s, int64_t dtype) {
  return s->mixtures != NULL ? s->mixtures[dtype] : NULL;
}

void ptq_spec_release(ptq_spec *s) {
  for (int64_t i = 0; s->models != NULL && i < s->n_models; i++)
    ptq_free(s->models[i].path);
  ptq_free(s->models);
  release_texts(s->calibrations, s->n_calibrations);
  release_texts(s->evaluations, s->n_evaluations);
  ptq_free(s->selection.path);
  ptq_free(s->requests.path);
  for (int64_t i = 0; s->mixtures != NULL && i < s->n_dtypes; i++)
    ptq_mixture_free(s->mixtures[i]);
  ptq_free(s->mixtures);
  ptq_free(s->dtypes);
  ptq_free(s->methods);
  ptq_free(s->method_lines);
  ptq_free(s->groups);
  ptq_free(s->landscape.sensitivity);
  ptq_free(s->excludes);
  ptq_free(s->path);
  ptq_free(s->text);
  *s = (ptq_spec){0};
}
