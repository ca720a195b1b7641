/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <glob.h>
#include <stdlib.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "spec_parts.h"

/* What a mapping says of the models its path matches. */
typedef struct entry {
  const ptq_yaml_node *node; /* borrowed; of the list */
  const char *pattern;       /* borrowed */
  const char *name;          /* borrowed; NULL: the directory's */
  char family[sizeof((ptq_model_spec *)0)->family];
  char covariates[PTQ_COVARIATES_MAX];
} entry;

/* True when one insertion, deletion, substitution or swap of neighbours makes
 * `a` of `b`: a slip of the hand, not another word. */
static bool one_slip(const char *a, const char *b) {
  while (*a != '\0' && *a == *b) {
    a++;
    b++;
  }
  if (*a == '\0' && *b == '\0') return false; /* equal */
  if (*a != '\0' && strcmp(a + 1, b) == 0) return true;
  if (*b != '\0' && strcmp(a, b + 1) == 0) return true;
  if (*a == '\0' || *b == '\0') return false;
  if (strcmp(a + 1, b + 1) == 0) return true;
  return a[1] != '\0' && a[0] == b[1] && a[1] == b[0] &&
         strcmp(a + 2, b + 2) == 0;
}

static ptq_status check_covariate(const ptq_spec_source *src,
                                  const ptq_yaml_node *m, ptq_err *err) {
  static const char letters[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
  static const char *const own[] = {"path", "name", "family", "holdout"};
  for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
    if (one_slip(m->key, own[i]))
      return PTQ_YAML_FAIL(src->path, m, err, PTQ_E_ARG,
                           "unknown key '%s' of a model, did you mean '%s'? "
                           "(a covariate needs a name less like it)",
                           m->key, own[i]);
  if (m->key[0] == '\0' || strspn(m->key, letters) != strlen(m->key))
    return PTQ_YAML_FAIL(src->path, m, err, PTQ_E_ARG,
                         "covariate '%s' must be named with letters, digits "
                         "and '_'",
                         m->key);
  const ptq_status rc = ptq_spec_check_scalar(src, m, m->key, err);
  if (rc != PTQ_OK) return rc;
  if (strpbrk(m->text, ",=\n\r\t\"") != NULL)
    return PTQ_YAML_FAIL(src->path, m, err, PTQ_E_ARG,
                         "covariate '%s' must be free of commas, '=', quotes "
                         "and line breaks, got '%s'",
                         m->key, m->text);
  if (strcmp(m->key, "holdout") == 0 && strcmp(m->text, "true") != 0 &&
      strcmp(m->text, "false") != 0)
    return PTQ_YAML_FAIL(src->path, m, err, PTQ_E_ARG,
                         "'holdout' of a model is true (predicted, never "
                         "learned from) or false, got '%s'",
                         m->text);
  if (strcmp(m->key, "run") == 0 &&
      !ptq_spec_is_name(m->text, PTQ_MODEL_NAME_MAX))
    return PTQ_YAML_FAIL(src->path, m, err, PTQ_E_ARG,
                         "the training run '%s' of a model must be letters, "
                         "digits, '._+-', at most %d",
                         m->text, PTQ_MODEL_NAME_MAX - 1);
  return PTQ_OK;
}

static bool is_own_key(const char *key) {
  return strcmp(key, "path") == 0 || strcmp(key, "name") == 0 ||
         strcmp(key, "family") == 0;
}

/* The covariate that follows `after` in order of keys; NULL at the end. */
static const ptq_yaml_node *next_covariate(const ptq_yaml_node *map,
                                           const char *after) {
  const ptq_yaml_node *best = NULL;
  for (const ptq_yaml_node *m = map->child; m != NULL; m = m->next) {
    if (is_own_key(m->key) || (after != NULL && strcmp(m->key, after) <= 0))
      continue;
    if (best == NULL || strcmp(m->key, best->key) < 0) best = m;
  }
  return best;
}

static ptq_status read_covariates(const ptq_spec_source *src,
                                  const ptq_yaml_node *map, entry *e,
                                  ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_text text = {0};
  const ptq_yaml_node *m = NULL;
  while ((m = next_covariate(map, m != NULL ? m->key : NULL)) != NULL) {
    PTQ_TRY(check_covariate(src, m, err));
    ptq_text_addf(&text, "%s%s=%s", text.len > 0 ? "," : "", m->key, m->text);
  }
  if (text.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "covariates"));
  if (!ptq_text_copy(e->covariates, sizeof e->covariates, ptq_text_str(&text)))
    PTQ_TRY(PTQ_YAML_FAIL(src->path, map, err, PTQ_E_ARG,
                          "the covariates of a model take %zu characters, at "
                          "most %d fit; shorten them",
                          text.len, PTQ_COVARIATES_MAX - 1));
done:
  ptq_text_release(&text);
  return rc;
}

static ptq_status read_entry(const ptq_spec_source *src,
                             const ptq_yaml_node *node, entry *e,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *path = node;
  *e = (entry){.node = node};
  if (node->kind == PTQ_YAML_MAP) {
    PTQ_TRY(ptq_spec_member(src, node, "a model", "path", &path, err));
    const ptq_yaml_node *name = ptq_yaml_get(node, "name");
    const ptq_yaml_node *family = ptq_yaml_get(node, "family");
    if (name != NULL) {
      PTQ_TRY(ptq_spec_check_scalar(src, name, "name", err));
      e->name = name->text;
    }
    if (family != NULL) {
      PTQ_TRY(ptq_spec_check_scalar(src, family, "family", err));
      if (!ptq_spec_is_name(family->text, sizeof e->family))
        PTQ_TRY(PTQ_YAML_FAIL(src->path, family, err, PTQ_E_ARG,
                              "family '%s' must be letters, digits, '._+-', "
                              "at most %zu",
                              family->text, sizeof e->family - 1));
      (void)ptq_text_copy(e->family, sizeof e->family, family->text);
    }
    PTQ_TRY(read_covariates(src, node, e, err));
  }
  PTQ_TRY(ptq_spec_check_scalar(src, path, "a model's path", err));
  e->pattern = path->text;
done:
  return rc;
}

/* Append one model; `path` is copied. */
static ptq_status add_model(const ptq_spec_source *src, const entry *e,
                            const char *path, ptq_spec *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *base = NULL;
  PTQ_TRY(ptq_path_base(path, &base, err));
  const char *name = e->name != NULL ? e->name : base;
  if (!ptq_spec_is_name(name, PTQ_MODEL_NAME_MAX))
    PTQ_TRY(PTQ_YAML_FAIL(src->path, e->node, err, PTQ_E_ARG,
                          "model name '%s' must be letters, digits, '._+-', "
                          "at most %d; give one: {path: %s, name: ...}",
                          name, PTQ_MODEL_NAME_MAX - 1, e->pattern));
  for (int64_t i = 0; i < out->n_models; i++) {
    const ptq_model_spec *twin = &out->models[i];
    if (strcmp(twin->name, name) != 0) continue;
    PTQ_TRY(PTQ_YAML_FAIL(src->path, e->node, err, PTQ_E_ARG,
                          "two models are named '%s': '%s' and '%s'; list it "
                          "once, or give one a name: {path: ..., name: ...}",
                          name, twin->path, path));
  }
  PTQ_TRY(ptq_grow(&out->models, out->n_models, out->n_models + 1,
                   sizeof *out->models, "the models", err));
  ptq_model_spec *m = &out->models[out->n_models];
  PTQ_TRY(ptq_strdup(&m->path, path, err));
  (void)ptq_text_copy(m->name, sizeof m->name, name);
  (void)ptq_text_copy(m->family, sizeof m->family, e->family);
  (void)ptq_text_copy(m->covariates, sizeof m->covariates, e->covariates);
  m->line = e->node->line;
  out->n_models++;
done:
  ptq_free(base);
  return rc;
}

/* `dir/pattern` where wildcards of `dir` stand for themselves. */
static ptq_status full_pattern(const ptq_spec_source *src, const char *pattern,
                               char **out, ptq_err *err) {
  ptq_text t = {0};
  *out = NULL;
  for (const char *c = src->dir; pattern[0] != '/' && *c != '\0'; c++)
    ptq_text_addf(&t, "%s%c", strchr("*?[]\\", *c) != NULL ? "\\" : "", *c);
  ptq_text_addf(&t, "%s%s", pattern[0] != '/' ? "/" : "", pattern);
  if (t.rc != PTQ_OK) {
    ptq_text_release(&t);
    return PTQ_FAIL(err, PTQ_E_NOMEM, "a path");
  }
  *out = t.buf;
  return PTQ_OK;
}

static int by_text(const void *a, const void *b) {
  return strcmp(*(char *const *)a, *(char *const *)b);
}

static ptq_status expand(const ptq_spec_source *src, const entry *e,
                         ptq_spec *out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  glob_t found = {0};
  char *pattern = NULL;
  int64_t n = 0;
  PTQ_TRY(full_pattern(src, e->pattern, &pattern, err));
  const int status =
      ptq_fault() ? GLOB_NOSPACE : glob(pattern, GLOB_NOSORT, NULL, &found);
  if (status == GLOB_NOSPACE)
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "matching '%s'", pattern));
  /* In order of bytes, whatever the locale. */
  if (status == 0)
    qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, by_text);
  for (size_t i = 0; status == 0 && i < found.gl_pathc; i++) {
    if (!ptq_path_is_dir(found.gl_pathv[i])) continue;
    PTQ_TRY(add_model(src, e, found.gl_pathv[i], out, err));
    if (++n > 1 && e->name != NULL)
      PTQ_TRY(PTQ_YAML_FAIL(src->path, e->node, err, PTQ_E_ARG,
                            "'%s' matches several models, which cannot all "
                            "be named '%s'",
                            e->pattern, e->name));
  }
  if (n == 0)
    PTQ_TRY(PTQ_YAML_FAIL(src->path, e->node, err, PTQ_E_ARG,
                          "no model directory matches '%s' (relative paths "
                          "start from '%s')",
                          e->pattern, src->dir));
done:
  globfree(&found);
  ptq_free(pattern);
  return rc;
}

ptq_status ptq_spec_read_models(const ptq_spec_source *src,
                                const ptq_yaml_node *node, ptq_spec *out,
                                ptq_err *err) {
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *item = NULL;
  int64_t n = 0;
  PTQ_TRY(ptq_spec_items(src, node, "models", &item, &n, err));
  for (int64_t i = 0; i < n; i++, item = item->next) {
    entry e;
    PTQ_TRY(read_entry(src, item, &e, err));
    PTQ_TRY(expand(src, &e, out, err));
  }
done:
  return rc;
}
