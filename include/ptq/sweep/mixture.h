/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file mixture.h
 * Mixed precision: an entry of the grid's dtype axis that gives every linear
 * layer a number format, and where it says so a group, of its own.
 *
 *   dtype:
 *     - int4
 *     - mixed: wide-down              # in the store: mixed:wide-down-<hash>
 *       default: int3                 # group: the grid's
 *       layers:                       # the first pattern that fits decides
 *         "*.down_proj": int4
 *         "*.layers.0.*": {dtype: int6, group: 32}
 *       models: llama-*               # left out: every model
 */
#ifndef PTQ_SWEEP_MIXTURE_H
#define PTQ_SWEEP_MIXTURE_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/num/dtype.h"

/** How every mixture's name begins, in the store and in sweep files. */
#define PTQ_MIXTURE_PREFIX "mixed:"

/** What a layer is quantized to. */
typedef struct ptq_layer_format {
  ptq_dtype dtype;
  bool has_group; /* else the point's */
  int64_t group;
} ptq_layer_format;

typedef struct ptq_mixture_rule {
  char *pattern; /* owned; fnmatch(3), of a weight's tensor name with or without
                    its ".weight" */
  ptq_layer_format format;
  int line; /* in the sweep file */
} ptq_mixture_rule;

typedef struct ptq_mixture {
  char name[PTQ_DTYPE_NAME_MAX]; /* "mixed:NAME-HASH", HASH of the formats */
  ptq_layer_format fallback;     /* of layers that no rule names */
  ptq_mixture_rule *rules;       /* owned; the first that fits decides */
  int64_t n_rules;
  char **models; /* owned, and each; patterns of names; none: every model */
  int64_t n_models;
  int line;
} ptq_mixture;

void ptq_mixture_free(ptq_mixture *m);

/** Does the mixture apply to a model? */
bool ptq_mixture_is_for(const ptq_mixture *m, const char *model);
/** The rule that decides for a tensor, -1: the fallback. */
int64_t ptq_mixture_rule_of(const ptq_mixture *m, const char *tensor);
/** Format of rule i, -1: the fallback. */
const ptq_layer_format *ptq_mixture_format(const ptq_mixture *m, int64_t rule);

/** PTQ_E_ARG, with the rule: a sweep file may not call a mixture so. */
ptq_status ptq_mixture_check_name(const char *name, ptq_err *err);

/** Is `text` a mixture's name, whole or without its hash? */
bool ptq_mixture_is_called(const char *name, const char *text);

#endif /* PTQ_SWEEP_MIXTURE_H */
