/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "spec_parts.h"

enum { MAX_GROUP = 1 << 30, MAX_OPTIONS = 16 };

/* Passes on why a spelling was refused, with its place in front. */
static ptq_status refused(const ptq_spec_source *src, const ptq_yaml_node *node,
                          const ptq_err *why, ptq_err *err) {
  return PTQ_YAML_FAIL(src->path, node, err, why->code, "%s", why->msg);
}

static ptq_status twice(const ptq_spec_source *src, const ptq_yaml_node *node,
                        const char *what, const char *name, ptq_err *err) {
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "%s '%s' is listed twice", what, name);
}

/* A spelling, or a mapping that mixes several. */
static ptq_status read_dtype(const ptq_spec_source *src,
                             const ptq_yaml_node *item, ptq_spec *out,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_err why = {0};
  ptq_dtype *dt = &out->dtypes[out->n_dtypes];
  ptq_mixture **m = &out->mixtures[out->n_dtypes];
  if (item->kind == PTQ_YAML_MAP) {
    PTQ_TRY(ptq_spec_read_mixture(src, item, out, m, err));
    (void)ptq_text_copy(dt->name, sizeof dt->name, (*m)->name);
    return PTQ_OK;
  }
  PTQ_TRY(ptq_spec_check_scalar(src, item, "a dtype", err));
  if (ptq_dtype_parse(item->text, dt, &why) != PTQ_OK)
    PTQ_TRY(refused(src, item, &why, err));
done:
  return rc;
}

static ptq_status read_dtypes(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_spec *out,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "dtype", &item, &n, err));
  PTQ_TRY(ptq_alloc(&out->dtypes, n, sizeof *out->dtypes, "dtypes", err));
  PTQ_TRY(ptq_alloc(&out->mixtures, n, sizeof *out->mixtures, "dtypes", err));
  for (; out->n_dtypes < n; item = item->next) {
    const char *name = out->dtypes[out->n_dtypes].name;
    PTQ_TRY(read_dtype(src, item, out, err));
    out->n_dtypes++;
    /* the same mixture may stand there for several models */
    const bool mixed = out->mixtures[out->n_dtypes - 1] != NULL;
    for (int64_t i = 0; i + 1 < out->n_dtypes && !mixed; i++)
      if (strcmp(out->dtypes[i].name, name) == 0)
        PTQ_TRY(twice(src, item, "dtype", name, err));
  }
done:
  return rc;
}

ptq_status ptq_spec_read_method(const ptq_spec_source *src,
                                const ptq_yaml_node *node, ptq_method *out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_err why = {0};
  ptq_method_option options[MAX_OPTIONS];
  size_t n = 0;
  const ptq_yaml_node *name = node;
  if (node->kind == PTQ_YAML_MAP)
    PTQ_TRY(ptq_spec_member(src, node, "a method", "name", &name, err));
  PTQ_TRY(ptq_spec_check_scalar(src, name, "a method", err));
  const ptq_yaml_node *m = node->kind == PTQ_YAML_MAP ? node->child : NULL;
  for (; m != NULL; m = m->next) {
    if (m == name) continue;
    PTQ_TRY(ptq_spec_check_scalar(src, m, m->key, err));
    if (n == MAX_OPTIONS)
      PTQ_TRY(PTQ_YAML_FAIL(src->path, m, err, PTQ_E_ARG,
                            "method '%s' has more than %d options", name->text,
                            MAX_OPTIONS));
    options[n++] = (ptq_method_option){.key = m->key, .value = m->text};
  }
  if (ptq_method_parse(name->text, options, n, out, &why) != PTQ_OK)
    PTQ_TRY(refused(src, node, &why, err));
done:
  return rc;
}

static ptq_status read_methods(const ptq_spec_source *src,
                               const ptq_yaml_node *node, ptq_spec *out,
                               ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "method", &item, &n, err));
  PTQ_TRY(ptq_alloc(&out->methods, n, sizeof *out->methods, "methods", err));
  PTQ_TRY(ptq_alloc(&out->method_lines, n, sizeof *out->method_lines, "methods",
                    err));
  for (; out->n_methods < n; item = item->next) {
    ptq_method *m = &out->methods[out->n_methods];
    PTQ_TRY(ptq_spec_read_method(src, item, m, err));
    out->method_lines[out->n_methods] = item->line;
    for (int64_t i = 0; i < out->n_methods; i++)
      if (strcmp(out->methods[i].name, m->name) == 0 &&
          strcmp(out->methods[i].options, m->options) == 0)
        PTQ_TRY(twice(src, item, "method", m->name, err));
    out->n_methods++;
  }
done:
  return rc;
}

ptq_status ptq_spec_read_group(const ptq_spec_source *src,
                               const ptq_yaml_node *node, int64_t *out,
                               ptq_err *err) {
  const bool scalar = node->kind == PTQ_YAML_SCALAR;
  const char *text = scalar ? node->text : "";
  if (strcmp(text, "row") == 0) {
    *out = PTQ_GROUP_ROW;
    return PTQ_OK;
  }
  if (strcmp(text, "tensor") == 0) {
    *out = PTQ_GROUP_TENSOR;
    return PTQ_OK;
  }
  if (ptq_yaml_int(src->path, node, out, NULL) == PTQ_OK && *out > 0 &&
      *out <= MAX_GROUP)
    return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "a group is a number of weights above 0, 'row' or "
                       "'tensor', got %s%s%s",
                       scalar ? "'" : "a list or mapping", text,
                       scalar ? "'" : "");
}

static ptq_status read_groups(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_spec *out,
                              ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "group", &item, &n, err));
  PTQ_TRY(ptq_alloc(&out->groups, n, sizeof *out->groups, "groups", err));
  for (; out->n_groups < n; item = item->next) {
    int64_t *group = &out->groups[out->n_groups];
    PTQ_TRY(ptq_spec_read_group(src, item, group, err));
    for (int64_t i = 0; i < out->n_groups; i++)
      if (out->groups[i] == *group)
        PTQ_TRY(twice(src, item, "group", item->text, err));
    out->n_groups++;
  }
done:
  return rc;
}

ptq_status ptq_spec_read_grid(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_spec *out,
                              ptq_err *err) {
  static const char *const known[] = {"dtype", "method", "group", NULL};
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *dtype = NULL, *method = NULL, *group = NULL;
  PTQ_TRY(ptq_spec_check_map(src, node, "grid", known, err));
  PTQ_TRY(ptq_spec_member(src, node, "grid", "dtype", &dtype, err));
  PTQ_TRY(ptq_spec_member(src, node, "grid", "method", &method, err));
  PTQ_TRY(ptq_spec_member(src, node, "grid", "group", &group, err));
  PTQ_TRY(read_dtypes(src, dtype, out, err));
  PTQ_TRY(read_methods(src, method, out, err));
  PTQ_TRY(read_groups(src, group, out, err));
done:
  return rc;
}
