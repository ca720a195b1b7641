/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <fnmatch.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "spec_parts.h"

/* An exclusion that can match nothing is a slip of the hand, unless the
 * command line took away what it was about. */
static ptq_status matches_nothing(const ptq_spec_source *src,
                                  const ptq_yaml_node *node, const char *what,
                                  const char *value, ptq_err *err) {
  if (src->overridden) return PTQ_OK;
  return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                       "this exclusion matches nothing: no %s '%s' in the "
                       "sweep",
                       what, value);
}

static ptq_status read_model(const ptq_spec_source *src,
                             const ptq_yaml_node *node, const ptq_spec *spec,
                             ptq_exclude *out, ptq_err *err) {
  const ptq_status rc = ptq_spec_check_scalar(src, node, "model", err);
  if (rc != PTQ_OK) return rc;
  if (!ptq_text_copy(out->model, sizeof out->model, node->text))
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "model '%s' is longer than a name can be", node->text);
  for (int64_t i = 0; i < spec->n_models; i++)
    if (fnmatch(out->model, spec->models[i].name, 0) == 0) return PTQ_OK;
  return matches_nothing(src, node, "model", node->text, err);
}

/* "mixed:NAME", with its hash or without. */
static ptq_status read_mixture(const ptq_spec_source *src,
                               const ptq_yaml_node *node, const ptq_spec *spec,
                               ptq_exclude *out, ptq_err *err) {
  if (!ptq_text_copy(out->dtype, sizeof out->dtype, node->text))
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "'%s' is longer than a mixture's name can be",
                         node->text);
  for (int64_t i = 0; i < spec->n_dtypes; i++)
    if (ptq_mixture_is_called(spec->dtypes[i].name, node->text)) return PTQ_OK;
  return matches_nothing(src, node, "mixture", node->text, err);
}

static ptq_status read_dtype(const ptq_spec_source *src,
                             const ptq_yaml_node *node, const ptq_spec *spec,
                             ptq_exclude *out, ptq_err *err) {
  ptq_dtype dt;
  ptq_err why = {0};
  const ptq_status rc = ptq_spec_check_scalar(src, node, "dtype", err);
  if (rc != PTQ_OK) return rc;
  if (strncmp(node->text, PTQ_MIXTURE_PREFIX, sizeof PTQ_MIXTURE_PREFIX - 1) ==
      0)
    return read_mixture(src, node, spec, out, err);
  if (ptq_dtype_parse(node->text, &dt, &why) != PTQ_OK)
    return PTQ_YAML_FAIL(src->path, node, err, why.code, "%s", why.msg);
  (void)ptq_text_copy(out->dtype, sizeof out->dtype, dt.name);
  for (int64_t i = 0; i < spec->n_dtypes; i++)
    if (strcmp(dt.name, spec->dtypes[i].name) == 0) return PTQ_OK;
  return matches_nothing(src, node, "dtype", dt.name, err);
}

static ptq_status read_method(const ptq_spec_source *src,
                              const ptq_yaml_node *node, const ptq_spec *spec,
                              ptq_exclude *out, ptq_err *err) {
  ptq_method m;
  const ptq_status rc = ptq_spec_read_method(src, node, &m, err);
  if (rc != PTQ_OK) return rc;
  out->has_options = node->kind == PTQ_YAML_MAP;
  (void)ptq_text_copy(out->method, sizeof out->method, m.name);
  (void)ptq_text_copy(out->options, sizeof out->options, m.options);
  for (int64_t i = 0; i < spec->n_methods; i++)
    if (strcmp(m.name, spec->methods[i].name) == 0 &&
        (!out->has_options || strcmp(m.options, spec->methods[i].options) == 0))
      return PTQ_OK;
  return matches_nothing(src, node, "method", m.name, err);
}

static ptq_status read_group(const ptq_spec_source *src,
                             const ptq_yaml_node *node, const ptq_spec *spec,
                             ptq_exclude *out, ptq_err *err) {
  const ptq_status rc = ptq_spec_read_group(src, node, &out->group, err);
  if (rc != PTQ_OK) return rc;
  out->has_group = true;
  /* A number may become a row on a narrow model: 'row' always may match. */
  if (out->group == PTQ_GROUP_ROW) return PTQ_OK;
  for (int64_t i = 0; i < spec->n_groups; i++)
    if (spec->groups[i] == out->group) return PTQ_OK;
  return matches_nothing(src, node, "group", node->text, err);
}

static ptq_status read_exclude(const ptq_spec_source *src,
                               const ptq_yaml_node *node, const ptq_spec *spec,
                               ptq_exclude *out, ptq_err *err) {
  static const char *const known[] = {"model", "dtype", "method", "group",
                                      NULL};
  ptq_status rc = PTQ_OK;
  *out = (ptq_exclude){.line = node->line};
  PTQ_TRY(ptq_spec_check_map(src, node, "an exclusion", known, err));
  if (node->n_children == 0)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                          "an empty exclusion would remove everything"));
  const ptq_yaml_node *model = ptq_yaml_get(node, "model");
  const ptq_yaml_node *dtype = ptq_yaml_get(node, "dtype");
  const ptq_yaml_node *method = ptq_yaml_get(node, "method");
  const ptq_yaml_node *group = ptq_yaml_get(node, "group");
  if (model != NULL) PTQ_TRY(read_model(src, model, spec, out, err));
  if (dtype != NULL) PTQ_TRY(read_dtype(src, dtype, spec, out, err));
  if (method != NULL) PTQ_TRY(read_method(src, method, spec, out, err));
  if (group != NULL) PTQ_TRY(read_group(src, group, spec, out, err));
done:
  return rc;
}

ptq_status ptq_spec_read_excludes(const ptq_spec_source *src,
                                  const ptq_yaml_node *node, ptq_spec *out,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (node == NULL) return PTQ_OK;
  if (node->kind != PTQ_YAML_LIST)
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "'exclude' must be a list of mappings, as in "
                         "[{dtype: mxint2, method: gptq}]");
  PTQ_TRY(ptq_alloc(&out->excludes, node->n_children, sizeof *out->excludes,
                    "exclusions", err));
  for (const ptq_yaml_node *m = node->child; m != NULL; m = m->next) {
    PTQ_TRY(read_exclude(src, m, out, &out->excludes[out->n_excludes], err));
    out->n_excludes++;
  }
done:
  return rc;
}
