/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file spec_parts.h
 * The parts that read one section of the sweep file each; spec.c joins them.
 */
#ifndef PTQ_SWEEP_SPEC_PARTS_H
#define PTQ_SWEEP_SPEC_PARTS_H

#include "ptq/base/yaml.h"
#include "ptq/sweep/spec.h"

/** The sweep file being read. */
typedef struct ptq_spec_source {
  const char *path; /* borrowed; as given, for messages */
  const char *dir;  /* borrowed; what relative paths start from */
  bool overridden;  /* --set was used */
} ptq_spec_source;

/** Each section reads `node` (NULL when the file lacks it) into `out`. */
ptq_status ptq_spec_read_models(const ptq_spec_source *src,
                                const ptq_yaml_node *node, ptq_spec *out,
                                ptq_err *err);
ptq_status ptq_spec_read_data(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_spec *out,
                              ptq_err *err);
/** data.requests, which may be absent. */
ptq_status ptq_spec_read_requests(const ptq_spec_source *src,
                                  const ptq_yaml_node *node, ptq_spec *out,
                                  ptq_err *err);
ptq_status ptq_spec_read_grid(const ptq_spec_source *src,
                              const ptq_yaml_node *node, ptq_spec *out,
                              ptq_err *err);
/** After models and grid. */
ptq_status ptq_spec_read_excludes(const ptq_spec_source *src,
                                  const ptq_yaml_node *node, ptq_spec *out,
                                  ptq_err *err);

/** The section may be absent. */
ptq_status ptq_spec_read_measure(const ptq_spec_source *src,
                                 const ptq_yaml_node *node, ptq_spec *out,
                                 ptq_err *err);

/** One method, spelled as a name or as a mapping with `name`. */
ptq_status ptq_spec_read_method(const ptq_spec_source *src,
                                const ptq_yaml_node *node, ptq_method *out,
                                ptq_err *err);
/** A mixture of formats: a mapping with `mixed`. After the models. */
ptq_status ptq_spec_read_mixture(const ptq_spec_source *src,
                                 const ptq_yaml_node *node,
                                 const ptq_spec *spec, ptq_mixture **out,
                                 ptq_err *err);
/** One group: a number above 0, "row" or "tensor". */
ptq_status ptq_spec_read_group(const ptq_spec_source *src,
                               const ptq_yaml_node *node, int64_t *out,
                               ptq_err *err);

/** Replace what `set` ("grid.group=[32]") names in the tree; the new nodes
 * have line 0. PTQ_E_ARG, PTQ_E_FORMAT. */
ptq_status ptq_spec_override(const char *path, ptq_yaml_node *root,
                             const char *set, ptq_err *err);

/** Put `node` where the member `key` of a map was, or at its end; takes `node`
 * over, also on failure. */
ptq_status ptq_spec_replace(ptq_yaml_node *map, const char *key,
                            ptq_yaml_node *node, ptq_err *err);

/* --- Helpers of the sections --- */

/** Elements of a list, or a single value as a list of one: the first element
 * and their number. An empty list is PTQ_E_ARG; `what` names the key. */
ptq_status ptq_spec_items(const ptq_spec_source *src, const ptq_yaml_node *node,
                          const char *what, const ptq_yaml_node **first,
                          int64_t *n, ptq_err *err);
/** PTQ_E_ARG unless `node` is a mapping whose keys are all in `known`
 * (NULL-terminated); the message suggests the nearest. */
ptq_status ptq_spec_check_map(const ptq_spec_source *src,
                              const ptq_yaml_node *node, const char *what,
                              const char *const *known, ptq_err *err);
/** The member of a map that must be there. */
ptq_status ptq_spec_member(const ptq_spec_source *src, const ptq_yaml_node *map,
                           const char *what, const char *key,
                           const ptq_yaml_node **out, ptq_err *err);
/** PTQ_E_ARG unless `node` is a scalar with some text. */
ptq_status ptq_spec_check_scalar(const ptq_spec_source *src,
                                 const ptq_yaml_node *node, const char *what,
                                 ptq_err *err);
/** The member of a map that is a whole number within bounds. */
ptq_status ptq_spec_count(const ptq_spec_source *src, const ptq_yaml_node *map,
                          const char *what, const char *key, int64_t least,
                          int64_t most, int64_t *out, ptq_err *err);
/** True when `name` is letters, digits, '.', '_', '+' and '-', does not begin
 * with a dot and is shorter than `size`. */
bool ptq_spec_is_name(const char *name, size_t size);

#endif /* PTQ_SWEEP_SPEC_PARTS_H */
