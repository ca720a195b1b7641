/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "ptq/base/yaml.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "ptq/base/mem.h"

enum { MAX_DEPTH = 32 };

typedef struct reader {
  yaml_parser_t parser;
  const char *path; /* borrowed */
  const char *text; /* borrowed */
  size_t size;
} reader;

ptq_status ptq_yaml_fail(ptq_err *err, ptq_status code, const char *file,
                         int line, const char *path, const ptq_yaml_node *node,
                         const char *fmt, ...) {
  char msg[sizeof err->msg];
  va_list args;
  va_start(args, fmt);
  vsnprintf(msg, sizeof msg, fmt, args);
  va_end(args);
  if (node == NULL || node->line == 0)
    return ptq_err_set(err, code, file, line, "%s (--set): %s", path, msg);
  return ptq_err_set(err, code, file, line, "%s:%d: %s", path, node->line, msg);
}

/* What libyaml did not like, where. */
static ptq_status parser_failed(const reader *r, ptq_err *err) {
  const yaml_parser_t *p = &r->parser;
  const char *problem = p->problem != NULL ? p->problem : "unreadable";
  if (p->error == YAML_MEMORY_ERROR)
    return PTQ_FAIL(err, PTQ_E_NOMEM, "parsing '%s'", r->path);
  if (p->error == YAML_READER_ERROR) {
    /* The reader runs ahead of the marks: count lines up to its offset. */
    int line = 1;
    for (size_t i = 0; i < p->problem_offset && i < r->size; i++)
      line += r->text[i] == '\n';
    return PTQ_FAIL(err, PTQ_E_FORMAT,
                    "%s:%d: not UTF-8 text: %s at byte %zu; save the file as "
                    "UTF-8",
                    r->path, line, problem, p->problem_offset);
  }
  return PTQ_FAIL(err, PTQ_E_FORMAT, "%s:%zu: %s%s%s", r->path,
                  p->problem_mark.line + 1, problem,
                  p->context != NULL ? " " : "",
                  p->context != NULL ? p->context : "");
}

static ptq_status next_event(reader *r, yaml_event_t *event, ptq_err *err) {
  if (ptq_fault()) return PTQ_FAIL(err, PTQ_E_NOMEM, "parsing '%s'", r->path);
  if (!yaml_parser_parse(&r->parser, event)) return parser_failed(r, err);
  return PTQ_OK;
}

static int line_of(const yaml_event_t *event) {
  return (int)event->start_mark.line + 1;
}

static ptq_status refuse(const reader *r, const yaml_event_t *event,
                         const char *what, ptq_err *err) {
  return PTQ_FAIL(err, PTQ_E_FORMAT, "%s:%d: %s", r->path, line_of(event),
                  what);
}

/* Refuses what a sweep file has no use for. */
static ptq_status check_plain(const reader *r, const yaml_event_t *event,
                              ptq_err *err) {
  const yaml_char_t *anchor = NULL, *tag = NULL;
  switch (event->type) {
    case YAML_ALIAS_EVENT:
      return refuse(r, event,
                    "aliases (*name) are not supported; write the "
                    "value out",
                    err);
    case YAML_SCALAR_EVENT:
      anchor = event->data.scalar.anchor;
      tag = event->data.scalar.tag;
      break;
    case YAML_SEQUENCE_START_EVENT:
      anchor = event->data.sequence_start.anchor;
      tag = event->data.sequence_start.tag;
      break;
    case YAML_MAPPING_START_EVENT:
      anchor = event->data.mapping_start.anchor;
      tag = event->data.mapping_start.tag;
      break;
    default:
      break;
  }
  if (anchor != NULL)
    return refuse(r, event,
                  "anchors (&name) are not supported; write the "
                  "value out",
                  err);
  if (tag != NULL)
    return refuse(r, event, "tags (!name) are not supported; remove it", err);
  return PTQ_OK;
}

static ptq_status copy_scalar(const reader *r, const yaml_event_t *event,
                              char **out, ptq_err *err) {
  const char *value = (const char *)event->data.scalar.value;
  if (strlen(value) != event->data.scalar.length)
    return refuse(r, event, "a text contains a NUL character", err);
  return ptq_strdup(out, value, err);
}

static ptq_status parse_node(reader *r, const yaml_event_t *event, int depth,
                             ptq_yaml_node **out, ptq_err *err);

static void append(ptq_yaml_node *parent, ptq_yaml_node ***tail,
                   ptq_yaml_node *node) {
  **tail = node;
  *tail = &node->next;
  parent->n_children++;
}

static ptq_status parse_list(reader *r, int depth, ptq_yaml_node *list,
                             ptq_err *err) {
  ptq_yaml_node **tail = &list->child;
  for (;;) {
    yaml_event_t event;
    ptq_yaml_node *node = NULL;
    ptq_status rc = next_event(r, &event, err);
    if (rc != PTQ_OK) return rc;
    const bool end = event.type == YAML_SEQUENCE_END_EVENT;
    if (!end) rc = parse_node(r, &event, depth, &node, err);
    yaml_event_delete(&event);
    if (end || rc != PTQ_OK) return rc;
    append(list, &tail, node);
  }
}

/* The key that `event` holds; *out is the caller's to free. */
static ptq_status parse_key(const reader *r, const yaml_event_t *event,
                            const ptq_yaml_node *map, char **out,
                            ptq_err *err) {
  ptq_status rc = check_plain(r, event, err);
  if (rc != PTQ_OK) return rc;
  if (event->type != YAML_SCALAR_EVENT)
    return refuse(r, event, "a key must be a plain word", err);
  rc = copy_scalar(r, event, out, err);
  if (rc != PTQ_OK) return rc;
  const ptq_yaml_node *twin = ptq_yaml_get(map, *out);
  if (twin == NULL) return PTQ_OK;
  return PTQ_FAIL(err, PTQ_E_FORMAT,
                  "%s:%d: key '%s' appears twice (first in line %d)", r->path,
                  line_of(event), *out, twin->line);
}

static ptq_status parse_map(reader *r, int depth, ptq_yaml_node *map,
                            ptq_err *err) {
  ptq_yaml_node **tail = &map->child;
  for (;;) {
    yaml_event_t event;
    ptq_yaml_node *node = NULL;
    char *key = NULL;
    ptq_status rc = next_event(r, &event, err);
    if (rc != PTQ_OK) return rc;
    const bool end = event.type == YAML_MAPPING_END_EVENT;
    const int line = line_of(&event);
    if (!end) rc = parse_key(r, &event, map, &key, err);
    yaml_event_delete(&event);
    if (!end && rc == PTQ_OK) rc = next_event(r, &event, err);
    if (!end && rc == PTQ_OK) {
      rc = parse_node(r, &event, depth, &node, err);
      yaml_event_delete(&event);
    }
    if (end || rc != PTQ_OK) {
      ptq_free(key);
      return rc;
    }
    node->key = key;
    node->line = line;
    append(map, &tail, node);
  }
}

/* The node that begins with `event`; nothing is left behind on failure. */
static ptq_status parse_node(reader *r, const yaml_event_t *event, int depth,
                             ptq_yaml_node **out, ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_yaml_node *node = NULL;
  *out = NULL;
  if (depth >= MAX_DEPTH)
    return refuse(r, event, "nested deeper than 32 levels", err);
  PTQ_TRY(check_plain(r, event, err));
  PTQ_TRY(ptq_alloc(&node, 1, sizeof *node, "a YAML node", err));
  node->line = line_of(event);
  switch (event->type) {
    case YAML_SCALAR_EVENT:
      node->kind = PTQ_YAML_SCALAR;
      node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
      PTQ_TRY(copy_scalar(r, event, &node->text, err));
      break;
    case YAML_SEQUENCE_START_EVENT:
      node->kind = PTQ_YAML_LIST;
      PTQ_TRY(parse_list(r, depth + 1, node, err));
      break;
    case YAML_MAPPING_START_EVENT:
      node->kind = PTQ_YAML_MAP;
      PTQ_TRY(parse_map(r, depth + 1, node, err));
      break;
    default:
      PTQ_TRY(refuse(r, event, "a value is missing", err));
  }
  *out = node;
  node = NULL;
done:
  ptq_yaml_free(node);
  return rc;
}

/* Reads one event and checks that it is of a type. */
static ptq_status expect(reader *r, yaml_event_type_t type, const char *what,
                         ptq_err *err) {
  yaml_event_t event;
  ptq_status rc = next_event(r, &event, err);
  if (rc != PTQ_OK) return rc;
  if (event.type != type) rc = refuse(r, &event, what, err);
  yaml_event_delete(&event);
  return rc;
}

static ptq_status parse_document(reader *r, ptq_yaml_node **root,
                                 ptq_err *err) {
  yaml_event_t event;
  ptq_status rc = PTQ_OK;
  PTQ_TRY(expect(r, YAML_STREAM_START_EVENT, "not a YAML stream", err));
  PTQ_TRY(expect(r, YAML_DOCUMENT_START_EVENT, "the document is empty", err));
  PTQ_TRY(next_event(r, &event, err));
  rc = parse_node(r, &event, 0, root, err);
  yaml_event_delete(&event);
  PTQ_TRY(rc);
  PTQ_TRY(expect(r, YAML_DOCUMENT_END_EVENT, "text after the document", err));
  PTQ_TRY(expect(r, YAML_STREAM_END_EVENT,
                 "a second document begins; one file is one document", err));
done:
  return rc;
}

ptq_status ptq_yaml_parse(const char *path, const char *text, size_t size,
                          ptq_yaml_node **out, ptq_err *err) {
  /* Some editors begin UTF-8 with a byte order mark: it says nothing. */
  const size_t mark = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
  reader r = {.path = path, .text = text + mark, .size = size - mark};
  ptq_yaml_node *root = NULL;
  *out = NULL;
  if (ptq_fault() || !yaml_parser_initialize(&r.parser))
    return PTQ_FAIL(err, PTQ_E_NOMEM, "parsing '%s'", path);
  yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
  yaml_parser_set_input_string(&r.parser, (const unsigned char *)r.text,
                               r.size);
  const ptq_status rc = parse_document(&r, &root, err);
  yaml_parser_delete(&r.parser);
  if (rc == PTQ_OK)
    *out = root;
  else
    ptq_yaml_free(root);
  return rc;
}

void ptq_yaml_free(ptq_yaml_node *node) {
  while (node != NULL) { /* siblings in a loop, children by recursion */
    ptq_yaml_node *next = node->next;
    ptq_yaml_free(node->child);
    ptq_free(node->key);
    ptq_free(node->text);
    ptq_free(node);
    node = next;
  }
}

const ptq_yaml_node *ptq_yaml_get(const ptq_yaml_node *map, const char *key) {
  if (map == NULL || map->kind != PTQ_YAML_MAP) return NULL;
  for (const ptq_yaml_node *n = map->child; n != NULL; n = n->next)
    if (n->key != NULL && strcmp(n->key, key) == 0) return n;
  return NULL;
}

static ptq_status bad_type(const char *path, const ptq_yaml_node *n,
                           const char *what, ptq_err *err) {
  const char *subject = n->key != NULL ? n->key : "a list element";
  if (n->kind == PTQ_YAML_SCALAR)
    return PTQ_YAML_FAIL(path, n, err, PTQ_E_ARG, "'%s' must be %s, got %s%s%s",
                         subject, what, n->quoted ? "the text '" : "'", n->text,
                         "'");
  return PTQ_YAML_FAIL(path, n, err, PTQ_E_ARG, "'%s' must be %s, got a %s",
                       subject, what,
                       n->kind == PTQ_YAML_LIST ? "list" : "mapping");
}

ptq_status ptq_yaml_int(const char *path, const ptq_yaml_node *n, int64_t *out,
                        ptq_err *err) {
  char *end = NULL;
  *out = 0;
  if (n->kind != PTQ_YAML_SCALAR || n->quoted || n->text[0] == '\0' ||
      strspn(n->text, "+-0123456789") != strlen(n->text))
    return bad_type(path, n, "a whole number", err);
  errno = 0;
  const long long v = strtoll(n->text, &end, 10);
  if (*end != '\0' || errno != 0)
    return bad_type(path, n, "a whole number of 64 bits", err);
  *out = v;
  return PTQ_OK;
}

ptq_status ptq_yaml_double(const char *path, const ptq_yaml_node *n,
                           double *out, ptq_err *err) {
  char *end = NULL;
  *out = 0.0;
  if (n->kind != PTQ_YAML_SCALAR || n->quoted || n->text[0] == '\0' ||
      strspn(n->text, "+-.0123456789eE") != strlen(n->text))
    return bad_type(path, n, "a number", err);
  const double v = strtod(n->text, &end);
  if (*end != '\0' || !isfinite(v)) return bad_type(path, n, "a number", err);
  *out = v;
  return PTQ_OK;
}

ptq_status ptq_yaml_bool(const char *path, const ptq_yaml_node *n, bool *out,
                         ptq_err *err) {
  *out = false;
  if (n->kind == PTQ_YAML_SCALAR && !n->quoted) {
    if (strcmp(n->text, "false") == 0) return PTQ_OK;
    if (strcmp(n->text, "true") == 0) {
      *out = true;
      return PTQ_OK;
    }
  }
  return bad_type(path, n, "true or false", err);
}
