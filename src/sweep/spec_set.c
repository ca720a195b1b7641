/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <stdio.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "spec_parts.h"

/* Everything of a tree is of the command line. */
static void mark(ptq_yaml_node *node) {
  for (; node != NULL; node = node->next) {
    node->line = 0;
    mark(node->child);
  }
}

/* The link that holds the member `key`, or the end of the list. */
static ptq_yaml_node **link_of(ptq_yaml_node *map, const char *key) {
  ptq_yaml_node **at = &map->child;
  while (*at != NULL && strcmp((*at)->key, key) != 0) at = &(*at)->next;
  return at;
}

ptq_status ptq_spec_replace(ptq_yaml_node *map, const char *key,
                            ptq_yaml_node *node, ptq_err *err) {
  ptq_yaml_node **at = link_of(map, key);
  const ptq_status rc = ptq_strdup(&node->key, key, err);
  if (rc != PTQ_OK) {
    ptq_yaml_free(node);
    return rc;
  }
  ptq_yaml_node *old = *at;
  if (old != NULL) {
    node->next = old->next;
    old->next = NULL;
    ptq_yaml_free(old);
  } else {
    map->n_children++;
  }
  *at = node;
  return PTQ_OK;
}

/* The map behind `key`, made when it is absent. */
static ptq_status descend(const char *set, ptq_yaml_node *map, const char *key,
                          ptq_yaml_node **out, ptq_err *err) {
  ptq_yaml_node *member = *link_of(map, key);
  if (member == NULL) {
    ptq_status rc = ptq_alloc(&member, 1, sizeof *member, "a YAML node", err);
    if (rc != PTQ_OK) return rc;
    member->kind = PTQ_YAML_MAP;
    rc = ptq_spec_replace(map, key, member, err);
    if (rc != PTQ_OK) return rc;
  }
  *out = member;
  if (member->kind == PTQ_YAML_MAP) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_ARG,
                  "--set '%s': '%s' is a %s in the sweep file; set it as a "
                  "whole",
                  set, key,
                  member->kind == PTQ_YAML_LIST ? "list" : "single value");
}

ptq_status ptq_spec_override(const char *path, ptq_yaml_node *root,
                             const char *set, ptq_err *err) {
  enum { KEY_MAX = 64 };
  ptq_status rc = PTQ_OK;
  ptq_yaml_node *value = NULL, *map = root;
  const char *equals = strchr(set, '=');
  char name[KEY_MAX * 2];
  if (equals == NULL || equals == set || strchr(set, '\n') != NULL)
    return PTQ_FAIL(err, PTQ_E_ARG,
                    "--set '%s' is not KEY=VALUE, as in grid.group=[32]", set);
  if (root->kind != PTQ_YAML_MAP)
    return PTQ_FAIL(err, PTQ_E_ARG, "%s:%d: a sweep file must be a mapping",
                    path, root->line);
  snprintf(name, sizeof name, "--set %.*s", (int)(equals - set), set);
  PTQ_TRY(ptq_yaml_parse(name, equals + 1, strlen(equals + 1), &value, err));
  mark(value);
  for (const char *at = set; at <= equals;) {
    char key[KEY_MAX];
    const size_t n = strcspn(at, ".=");
    if (n == 0 || n >= sizeof key)
      PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                       "--set '%s': a key between dots is empty or longer "
                       "than %d characters",
                       set, KEY_MAX - 1));
    snprintf(key, sizeof key, "%.*s", (int)n, at);
    at += n + 1;
    if (at <= equals) {
      PTQ_TRY(descend(set, map, key, &map, err));
    } else {
      ptq_yaml_node *handed = value;
      value = NULL;
      PTQ_TRY(ptq_spec_replace(map, key, handed, err));
    }
  }
done:
  ptq_yaml_free(value);
  return rc;
}
