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
#include "ptq/base/text.h"

typedef enum ptq_yaml_kind {
  PTQ_YAML_SCALAR,
  PTQ_YAML_LIST,
  PTQ_YAML_MAP
} ptq_yaml_kind;

typedef struct ptq_yaml_node ptq_yaml_node;
struct ptq_yaml_node {
  ptq_yaml_kind kind;
  int line;             /* 1-based; 0: given on the command line */
  char *key;            /* owned; NULL unless a member of a map */
  char *text;           /* owned; scalars only */
  bool quoted;          /* scalar was quoted: never a number or null */
  ptq_yaml_node *child; /* owned; first element or member */
  ptq_yaml_node *next;  /* owned; next sibling */
  int64_t n_children;
};

/** Parse the document `text` (UTF-8); `path` only names it in messages, which
 * start with "path:line:". Empty text, duplicate keys, anchors, aliases, tags,
 * several documents, text that is not UTF-8 and nesting deeper than 32 are
 * PTQ_E_FORMAT. Freed with ptq_yaml_free. Rank-local. */
ptq_status ptq_yaml_parse(const char *path, const char *text, size_t size,
                          ptq_yaml_node **out, ptq_err *err);
void ptq_yaml_free(ptq_yaml_node *node);
/** A node with what it holds, without key and siblings; freed with
 * ptq_yaml_free. */
ptq_status ptq_yaml_copy(const ptq_yaml_node *node, ptq_yaml_node **out,
                         ptq_err *err);

/** PTQ_FAIL with "path:line: " (or "path (--set): ") of a node in front. */
#define PTQ_YAML_FAIL(path, node, err, code, ...) \
  ptq_yaml_fail((err), (code), __FILE__, __LINE__, (path), (node), __VA_ARGS__)
#if defined(__GNUC__)
__attribute__((format(printf, 7, 8)))
#endif
ptq_status
ptq_yaml_fail(ptq_err *err, ptq_status code, const char *file, int line,
              const char *path, const ptq_yaml_node *node, const char *fmt,
              ...);

/** Member of a map, NULL if absent; borrowed. */
const ptq_yaml_node *ptq_yaml_get(const ptq_yaml_node *map, const char *key);
/** Scalars with their type checked: decimal integers, finite decimal numbers,
 * true or false. PTQ_E_ARG; messages give path, line and key. */
ptq_status ptq_yaml_int(const char *path, const ptq_yaml_node *n, int64_t *out,
                        ptq_err *err);
ptq_status ptq_yaml_double(const char *path, const ptq_yaml_node *n,
                           double *out, ptq_err *err);
ptq_status ptq_yaml_bool(const char *path, const ptq_yaml_node *n, bool *out,
                         ptq_err *err);

/** Add a scalar, in quotes where it needs them. */
void ptq_yaml_scalar(const char *text, ptq_text *out);
/** Write a tree as a document that reads as the same tree (but for lines):
 * lists and mappings in blocks, those that fit a line without. What cannot be
 * added is in out->rc. */
void ptq_yaml_write(const ptq_yaml_node *root, ptq_text *out);

#endif /* PTQ_BASE_YAML_H */
