/* SPDX-License-Identifier: GPL-3.0-or-later */
/* Mixtures of formats: entries of grid.dtype that are mappings. */
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "ptq/base/hash.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "ptq/sweep/grid.h"
#include "spec_parts.h"

/* "mixed:", a dash and eight digits of the hash. */
enum { AROUND_NAME = (int)sizeof PTQ_MIXTURE_PREFIX - 1 + 9 };

/* A spelling, or {dtype: ..., group: ...}. */
static ptq_status read_format(const ptq_spec_source *src,
                              const ptq_yaml_node *node, const char *what,
                              ptq_layer_format *out, ptq_err *err) {
  static const char *const known[] = {"dtype", "group", NULL};
  ptq_status rc = PTQ_OK;
  ptq_err why = {0};
  const ptq_yaml_node *dtype = node;
  if (node->kind == PTQ_YAML_MAP) {
    PTQ_TRY(ptq_spec_check_map(src, node, what, known, err));
    PTQ_TRY(ptq_spec_member(src, node, what, "dtype", &dtype, err));
    const ptq_yaml_node *group = ptq_yaml_get(node, "group");
    out->has_group = group != NULL;
    if (group != NULL)
      PTQ_TRY(ptq_spec_read_group(src, group, &out->group, err));
  }
  PTQ_TRY(ptq_spec_check_scalar(src, dtype, what, err));
  if (ptq_dtype_parse(dtype->text, &out->dtype, &why) != PTQ_OK)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, dtype, err, why.code, "%s: %s", what,
                          why.msg));
done:
  return rc;
}

static ptq_status read_rules(const ptq_spec_source *src,
                             const ptq_yaml_node *node, ptq_mixture *m,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  if (node->kind != PTQ_YAML_MAP || node->n_children == 0)
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "'layers' must be a mapping of layer names to "
                         "formats, as in {\"*.down_proj\": int4}");
  PTQ_TRY(ptq_alloc(&m->rules, node->n_children, sizeof *m->rules,
                    "rules of a mixture", err));
  for (const ptq_yaml_node *c = node->child; c != NULL; c = c->next) {
    ptq_mixture_rule *r = &m->rules[m->n_rules];
    r->line = c->line;
    if (c->key[0] == '\0')
      PTQ_TRY(PTQ_YAML_FAIL(src->path, c, err, PTQ_E_ARG,
                            "an empty pattern names no layer"));
    PTQ_TRY(ptq_strdup(&r->pattern, c->key, err));
    m->n_rules++;
    PTQ_TRY(read_format(src, c, c->key, &r->format, err));
  }
done:
  return rc;
}

static ptq_status read_models(const ptq_spec_source *src,
                              const ptq_yaml_node *node, const ptq_spec *spec,
                              ptq_mixture *m, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  const char *names[64];
  size_t n_names = 0;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "models", &item, &n, err));
  PTQ_TRY(ptq_alloc(&m->models, n, sizeof *m->models, "models", err));
  for (; n_names < 64 && n_names < (size_t)spec->n_models; n_names++)
    names[n_names] = spec->models[n_names].name;
  for (; m->n_models < n; item = item->next) {
    bool found = false;
    PTQ_TRY(ptq_spec_check_scalar(src, item, "a model", err));
    PTQ_TRY(ptq_strdup(&m->models[m->n_models], item->text, err));
    m->n_models++;
    for (int64_t i = 0; i < spec->n_models && !found; i++)
      found = fnmatch(item->text, spec->models[i].name, 0) == 0;
    const char *near = ptq_text_nearest(item->text, names, n_names);
    if (!found && !src->overridden)
      PTQ_TRY(PTQ_YAML_FAIL(
          src->path, item, err, PTQ_E_ARG, "no model '%s' in the sweep%s%s%s",
          item->text, near != NULL ? ", did you mean '" : "",
          near != NULL ? near : "", near != NULL ? "'?" : ""));
  }
done:
  return rc;
}

/* dnll as it was predicted, or [it, low, high]: for the report, which finds it
 * in the store's copy of the sweep file. */
static ptq_status check_predicted(const ptq_spec_source *src,
                                  const ptq_yaml_node *node, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "predicted", &item, &n, err));
  if (n != 1 && n != 3)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                          "'predicted' is a loss in nats, or [loss, low, "
                          "high]"));
  for (double v = 0.0; n > 0; n--, item = item->next) {
    PTQ_TRY(ptq_yaml_double(src->path, item, &v, err));
    if (!(v > 0.0))
      PTQ_TRY(PTQ_YAML_FAIL(src->path, item, err, PTQ_E_ARG,
                            "a predicted loss is above 0 nats, got %g", v));
  }
done:
  return rc;
}

static void add_format(ptq_text *text, const ptq_layer_format *f) {
  char group[24] = "-";
  if (f->has_group) ptq_group_name(f->group, group);
  ptq_text_addf(text, "%s %s\n", f->dtype.name, group);
}

ptq_status ptq_mixture_check_name(const char *name, ptq_err *err) {
  const size_t size = PTQ_DTYPE_NAME_MAX - AROUND_NAME;
  if (ptq_spec_is_name(name, size)) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "a mixture's name '%s' must be letters, digits, '._+-', at "
                  "most %zu",
                  name, size - 1);
}

/* The name with a hash of the formats behind it: who edits them has another
 * mixture. */
static ptq_status set_name(const ptq_spec_source *src,
                           const ptq_yaml_node *node, ptq_mixture *m,
                           ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_err why = {0};
  ptq_text text = {0};
  PTQ_TRY(ptq_spec_check_scalar(src, node, "mixed", err));
  if (ptq_mixture_check_name(node->text, &why) != PTQ_OK)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG, "%s", why.msg));
  add_format(&text, &m->fallback);
  for (int64_t i = 0; i < m->n_rules; i++) {
    ptq_text_addf(&text, "%s\n", m->rules[i].pattern);
    add_format(&text, &m->rules[i].format);
  }
  if (text.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, text.rc, "a mixture's formats"));
  const uint64_t hash = ptq_hash64(text.buf, text.len);
  (void)snprintf(m->name, sizeof m->name, PTQ_MIXTURE_PREFIX "%.*s-%08" PRIx32,
                 (int)sizeof m->name - AROUND_NAME - 1, node->text,
                 (uint32_t)(hash >> 32));
done:
  ptq_text_release(&text);
  return rc;
}

ptq_status ptq_spec_read_mixture(const ptq_spec_source *src,
                                 const ptq_yaml_node *node,
                                 const ptq_spec *spec, ptq_mixture **out,
                                 ptq_err *err) {
  static const char *const known[] = {"mixed",  "default",   "layers",
                                      "models", "predicted", NULL};
  ptq_status rc = PTQ_OK;
  ptq_mixture *m = NULL;
  const ptq_yaml_node *name = NULL, *fallback = NULL, *layers = NULL;
  *out = NULL;
  PTQ_TRY(ptq_spec_check_map(src, node, "a mixture", known, err));
  PTQ_TRY(ptq_spec_member(src, node, "a mixture", "mixed", &name, err));
  PTQ_TRY(ptq_spec_member(src, node, "a mixture", "default", &fallback, err));
  PTQ_TRY(ptq_spec_member(src, node, "a mixture", "layers", &layers, err));
  PTQ_TRY(ptq_alloc(&m, 1, sizeof *m, "a mixture", err));
  m->line = node->line;
  PTQ_TRY(read_format(src, fallback, "default", &m->fallback, err));
  PTQ_TRY(read_rules(src, layers, m, err));
  if (ptq_yaml_get(node, "models") != NULL)
    PTQ_TRY(read_models(src, ptq_yaml_get(node, "models"), spec, m, err));
  if (ptq_yaml_get(node, "predicted") != NULL)
    PTQ_TRY(check_predicted(src, ptq_yaml_get(node, "predicted"), err));
  PTQ_TRY(set_name(src, name, m, err));
  *out = m;
  m = NULL;
done:
  ptq_mixture_free(m);
  return rc;
}
