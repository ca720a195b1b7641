/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file yaml.h
 * A YAML document as a tree of nodes that know their line (libyaml).
 */
#ifndef PTQ_BASE_YAML_H
#define PTQ_BASE_YAML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ptq/base/status.h"

typedef enum ptq_yaml_kind {
  PTQ_YAML_SCALAR,
  PTQ_YAML_LIST,
  PTQ_YAML_MAP
} ptq_yaml_kind;

typedef struct ptq_yaml_node ptq_yaml_node;
struct ptq_yaml_node {
  ptq_yaml_kind kind;
  int line;               /* 1-based */
  char *key;              /* owned; NULL unless a member of a map */
  char *text;             /* owned; scalars only */
  bool quoted;            /* scalar was quoted: never a number or null */
  ptq_yaml_node *child;   /* owned; first element or member */
  ptq_yaml_node *next;    /* owned; next sibling */
  int64_t n_children;
};

/** Parse the first document of `text`; `path` only names it in messages.
 * Duplicate keys, aliases and several documents are refused. Depth is
 * bounded. Freed with ptq_yaml_free. */
ptq_status ptq_yaml_parse(const char *path, const char *text, size_t size,
                          ptq_yaml_node **out, ptq_err *err);
void ptq_yaml_free(ptq_yaml_node *node);

/** Member of a map, NULL if absent; borrowed. */
const ptq_yaml_node *ptq_yaml_get(const ptq_yaml_node *map, const char *key);
/** Scalars with their type checked; messages give path, line and key. */
ptq_status ptq_yaml_int(const char *path, const ptq_yaml_node *n, int64_t *out,
                        ptq_err *err);
ptq_status ptq_yaml_double(const char *path, const ptq_yaml_node *n,
                           double *out, ptq_err *err);
ptq_status ptq_yaml_bool(const char *path, const ptq_yaml_node *n, bool *out,
                         ptq_err *err);

#endif /* PTQ_BASE_YAML_H */
