/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <ctype.h>
#include <string.h>

#include "ptq/base/mem.h"
#include "ptq/base/yaml.h"

ptq_status ptq_yaml_copy(const ptq_yaml_node *node, ptq_yaml_node **out,
                         ptq_err *err) {
  ptq_status rc = PTQ_OK;
  ptq_yaml_node *copy = NULL;
  *out = NULL;
  PTQ_TRY(ptq_alloc(&copy, 1, sizeof *copy, "a YAML node", err));
  copy->kind = node->kind;
  copy->line = node->line;
  copy->quoted = node->quoted;
  copy->n_children = node->n_children;
  if (node->text != NULL) PTQ_TRY(ptq_strdup(&copy->text, node->text, err));
  ptq_yaml_node **end = &copy->child;
  for (const ptq_yaml_node *c = node->child; c != NULL; c = c->next) {
    PTQ_TRY(ptq_yaml_copy(c, end, err));
    if (c->key != NULL) PTQ_TRY(ptq_strdup(&(*end)->key, c->key, err));
    end = &(*end)->next;
  }
  *out = copy;
  copy = NULL;
done:
  ptq_yaml_free(copy);
  return rc;
}

/* Longer lines are broken into blocks. */
enum { WIDTH = 90 };

/* What reads as itself without quotes wherever a scalar may stand: words,
 * paths, and numbers with a sign. */
static bool is_plain(const char *text) {
  static const char first[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./";
  static const char rest[] =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./+-=@*?";
  const bool sign = (text[0] == '-' || text[0] == '+') &&
                    (isdigit((unsigned char)text[1]) || text[1] == '.');
  return text[0] != '\0' && (sign || strchr(first, text[0]) != NULL) &&
         strspn(text, rest) == strlen(text);
}

/* Double quotes know escapes; single ones hold anything else as it is. */
static void add_scalar(ptq_text *out, const char *text, bool quoted) {
  if (!quoted && (is_plain(text) || text[0] == '\0')) {
    ptq_text_add(out, text);
    return;
  }
  bool control = false;
  for (const char *c = text; *c != '\0'; c++)
    control = control || iscntrl((unsigned char)*c);
  ptq_text_add(out, control ? "\"" : "'");
  for (const char *c = text; *c != '\0'; c++) {
    if (control && iscntrl((unsigned char)*c))
      ptq_text_addf(out, "\\x%02x", (unsigned)(unsigned char)*c);
    else if (control && (*c == '"' || *c == '\\'))
      ptq_text_addf(out, "\\%c", *c);
    else if (!control && *c == '\'')
      ptq_text_add(out, "''");
    else
      ptq_text_addf(out, "%c", *c);
  }
  ptq_text_add(out, control ? "\"" : "'");
}

void ptq_yaml_scalar(const char *text, ptq_text *out) {
  add_scalar(out, text, text[0] == '\0');
}

static void add_key(ptq_text *out, const ptq_yaml_node *node) {
  add_scalar(out, node->key, !is_plain(node->key));
  ptq_text_add(out, ":");
}

/* On one line: [a, {b: c}]. */
static void add_flow(ptq_text *out, const ptq_yaml_node *node) {
  const bool map = node->kind == PTQ_YAML_MAP;
  if (node->kind == PTQ_YAML_SCALAR) {
    /* nothing would end the collection */
    add_scalar(out, node->text, node->quoted || !is_plain(node->text));
    return;
  }
  ptq_text_add(out, map ? "{" : "[");
  for (const ptq_yaml_node *c = node->child; c != NULL; c = c->next) {
    if (c != node->child) ptq_text_add(out, ", ");
    if (map) {
      add_key(out, c);
      ptq_text_add(out, " ");
    }
    add_flow(out, c);
  }
  ptq_text_add(out, map ? "}" : "]");
}

static size_t flow_length(const ptq_yaml_node *node) {
  ptq_text t = {0};
  add_flow(&t, node);
  const size_t n = t.len;
  ptq_text_release(&t);
  return n;
}

static void indent(ptq_text *out, int n) {
  for (int i = 0; i < n; i++) ptq_text_add(out, " ");
}

static bool is_nested(const ptq_yaml_node *node) {
  for (const ptq_yaml_node *c = node->child; c != NULL; c = c->next)
    if (c->n_children > 0) return true;
  return false;
}

/* The value behind a key or a dash, from where the line stands. `top`: a
 * member of the document's mapping, which keeps its nested parts apart. */
static void add_value(ptq_text *out, const ptq_yaml_node *node, int depth,
                      bool top);

static void add_members(ptq_text *out, const ptq_yaml_node *node, int depth,
                        bool inline_first, bool top) {
  for (const ptq_yaml_node *c = node->child; c != NULL; c = c->next) {
    if (c != node->child || !inline_first) indent(out, depth);
    if (node->kind == PTQ_YAML_MAP) {
      add_key(out, c);
      add_value(out, c, depth + 2, top);
    } else {
      ptq_text_add(out, "-");
      add_value(out, c, depth + 2, false);
    }
  }
}

static void add_value(ptq_text *out, const ptq_yaml_node *node, int depth,
                      bool top) {
  if (node->kind == PTQ_YAML_SCALAR) {
    ptq_text_add(out, node->text[0] != '\0' || node->quoted ? " " : "");
    add_scalar(out, node->text, node->quoted);
    ptq_text_add(out, "\n");
    return;
  }
  if (node->n_children == 0 || (!(top && is_nested(node)) &&
                                (size_t)depth + flow_length(node) < WIDTH)) {
    ptq_text_add(out, " ");
    add_flow(out, node);
    ptq_text_add(out, "\n");
    return;
  }
  /* "- key: value" begins a mapping behind its dash */
  const bool behind_dash = node->key == NULL && node->kind == PTQ_YAML_MAP;
  ptq_text_add(out, behind_dash ? " " : "\n");
  add_members(out, node, depth, behind_dash, false);
}

void ptq_yaml_write(const ptq_yaml_node *root, ptq_text *out) {
  if (root->kind == PTQ_YAML_SCALAR || root->n_children == 0) {
    add_flow(out, root);
    ptq_text_add(out, "\n");
    return;
  }
  add_members(out, root, 0, false, true);
}
