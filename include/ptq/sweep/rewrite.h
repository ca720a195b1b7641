/* SPDX-License-Identifier: GPL-3.0-or-later */
/**
 * @file rewrite.h
 * A sweep file made from another: more dtypes on its axis, other texts.
 */
#ifndef PTQ_SWEEP_REWRITE_H
#define PTQ_SWEEP_REWRITE_H

#include <stdbool.h>
#include <stdint.h>

#include "ptq/base/status.h"
#include "ptq/base/text.h"

/** What is to be changed. All borrowed. */
typedef struct ptq_rewrite {
  const char *const *sets; /* [n_sets] overrides as of --set, applied first */
  int64_t n_sets;
  const char *dir;      /* what relative paths of the original start from: they
                           become absolute; NULL: kept as they are */
  const char *dtypes;   /* YAML: a list that follows those of grid.dtype */
  const char *excludes; /* YAML: a list that follows those of exclude; NULL */
  bool selection_evaluates; /* the selection text is the evaluation text, and
                               the first calibration the only one */
} ptq_rewrite;

/**
 * The sweep file `text` with its changes, as YAML without comments; `path`
 * names it in messages. PTQ_E_FORMAT; PTQ_E_ARG where it has no selection text
 * to evaluate on.
 */
ptq_status ptq_spec_rewrite(const char *path, const char *text,
                            const ptq_rewrite *change, ptq_text *out,
                            ptq_err *err);

#endif /* PTQ_SWEEP_REWRITE_H */
