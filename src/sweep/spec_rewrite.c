/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/sweep/rewrite.h"
#include "spec_parts.h"

/* The tree is ours to change. */
static ptq_yaml_node *member(ptq_yaml_node *map, const char *key) {
  ptq_yaml_node *m = map->kind == PTQ_YAML_MAP ? map->child : NULL;
  while (m != NULL && strcmp(m->key, key) != 0) m = m->next;
  return m;
}

static ptq_status make_absolute(const char *dir, ptq_yaml_node *node,
                                ptq_err *err) {
  char *whole = NULL;
  if (node == NULL || node->kind != PTQ_YAML_SCALAR) return PTQ_OK;
  const ptq_status rc = ptq_path_join(dir, node->text, &whole, err);
  if (rc != PTQ_OK) return rc;
  ptq_free(node->text);
  node->text = whole;
  return PTQ_OK;
}

/* A value or the elements of a list, each itself or its member `key`. */
static ptq_status make_all_absolute(const char *dir, ptq_yaml_node *node,
                                    const char *key, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const bool list = node->kind == PTQ_YAML_LIST;
  for (ptq_yaml_node *n = list ? node->child : node; n != NULL && rc == PTQ_OK;
       n = list ? n->next : NULL)
    rc = make_absolute(dir, n->kind == PTQ_YAML_MAP ? member(n, key) : n, err);
  return rc;
}

static ptq_status resolve_paths(const char *dir, ptq_yaml_node *root,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_yaml_node *models = member(root, "models"), *data = member(root, "data");
  if (models != NULL) PTQ_TRY(make_all_absolute(dir, models, "path", err));
  ptq_yaml_node *text = data != NULL ? data->child : NULL;
  for (; text != NULL; text = text->next)
    PTQ_TRY(make_all_absolute(dir, text, "text", err));
done:
  return rc;
}

/* A single value becomes a list of one. */
static ptq_status make_list(ptq_yaml_node *node, ptq_err *err) {
  ptq_yaml_node *one = NULL;
  if (node->kind == PTQ_YAML_LIST) return PTQ_OK;
  const ptq_status rc = ptq_alloc(&one, 1, sizeof *one, "a YAML node", err);
  if (rc != PTQ_OK) return rc;
  *one = *node;
  one->key = NULL;
  one->next = NULL;
  *node = (ptq_yaml_node){.kind = PTQ_YAML_LIST,
                          .line = one->line,
                          .key = node->key,
                          .child = one,
                          .next = node->next,
                          .n_children = 1};
  return PTQ_OK;
}

/* The elements of the list that `yaml` spells, behind those of `list`. */
static ptq_status append(ptq_yaml_node *list, const char *yaml, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_yaml_node *more = NULL;
  PTQ_TRY(make_list(list, err));
  PTQ_TRY(
      ptq_yaml_parse("what is to be added", yaml, strlen(yaml), &more, err));
  ptq_yaml_node **end = &list->child;
  while (*end != NULL) end = &(*end)->next;
  if (more->kind == PTQ_YAML_LIST) {
    *end = more->child;
    list->n_children += more->n_children;
    more->child = NULL;
  }
done:
  ptq_yaml_free(more);
  return rc;
}

static ptq_status evaluate_selection(const char *path, ptq_yaml_node *root,
                                     ptq_err *err) {
  ptq_yaml_node *data = member(root, "data"), *copy = NULL;
  const ptq_yaml_node *select = data != NULL ? member(data, "selection") : NULL;
  if (select == NULL)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "'%s' has no 'selection' text: sensitivities are measured "
                    "on a text that no reported number comes from; give one "
                    "below 'data'",
                    path);
  ptq_status rc = PTQ_OK;
  PTQ_TRY(ptq_yaml_copy(select, &copy, err));
  PTQ_TRY(ptq_spec_replace(data, "evaluation", copy, err));
  /* one calibration is enough for what is only rounded */
  const ptq_yaml_node *calib = member(data, "calibration");
  if (calib != NULL && calib->kind == PTQ_YAML_LIST && calib->child != NULL) {
    PTQ_TRY(ptq_yaml_copy(calib->child, &copy, err));
    PTQ_TRY(ptq_spec_replace(data, "calibration", copy, err));
  }
done:
  return rc;
}

/* The member `key` of the root, made as an empty list where it is absent. */
static ptq_status root_list(const char *path, ptq_yaml_node *root,
                            const char *key, const char *set,
                            ptq_yaml_node **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (member(root, key) == NULL)
    PTQ_TRY(ptq_spec_override(path, root, set, err));
  *out = member(root, key);
done:
  return rc;
}

ptq_status ptq_spec_rewrite(const char *path, const char *text,
                            const ptq_rewrite *change, ptq_text *out,
                            ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_yaml_node *root = NULL, *list = NULL;
  PTQ_TRY(ptq_yaml_parse(path, text, strlen(text), &root, err));
  for (int64_t i = 0; i < change->n_sets; i++)
    PTQ_TRY(ptq_spec_override(path, root, change->sets[i], err));
  if (change->dir != NULL) PTQ_TRY(resolve_paths(change->dir, root, err));
  if (change->selection_evaluates) PTQ_TRY(evaluate_selection(path, root, err));
  ptq_yaml_node *grid = member(root, "grid");
  list = grid != NULL ? member(grid, "dtype") : NULL;
  if (list == NULL)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG, "'%s' has no grid.dtype", path));
  PTQ_TRY(append(list, change->dtypes, err));
  if (change->excludes != NULL) {
    PTQ_TRY(root_list(path, root, "exclude", "exclude=[]", &list, err));
    PTQ_TRY(append(list, change->excludes, err));
  }
  ptq_yaml_write(root, out);
  if (out->rc != PTQ_OK) rc = PTQ_FAIL(err, out->rc, "a sweep file");
done:
  ptq_yaml_free(root);
  return rc;
}
