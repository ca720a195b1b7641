/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file arch.h
 * The architecture table. An architecture is one file arch_<name>.c that ends
 * in its `const ptq_arch` row: tensor names, and a function that translates
 * config.json to ptq_model_info. It is listed once, in arch.c.
 */
#ifndef PTQ_MODEL_ARCH_H
#define PTQ_MODEL_ARCH_H

#include "config.h"
#include "ptq/model/model.h"

typedef struct ptq_arch {
  const char *model_type; /* config.json's spelling; name of the row */
  const char *class_name; /* the transformers class that is matched */
  /* Tensor names, as <prefix><name>; the prefix is the first of `prefixes`
   * (NULL-terminated) under which the token embedding is found. */
  const char *const *prefixes;
  const char *tokens;        /* token embedding's weight */
  const char *positions;     /* learned positions' weight; NULL if rotary */
  const char *final_norm;    /* without ".weight" */
  const char *head;          /* the whole name, without prefix */
  const char *blocks;        /* "layers": block i is <prefix>layers.<i>. */
  const char *norm1, *norm2; /* within a block, without ".weight" */
  const char *roles[PTQ_ROLE_COUNT]; /* within a block, without ".weight" */
  /** Ends of tensor names that carry no weights; NULL-terminated. */
  const char *const *ignored_tensors;
  /** Keys that `read` looks at; NULL-terminated. */
  const char *const *keys;
  /** Fill everything of info but arch and the counts; refuse what the forward
   * pass does not do. */
  ptq_status (*read)(const ptq_config *c, ptq_model_info *info, ptq_err *err);
} ptq_arch;

/** All rows, NULL-terminated. */
const ptq_arch *const *ptq_archs(void);
/** The row for config.json's model_type. PTQ_E_UNSUPPORTED lists what is
 * known. */
ptq_status ptq_arch_find(const ptq_config *c, const ptq_arch **out,
                         ptq_err *err);

/** Head sizes that follow from one another; shared by `read` functions. */
ptq_status ptq_arch_check_heads(const ptq_config *c, const ptq_model_info *info,
                                ptq_err *err);

#endif /* PTQ_MODEL_ARCH_H */
