/* SPDX-License-Identifier: GPL-3.0-or-later */
#include <inttypes.h>
#include <string.h>

#include "ptq/base/file.h"
#include "ptq/base/mem.h"
#include "ptq/base/text.h"
#include "spec_parts.h"

enum { MAX_REQUESTS = 1 << 24, MAX_LENGTH = 1 << 20 };

/* A member that may be absent, within bounds. */
static ptq_status read_some(const ptq_spec_source *src,
                            const ptq_yaml_node *map, const char *key,
                            int64_t least, int64_t most, int64_t *out,
                            ptq_err *err) {
  if (ptq_yaml_get(map, key) == NULL) return PTQ_OK;
  return ptq_spec_count(src, map, "requests", key, least, most, out, err);
}

static ptq_status read_bos(const ptq_spec_source *src, const ptq_yaml_node *map,
                           ptq_request_spec *r, ptq_err *err) {
  const ptq_yaml_node *node = ptq_yaml_get(map, "bos");
  bool bos = false;
  r->bos = -1;
  if (node == NULL) return PTQ_OK;
  const ptq_status rc = ptq_yaml_bool(src->path, node, &bos, err);
  r->bos = bos ? 1 : 0;
  return rc;
}

static ptq_status read_delimiter(const ptq_spec_source *src,
                                 const ptq_yaml_node *map, ptq_request_spec *r,
                                 ptq_err *err) {
  const ptq_yaml_node *node = ptq_yaml_get(map, "delimiter");
  const char *text = node == NULL ? " " : node->text;
  if (node != NULL && node->kind != PTQ_YAML_SCALAR)
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "delimiter must be a single value");
  if (!ptq_text_copy(r->delimiter, sizeof r->delimiter, text))
    return PTQ_YAML_FAIL(src->path, node, err, PTQ_E_ARG,
                         "delimiter has at most %zu bytes",
                         sizeof r->delimiter - 1);
  return PTQ_OK;
}

/* "arc.jsonl:500x2048/bos/prefix=5/delimiter=5f": what differs from the
 * defaults, the delimiter's bytes in hexadecimal. */
static ptq_status make_label(const ptq_spec_source *src, ptq_request_spec *r,
                             ptq_err *err) {
  ptq_status rc = PTQ_OK;
  char *base = NULL;
  ptq_text label = {0};
  PTQ_TRY(ptq_path_base(r->path, &base, err));
  ptq_text_add(&label, base);
  if (r->limit > 0) ptq_text_addf(&label, ":%" PRId64, r->limit);
  if (r->length > 0) ptq_text_addf(&label, "x%" PRId64, r->length);
  if (r->bos >= 0) ptq_text_add(&label, r->bos > 0 ? "/bos" : "/no-bos");
  if (r->prefix >= 0) ptq_text_addf(&label, "/prefix=%" PRId64, r->prefix);
  if (strcmp(r->delimiter, " ") != 0) {
    ptq_text_add(&label, "/delimiter=");
    for (const char *c = r->delimiter; *c != '\0'; c++)
      ptq_text_addf(&label, "%02x", (unsigned)(unsigned char)*c);
  }
  if (label.rc != PTQ_OK) PTQ_TRY(PTQ_FAIL(err, PTQ_E_NOMEM, "a label"));
  if (!ptq_text_copy(r->label, sizeof r->label, ptq_text_str(&label)))
    PTQ_TRY(PTQ_FAIL(err, PTQ_E_ARG,
                     "%s:%d: the file's name '%s' is too long; rename it to "
                     "at most 32 characters",
                     src->path, r->line, base));
done:
  ptq_text_release(&label);
  ptq_free(base);
  return rc;
}

ptq_status ptq_spec_read_requests(const ptq_spec_source *src,
                                  const ptq_yaml_node *node, ptq_spec *out,
                                  ptq_err *err) {
  static const char *const known[] = {"file", "limit",  "length", "delimiter",
                                      "bos",  "prefix", NULL};
  ptq_status rc = PTQ_OK;
  const ptq_yaml_node *path = NULL;
  ptq_request_spec *r = &out->requests;
  if (node == NULL) return PTQ_OK;
  r->line = node->line;
  r->prefix = -1;
  PTQ_TRY(ptq_spec_check_map(src, node, "requests", known, err));
  PTQ_TRY(ptq_spec_member(src, node, "requests", "file", &path, err));
  PTQ_TRY(ptq_spec_check_scalar(src, path, "file", err));
  PTQ_TRY(read_some(src, node, "limit", 1, MAX_REQUESTS, &r->limit, err));
  PTQ_TRY(read_some(src, node, "length", 2, MAX_LENGTH, &r->length, err));
  PTQ_TRY(read_some(src, node, "prefix", 0, INT32_MAX, &r->prefix, err));
  PTQ_TRY(read_bos(src, node, r, err));
  PTQ_TRY(read_delimiter(src, node, r, err));
  PTQ_TRY(ptq_path_join(src->dir, path->text, &r->path, err));
  PTQ_TRY(make_label(src, r, err));
done:
  return rc;
}
